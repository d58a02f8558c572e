"""Batch, Tokens, Fused, Outputs: the tensors a model sees, packed so that what is absent costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mmmed.checks import check_known, check_shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Records side by side. Only rows that exist are stored, so no encoder ever meets a stand-in.

    values[modality]: what its encoder takes, for the n rows that have it: a tensor [n ...], a dict of such
    (keyword arguments), or ready Tokens; a modality without any row in this batch has no key. rows[modality]
    [n] long: their positions. present [batch modality] bool, modalities in the order of `modalities`.
    targets[task]: [batch] (float for binary and regression, long for multiclass) or [batch labels] for
    multilabel; known[task]: same shape, bool. NaN never gets this far.
    """

    modalities: tuple[str, ...]
    values: Mapping[str, Any]
    rows: Mapping[str, Tensor]
    present: Tensor
    targets: Mapping[str, Tensor] = field(default_factory=dict)
    known: Mapping[str, Tensor] = field(default_factory=dict)
    ids: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    notes: tuple[tuple[str, ...], ...] = ()  # per row: what could not be read as it was written, in words

    def __len__(self) -> int:
        return int(self.present.shape[0])

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        # Towards the CPU one must wait: an unfinished copy would be read as if it were the values.
        waits = str(device).startswith("cpu")
        return self._each(lambda tensor: tensor.to(device, non_blocking=not waits))

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory, from where a GPU reads faster."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        def walk(item: Any) -> Any:
            if isinstance(item, Tokens):
                return Tokens(change(item.values), change(item.mask))
            return {k: walk(v) for k, v in item.items()} if isinstance(item, Mapping) else change(item)

        names = ("values", "rows", "present", "targets", "known")
        return replace(self, **{name: walk(getattr(self, name)) for name in names})

    def keep(self, present: Tensor) -> Batch:
        """Hide modalities: present [batch modality] bool; what is absent already stays absent. Order is
        kept."""
        check_shape(present, "batch modality", name="present", batch=len(self), modality=len(self.modalities))
        present = present & self.present
        values, rows = {}, {}
        for index, name in enumerate(self.modalities):
            if name not in self.rows:
                continue
            stays = present[self.rows[name], index]
            if stays.all():
                values[name], rows[name] = self.values[name], self.rows[name]
            elif stays.any():
                values[name], rows[name] = _take(self.values[name], stays), self.rows[name][stays]
        return replace(self, values=values, rows=rows, present=present)

    def hide(self, *names: str) -> Batch:
        """Take whole modalities away."""
        present = self.present.clone()
        for name in names:
            check_known(name, self.modalities, what="modality")
            present[:, self.modalities.index(name)] = False
        return self.keep(present)

    def take(self, index: Tensor) -> Batch:
        """The batch of some rows, in this order and perhaps more than once: index [rows] long."""
        values, rows = {}, {}
        for name, positions in self.rows.items():
            place = positions.new_full((len(self),), -1)
            place[positions] = place.new_tensor(range(len(positions)))
            taken = place[index]
            here = (taken >= 0).nonzero().squeeze(1)
            if len(here):
                values[name], rows[name] = _take(self.values[name], taken[here]), here
        places = index.tolist()
        return replace(
            self,
            values=values,
            rows=rows,
            present=self.present[index],
            targets={k: v[index] for k, v in self.targets.items()},
            known={k: v[index] for k, v in self.known.items()},
            ids=tuple(self.ids[i] for i in places) if self.ids else (),
            groups=tuple(self.groups[i] for i in places) if self.groups else (),
            notes=tuple(self.notes[i] for i in places) if self.notes else (),
        )

    def only(self, index: int) -> Batch:
        """The batch of one that holds row `index` alone; -1 is the last. IndexError if there is none."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"The batch has {len(self)} rows, so there is no row {index}.")
        index %= len(self)
        values, rows = {}, {}
        for name, positions in self.rows.items():
            here = positions == index
            if here.any():
                values[name] = _take(self.values[name], here)
                rows[name] = positions.new_zeros(1)
        one = slice(index, index + 1)
        return replace(
            self,
            values=values,
            rows=rows,
            present=self.present[one],
            targets={k: v[one] for k, v in self.targets.items()},
            known={k: v[one] for k, v in self.known.items()},
            ids=self.ids[one],
            groups=self.groups[one],
            notes=self.notes[one],
        )


def _take(values: Any, index: Any) -> Any:
    return {k: v[index] for k, v in values.items()} if isinstance(values, Mapping) else values[index]


@dataclass(frozen=True)
class Tokens:
    """What every encoder gives and every fusion takes: values [n tokens dim], mask [n tokens] bool (True =
    real)."""

    values: Tensor
    mask: Tensor

    def __getitem__(self, index: Any) -> Tokens:
        """Some of the n rows."""
        return Tokens(self.values[index], self.mask[index])

    def mean(self) -> Tensor:
        """Mean over the real tokens of each row: [n dim]. A row without any real token gives zeros."""
        real = self.mask.unsqueeze(-1)  # [n tokens 1]
        # Filled, not multiplied by zero: 0 * NaN is NaN, and padding may hold anything.
        if real.shape[1] == 1:
            return self.values.masked_fill(~real, 0).squeeze(1)
        return self.values.masked_fill(~real, 0).sum(1) / real.sum(1).clamp(min=1).to(self.values.dtype)


@dataclass(frozen=True)
class Fused:
    """The state after each modality.

    state [batch dim]: all that is known. steps [batch step dim]: step 0 is "nothing known" (or a carried
    state), the last equals `state`. step_mask [batch step] bool: True at 0 and where the step's modality was
    present. order: name of each step's modality, () where a step is no single modality; step 0 has none, so
    len(order) = steps - 1. carry [batch ...]: what a sequential fusion takes up again when more arrives
    later; None where nothing can be carried. extra: scalars that training adds to the loss (already
    weighted), such as the load of experts.
    """

    state: Tensor
    steps: Tensor
    step_mask: Tensor
    order: tuple[str, ...] = ()
    carry: Tensor | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Outputs:
    """A model's answer to a batch: logits (or standardised numbers) of every task at every step.

    outputs["sepsis"] [batch outputs] is the final answer; steps["sepsis"] [batch step outputs] the way to it.
    """

    steps: Mapping[str, Tensor]
    fused: Fused

    def __getitem__(self, task: str) -> Tensor:
        return self.steps[task][:, -1]

    def __iter__(self):
        return iter(self.steps)
