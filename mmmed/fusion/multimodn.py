"""MultiModN: sequential fusion by a state that each modality rewrites (Swamy et al., NeurIPS 2023,
arXiv:2309.14118).

The default differs from the paper in two ways: the update is gated and residual instead of overwriting,
because it survives a flipped missingness pattern better; and the skip is per record instead of per batch.
With compat="multimodn" the update is the published one, and the published loss is `mmmed.losses.multimodn`.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mmmed.fusion.arrivals import check_modalities, check_variant
from mmmed.fusion.recurrence import LearnedState, Recurrence
from mmmed.layers.mlp import mlp
from mmmed.types import Tokens


class GatedUpdate(nn.Module):
    """s' = s + sigmoid(W [x; s]) * tanh(MLP([x; s])), x the mean of the modality's tokens.

    state [n state_dim], tokens [n tokens dim] -> [n state_dim].
    """

    def __init__(self, dim: int, state_dim: int, hidden: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.gate = nn.Linear(dim + state_dim, state_dim)
        self.change = mlp([dim + state_dim, hidden, state_dim], dropout=dropout)

    def forward(self, state: Tensor, tokens: Tokens) -> Tensor:
        both = torch.cat([self.norm(tokens.mean()), state], dim=-1)  # [n dim+state_dim]
        return state + torch.sigmoid(self.gate(both)) * torch.tanh(self.change(both))


class OverwriteUpdate(nn.Module):
    """s' = W [x; s] + b, x the mean of the modality's tokens: the last layer of the published MLP encoder."""

    def __init__(self, dim: int, state_dim: int):
        super().__init__()
        self.linear = nn.Linear(dim + state_dim, state_dim)

    def forward(self, state: Tensor, tokens: Tokens) -> Tensor:
        return self.linear(torch.cat([tokens.mean(), state], dim=-1))


class MultiModN(Recurrence):
    """Sequential fusion in the order of `modalities`.

    dim: width of the tokens; state_dim: width of the state. compat: None (gated) or "multimodn" (published
    update, where the encoder is everything before its last layer; `hidden` and `dropout` are then without
    effect).
    """

    def __init__(
        self,
        modalities: Iterable[str],
        dim: int = 64,
        state_dim: int = 64,
        hidden: int = 64,
        dropout: float = 0.1,
        compat: str | None = None,
    ):
        self.dim, self.hidden, self.dropout = dim, hidden, dropout
        self.compat = check_variant(compat, ("multimodn",))
        super().__init__(
            LearnedState(state_dim, scale=1.0 if self.compat else 0.02),
            {name: self._update(state_dim) for name in check_modalities(modalities)},
            state_dim,
        )

    def _update(self, state_dim: int) -> nn.Module:
        if self.compat:
            return OverwriteUpdate(self.dim, state_dim)
        return GatedUpdate(self.dim, state_dim, self.hidden, self.dropout)

    def add_modality(self, name: str) -> None:
        """Append a modality with a fresh update; records without it are fused exactly as before."""
        self.add(name, self._update(self.state_dim))
