"""A gate that blends two views of every token: the token itself, and what its place reads from all tokens.

Source: SliME (Zhang et al., arXiv:2406.08487), the global view. Differs from the released code: each
expert has a projector of its own; the gate draws no noise; one learned query serves all places and is told
apart by position, so any grid will do, where theirs is fixed to 24 x 24.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmmed.checks import check_known
from mmmed.language.mlp_adapter import Adapter, Projector
from mmmed.language.perceiver_adapter import START, PlacedAttention, place_positions
from mmmed.types import Tokens

EXPERTS = ("mlp", "resampler")


class Resampler(nn.Module):
    """Every place reads all tokens once: values [n tokens dim], mask [n tokens], positions [tokens dim] or
    [n tokens dim] -> [n tokens dim]. Queries and keys know their places, values do not."""

    def __init__(self, dim: int, heads: int = 4):
        super().__init__()
        self.query = nn.Parameter(START * torch.randn(dim))
        self.query_norm, self.token_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = PlacedAttention(dim, heads)
        self.norm = nn.LayerNorm(dim)

    def forward(self, values: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        queries = self.query_norm(self.query) + positions
        if queries.ndim == 2:  # the same in every row
            queries = queries.unsqueeze(0)
        return self.norm(self.attention(queries, self.token_norm(values), mask, positions))


class MixtureAdapter(Adapter):
    """output = share of the MLP * MLP(token) + share of the resampler * MLP'(what its place reads): Tokens
    [n tokens dim] -> Tokens [n tokens width], with the same mask.

    Both shares begin at one half. Without a grid a token's place is its number among the real ones. scale:
    see `mmmed.language.mlp_adapter.Projector`. The prompt is not used. `use` fixes the gate for the
    alternating training: first the MLP alone, then the resampler alone, then both. It is not part of the
    saved state.
    """

    def __init__(self, dim: int, width: int, heads: int = 4, scale: float | None = None):
        super().__init__(dim, width)
        self.gate = nn.Linear(dim, len(EXPERTS), bias=False)
        nn.init.zeros_(self.gate.weight)
        self.project = Projector(dim, width, scale)
        self.resampler = Resampler(dim, heads)
        self.project_resampled = Projector(dim, width, scale)
        self.used = "both"

    def use(self, experts: str) -> MixtureAdapter:
        """Fix the gate to "mlp" or "resampler", the other being neither run nor taught; or "both"."""
        self.used = check_known(experts, (*EXPERTS, "both"), what="part of a mixture adapter")
        return self

    def gate_shares(self, tokens: Tokens, grid: tuple[int, ...] | None = None) -> Tensor:
        """What the gate gives to MLP and resampler for each token: [n tokens 2], with a sum of 1."""
        return self.gate(self.real(tokens, grid)).softmax(2)

    def forward(
        self, tokens: Tokens, grid: tuple[int, ...] | None = None, prompt: Tokens | None = None
    ) -> Tokens:
        values = self.real(tokens, grid)
        if self.used == "mlp":
            return Tokens(self.project(values), tokens.mask)
        positions = token_positions(values, tokens.mask, grid)
        resampled = self.project_resampled(self.resampler(values, tokens.mask, positions))
        if self.used == "resampler":
            return Tokens(resampled, tokens.mask)
        shares = self.gate(values).softmax(2)
        return Tokens(shares[..., :1] * self.project(values) + shares[..., 1:] * resampled, tokens.mask)


def token_positions(values: Tensor, mask: Tensor, grid: tuple[int, ...] | None) -> Tensor:
    """Where each token lies: [tokens dim] on a grid, the same in every view, else [n tokens dim], its number
    among the real ones, which padding cannot shift."""
    count, dim = values.shape[1:]
    if grid is not None:
        positions = place_positions(tuple(grid), dim).to(values)
        return positions.repeat(count // len(positions), 1)
    return place_positions((count,), dim).to(values)[(mask.cumsum(1) - 1).clamp(min=0)]
