"""Several cohorts side by side on a leading member axis, with a row for every record of each.

A packed batch holds the rows that exist; how many these are differs from batch to batch and from member to
member, so batches of several members cannot be one tensor. A dense one also holds a row where nothing was
recorded: zeros, which `present` tells the fusion to ignore. That suits encoders that look at one row at a
time and are cheap to run (tables, cached tokens); for pictures the packed form saves half of the work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from mmmed.training.supply import PackedCohort
from mmmed.types import Tokens

Parts = dict[str, Tensor]


@dataclass(frozen=True)
class DenseCohorts:
    """values[modality][argument] [members records ...], zero where absent; ready: modalities whose values are
    the parts of `Tokens`. targets[task], known[task] [members records], or [members records labels].

    Members with fewer records are padded at the end, with known False. A modality that no member has is left
    out of `values`.
    """

    modalities: tuple[str, ...]
    values: Mapping[str, Parts]
    ready: frozenset[str]
    targets: Parts
    known: Parts

    @classmethod
    def of(cls, supplies: Sequence[PackedCohort], device: torch.device | str = "cpu") -> DenseCohorts:
        """One supply per member; all with the same modalities and tasks."""
        wholes = [supply.whole for supply in supplies]
        values, ready = {}, set()
        for name in wholes[0].modalities:
            some = next((whole.values[name] for whole in wholes if name in whole.values), None)
            if some is None:
                continue
            if isinstance(some, Tokens):
                ready.add(name)
            members = [_dense(supply, name, _parts(some)) for supply in supplies]
            values[name] = {key: stacked([part[key] for part in members]).to(device) for key in members[0]}
        targets = {t: stacked([w.targets[t] for w in wholes]).to(device) for t in wholes[0].targets}
        known = {t: stacked([w.known[t] for w in wholes]).to(device) for t in wholes[0].known}
        return cls(wholes[0].modalities, values, frozenset(ready), targets, known)

    def take(self, rows: Tensor) -> dict[str, Parts]:
        """Values of some records of each member: rows [members batch] -> values [members batch ...]."""
        return {name: {k: chosen(t, rows) for k, t in parts.items()} for name, parts in self.values.items()}


def chosen(tensor: Tensor, rows: Tensor) -> Tensor:
    """tensor [members records ...], rows [members batch] -> [members batch ...]."""
    return tensor[torch.arange(len(rows), device=rows.device)[:, None], rows]


def stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors [records ...] -> [members records ...], shorter ones padded with zeros (False) in the first two
    axes: records, and steps, words or tokens."""
    longest = max(len(tensor) for tensor in tensors)
    if tensors[0].ndim == 1:
        return torch.stack([pad(tensor, (0, longest - len(tensor))) for tensor in tensors])
    widest = max(tensor.shape[1] for tensor in tensors)
    rest = (0, 0) * (tensors[0].ndim - 2)
    return torch.stack([pad(t, (*rest, 0, widest - t.shape[1], 0, longest - len(t))) for t in tensors])


def _parts(values: Mapping[str, Tensor] | Tokens) -> Mapping[str, Tensor]:
    return {"values": values.values, "mask": values.mask} if isinstance(values, Tokens) else values


def _dense(supply: PackedCohort, name: str, like: Mapping[str, Tensor]) -> Parts:
    """One modality of one member with a row for every record. like: parts of the same shape, for a member
    that lacks it."""
    count, result = len(supply), {}
    position = supply.position.get(name, torch.full((count,), -1))
    here = position >= 0
    own = _parts(supply.whole.values[name]) if name in supply.whole.values else like
    for key, tensor in own.items():
        full = tensor.new_zeros(count, *tensor.shape[1:])
        if here.any():
            full[here] = tensor[position[here]]
        if tensor.dtype == torch.bool:  # which tokens are real; attention over none at all would be NaN
            full[~here] = True
        result[key] = full
    return result
