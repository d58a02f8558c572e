"""Concat: one slot per modality, the mean where a record has none, an MLP over all slots. The baseline.

Source: the parallel ("P-Fusion") baseline of MultiModN (arXiv:2309.14118) after HAIM (Soenksen et al. 2022,
doi:10.1038/s41746-022-00689-4). Stronger than that baseline: each modality has its encoder, and the slot of
an absent modality holds the mean of the encoded training rows instead of raw zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmmed.fusion.recurrence import check_modalities
from mmmed.layers.mlp import mlp
from mmmed.layers.named import NamedModules
from mmmed.types import Fused, Tokens


class Concat(nn.Module):
    """Parallel fusion with mean imputation.

    dim: width of the tokens; state_dim: width of the state. momentum: share by which a training batch moves
    the running mean of each modality. With several processes each keeps its own mean and the first one's is
    saved.
    """

    def __init__(
        self,
        modalities: Iterable[str],
        dim: int = 64,
        state_dim: int = 64,
        hidden: int = 64,
        dropout: float = 0.1,
        momentum: float = 0.05,
    ):
        super().__init__()
        self.modalities = check_modalities(modalities)
        self.dim, self.state_dim, self.momentum = dim, state_dim, momentum
        self.norms = NamedModules({name: nn.LayerNorm(dim) for name in self.modalities})
        self.mix = mlp([dim * len(self.modalities), hidden, state_dim], dropout=dropout)
        self.register_buffer("means", torch.zeros(len(self.modalities), dim))

    def forward(
        self,
        tokens: Mapping[str, Tokens],
        rows: Mapping[str, Tensor],
        present: Tensor,
        order: Sequence[str] | None = None,
    ) -> Fused:
        """Fuse packed tokens; parallel fusion has no order, and `order` changes nothing. -> Fused with two
        steps."""
        means = self.means  # of the batches before this one: no record is judged by its neighbours
        slots = []
        for index, name in enumerate(self.modalities):
            slot = means[index].expand(len(present), -1)
            if name in tokens:
                encoded = self.norms[name](tokens[name].mean())  # [n dim]
                if self.training:
                    self._follow(index, encoded)
                slot = slot.index_copy(0, rows[name], encoded.to(slot.dtype))
            slots.append(slot)
        nothing = means.flatten().expand(len(present), -1)
        steps = self.mix(torch.stack([nothing, torch.cat(slots, dim=1)], dim=1))  # [batch 2 state_dim]
        any_here = present.any(1, keepdim=True)
        return Fused(steps[:, 1], steps, torch.cat([torch.ones_like(any_here), any_here], dim=1))

    @torch.no_grad()
    def _follow(self, index: int, encoded: Tensor) -> None:
        # A new tensor, not in place: the old means are part of this step's graph.
        means = self.means.clone()
        means[index] = means[index].lerp(encoded.float().mean(0).to(means.dtype), self.momentum)
        self.means = means

    def add_modality(self, name: str) -> None:
        """Append a slot whose weights and mean start at zero, so that earlier predictions stay as they
        were."""
        if name in self.modalities:
            raise ValueError(f"The fusion already has a modality {name!r}.")
        old = self.mix[0]
        wide = nn.Linear(old.in_features + self.dim, old.out_features)
        with torch.no_grad():
            wide.weight.zero_()
            wide.weight[:, : old.in_features] = old.weight
            wide.bias.copy_(old.bias)
        self.mix[0] = wide.to(old.weight)
        self.norms[name] = nn.LayerNorm(self.dim).to(old.weight)
        self.means = torch.cat([self.means, self.means.new_zeros(1, self.dim)])
        self.modalities = (*self.modalities, name)
