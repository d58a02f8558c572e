"""Flex-MoE: slots of all modalities, learned stand-ins for the missing ones, and sparse experts (Yun et al.,
arXiv:2410.08245). Experts are made to specialise by the mutual-information loss of Mod-Squad (Chen et al.,
arXiv:2212.08066), with the modality in the place of its task.

Differs from the paper: pure torch; one router for complete and incomplete records in place of two (which
experts serve which modality is learned, and can be looked at); no attention between slots, they meet in the
network after the experts; a modality enters as the mean of its tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmmed.fusion.arrivals import Arrived, arrivals, check_modalities, check_new, in_slots, start_and_end
from mmmed.fusion.concat import widened
from mmmed.layers.experts import Experts, Routing, information_loss, load_loss
from mmmed.layers.missing_bank import MissingBank
from mmmed.layers.mlp import mlp
from mmmed.layers.named import NamedModules
from mmmed.types import Fused, Tokens

KEPT = 0.99  # of the earlier routing in `expert_table`, per training batch


class MixtureOfExperts(nn.Module):
    """Parallel fusion by routed experts.

    dim: width of tokens and slots; state_dim: width of the state; hidden: of each expert and of the network
    after them. experts, top_k: how many there are and how many a slot goes to. balance, information: weights
    of the two losses in `Fused.extra`, in training only. With several processes each counts its own routing
    and the first one's is saved.
    """

    def __init__(
        self,
        modalities: Iterable[str],
        dim: int = 64,
        state_dim: int = 64,
        experts: int = 4,
        top_k: int = 2,
        hidden: int = 64,
        dropout: float = 0.1,
        balance: float = 0.01,
        information: float = 0.01,
    ):
        super().__init__()
        self.modalities = check_modalities(modalities)
        self.dim, self.state_dim, self.balance, self.information = dim, state_dim, balance, information
        self.norms = NamedModules({name: nn.LayerNorm(dim) for name in self.modalities})
        self.bank = MissingBank(len(self.modalities), dim)
        self.experts = Experts(dim, hidden, experts, top_k, dropout)
        self.mix = mlp([dim * len(self.modalities), hidden, state_dim], dropout=dropout)
        self.register_buffer("routed", torch.zeros(len(self.modalities), experts))

    def forward(
        self,
        tokens: Mapping[str, Tokens],
        rows: Mapping[str, Tensor],
        present: Tensor,
        order: Sequence[str] | None = None,
    ) -> Fused:
        """Fuse packed or dense tokens; `order` changes nothing.

        -> Fused with two steps, and in training with the weighted losses "expert_load" and
        "expert_information".
        """
        arrived = arrivals(tokens, rows, present, self.modalities)
        slots = in_slots(arrived, self.modalities, self._encoded, self.bank(present))
        nothing = self.bank(present.new_zeros(1, present.shape[1]))
        both = torch.cat([nothing, slots])  # [1+batch modality dim]: the record without anything comes first
        changed, routing = self.experts(both.flatten(0, 1))
        states = self.mix((both + changed.view_as(both)).flatten(1))
        extra = self._losses(routing, present) if self.training else {}
        return start_and_end(states[:1].expand(len(present), -1), states[1:], present, extra=extra)

    def _encoded(self, name: str, part: Arrived) -> Tensor:
        return self.norms[name](part.tokens.mean())

    def _losses(self, routing: Routing, present: Tensor) -> dict[str, Tensor]:
        """The load over all slots of the batch; the information over what is there, not over stand-ins."""
        first = len(self.modalities)  # the slots of the record without anything
        routing = Routing(
            routing.logits[first:], routing.shares[first:], routing.gates[first:], routing.top_k
        )
        self._count(self._by_modality(routing.gates, present))
        information = information_loss(self._by_modality(routing.shares, present))
        return {
            "expert_load": self.balance * load_loss(routing),
            "expert_information": self.information * information,
        }

    def _by_modality(self, shares: Tensor, present: Tensor) -> Tensor:
        """Sums over present slots: shares [batch*modality experts] -> [modality experts]"""
        return (shares.unflatten(0, present.shape) * present.unsqueeze(2)).sum(0)

    @torch.no_grad()
    def _count(self, sums: Tensor) -> None:
        self.routed.mul_(KEPT).add_(sums.to(self.routed))

    def expert_table(self) -> Tensor:
        """Which share of each modality went to each expert in recent training: [modality experts].

        Rows add up to 1; a modality that was never there has zeros.
        """
        return self.routed / self.routed.sum(1, keepdim=True).clamp(min=1e-10)

    def add_modality(self, name: str) -> None:
        """Append a slot without weight in the network after the experts, so that earlier predictions stay as
        they were."""
        self.norms[check_new(name, self.modalities)] = nn.LayerNorm(self.dim).to(self.routed)
        self.bank.grow()
        self.mix[0] = widened(self.mix[0], self.dim)
        self.routed = torch.cat([self.routed, self.routed.new_zeros(1, self.routed.shape[1])])
        self.modalities = (*self.modalities, name)
