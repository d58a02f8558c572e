"""Late fusion: every modality answers alone, and the answers are averaged over those that are there.

Source: the sum rule for combining classifiers (Kittler et al., doi:10.1109/34.667881), here on logits. The
model's head is linear and shared, so the mean of the states has the mean of the answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmmed.fusion.arrivals import Arrived, arrivals, check_modalities, check_new, in_slots
from mmmed.layers.mlp import mlp
from mmmed.layers.named import NamedModules
from mmmed.types import Fused, Tokens


class Late(nn.Module):
    """A network from each modality to a state of its own; their mean is the state.

    dim: width of the tokens; state_dim: width of the state. A record without anything has a learned state.
    """

    head_norm = False  # a norm before the head would undo that the mean state has the mean answer

    def __init__(
        self,
        modalities: Iterable[str],
        dim: int = 64,
        state_dim: int = 64,
        hidden: int = 64,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.modalities = check_modalities(modalities)
        self.dim, self.state_dim, self.hidden, self.dropout = dim, state_dim, hidden, dropout
        self.nothing = nn.Parameter(0.02 * torch.randn(state_dim))
        self.nets = NamedModules({name: self._net() for name in self.modalities})

    def _net(self) -> nn.Module:
        return nn.Sequential(
            nn.LayerNorm(self.dim), mlp([self.dim, self.hidden, self.state_dim], dropout=self.dropout)
        )

    def forward(
        self,
        tokens: Mapping[str, Tokens],
        rows: Mapping[str, Tensor],
        present: Tensor,
        order: Sequence[str] | None = None,
    ) -> Fused:
        """Fuse packed or dense tokens; `order` changes nothing.

        -> Fused with the steps nothing, each modality alone, mean of those present.
        """
        arrived = arrivals(tokens, rows, present, self.modalities)
        nothing = self.nothing.expand(len(present), 1, -1)
        alone = in_slots(arrived, self.modalities, self._alone, nothing.expand(-1, len(self.modalities), -1))
        count = present.sum(1, keepdim=True)
        total = torch.where(present.unsqueeze(2), alone, 0).sum(1)
        state = torch.where(count > 0, total / count.clamp(min=1), nothing[:, 0])
        steps = torch.cat([nothing, alone, state.unsqueeze(1)], dim=1)
        mask = torch.cat([torch.ones_like(count > 0), present, count > 0], dim=1)
        return Fused(state, steps, mask)

    def _alone(self, name: str, part: Arrived) -> Tensor:
        return self.nets[name](part.tokens.mean())

    def add_modality(self, name: str) -> None:
        """Append a modality with a fresh network; records without it are answered exactly as before."""
        self.nets[check_new(name, self.modalities)] = self._net().to(self.nothing)
        self.modalities = (*self.modalities, name)
