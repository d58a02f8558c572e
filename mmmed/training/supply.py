"""Where batches come from: a cohort that is read once and kept in memory, or read anew each epoch if it is
too large."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from mmmed.data.collate import Collator, read_targets
from mmmed.types import Batch, Record, Tokens

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort

MEMORY_LIMIT = 512 * 2**20  # bytes of collated tensors that are kept in memory
CHUNK = 64  # records that are collated at a time while reading

Part = tuple[
    Tensor, Tensor
]  # rows [batch] long, and the mask [batch modality] of the modalities they may keep


@dataclass(frozen=True)
class PackedCohort:
    """All records of a cohort collated side by side; a batch is cut out by indexing, and no file is opened
    twice.

    whole: one batch of everything. position[modality] [records]: where a record's row lies in `whole.values`.
    """

    whole: Batch
    position: Mapping[str, Tensor]

    @classmethod
    def join(cls, parts: Sequence[Batch]) -> PackedCohort:
        """Put batches behind each other; steps, views or tokens that some lack are padded as the collator
        pads."""
        modalities, starts, count = parts[0].modalities, [], 0
        for part in parts:
            starts.append(count)
            count += len(part)
        values, rows, position = {}, {}, {}
        for name in modalities:
            having = [(start, part) for start, part in zip(starts, parts, strict=True) if name in part.rows]
            if not having:
                continue
            values[name] = _join([part.values[name] for _, part in having])
            rows[name] = torch.cat([part.rows[name] + start for start, part in having])
            position[name] = torch.full((count,), -1)
            position[name][rows[name]] = torch.arange(len(rows[name]))
        whole = Batch(
            modalities,
            values,
            rows,
            torch.cat([part.present for part in parts]),
            {task: torch.cat([part.targets[task] for part in parts]) for task in parts[0].targets},
            {task: torch.cat([part.known[task] for part in parts]) for task in parts[0].known},
            tuple(id for part in parts for id in part.ids),
            tuple(group for part in parts for group in part.groups),
        )
        return cls(whole, position)

    def __len__(self) -> int:
        return len(self.whole)

    @property
    def ids(self) -> tuple[str, ...]:
        return self.whole.ids

    @property
    def present(self) -> Tensor:
        return self.whole.present

    @property
    def targets(self) -> Mapping[str, Tensor]:
        return self.whole.targets

    @property
    def known(self) -> Mapping[str, Tensor]:
        return self.whole.known

    def take(self, rows: Tensor, mask: Tensor | None = None) -> Batch:
        """The batch of some records; what `mask` hides is not even copied."""
        whole = self.whole
        present = whole.present[rows] if mask is None else whole.present[rows] & mask
        values, here = {}, {}
        for index, name in enumerate(whole.modalities):
            having = present[:, index].nonzero().squeeze(1)
            if len(having):
                places = self.position[name][rows[having]]
                values[name], here[name] = trim(_each(whole.values[name], lambda t: t[places])), having  # noqa: B023
        places = rows.tolist()
        return Batch(
            whole.modalities,
            values,
            here,
            present,
            {task: target[rows] for task, target in whole.targets.items()},
            {task: known[rows] for task, known in whole.known.items()},
            tuple(whole.ids[row] for row in places),
            tuple(whole.groups[row] for row in places),
        )

    def batches(self, parts: Iterable[Part]) -> Iterator[Batch]:
        """The batches of (rows, mask)."""
        for rows, mask in parts:
            yield self.take(rows, mask)


class LazyCohort:
    """Records that are read when a batch needs them, by `workers` processes ahead of it (0 = in this one)."""

    def __init__(self, records: Sequence[Record], present: Tensor, collator: Collator, workers: int = 0):
        self.records, self.collator, self.workers = records, collator, workers
        self.present = present
        listed = list(records)  # table rows only, no file is opened
        self.ids = tuple(record.id for record in listed)
        pairs = {name: read_targets(name, task, listed) for name, task in collator.schema.tasks.items()}
        self.targets = {name: pair[0] for name, pair in pairs.items()}
        self.known = {name: pair[1] for name, pair in pairs.items()}

    def __len__(self) -> int:
        return len(self.ids)

    def batches(self, parts: Iterable[Part]) -> Iterator[Batch]:
        """The batches of (rows, mask); a file of a hidden modality is not opened."""
        from torch.utils.data import DataLoader

        loader = DataLoader(
            _Masked(self.records),
            batch_sampler=[self._addresses(rows, mask) for rows, mask in parts],
            collate_fn=self.collator,
            num_workers=self.workers,
            generator=torch.Generator(),  # else the global stream would be asked for the workers' seeds
        )
        yield from loader

    def _addresses(self, rows: Tensor, mask: Tensor) -> list[tuple[int, tuple[str, ...]]]:
        names = tuple(self.collator.schema.modalities)
        kept = [tuple(n for n, stays in zip(names, row, strict=True) if stays) for row in mask.tolist()]
        return list(zip(rows.tolist(), kept, strict=True))


@dataclass(frozen=True)
class _Masked:
    """Records addressed by (row, names of the modalities that stay)."""

    records: Sequence[Record]

    def __len__(self) -> int:
        return len(self.records)

    def __getitems__(self, keys: list[tuple[int, tuple[str, ...]]]) -> list[Record]:
        records = fetch(self.records, [row for row, _ in keys])
        return [record.only(*names) for record, (_, names) in zip(records, keys, strict=True)]


Supply = PackedCohort | LazyCohort


def make_supply(
    cohort: Cohort, collator: Collator, limit: int = MEMORY_LIMIT, workers: int = 0
) -> Supply | None:
    """Read a cohort into memory if it fits into `limit` bytes, else leave it on disk. None if it has no
    records."""
    if not len(cohort):
        return None
    parts, size = [], 0
    for start in range(0, len(cohort), CHUNK):
        part = collator(fetch(cohort, range(start, min(start + CHUNK, len(cohort)))))
        parts.append(part)
        size += sum(_bytes(value) for value in part.values.values())
        if size / (start + len(part)) * len(cohort) > limit:
            return LazyCohort(cohort, torch.tensor(cohort.present), collator, workers)
    return PackedCohort.join(parts)


def fetch(records: Sequence[Record], rows: Iterable[int]) -> list[Record]:
    """Several records, in one go where the cohort can (the protocol of torch's data loader)."""
    together = getattr(records, "__getitems__", None)
    return list(together(list(rows))) if together else [records[row] for row in rows]


# ------------------------------------------------------------------------------------------ packed values


def trim(values: Any) -> Any:
    """Packed values without the padding at the end that no row of this batch needs (words, steps, views,
    tokens)."""
    used = values.mask if isinstance(values, Tokens) else padding_of(values)
    if used is None or used.shape[1] < 2:
        return values
    last = int(used.any(0).nonzero().max()) + 1 if used.any() else 1
    if last == used.shape[1]:
        return values
    return _each(values, lambda t: t[:, :last])


def padding_of(values: Mapping[str, Tensor]) -> Tensor | None:
    """[n length] bool, True = real; None for what has a fixed size (tables, volumes)."""
    if "mask" in values or "views" in values:
        return values["mask"] if "mask" in values else values["views"]
    return values["known"].any(2) if "times" in values else None


def _each(values: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(values, Tokens):
        return Tokens(change(values.values), change(values.mask))
    return {name: change(tensor) for name, tensor in values.items()}


def _join(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], Tokens):
        return Tokens(_cat([part.values for part in parts]), _cat([part.mask for part in parts]))
    return {name: _cat([part[name] for part in parts]) for name in parts[0]}


def _cat(tensors: Sequence[Tensor]) -> Tensor:
    longest = max(tensor.shape[1] for tensor in tensors)
    return torch.cat([pad(t, (0, 0) * (t.ndim - 2) + (0, longest - t.shape[1])) for t in tensors])


def _bytes(values: Any) -> int:
    tensors = (values.values, values.mask) if isinstance(values, Tokens) else values.values()
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
