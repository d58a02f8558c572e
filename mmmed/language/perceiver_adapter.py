"""A fixed number of latent queries that read the tokens, each starting at the mean of its part of the grid.

Source: Perceiver (Jaegle et al., arXiv:2103.03206) as adapters use it (the resampler of Flamingo, Alayrac et
al., arXiv:2204.14198). Differs: a query starts as a learned vector plus the mean of the tokens in one cell
of a coarse grid, so that what a place shows has a way through before any attention is learned; keys are the
tokens alone; positions are sines and cosines (Vaswani et al., arXiv:1706.03762, sec. 3.5, per axis), which
fit any grid.
"""

from __future__ import annotations

from functools import lru_cache
from math import log, prod

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from mmmed.checks import check_count
from mmmed.language.mlp_adapter import Adapter, scaled_norm
from mmmed.layers.cross_attention import check_heads
from mmmed.types import Tokens

START = 0.2  # spread of the learned queries: enough to differ, and less than what the grid means bring


class PlacedAttention(nn.Module):
    """Multi-head attention whose keys, but not its values, know their places.

    queries [n queries dim], or [1 queries dim] for all rows, values [n tokens dim], mask [n tokens] bool,
    positions [tokens dim] or [n tokens dim] or None -> [n queries dim]. Every row needs a real token.
    Source: Vaswani et al., arXiv:1706.03762, sec. 3.2.
    """

    def __init__(self, dim: int, heads: int = 4):
        super().__init__()
        self.heads = check_heads(dim, heads)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.mix = nn.Linear(dim, dim)

    def forward(self, queries: Tensor, values: Tensor, mask: Tensor, positions: Tensor | None) -> Tensor:
        key, value = self.key_value(values).chunk(2, dim=2)
        if positions is not None:
            # W(x + p) = Wx + Wp, and Wp is the same in every row
            key = key + linear(positions, self.key_value.weight[: key.shape[2]])
        query, key, value = (self._split(part) for part in (self.query(queries), key, value))
        query = query.expand(len(key), -1, -1, -1)  # queries that are the same in every row come once
        read = scaled_dot_product_attention(query, key, value, mask[:, None, None])
        return self.mix(read.transpose(1, 2).flatten(2))

    def _split(self, part: Tensor) -> Tensor:
        """[n tokens dim] -> [n heads tokens dim/heads]"""
        return part.unflatten(2, (self.heads, -1)).transpose(1, 2)


class ReadingBlock(nn.Module):
    """Latents read the tokens, then a two-layer network; each on normalised latents and added to them."""

    def __init__(self, dim: int, heads: int = 4, widen: int = 2):
        super().__init__()
        self.latent_norm, self.token_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = PlacedAttention(dim, heads)
        self.network_norm = nn.LayerNorm(dim)
        self.network = nn.Sequential(nn.Linear(dim, widen * dim), nn.GELU(), nn.Linear(widen * dim, dim))

    def forward(self, latents: Tensor, values: Tensor, mask: Tensor, positions: Tensor | None) -> Tensor:
        latents = latents + self.attention(
            self.latent_norm(latents), self.token_norm(values), mask, positions
        )
        return latents + self.network(self.network_norm(latents))


