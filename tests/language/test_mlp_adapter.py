"""The plain adapter, and the projector that the others share."""

import pytest
import torch
from torch import nn

from mmmed.language.mlp_adapter import MLPAdapter, Projector, check_grid, scaled_norm
from mmmed.types import Image, Tokens


def case(tokens=5, dim=8):
    draw = torch.Generator().manual_seed(0)
    mask = torch.arange(tokens) < torch.tensor([[tokens], [2], [1]])
    return Tokens(torch.randn(3, tokens, dim, generator=draw), mask)


def test_it_equals_two_linear_layers_with_gelu_between_token_by_token():
    adapter, tokens = MLPAdapter(8, 12), case()
    first, _, last = adapter.project.network
    given = adapter(tokens)
    for row, place in tokens.mask.nonzero().tolist():
        hidden = first.weight @ tokens.values[row, place] + first.bias
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
        wanted = last.weight @ hidden + last.bias
        torch.testing.assert_close(given.values[row, place], wanted, atol=1e-6, rtol=0)
    assert torch.equal(given.mask, tokens.mask)


def test_tokens_in_another_order_come_out_in_that_order():
    adapter, tokens, order = MLPAdapter(8, 12), case(), torch.tensor([3, 0, 4, 1, 2])
    given = adapter(Tokens(tokens.values[:, order], tokens.mask[:, order]))
    real = tokens.mask[:, order]
    torch.testing.assert_close(given.values[real], adapter(tokens).values[:, order][real])


@pytest.mark.parametrize("size", [0.01, 1.0, 100.0])
def test_with_a_scale_tokens_of_any_size_begin_in_the_range_of_the_words(size):
    words = nn.Embedding(50, 32)
    nn.init.normal_(words.weight, std=0.02)
    wanted = words.weight.detach().std()
    tokens = Tokens(size * torch.randn(4, 6, 8), torch.ones(4, 6, dtype=torch.bool))
    spread = MLPAdapter(8, 32, scale=float(wanted))(tokens).values.std(2)
    torch.testing.assert_close(spread.mean(), wanted, rtol=0.1, atol=0)


def test_the_scale_is_learned_and_a_wrong_one_is_refused():
    assert isinstance(scaled_norm(4, None), nn.Identity)
    assert [name for name, _ in Projector(4, 6, scale=0.5).norm.named_parameters()] == ["weight", "bias"]
    with pytest.raises(ValueError, match="scale should be positive, or None for no norm, got 0"):
        Projector(4, 6, scale=0)


def test_views_are_counted_by_their_grid():
    assert check_grid((2, 3), 12) == 2
    assert check_grid((2, 3), 60, pieces=5) == 2
    assert check_grid((4, 2, 2), 16) == 1
    assert check_grid(None, 7) == 1
    for grid in ((2, 4), (), (0, 3), (1, 1, 2, 3)):
        with pytest.raises(ValueError, match=r"no multiple of .*token_grid"):
            check_grid(grid, 12 if grid != (2, 4) else 13)


def test_it_can_be_built_for_a_modality():
    adapter = MLPAdapter.from_schema(Image("scan"), dim=8, width=12)
    assert (type(adapter), adapter.dim, adapter.width) == (MLPAdapter, 8, 12)
