"""SVLA: against its formula with PyTorch's own parts, what is computed once per picture, reach of strips."""

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, conv3d, gelu, instance_norm, relu

from mmmed.segmentation import SVLAFusion
from mmmed.types import Tokens

GRIDS = pytest.mark.parametrize("grid", [(5, 7), (3, 5, 7)])


def case(grid=(5, 7)):
    draw = torch.Generator().manual_seed(0)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1]]).bool()
    words = Tokens(torch.randn(3, 3, 6, generator=draw), mask)
    return torch.randn(2, 8, *grid, generator=draw), words, torch.tensor([1, 0, 1])


def one_by_one(linear, maps):
    return torch.einsum("ab,nb...->na...", linear.weight, maps) + (
        0 if linear.bias is None else linear.bias.view(-1, *[1] * (maps.ndim - 2))
    )


def written_out(fusion, maps, words, which):
    """The formula of the docstring with everything repeated for each phrase."""
    convolve, space, grid = {4: (conv2d, 2), 5: (conv3d, 3)}[maps.ndim] + (maps.shape[2:],)
    maps = maps[which]

    def depthwise(part, given, kernel):
        weight, padding = part.weight.reshape(8, 1, *kernel), tuple(k // 2 for k in kernel)
        return convolve(given, weight, part.bias, padding=padding, groups=8)

    u = gelu(one_by_one(fusion.enter, fusion.norm(maps)))
    local = depthwise(fusion.local, u, (5,) * space)
    total = local
    for length, strip in zip((3, 21), fusion.strips, strict=True):
        branch, parts = local, [m for m in strip.modules() if hasattr(m, "weight")]
        assert len(parts) == space
        for along, part in zip(reversed(range(space)), parts, strict=True):
            branch = depthwise(part, branch, [length if a == along else 1 for a in range(space)])
        total = total + branch
    attention = fusion.attention
    query = instance_norm(one_by_one(attention.query, local)).flatten(2).transpose(1, 2)
    scores = query @ attention.key(words.values).transpose(1, 2) / 8**0.5
    shares = scores.masked_fill(~words.mask.unsqueeze(1), -torch.inf).softmax(2)
    read = shares @ attention.value(words.values)  # [m pixels width]
    gated = read * fusion.gate_leave(relu(fusion.gate_enter(read))).tanh()
    total = total + gated.transpose(1, 2).unflatten(2, grid)
    return maps + one_by_one(fusion.leave, u * one_by_one(fusion.mix, total))


@GRIDS
def test_it_equals_the_formula_written_out(grid):
    fusion, given = SVLAFusion(8, 6, len(grid), strips=(3, 21)), case(grid)
    torch.testing.assert_close(fusion(*given), written_out(fusion, *given), atol=1e-5, rtol=0)


@GRIDS
def test_all_that_does_not_depend_on_words_is_computed_once_per_picture(grid):
    fusion, seen = SVLAFusion(8, 6, len(grid)), {}
    for name, part in fusion.named_modules():
        if isinstance(part, (nn.Conv2d, nn.Conv3d, nn.GroupNorm)):
            part.register_forward_hook(
                lambda _, given, out, name=name: seen.setdefault(name, []).append(len(out))
            )
    fusion(*case(grid))  # two pictures, three phrases
    assert len(seen) == 2 + 3 * len(grid)
    assert all(rows == [2] for rows in seen.values())


def test_a_pixel_reaches_as_far_as_the_longest_strip_and_no_further():
    side = 31
    fusion = SVLAFusion(4, 3, 2, strips=(7, 11, 21)).double()
    fusion.norm = nn.Identity()  # the norm looks everywhere
    maps = torch.zeros(1, 4, side, side, dtype=torch.float64, requires_grad=True)
    words = Tokens(torch.ones(1, 1, 3), torch.ones(1, 1, dtype=torch.bool))
    fusion(maps, words, torch.tensor([0]))[0, :, side // 2, side // 2].sum().backward()
    rows = maps.grad.abs().sum((0, 1, 3)).nonzero().squeeze(1)
    reach = 21 // 2 + 5 // 2
    assert (rows.min(), rows.max()) == (side // 2 - reach, side // 2 + reach)


def test_words_reach_pixels_through_the_language_branch_alone():
    fusion, (maps, words, which) = SVLAFusion(8, 6), case()
    nn.init.zeros_(fusion.gate_leave.weight)  # a shut gate
    given, other = fusion(maps, words, which), fusion(maps, Tokens(words.values + 1, words.mask), which)
    assert torch.equal(given, other)
    assert torch.equal(given[0], given[2])  # of the same picture


def test_a_phrase_of_one_word_is_read_by_every_pixel():
    fusion, (maps, words, which) = SVLAFusion(8, 6), case()
    short, alone = words.values[:, :1], torch.ones(3, 1, dtype=torch.bool)
    padded = Tokens(words.values, torch.tensor([[1, 0, 0]]).bool().expand(3, 3))
    given = fusion(maps, Tokens(short, alone), which)
    torch.testing.assert_close(given, fusion(maps, padded, which), atol=1e-6, rtol=0)
    assert not torch.allclose(given[0], given[2], atol=1e-4)  # one picture, two words


def test_no_strips_is_a_fusion_too():
    assert SVLAFusion(8, 6, strips=())(*case()).isfinite().all()


def test_strips_need_a_middle():
    with pytest.raises(ValueError, match="strips should be odd"):
        SVLAFusion(8, 6, strips=(7, 10))
    with pytest.raises(ValueError, match="strips should be a whole number"):
        SVLAFusion(8, 6, strips=(0,))


@pytest.mark.parametrize("space", [2, 3])
def test_its_parameters_are_as_many_as_it_says(space):
    fusion = SVLAFusion(8, 6, space)
    strips = space * ((7 + 11 + 21) + 3)
    expected = 8 * (6 * 8 + 2 * 6 + 5 + 5**space + 1 + strips)
    assert sum(p.numel() for p in fusion.parameters()) == expected