class GridReader(nn.Module):
    """Tokens to a fixed number of latents, normalised: values [n tokens dim], mask [n tokens] ->
    [n queries dim].

    A query is learned, plus the mean of the real tokens in its cell of a coarse grid (of all tokens, where
    there is no grid; nothing, where a cell has no real token). grid: as in `Adapter`.
    """

    def __init__(self, dim: int, queries: int, layers: int = 1, heads: int = 4):
        super().__init__()
        self.queries = nn.Parameter(START * torch.randn(check_count(queries, name="queries"), dim))
        blocks = check_count(layers, name="layers")
        self.blocks = nn.ModuleList(ReadingBlock(dim, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(dim)

    def forward(self, values: Tensor, mask: Tensor, grid: tuple[int, ...] | None) -> Tensor:
        positions = None
        if grid is not None:
            positions = place_positions(tuple(grid), values.shape[2]).to(values)
            positions = positions.repeat(values.shape[1] // len(positions), 1)  # the same in every view
        latents = self.queries + grid_means(values, mask, grid, len(self.queries))
        for block in self.blocks:
            latents = block(latents, values, mask, positions)
        return self.norm(latents)


def grid_means(values: Tensor, mask: Tensor, grid: tuple[int, ...] | None, cells: int) -> Tensor:
    """Mean of the real tokens in each cell of a coarse grid, over all views: values [n tokens dim], zero in
    the padding -> [n cells dim], or [n 1 dim] without a grid."""
    real = mask.unsqueeze(2).to(values.dtype)  # [n tokens 1]
    if grid is None:
        return values.sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp(min=1)
    places, part = prod(grid), pooling(tuple(grid), coarse_grid(tuple(grid), cells)).to(values)
    sums = part @ values.unflatten(1, (-1, places)).sum(1)  # [n cells dim]
    shares = part @ real.unflatten(1, (-1, places)).sum(1)  # [n cells 1]
    return sums / torch.where(shares > 0, shares, 1)


@lru_cache(maxsize=64)
def coarse_grid(grid: tuple[int, ...], cells: int) -> tuple[int, ...]:
    """Sides whose product is `cells`, with cells as square as can be: (8, 8), 16 -> (4, 4); (4, 8, 8), 4 ->
    (1, 2, 2)."""

    def sides(count: int, axes: int) -> list[tuple[int, ...]]:
        if axes == 1:
            return [(count,)]
        divisors = [side for side in range(1, count + 1) if count % side == 0]
        return [(side, *rest) for side in divisors for rest in sides(count // side, axes - 1)]

    def uneven(candidate: tuple[int, ...]) -> float:
        edges = [log(side / parts) for side, parts in zip(grid, candidate, strict=True)]
        return max(edges) - min(edges)

    return min(sides(cells, len(grid)), key=uneven)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is kept here serves learning too
def pooling(grid: tuple[int, ...], cells: tuple[int, ...]) -> Tensor:
    """The matrix [cells places] of adaptive average pooling, each row with a sum of 1."""
    matrix = torch.ones(1, 1, dtype=torch.float64, device="cpu")
    for side, parts in zip(grid, cells, strict=True):
        index, part = torch.arange(side, device="cpu"), torch.arange(parts, device="cpu").unsqueeze(1)
        inside = (index >= part * side // parts) & (index < -(-(part + 1) * side // parts))  # [parts side]
        matrix = torch.kron(matrix, inside.double() / inside.sum(1, keepdim=True))
    return matrix


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def place_positions(grid: tuple[int, ...], dim: int) -> Tensor:
    """Sines and cosines of each place's coordinates, the last axis first: [places dim]. What is left of dim
    when the axes have had equal, even shares stays zero."""
    half = dim // (2 * len(grid))
    speeds = 10000.0 ** (-torch.arange(half, dtype=torch.float64, device="cpu") / max(half, 1))
    axes = [torch.arange(side, dtype=torch.float64, device="cpu") for side in grid]
    coordinates = [axis.flatten() for axis in torch.meshgrid(*axes, indexing="ij")]
    angles = [axis.unsqueeze(1) * speeds for axis in reversed(coordinates)]
    waves = [wave(angle) for angle in angles for wave in (torch.sin, torch.cos)]
    spare = torch.zeros(prod(grid), dim - 2 * half * len(grid), dtype=torch.float64, device="cpu")
    return torch.cat([*waves, spare], dim=1)


class PerceiverAdapter(Adapter):
    """However many tokens, `queries` come out, all of them real: Tokens [n tokens dim] -> Tokens
    [n queries width].

    queries: how many; layers: times they read the tokens; scale: see `mmmed.language.mlp_adapter.Projector`.
    Works at the width of the tokens, and only the last layer knows that of the language model. The prompt is
    not used.
    """

    def __init__(
        self,
        dim: int,
        width: int,
        queries: int = 16,
        layers: int = 1,
        heads: int = 4,
        scale: float | None = None,
    ):
        super().__init__(dim, width)
        self.reader = GridReader(dim, queries, layers, heads)
        self.project = nn.Linear(dim, width)
        self.norm = scaled_norm(width, scale)

    def forward(
        self, tokens: Tokens, grid: tuple[int, ...] | None = None, prompt: Tokens | None = None
    ) -> Tokens:
        latents = self.reader(self.real(tokens, grid), tokens.mask, grid)
        values = self.norm(self.project(latents))
        return Tokens(values, values.new_ones(values.shape[:2], dtype=torch.bool))
