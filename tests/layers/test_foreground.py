"""Grey values over what is not air: by hand, the same for any gain and offset, nothing of a constant."""

import pytest
import torch

from mmmed.layers.foreground import HIGH, LOW, foreground_norm


def test_five_pixels_by_hand():
    # -1 is the darkest and -0.95 lies within 0.1 of it: both are air. Mean of the rest 2, spread sqrt(2/3).
    picture = torch.tensor([-1.0, -0.95, 1.0, 2.0, 3.0]).view(1, 1, 1, 5)
    root = 1.5**0.5
    expected = torch.tensor([LOW, LOW, -root, 0.0, root])
    torch.testing.assert_close(foreground_norm(picture).flatten(), expected, atol=1e-6, rtol=0)


def body(shape=(2, 2, 4, 6, 6), seed=0):
    """Air of zero around grey values well above it."""
    generator = torch.Generator().manual_seed(seed)
    pictures = 2 + torch.rand(shape, generator=generator)
    pictures[..., :2] = 0
    return pictures


@pytest.mark.parametrize(("gain", "offset"), [(3.0, 0.0), (0.5, 0.0), (1.0, 40.0), (7.0, -3.0)])
def test_neither_gain_nor_offset_of_the_scanner_is_seen(gain, offset):
    pictures = body()
    torch.testing.assert_close(
        foreground_norm(pictures * gain + offset), foreground_norm(pictures), atol=1e-4, rtol=1e-4
    )


def test_the_foreground_has_mean_zero_and_spread_one():
    normal = foreground_norm(body())[..., 2:]
    for channel in normal.flatten(0, 1):
        assert channel.mean().item() == pytest.approx(0, abs=1e-5)
        assert channel.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_more_air_changes_nothing():
    pictures = body((1, 1, 6, 6))
    wider = torch.cat([torch.zeros(1, 1, 6, 50), pictures], dim=3)
    torch.testing.assert_close(foreground_norm(wider)[..., 50:], foreground_norm(pictures))


def test_each_channel_of_each_picture_is_judged_alone():
    pictures = body()
    changed = pictures.clone()
    changed[1, 0] *= 5
    changed[1, 0, 0, 0, 3] += 100
    before, after = foreground_norm(pictures), foreground_norm(changed)
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1, 1], after[1, 1])
    assert not torch.equal(before[1, 0], after[1, 0])


@pytest.mark.parametrize("value", [0.0, -2.0, 1e6])
def test_a_constant_picture_becomes_zero(value):
    assert (foreground_norm(torch.full((1, 1, 3, 4), value)) == 0).all()


def test_outliers_are_cut_and_two_values_stay_finite():
    pictures = body((1, 1, 20, 20))
    pictures[0, 0, 3, 5] = 1e5
    normal = foreground_norm(pictures)
    assert normal.max() == HIGH
    two = torch.zeros(1, 1, 2, 2)
    two[..., 1] = 1.0
    assert foreground_norm(two).isfinite().all()
    assert foreground_norm(torch.zeros(0, 1, 2, 2)).shape == (0, 1, 2, 2)
