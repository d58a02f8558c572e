"""The check of a saliency map: a map of what counts passes it, any other does not."""

import numpy as np
import pytest
import torch

from mmmed.explain.attribution_pictures import blur, deletion, integrated_gradients, marked, occlusion

SIDE = 16


def sum_of(weights):
    """A picture that is answered by a weighted sum: [n parts channels *space] -> [n]."""
    return lambda several: (several.double() * weights).flatten(1).sum(1)


def test_a_map_of_what_counts_passes_the_check_and_a_map_of_something_else_does_not():
    weights = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.float64)
    weights[..., 3:7, 4:8] = 1.0
    picture = torch.zeros(1, 1, SIDE, SIDE)
    picture[..., 3:7, 4:8] = 1.0
    base, ask = blur(picture), sum_of(weights)
    for attribute in (
        lambda: integrated_gradients(ask, picture, base, 8),
        lambda: occlusion(ask, picture, base, 0.2),
    ):
        good = deletion(ask, picture, base, marked(attribute().numpy(), 1.0), 1.0, "log-odds", 0)
        assert good.holds
        assert good.moved == pytest.approx(ask(picture[None]).item() - ask(base[None]).item(), abs=1e-5)
        assert str(good).startswith("Blurring the marked fifth moves the answer by")
    elsewhere = marked(np.arange(SIDE * SIDE, dtype=float).reshape(1, SIDE, SIDE), 1.0)
    bad = deletion(ask, picture, base, elsewhere, 1.0, "log-odds", 0)
    assert not bad.holds
    assert "Do not read this map." in str(bad)


def test_marked_is_a_fifth_in_the_direction_in_which_the_picture_moved_the_answer():
    values = np.arange(-50.0, 50.0).reshape(1, 10, 10)
    assert marked(values, 1.0).sum() == marked(values, -1.0).sum() == 20
    assert marked(values, 1.0)[0, 8:].all()
    assert marked(values, -1.0)[0, :2].all()


def test_the_blur_leaves_one_grey_as_it_is_and_a_map_its_sum():
    grey = torch.full((1, 1, 9, 14), 0.7)
    torch.testing.assert_close(blur(grey), grey)
    values = torch.randn(1, 1, 9, 14, generator=torch.Generator().manual_seed(0))
    assert blur(values, 0.1, kept=True).sum().item() == pytest.approx(values.sum().item(), abs=1e-5)


def test_random_areas_have_the_shape_of_the_marked_one_and_lie_elsewhere():
    """An answer that counts all pixels is moved alike by all; one that counts the marked ones hardly is."""
    area = np.zeros((1, SIDE, SIDE), dtype=bool)
    area[0, 2:9, 3:10] = True
    picture, base = torch.ones(1, 1, SIDE, SIDE), torch.zeros(1, 1, SIDE, SIDE)
    same = deletion(sum_of(torch.ones(1, 1, SIDE, SIDE)), picture, base, area, 1.0, "log-odds", 0)
    assert (same.moved, same.random, same.spread) == (49, 49, 0)
    assert not same.holds
    here = torch.as_tensor(area[None].astype(float))
    own = deletion(sum_of(here), picture, base, area, 1.0, "log-odds", 0)
    assert own.moved == 49
    assert own.random <= 49 * area.mean()
    assert own.holds


def test_the_same_seed_gives_the_same_check():
    area = np.random.default_rng(0).random((1, SIDE, SIDE)) < 0.2
    weights = torch.randn(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    picture, base = torch.ones(1, 1, SIDE, SIDE), torch.zeros(1, 1, SIDE, SIDE)
    one, same, other = (
        deletion(sum_of(weights), picture, base, area, 1.0, "log-odds", seed) for seed in (0, 0, 1)
    )
    assert one == same
    assert one.random != other.random
