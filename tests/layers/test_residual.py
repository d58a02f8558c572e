import pytest
import torch
from torch import nn

from mmmed.layers.residual import ResidualBlock


@pytest.mark.parametrize(("space", "size"), [(2, (9, 6)), (3, (5, 9, 6))])
def test_a_stride_halves_each_side_rounded_up(space, size):
    block = ResidualBlock(4, 8, stride=2, space=space)
    assert block(torch.randn(2, 4, *size)).shape == (2, 8, *[(side + 1) // 2 for side in size])


def test_with_silent_convolutions_only_the_shortcut_remains():
    same, halved = ResidualBlock(4, 4), ResidualBlock(4, 4, stride=2)
    for block in (same, halved):
        nn.init.zeros_(block.second.weight)
        nn.init.zeros_(block.second.bias)
    maps = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(same(maps), maps.relu())
    mean = nn.functional.avg_pool2d(maps, 2)
    torch.testing.assert_close(halved(maps), halved.shortcut[1](mean).relu())


def test_an_odd_side_is_averaged_over_the_pixels_that_are_there():
    block = ResidualBlock(1, 1, stride=2)
    nn.init.ones_(block.shortcut[1].weight)
    for silent in (block.second.weight, block.second.bias, block.shortcut[1].bias):
        nn.init.zeros_(silent)
    torch.testing.assert_close(block(torch.ones(1, 1, 3, 3)), torch.ones(1, 1, 2, 2))


def test_the_grey_value_passes_unchanged_by_any_norm():
    """Twice as bright is not the same picture; a block that normalises its whole stream would say so."""
    torch.manual_seed(0)
    block = ResidualBlock(1, 8, stride=2).eval()
    maps = torch.rand(1, 1, 8, 8)
    shown = (block(maps + 5.0) - block(maps)).mean()
    assert shown.abs() > 0.1


@pytest.mark.parametrize(("width", "groups"), [(4, 1), (24, 3), (28, 1), (64, 8)])
def test_any_width_has_groups_that_divide_it(width, groups):
    block = ResidualBlock(4, width)
    assert block.norm.num_groups == groups
    assert block(torch.randn(1, 4, 4, 4)).shape == (1, width, 4, 4)
