"""Concat: one slot per modality, the mean where a record has none, an MLP over all slots. The baseline.

Source: the parallel ("P-Fusion") baseline of MultiModN (arXiv:2309.14118) after HAIM (Soenksen et al. 2022,
doi:10.1038/s41746-022-00689-4). Stronger than that baseline: each modality has its encoder, and the slot of
an absent modality holds the mean of the encoded training rows instead of raw zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmmed.fusion.arrivals import Arrived, arrivals, check_modalities, check_new, in_slots, start_and_end
from mmmed.layers.mlp import mlp
from mmmed.layers.named import NamedModules
from mmmed.types import Fused, Tokens


class Concat(nn.Module):
    """Parallel fusion with mean imputation.

    dim: width of the tokens; state_dim: width of the state. momentum: share by which a training batch moves
    the running mean of each modality. presence: one more input per modality that says whether it is there; it
    helps where missing is informative, and misleads where the reasons for it change. With several processes
    each keeps its own mean and the first one's is saved.
    """

    def __init__(
        self,
        modalities: Iterable[str],
        dim: int = 64,
        state_dim: int = 64,
        hidden: int = 64,
        dropout: float = 0.1,
        momentum: float = 0.05,
        presence: bool = False,
    ):
        super().__init__()
        self.modalities = check_modalities(modalities)
        self.dim, self.state_dim, self.momentum, self.presence = dim, state_dim, momentum, presence
        self.slot = dim + presence  # width of a slot
        self.norms = NamedModules({name: nn.LayerNorm(dim) for name in self.modalities})
        self.mix = mlp([self.slot * len(self.modalities), hidden, state_dim], dropout=dropout)
        self.register_buffer("means", torch.zeros(len(self.modalities), dim))

    def forward(
        self,
        tokens: Mapping[str, Tokens],
        rows: Mapping[str, Tensor],
        present: Tensor,
        order: Sequence[str] | None = None,
    ) -> Fused:
        """Fuse packed or dense tokens; parallel fusion has no order, and `order` changes nothing. -> Fused
        with two steps."""
        arrived = arrivals(tokens, rows, present, self.modalities)
        # The means of the batches before this one: no record is judged by its neighbours.
        means = self.means.clone().expand(len(present), -1, -1)
        known = in_slots(arrived, self.modalities, self._encoded, means)  # [batch modality dim]
        nothing = self._inputs(means, torch.zeros_like(present))
        steps = self.mix(torch.stack([nothing, self._inputs(known, present)], dim=1))  # [batch 2 state_dim]
        return start_and_end(steps[:, 0], steps[:, 1], present)

    def _encoded(self, name: str, part: Arrived) -> Tensor:
        encoded = self.norms[name](part.tokens.mean())  # [n dim]
        if self.training:
            self._follow(self.modalities.index(name), encoded, part.here)
        return encoded

    def _inputs(self, slots: Tensor, present: Tensor) -> Tensor:
        """slots [batch modality dim] -> [batch modality*slot]"""
        if self.presence:
            slots = torch.cat([slots, present.to(slots.dtype).unsqueeze(2)], dim=2)
        return slots.flatten(1)

    @torch.no_grad()
    def _follow(self, index: int, encoded: Tensor, here: Tensor) -> None:
        # In place, so that models side by side each follow their own; this step works on a copy.
        count = here.sum()
        total = torch.where(here.unsqueeze(1), encoded.float(), 0).sum(0)
        mean = (total / count.clamp(min=1)).to(self.means.dtype)
        old = self.means[index]
        old.copy_(torch.where(count > 0, old.lerp(mean, self.momentum), old))

    def add_modality(self, name: str) -> None:
        """Append a slot whose weights and mean start at zero, so that earlier predictions stay as they
        were."""
        self.norms[check_new(name, self.modalities)] = nn.LayerNorm(self.dim).to(self.means)
        self.mix[0] = widened(self.mix[0], self.slot)
        self.means = torch.cat([self.means, self.means.new_zeros(1, self.dim)])
        self.modalities = (*self.modalities, name)


def widened(old: nn.Linear, more: int) -> nn.Linear:
    """The same linear layer with `more` inputs at the end, whose weights start at zero."""
    wide = nn.Linear(old.in_features + more, old.out_features)
    with torch.no_grad():
        wide.weight.zero_()
        wide.weight[:, : old.in_features] = old.weight
        wide.bias.copy_(old.bias)
    return wide.to(old.weight)
