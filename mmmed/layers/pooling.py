"""Many places to one vector: over a grid, and over tokens of which some are only padding."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def mean_and_max(maps: Tensor) -> Tensor:
    """How much there is, and the strongest place: maps [n channels *space] -> [n 2*channels]."""
    space = tuple(range(2, maps.ndim))
    return torch.cat([maps.mean(space), maps.amax(space)], dim=1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real tokens: values [n tokens dim], mask [n tokens] bool -> [n dim]; zeros where none is
    real."""
    weights = mask.to(values.dtype).unsqueeze(2)  # [n tokens 1]
    return (values * weights).sum(1) / weights.sum(1).clamp(min=1)


class AttentionPool(nn.Module):
    """Learned weighting of tokens: values [n tokens dim], mask [n tokens] bool -> [n dim].

    One weighting per head, each over its own part of `dim`; it begins as the plain mean. Every row needs a
    real token. Source: Lin et al., arXiv:1703.03130, sec. 2.1. Differs: one linear score in place of two
    layers.
    """

    def __init__(self, dim: int, heads: int = 4):
        super().__init__()
        self.heads = heads
        # without a bias: softmax would not see it
        self.score = nn.Linear(dim, heads, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        scores = self.score(values).masked_fill(~mask.unsqueeze(2), -torch.inf)
        weights = scores.softmax(1)  # [n tokens heads]
        parts = values.unflatten(2, (self.heads, -1))  # [n tokens heads part]
        return (weights.unsqueeze(3) * parts).sum(1).flatten(1)
