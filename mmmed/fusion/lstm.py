"""MedFuse: the modalities are a short sequence that one LSTM reads (Hayat et al., arXiv:2207.07027).

Differs from the paper: the first state is learned instead of zero, so that a record without anything has an
answer that was trained; every modality is projected (the paper projects all but the first), and every step
can be supervised. A modality that is missing is no step at all, as in the paper.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mmmed.fusion.arrivals import check_modalities
from mmmed.fusion.recurrence import LearnedState, Recurrence
from mmmed.types import Tokens


class LSTMCell(nn.Module):
    """One step of a long short-term memory (Hochreiter and Schmidhuber, doi:10.1162/neco.1997.9.8.1735).

    state [n 2 state_dim] (output h and memory c), x [n width] -> [n 2 state_dim]. Gates in the order of
    torch.nn.LSTMCell, which does not run for many models side by side on every device.
    """

    def __init__(self, width: int, state_dim: int):
        super().__init__()
        self.input = nn.Linear(width, 4 * state_dim)
        self.recurrent = nn.Linear(state_dim, 4 * state_dim)

    def forward(self, state: Tensor, x: Tensor) -> Tensor:
        output, memory = state.unbind(1)
        gates = self.input(x) + self.recurrent(output)
        enter, keep, candidate, leave = gates.chunk(4, dim=1)
        memory = torch.sigmoid(keep) * memory + torch.sigmoid(enter) * torch.tanh(candidate)
        return torch.stack([torch.sigmoid(leave) * torch.tanh(memory), memory], dim=1)


class Output(nn.Module):
    """state [n 2 state_dim] -> its output h [n state_dim]."""

    def forward(self, state: Tensor) -> Tensor:
        return state[:, 0]


class LSTM(Recurrence):
    """One LSTM cell for all modalities, in the order of `modalities`.

    dim: width of the tokens; state_dim: width of the state. A modality enters as the mean of its tokens,
    normalised and projected to the width of the state.
    """

    def __init__(self, modalities: Iterable[str], dim: int = 64, state_dim: int = 64):
        self.dim = dim
        super().__init__(
            LearnedState((2, state_dim), scale=0.02),
            {name: self._projection(state_dim) for name in check_modalities(modalities)},
            state_dim,
            readout=Output(),
        )
        self.cell = LSTMCell(state_dim, state_dim)

    def _projection(self, state_dim: int) -> nn.Module:
        return nn.Sequential(nn.LayerNorm(self.dim), nn.Linear(self.dim, state_dim))

    def apply_update(self, name: str, state: Tensor, tokens: Tokens) -> Tensor:
        """Project the modality and let the cell read it: [n 2 state_dim] -> [n 2 state_dim]."""
        return self.cell(state, self.updates[name](tokens.mean()))

    def add_modality(self, name: str) -> None:
        """Append a modality with a fresh projection; records without it are fused exactly as before."""
        self.add(name, self._projection(self.state_dim))
