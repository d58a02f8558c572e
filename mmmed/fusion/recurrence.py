"""One recurrence for sequential fusion: a state visits the modalities in turn, and skips those a record
lacks.

    s_0 = init()
    s_k[row] = update_k(s_{k-1}[row], T_k[row])   where the row has modality k, else s_{k-1}[row]

MultiModN, 3MT, HEALNet and MedFuse are choices of `init`, `update` and `readout`. The skip is per record:
whether another record of the batch has the modality changes nothing. A method of one's own is a module:

    class Add(nn.Module):
        def forward(self, state, tokens):            # state [n dim], tokens.values [n tokens dim]
            return state + tokens.mean()

    fusion = Recurrence(LearnedState(64), {"image": Add(), "labs": Add()}, state_dim=64)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import torch
from torch import Tensor, nn

from mmmed.checks import check_count, listing, plain
from mmmed.fusion.arrivals import Arrived, arrivals, check_modalities, check_new, check_part, start_and_end
from mmmed.layers.named import NamedModules
from mmmed.types import Fused, Tokens


class LearnedState(nn.Module):
    """The state that knows nothing: learned, the same for every record.

    dim: its width, or its shape where it is more than a vector. scale: standard deviation at the start.
    MultiModN (Swamy et al., arXiv:2309.14118) takes 1; a small state lets what an additive update brings be
    seen from the first step on.
    """

    def __init__(self, dim: int | Sequence[int], scale: float = 1.0):
        super().__init__()
        self.value = nn.Parameter(scale * torch.randn(dim))

    def forward(self, batch: int) -> Tensor:
        """-> [batch *dim]"""
        return self.value.expand(batch, *self.value.shape)


class Recurrence(nn.Module):
    """Sequential fusion with an `init` (batch size -> inner state) and one update per modality.

    updates[modality](inner state [n ...], Tokens of the same n records) -> new inner state [n ...].
    readout: inner state -> [n state_dim]; none where the inner state is the state itself. readouts[modality]:
    a readout of its own after that modality; `readout` is then that of the start. passes: visits of each
    modality, with the same weights; after more than one the way is only [nothing, state].
    """

    def __init__(
        self,
        init: nn.Module,
        updates: Mapping[str, nn.Module],
        state_dim: int,
        readout: nn.Module | None = None,
        readouts: Mapping[str, nn.Module] | None = None,
        passes: int = 1,
    ):
        super().__init__()
        check_modalities(updates)
        for name, update in updates.items():
            check_part(update, name=f"The update of {name!r}", takes="(state, tokens)")
        self.init = check_part(init, name="init", takes="(batch size)")
        self.updates = NamedModules(updates)
        self.readout = readout
        self.readouts = None if readouts is None else NamedModules(_own(readouts, updates, readout))
        self.state_dim, self.passes = state_dim, check_count(passes, name="passes")
        if readouts is not None and passes > 1:
            raise ValueError(f"Readouts per modality need passes=1, got {passes}: which would come last?")

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.updates)

    def forward(
        self,
        tokens: Mapping[str, Tokens],
        rows: Mapping[str, Tensor],
        present: Tensor,
        order: Sequence[str] | Tensor | None = None,
        state: Tensor | None = None,
    ) -> Fused:
        """Fuse packed or dense tokens.

        tokens[modality]: of the n records at positions rows[modality] [n]; present [batch modality] bool.
        order: names (one order for all), or [batch step] long (indices into `modalities`, an order per
        record). state: `carry` of an earlier call with the same records, which is then gone on from. -> Fused
        with steps [batch 1+modalities state_dim], or [batch 2 state_dim] after several passes.
        """
        arrived = arrivals(tokens, rows, present, self.modalities)
        inner, first = self._start(len(present), state)
        if isinstance(order, Tensor):
            visits, names, took = self._own_orders(arrived, present, order), (), present.gather(1, order)
        else:
            names = self._names(order)
            visits = [[(name, arrived[name])] if name in arrived else [] for name in names]
            took = present[:, [self.modalities.index(name) for name in names]]
        if self.passes > 1:
            return self._several_passes(inner, first, visits, present)
        steps = [first]
        for visit in visits:
            latest = steps[-1]
            for name, part in visit:
                inner = self._step(name, inner, part)
                latest = self._read(name, inner, latest, part)
            steps.append(latest)
        mask = torch.cat([torch.ones_like(present[:, :1]), took], dim=1)
        return Fused(steps[-1], torch.stack(steps, dim=1), mask, names, self._carry(inner, steps[-1]))

    def apply_update(self, name: str, state: Tensor, tokens: Tokens) -> Tensor:
        """One update; a family whose modalities share a part of it puts that part here."""
        return self.updates[name](state, tokens)

    def add(self, name: str, update: nn.Module, readout: nn.Module | None = None) -> None:
        """Append a modality; records without it are fused exactly as before. readout: where each modality has
        its own."""
        check_new(name, self.updates)
        self.updates[name] = check_part(update, name=f"The update of {name!r}", takes="(state, tokens)")
        if self.readouts is not None:
            self.readouts[name] = check_part(readout, name=f"The readout of {name!r}", takes="(state)")

    def _step(self, name: str, inner: Tensor, part: Arrived) -> Tensor:
        old = inner[part.rows]
        new = self.apply_update(name, old, part.tokens)
        if not isinstance(new, Tensor) or new.shape != old.shape:
            got = list(new.shape) if isinstance(new, Tensor) else plain(new)
            raise ValueError(
                f"The update of {name!r} should return the new state, of the shape of the old one "
                f"{list(old.shape)}, got {got}. Its last layer probably has another width."
            )
        return part.place(inner, new)

    def _read(self, name: str, inner: Tensor, latest: Tensor, part: Arrived) -> Tensor:
        """The state after `name`; where a record lacks it, exactly the latest one."""
        readout = self.readout if self.readouts is None else self.readouts[name]
        return inner if readout is None else part.place(latest, readout(inner[part.rows]))

    def _several_passes(self, inner: Tensor, first: Tensor, visits: Sequence, present: Tensor) -> Fused:
        for _ in range(self.passes):
            for visit in visits:
                for name, part in visit:
                    inner = self._step(name, inner, part)
        return start_and_end(first, inner if self.readout is None else self.readout(inner), present, inner)

    def _start(self, batch: int, carry: Tensor | None) -> tuple[Tensor, Tensor]:
        """-> inner state [batch ...], state [batch state_dim]"""
        inner = self.init(batch)
        if carry is not None:
            return self._go_on(inner, carry)
        # of one record, then repeated: equal to the last bit for everybody
        first = inner if self.readout is None else self.readout(self.init(1)).expand(batch, -1)
        if first.shape != (batch, self.state_dim):
            raise ValueError(
                f"The first state should have shape [batch state_dim] = {[batch, self.state_dim]}, got "
                f"{list(first.shape)}. Give `init` that width, or a `readout` that leads to it."
            )
        return inner, first

    def _carry(self, inner: Tensor, state: Tensor) -> Tensor:
        # Which readout came last differs from record to record, so what it read is carried along.
        return inner if self.readouts is None else torch.cat([inner.flatten(1), state], dim=1)

    def _go_on(self, inner: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
        wanted = list(inner.shape)
        if self.readouts is not None:
            wanted = [len(inner), prod(inner.shape[1:]) + self.state_dim]
        if list(carry.shape) != wanted:
            raise ValueError(
                f"state should have shape {wanted}, got {list(carry.shape)}. Give the `carry` of an earlier "
                "call with the same records."
            )
        if self.readouts is not None:
            return carry[:, : -self.state_dim].unflatten(1, inner.shape[1:]), carry[:, -self.state_dim :]
        return carry, carry if self.readout is None else self.readout(carry)

    def _names(self, order: Sequence[str] | None) -> tuple[str, ...]:
        names = self.modalities if order is None else tuple(order)
        if sorted(names) != sorted(self.modalities):
            raise ValueError(
                f"An order should list each of {listing(self.modalities)} once, got {listing(names)}."
            )
        return names

    def _own_orders(
        self, arrived: Mapping[str, Arrived], present: Tensor, order: Tensor
    ) -> list[list[tuple[str, Arrived]]]:
        """An order per record -> for each step, who visits what."""
        whole = torch.arange(len(self.modalities), device=order.device).expand(len(present), -1)
        if order.shape != whole.shape or not torch.equal(order.sort(1).values, whole):
            raise ValueError(
                f"An order per record should be [batch step] = {list(present.shape)} and list each index "
                "once."
            )
        return [self._turns(arrived, step) for step in order.unbind(1)]

    def _turns(self, arrived: Mapping[str, Arrived], step: Tensor) -> list[tuple[str, Arrived]]:
        turns = []
        for index, name in enumerate(self.modalities):
            if name not in arrived:
                continue
            part = arrived[name]
            turn = step[part.rows] == index  # of the records that have it, those whose turn it is
            if len(part.rows) == len(step):  # dense: the shapes stay, whatever the order
                turns.append((name, Arrived(part.tokens, part.rows, part.here & turn, False)))
            elif turn.any():
                turns.append((name, part[turn]))
        return turns


def _own(
    readouts: Mapping[str, nn.Module], updates: Mapping[str, nn.Module], first: nn.Module | None
) -> dict[str, nn.Module]:
    if set(readouts) != set(updates):
        raise ValueError(
            f"Each modality needs an update and a readout, got updates for {listing(updates)} and readouts "
            f"for {listing(readouts)}."
        )
    check_part(first, name="readout, which reads the state before the first modality,", takes="(state)")
    return {
        name: check_part(readouts[name], name=f"The readout of {name!r}", takes="(state)") for name in updates
    }
