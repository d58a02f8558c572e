"""The whole picture and its crops in one row of tokens."""

import pytest
import torch

from mmmed.encoders.crops import CroppedImageEncoder
from mmmed.language.global_local_adapter import GlobalLocalAdapter
from mmmed.language.local_adapter import LocalAdapter
from mmmed.language.perceiver_adapter import PerceiverAdapter
from mmmed.types import Image, Tokens

GRID = (2, 2)


def built(crops=(2, 2), keep=5):
    torch.manual_seed(0)
    local = LocalAdapter(8, 12, queries=2, keep=keep, heads=2)
    return GlobalLocalAdapter(8, 12, crops, PerceiverAdapter(8, 12, queries=3), local)


def case(rows=3, views=2, crops=4):
    """Tokens of wholes and crops; the second row lacks the second view."""
    there = torch.ones(rows, views, dtype=torch.bool)
    there[1, 1:] = False
    mask = torch.cat([there.repeat_interleave(4, 1), there.repeat_interleave(4 * crops, 1)], 1)
    return Tokens(torch.randn(*mask.shape, 8, generator=torch.Generator().manual_seed(0)), mask)


def prompt():
    return Tokens(torch.randn(3, 2, 12, generator=torch.Generator().manual_seed(1)), torch.ones(3, 2) > 0)


def test_the_whole_comes_first_then_the_separator_then_the_crops():
    adapter, tokens = built(), case()
    given = adapter(tokens, GRID, prompt())
    whole = Tokens(tokens.values[:, :8], tokens.mask[:, :8])
    crops = Tokens(tokens.values[:, 8:], tokens.mask[:, 8:])
    wanted = adapter.global_part(whole, GRID), adapter.local_part(crops, GRID, prompt())
    assert given.values.shape == (3, 3 + 1 + 5, 12)
    assert torch.equal(given.values[:, :3], wanted[0].values)
    assert torch.equal(given.values[:, 3], adapter.separator.expand(3, 12))
    assert torch.equal(given.values[:, 4:], wanted[1].values)
    assert given.mask.all()


def test_one_part_alone_is_neither_separated_nor_does_it_teach_the_other():
    for used, count, taught in (("global", 3, {"global_part"}), ("local", 5, {"local_part"})):
        adapter = built().use(used)
        given = adapter(case(), GRID, prompt())
        assert given.values.shape == (3, count, 12)
        given.values.sum().backward()
        assert {n.split(".")[0] for n, p in adapter.named_parameters() if p.grad is not None} == taught
    assert list(built().use("local").state_dict()) == list(built().state_dict())
    with pytest.raises(ValueError, match="part of a global and local adapter"):
        built().use("crops")


def test_tokens_without_a_grid_go_through_the_global_part_alone():
    adapter, tokens = built(), case()
    assert torch.equal(adapter(tokens).values, adapter.global_part(tokens).values)


def test_it_takes_what_the_cropped_encoder_gives():
    encoder = CroppedImageEncoder.from_schema(Image("scan", size=(64, 48)), dim=8, crops=(2, 3))
    views = torch.tensor([[True, True], [True, False], [True, True]])
    tokens = encoder(torch.randn(3, 2, 1, 64, 48), views)
    adapter = GlobalLocalAdapter(8, 12, encoder.crops)
    whole, crops = adapter.split(tokens, encoder.crop_grid)
    assert whole.mask.sum(1).tolist() == [
        2 * encoder.global_tokens,
        encoder.global_tokens,
        2 * encoder.global_tokens,
    ]
    assert crops.mask.sum(1).tolist() == [6 * count for count in whole.mask.sum(1).tolist()]
    given = adapter(tokens, encoder.crop_grid)
    assert given.values.shape == (3, 2 * encoder.global_tokens + 1 + 16, 12)
    assert given.mask.sum(1).tolist() == [33, 25, 33]


def test_parts_and_tokens_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"dim 8 and give width 12, got PerceiverAdapter with 8 and 13"):
        GlobalLocalAdapter(8, 12, global_part=PerceiverAdapter(8, 13))
    with pytest.raises(ValueError, match="40 tokens are no multiple of 12"):
        built(crops=(1, 2))(case(), GRID)
