"""Top-down over the scales: every map hears of the coarser ones and of none that is finer."""

import pytest
import torch
from torch.nn.functional import interpolate

from mmmed.segmentation.feature_pyramid import FeaturePyramid, resize

WIDTHS = (3, 5, 6)


def pyramid(sides=((9, 14), (5, 7), (3, 4)), count=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(count, width, *side, generator=generator)
        for width, side in zip(WIDTHS, sides, strict=True)
    ]


@pytest.mark.parametrize("sides", [((9, 14), (5, 7), (3, 4)), ((4, 9, 9), (4, 5, 5), (2, 3, 3))])
def test_all_maps_have_one_width_and_the_grid_they_came_with(sides):
    maps = pyramid(sides)
    found = FeaturePyramid(WIDTHS, 8, len(sides[0]))(maps)
    assert [one.shape for one in found] == [(2, 8, *side) for side in sides]


def test_it_is_what_its_sentence_says():
    module, maps = FeaturePyramid(WIDTHS, 8), pyramid()
    above = module.smooth[2](module.lateral[2](maps[2]))
    expected = [above]
    for level in (1, 0):
        larger = interpolate(above, size=maps[level].shape[2:], mode="bilinear", align_corners=False)
        above = module.smooth[level](module.lateral[level](maps[level]) + larger)
        expected.insert(0, above)
    for one, other in zip(module(maps), expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_change_travels_down_to_the_finer_maps_only(level):
    module, maps = FeaturePyramid(WIDTHS, 8), pyramid()
    before = module(maps)
    maps[level] = maps[level] + 1
    changed = [not torch.equal(one, other) for one, other in zip(module(maps), before, strict=True)]
    assert changed == [place <= level for place in range(3)]


def test_a_picture_is_seen_alone():
    module, maps = FeaturePyramid(WIDTHS, 8), pyramid(count=3)
    together = module(maps)
    for row in range(3):
        for one, other in zip(module([map_[row : row + 1] for map_ in maps]), together, strict=True):
            torch.testing.assert_close(one, other[row : row + 1])


def test_resize_leaves_what_fits_and_keeps_a_ramp():
    maps = torch.arange(4.0).view(1, 1, 1, 4)
    assert resize(maps, (1, 4)) is maps
    # New pixels lie at a quarter and three quarters of the old ones; the border is continued.
    expected = torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])
    torch.testing.assert_close(resize(maps, (1, 8))[0, 0, 0], expected)
