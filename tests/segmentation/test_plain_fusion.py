"""The text-blind baseline: against a convolution, and blind indeed."""

import torch
from torch import nn
from torch.nn.functional import relu

from mmmed.segmentation import PlainFusion
from mmmed.types import Tokens


def words(phrases, filling=0.0):
    return Tokens(torch.full((phrases, 2, 6), filling), torch.ones(phrases, 2, dtype=torch.bool))


def test_it_is_two_1x1_convolutions_and_a_way_past_them():
    fusion, maps = PlainFusion(8, 6), torch.randn(2, 8, 3, 4, generator=torch.Generator().manual_seed(0))
    enter, leave = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
    for convolution, linear in ((enter, fusion.enter), (leave, fusion.leave)):
        convolution.load_state_dict({"weight": linear.weight[..., None, None], "bias": linear.bias})
    expected = maps + leave(relu(enter(maps)))
    given = fusion(maps, words(3), torch.tensor([1, 0, 1]))
    torch.testing.assert_close(given, expected[[1, 0, 1]], atol=1e-6, rtol=0)


def test_whatever_the_words_hold_is_not_read():
    maps = torch.randn(1, 8, 3, 4, generator=torch.Generator().manual_seed(0))
    fusion, which = PlainFusion(8, 6), torch.zeros(2, dtype=torch.long)
    given = fusion(maps, words(2, torch.nan), which)
    assert torch.equal(given, fusion(maps, words(2), which))
    assert torch.equal(given[0], given[1])


def test_its_parameters_are_as_many_as_it_says():
    assert sum(p.numel() for p in PlainFusion(8, 6).parameters()) == 2 * 8 * 9
