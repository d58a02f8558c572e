"""When something was measured, as a vector."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class TimeEncoding(nn.Module):
    """Times at any distance from each other, as learned waves: times [*any] -> [*any dim].

    One component grows steadily with time, the others are sines with learned frequency and phase (Time2Vec,
    Kazemi et al., arXiv:1907.05321, eq. 1). shortest, longest: first periods, in the unit of the times,
    spread evenly on a logarithmic scale. Differs from the paper: the steady component is the logarithm of the
    distance from 0, so that a time far back does not drown the others.
    """

    def __init__(self, dim: int, shortest: float = 0.1, longest: float = 100.0):
        super().__init__()
        periods = torch.logspace(math.log10(shortest), math.log10(longest), dim - 1)
        self.frequency = nn.Parameter(2 * math.pi / periods)
        # sine and cosine in turn, as one wave alone cannot tell before from after its crest
        self.phase = nn.Parameter(torch.arange(dim - 1) % 2 * math.pi / 2)
        self.slope = nn.Parameter(torch.ones(1))

    def forward(self, times: Tensor) -> Tensor:
        times = times.unsqueeze(-1)
        steady = self.slope * times.sign() * times.abs().log1p()
        return torch.cat([steady, torch.sin(self.frequency * times + self.phase)], dim=-1)
