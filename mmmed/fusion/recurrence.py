"""One recurrence for sequential fusion: a state visits the modalities in turn, and skips those a record
lacks.

    s_0 = init()
    s_k[row] = update_k(s_{k-1}[row], T_k[row])   where the row has modality k, else s_{k-1}[row]

MultiModN, 3MT, HEALNet and MedFuse are choices of `init` and `update`. The skip is per record: whether
another record of the batch has the modality changes nothing, and the update never runs on a stand-in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmmed.checks import check_known, listing
from mmmed.layers.named import NamedModules
from mmmed.types import Fused, Tokens


class LearnedState(nn.Module):
    """The state that knows nothing: one learned vector, the same for every record.

    scale: standard deviation at the start. MultiModN (Swamy et al., arXiv:2309.14118) takes 1; a small state
    lets what an additive update brings be seen from the first step on.
    """

    def __init__(self, dim: int, scale: float = 1.0):
        super().__init__()
        self.value = nn.Parameter(scale * torch.randn(dim))

    def forward(self, batch: int) -> Tensor:
        """-> [batch dim]"""
        return self.value.expand(batch, -1)


class Recurrence(nn.Module):
    """Sequential fusion with an `init` (batch size -> state) and one update per modality.

    updates[modality](state [n dim], Tokens of the same n records) -> new state [n dim].
    """

    def __init__(self, init: nn.Module, updates: Mapping[str, nn.Module], state_dim: int):
        super().__init__()
        self.init = init
        self.updates = NamedModules(updates)
        self.state_dim = state_dim

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.updates)

    def forward(
        self,
        tokens: Mapping[str, Tokens],
        rows: Mapping[str, Tensor],
        present: Tensor,
        order: Sequence[str] | Tensor | None = None,
    ) -> Fused:
        """Fuse packed tokens.

        tokens[modality]: of the n records at positions rows[modality] [n]; present [batch modality] bool.
        order: names (one order for all), or [batch step] long (indices into `modalities`, an order per
        record). -> Fused with steps [batch 1+modalities dim].
        """
        if isinstance(order, Tensor):
            return self._each_its_own_order(tokens, rows, present, order)
        names = self.modalities if order is None else tuple(order)
        if sorted(names) != sorted(self.modalities):
            raise ValueError(
                f"An order should list each of {listing(self.modalities)} once, got {listing(names)}."
            )
        state = self.init(len(present))
        steps = [state]
        for name in names:
            if name in tokens:
                state = self._step(name, state, tokens[name], rows[name])
            steps.append(state)
        here = present[:, [self.modalities.index(name) for name in names]]
        mask = torch.cat([present.new_ones(len(present), 1), here], dim=1)
        return Fused(state, torch.stack(steps, dim=1), mask, names)

    def _step(self, name: str, state: Tensor, tokens: Tokens, rows: Tensor) -> Tensor:
        new = self.updates[name](state[rows], tokens)
        return state.index_copy(0, rows, new.to(state.dtype))  # autocast may compute in bf16

    def _each_its_own_order(
        self, tokens: Mapping[str, Tokens], rows: Mapping[str, Tensor], present: Tensor, order: Tensor
    ) -> Fused:
        whole = torch.arange(len(self.modalities), device=order.device).expand(len(present), -1)
        if order.shape != whole.shape or not torch.equal(order.sort(1).values, whole):
            raise ValueError(
                f"An order per record should be [batch step] = {list(present.shape)} and list each index "
                "once."
            )
        state = self.init(len(present))
        steps = [state]
        for step in order.unbind(1):
            for index, name in enumerate(self.modalities):
                if name not in tokens:
                    continue
                turn = step[rows[name]] == index  # of the records that have it, those whose turn it is
                if turn.any():
                    state = self._step(name, state, tokens[name][turn], rows[name][turn])
            steps.append(state)
        mask = torch.cat([present.new_ones(len(present), 1), present.gather(1, order)], dim=1)
        return Fused(state, torch.stack(steps, dim=1), mask)

    def add(self, name: str, update: nn.Module) -> None:
        """Append a modality; records without it are fused exactly as before."""
        if name in self.updates:
            raise ValueError(f"The fusion already has a modality {name!r}.")
        self.updates[name] = update


def check_modalities(modalities: Iterable[str]) -> tuple[str, ...]:
    """Names of modalities as a tuple: at least one, each once."""
    names = (modalities,) if isinstance(modalities, str) else tuple(modalities)
    if not names or len(set(names)) != len(names):
        raise ValueError(f"A fusion needs modality names, each once, got {listing(names)}.")
    return names


def check_variant(name: str | None, known: tuple[str, ...]) -> str | None:
    """A named variant of a fusion, or None for the default."""
    return name if name is None else check_known(name, known, what="compat")
