"""Light augmentation: small, chosen, and the same for the same numbers."""

import pytest
import torch

from mmmed.training.augment import NUMBERS, Augmentation
from mmmed.types import Batch, Tokens


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def change(pixels, seed=0, **options):
    """Draw numbers and apply them."""
    numbers = torch.rand(len(pixels), NUMBERS, generator=draw(seed))
    return Augmentation(**{"shift": 0.0, **options})(pixels, numbers, draw(seed + 1))


def pictures(count=6, views=2, channels=3, side=20):
    return torch.rand(count, views, channels, side, side, generator=draw(1))


def test_a_shift_equals_moving_each_record_alone_with_its_border_repeated():
    pixels = pictures(count=12, side=50)
    moved, reach, seen = change(pixels, shift=0.06), 3, set()
    for before, after in zip(pixels, moved, strict=True):
        fits = []
        for down in range(-reach, reach + 1):
            for right in range(-reach, reach + 1):
                rows = (torch.arange(50) + down).clamp(0, 49)
                columns = (torch.arange(50) + right).clamp(0, 49)
                if torch.equal(before[..., rows, :][..., columns], after):
                    fits.append((down, right))
        assert len(fits) == 1
        seen.update(fits)
    assert len(seen) > 5  # every record draws for itself


def test_all_shifts_up_to_the_bound_occur_and_none_beyond():
    picture = torch.arange(50.0).expand(1, 1, 1, 50, 50)
    many = change(picture.expand(2000, -1, -1, -1, -1), shift=0.06)
    assert set((many[:, 0, 0, 0, 25] - 25).tolist()) == {-3, -2, -1, 0, 1, 2, 3}


def test_flips_are_off_unless_they_are_asked_for():
    pixels = pictures(count=40, views=1)
    assert torch.equal(change(pixels), pixels)
    flipped = change(pixels, flip=True)
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(flipped, pixels, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(flipped, pixels, strict=True)]
    assert all(m != k for m, k in zip(mirrored, kept, strict=True))
    assert 10 < sum(mirrored) < 30


def test_grey_values_move_by_one_amount_per_record_and_within_the_bounds():
    pixels = pictures()
    brighter = (change(pixels, brightness=0.3) - pixels).flatten(1)
    torch.testing.assert_close(brighter, brighter[:, :1].expand_as(brighter), atol=1e-6, rtol=0)
    assert brighter.abs().max() <= 0.3 + 1e-6
    factor = change(pixels + 1, contrast=0.2) / (pixels + 1)
    assert factor.min() >= 0.8 - 1e-4
    assert factor.max() <= 1.2 + 1e-4
    noise = change(pixels, noise=0.1) - pixels
    assert noise.std().item() == pytest.approx(0.1, rel=0.1)


def test_the_same_numbers_give_the_same_pictures_and_the_global_stream_is_left_alone():
    before, every = torch.get_rng_state(), {"shift": 0.1, "flip": True, "contrast": 0.1, "noise": 0.1}
    assert torch.equal(change(pictures(), 4, **every), change(pictures(), 4, **every))
    assert not torch.equal(change(pictures(), 4, **every), change(pictures(), 5, **every))
    assert torch.equal(before, torch.get_rng_state())


def test_only_pictures_are_changed_and_cached_tokens_stay():
    pixels = pictures()
    tokens = Tokens(torch.rand(6, 1, 4), torch.ones(6, 1, dtype=torch.bool))
    image, cells = (
        {"pixels": pixels, "views": torch.ones(6, 2, dtype=torch.bool)},
        {"cells": torch.rand(6, 2)},
    )
    values = {"image": image, "scan": tokens, "table": cells}
    rows = {"image": torch.tensor([7, 0, 3, 2, 5, 4]), "scan": torch.arange(6), "table": torch.arange(6)}
    batch = Batch(tuple(values), values, rows, torch.ones(8, 3, dtype=torch.bool))
    numbers = torch.rand(8, NUMBERS, generator=draw())
    changed = Augmentation(shift=0.2).batch(batch, ["image", "scan"], numbers, draw())
    own = Augmentation(shift=0.2)(pixels, numbers[rows["image"]], draw())
    assert torch.equal(changed.values["image"]["pixels"], own)  # each record by its own numbers
    assert not torch.equal(own, pixels)
    assert changed.values["scan"] is tokens
    assert changed.values["table"] is cells
    assert batch.values["image"]["pixels"] is pixels  # the given batch is as it was


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="shift"):
        Augmentation(shift=2)
    with pytest.raises(ValueError, match="noise"):
        Augmentation(noise=-1)
