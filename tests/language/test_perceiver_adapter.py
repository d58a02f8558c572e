"""Queries that start at the means of a grid, positions, and attention that knows places."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, adaptive_avg_pool3d, cross_entropy, layer_norm

from mmmed.language.perceiver_adapter import (
    GridReader,
    PerceiverAdapter,
    PlacedAttention,
    coarse_grid,
    grid_means,
    place_positions,
)
from mmmed.types import Tokens


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def everything(values):
    return torch.ones(values.shape[:2], dtype=torch.bool)


@pytest.mark.parametrize(
    ("grid", "cells"), [((8, 8), 16), ((5, 7), 6), ((2, 2), 16), ((3, 4, 6), 8), ((2, 5, 5), 4), ((6,), 4)]
)
def test_grid_means_are_adaptive_average_pooling(grid, cells):
    values, sides = draws(3, math.prod(grid), 4), coarse_grid(grid, cells)
    maps = values.transpose(1, 2).unflatten(2, grid)
    if len(grid) == 3:
        wanted = adaptive_avg_pool3d(maps, sides)
    else:
        wanted = adaptive_avg_pool2d(
            maps.reshape(3, 4, -1, grid[-1]), sides if len(grid) == 2 else (1, *sides)
        )
    means = grid_means(values, everything(values), grid, cells)
    torch.testing.assert_close(means, wanted.flatten(2).transpose(1, 2), atol=1e-6, rtol=0)


def test_grid_means_are_of_what_is_there_by_hand():
    # two views of two places; the first row lacks the second view, the second row lacks a place in both
    values = torch.tensor([[1.0, 2, 0, 0], [3, 0, 5, 0]]).unsqueeze(2)
    mask = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0]]).bool()
    assert grid_means(values, mask, (1, 2), 2).squeeze(2).tolist() == [[1, 2], [4, 0]]
    assert grid_means(values, mask, None, 2).squeeze(2).tolist() == [[1.5], [4]]


@pytest.mark.parametrize(
    ("grid", "cells", "sides"),
    [
        ((8, 8), 16, (4, 4)),
        ((4, 16), 16, (2, 8)),
        ((16, 4), 16, (8, 2)),
        ((4, 8, 8), 4, (1, 2, 2)),
        ((4, 4, 4), 8, (2, 2, 2)),
        ((12,), 5, (5,)),
    ],
)
def test_coarse_cells_are_as_square_as_can_be(grid, cells, sides):
    assert coarse_grid(grid, cells) == sides


def test_positions_by_hand():
    table = place_positions((2, 3), 8)  # two speeds, 1 and 1/100; columns first
    for place in range(6):
        row, col = divmod(place, 3)
        wanted = [f(x * v) for x in (col, row) for f in (math.sin, math.cos) for v in (1, 0.01)]
        assert table[place].tolist() == pytest.approx(wanted)


@pytest.mark.parametrize(("grid", "dim"), [((8, 8), 64), ((4, 5, 6), 64), ((7,), 9), ((3, 3), 3)])
def test_every_place_has_a_position_of_its_own_where_the_width_allows(grid, dim):
    table = place_positions(grid, dim)
    assert table.shape == (math.prod(grid), dim)
    if dim >= 2 * len(grid):
        apart = torch.cdist(table, table) + torch.eye(len(table))
        assert apart.min() > 0.1


def test_attention_equals_that_of_pytorch_with_places_in_the_keys_alone():
    ours, theirs = PlacedAttention(8, heads=2), nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key_value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key_value.bias]))
        theirs.out_proj.load_state_dict(ours.mix.state_dict())
    queries, values = draws(3, 2, 8), draws(3, 4, 8, seed=1)
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]).bool()
    for positions in (draws(4, 8, seed=2), draws(3, 4, 8, seed=2)):
        wanted, _ = theirs(queries, values + positions, values, key_padding_mask=~mask)
        torch.testing.assert_close(ours(queries, values, mask, positions), wanted, atol=1e-6, rtol=0)
    wanted, _ = theirs(queries, values, values, key_padding_mask=~mask)
    torch.testing.assert_close(ours(queries, values, mask, None), wanted, atol=1e-6, rtol=0)


def test_before_anything_is_read_a_query_is_its_learned_vector_plus_its_grid_mean():
    reader, values = GridReader(8, queries=4, layers=2), draws(2, 16, 8)
    for block in reader.blocks:
        for last in (block.attention.mix, block.network[-1]):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
    means = adaptive_avg_pool2d(values.transpose(1, 2).unflatten(2, (4, 4)), 2).flatten(2).transpose(1, 2)
    wanted = layer_norm(reader.queries + means, (8,))
    torch.testing.assert_close(reader(values, everything(values), (4, 4)), wanted, atol=1e-5, rtol=0)


def test_the_whole_adapter_equals_a_slow_form_with_loops():
    torch.manual_seed(0)
    adapter, values = PerceiverAdapter(8, 12, queries=4, layers=2, heads=1), draws(2, 16, 8)
    given, positions = adapter(Tokens(values, everything(values)), (4, 4)), place_positions((4, 4), 8).float()
    reader = adapter.reader
    for row in range(2):
        for query in range(4):
            corner = [(2 * (query // 2) + i) * 4 + 2 * (query % 2) + j for i in (0, 1) for j in (0, 1)]
            latent = reader.queries[query] + values[row, corner].mean(0)
            for block in reader.blocks:
                asked, normed = (
                    block.attention.query(block.latent_norm(latent)),
                    block.token_norm(values[row]),
                )
                weight, bias = block.attention.key_value.weight, block.attention.key_value.bias
                keys = [
                    weight[:8] @ (token + place) + bias[:8]
                    for token, place in zip(normed, positions, strict=True)
                ]
                shares = torch.stack([key @ asked / 8**0.5 for key in keys]).softmax(0)
                read = sum(
                    s * (weight[8:] @ token + bias[8:]) for s, token in zip(shares, normed, strict=True)
                )
                latent = latent + block.attention.mix(read)
                latent = latent + block.network(block.network_norm(latent))
            wanted = adapter.project(reader.norm(latent))
            torch.testing.assert_close(given.values[row, query], wanted, atol=1e-5, rtol=0)


def test_without_a_grid_the_order_of_tokens_does_not_matter_and_with_one_it_does():
    adapter, values = PerceiverAdapter(8, 12, queries=4).eval(), draws(2, 16, 8)
    swapped = values[:, torch.randperm(16, generator=torch.Generator().manual_seed(0))]
    one, other = Tokens(values, everything(values)), Tokens(swapped, everything(values))
    torch.testing.assert_close(adapter(one).values, adapter(other).values, atol=1e-5, rtol=0)
    assert not torch.allclose(adapter(one, (4, 4)).values, adapter(other, (4, 4)).values, atol=1e-2)


def test_two_places_of_one_cell_are_told_apart_by_their_position():
    adapter, values = PerceiverAdapter(8, 12, queries=4).eval(), draws(1, 16, 8)
    swapped = values[:, [1, 0, *range(2, 16)]]  # the grid means stay as they are
    one, other = (adapter(Tokens(v, everything(v)), (4, 4)).values for v in (values, swapped))
    assert (one - other).abs().max() > 1e-4


def test_fewer_tokens_than_queries_give_all_queries():
    adapter = PerceiverAdapter(8, 12, queries=16)
    for grid in ((1, 1), None):
        given = adapter(Tokens(draws(3, 1, 8), torch.ones(3, 1, dtype=torch.bool)), grid)
        assert given.values.shape == (3, 16, 12)
        assert given.mask.all()


def bright_quarter(count, seed):
    """Tokens of a 4 x 4 grid, one of which stands out: values [count 16 8], its quarter [count]."""
    values, place = 0.3 * draws(count, 16, 8, seed=seed), torch.arange(count) * 7 % 16
    values[torch.arange(count), place, 0] += 3.0
    return values, place // 8 * 2 + place % 4 // 2


@pytest.mark.parametrize(("grid", "least", "most"), [((4, 4), 0.8, 1.0), (None, 0.0, 0.4)])
def test_it_learns_where_something_is_if_it_knows_the_grid(grid, least, most):
    torch.manual_seed(0)
    adapter, head = PerceiverAdapter(8, 16, queries=4, heads=2), nn.Linear(64, 4)
    optimiser = torch.optim.AdamW([*adapter.parameters(), *head.parameters()], lr=1e-2)

    def logits(values):
        return head(adapter(Tokens(values, everything(values)), grid).values.flatten(1))

    values, quarter = bright_quarter(128, seed=1)
    for _ in range(40):
        optimiser.zero_grad()
        cross_entropy(logits(values), quarter).backward()
        optimiser.step()
    new, truth = bright_quarter(128, seed=2)
    right = (logits(new).argmax(1) == truth).float().mean()
    assert least <= right <= most, right
