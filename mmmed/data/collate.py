"""Records to a packed batch. Here NaN, None and "" end: behind this line only rows that exist are stored.

The schema says how each cell is read, so the same record gives the same tensors in training, in the demo and
in a model loaded a year later.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmmed.checks import MissingFile, UnreadableFile, check_known, listing, plain, suggestion
from mmmed.data.tokenization import tokenize
from mmmed.types import (
    Batch,
    Binary,
    Category,
    Image,
    Multiclass,
    Multilabel,
    Number,
    Record,
    Regression,
    Schema,
    Series,
    Tabular,
    Task,
    Text,
    Tokens,
    Volume,
    is_missing,
    spell,
)

if TYPE_CHECKING:
    from torch import Tensor

POLICIES = ("error", "absent")
LARGEST = 3e38  # beyond it a number is infinite as float32
_TIME = Number("time")


class Collator:
    """Turn a list of records into a `Batch`, reading files as they are needed.

    missing_files, unreadable: "error" (default), or "absent": the modality counts as not recorded for that
    record, with a note in the batch and a warning. Never does one record's file stand in for another's.
    tokens: modality -> function from records to ready `Tokens` (cached features of a frozen encoder); files
    of such a modality are not opened. Raises ValueError that names record, column, what came and what to do.
    """

    def __init__(
        self,
        schema: Schema,
        missing_files: str = "error",
        unreadable: str = "error",
        tokens: Mapping[str, Callable[[list[Record]], Tokens]] | None = None,
    ):
        self.schema = schema
        self.missing_files = check_known(missing_files, POLICIES, what="policy for missing files")
        self.unreadable = check_known(unreadable, POLICIES, what="policy for unreadable files")
        self.tokens = dict(tokens or {})

    def __call__(self, records: Sequence[Record]) -> Batch:
        import torch

        records = list(records)
        notes: list[list[str]] = [[] for _ in records]
        self._check_names(records)
        values, rows = {}, {}
        present = torch.zeros(len(records), len(self.schema.modalities), dtype=torch.bool)
        for index, (name, modality) in enumerate(self.schema.modalities.items()):
            having = [row for row, record in enumerate(records) if name in record.inputs]
            if not having:
                continue
            if name in self.tokens:
                kept, packed = having, self.tokens[name]([records[row] for row in having])
            else:
                kept, packed = self._pack(name, modality, records, having, notes)
            if kept:
                values[name], rows[name] = packed, torch.tensor(kept)
                present[rows[name], index] = True
        targets, known = {}, {}
        for name, task in self.schema.tasks.items():
            targets[name], known[name] = read_targets(name, task, records)
        return Batch(
            modalities=tuple(self.schema.modalities),
            values=values,
            rows=rows,
            present=present,
            targets=targets,
            known=known,
            ids=tuple(record.id for record in records),
            groups=tuple(record.group or record.id for record in records),
            notes=tuple(tuple(lines) for lines in notes),
        )

    def _check_names(self, records: Sequence[Record]) -> None:
        known = self.schema.modalities
        for record in records:
            for name in record.inputs:
                if name not in known:
                    raise ValueError(
                        f'Record "{record.id}" brings the modality {name!r}, which the schema does not have.'
                        f"{suggestion(name, known)} It has: {listing(known)}."
                    )

    def _pack(
        self, name: str, modality: Any, records: Sequence[Record], having: list[int], notes: list[list[str]]
    ) -> tuple[list[int], Any]:
        """Read every row that has the modality; -> positions that could be read, and their tensors."""
        reader = _READERS[type(modality)]
        kept, items = [], []
        for row in having:
            record = records[row]
            try:
                item = reader(modality, record.inputs[name], record, notes[row])
            except (MissingFile, UnreadableFile) as error:
                policy = self.missing_files if isinstance(error, MissingFile) else self.unreadable
                if policy == "error":
                    raise
                notes[row].append(f"{name} counts as not recorded: {error}")
                warnings.warn(notes[row][-1], stacklevel=2)
                continue
            if item is None:
                notes[row].append(f"{name} counts as not recorded: nothing in it could be used")
            else:
                kept.append(row)
                items.append(item)
        return kept, _PACKERS[type(modality)](modality, items) if kept else None


# ----------------------------------------------------------------------------------- one record's input, read


def _where(record: Record, column: str) -> str:
    return f'record "{record.id}", column "{column}"'


def _read_image(modality: Image, value: Any, record: Record, notes: list[str]) -> Any:
    """-> float array [views channels height width], standardised."""
    import numpy as np

    from mmmed.data.readers import read_image

    views = value if isinstance(value, (list, tuple)) else [value]
    where = _where(record, modality.column)
    asked = {"channels": modality.channels, "size": modality.size, "folder": record.folder, "where": where}
    pixels = np.stack([read_image(view, **asked) for view in views])
    return (pixels - modality.mean) / modality.scale


def _read_volume(modality: Volume, value: Any, record: Record, notes: list[str]) -> Any:
    """-> float array [channels depth height width], standardised."""
    from mmmed.data.volumes import read_volume

    where = _where(record, modality.column)
    asked = {"channels": modality.channels, "size": modality.size, "folder": record.folder, "where": where}
    voxels = read_volume(value, key=modality.key, **asked)
    return (voxels - modality.mean) / modality.scale


def _read_table(modality: Tabular, value: Any, record: Record, notes: list[str]) -> Any:
    """-> (cells, known), or None if no cell is known."""
    if not isinstance(value, Mapping):
        raise ValueError(
            f'Record "{record.id}": a table should be {{column: cell}} with columns among '
            f"{listing(modality.columns)}, got {plain(value)}."
        )
    for column in value:
        if column not in modality.columns:
            raise ValueError(
                f'Record "{record.id}" brings the column {column!r}, which the schema does not have.'
                f"{suggestion(column, modality.columns)} It has: {listing(modality.columns)}."
            )
    cells, known = [0.0] * len(modality.cells), [False] * len(modality.cells)
    for index, cell in enumerate(modality.cells):
        raw = value.get(cell.name)
        if _is_blank(cell, raw):
            continue
        where = _where(record, cell.name)
        number = _number(cell, raw, where) if isinstance(cell, Number) else _level(cell, raw, where, notes)
        if number is not None:
            cells[index], known[index] = number, True
    return (cells, known) if any(known) else None


def _is_blank(cell: Any, raw: Any) -> bool:
    """Whether a cell is not recorded. In a numeric column "nan" is a spelling of it, in tables as here."""
    nan = isinstance(cell, (Number, Regression)) and isinstance(raw, str) and raw.strip().lower() == "nan"
    return nan or is_missing(raw)


def _number(cell: Number, raw: Any, where: str) -> float:
    """A cell as a standardised number. Text is accepted if it is a plain decimal number."""
    try:
        if isinstance(raw, str) and "_" in raw:  # Python's 1_000 is a typing error everywhere else
            raise ValueError
        value = float(raw)
    except (TypeError, ValueError, OverflowError):
        unit = f" in {cell.unit}" if cell.unit else ""
        raise ValueError(
            f"{where}: a number{unit} was expected, got {plain(raw)}. Write digits with a point, without "
            "unit or comparison sign; leave the cell empty if it is not known; or declare a Category."
        ) from None
    standardised = (value - cell.mean) / cell.scale
    if not (math.isfinite(value) and abs(standardised) <= LARGEST):
        raise ValueError(
            f"{where}: {plain(raw)} is no finite number. Leave the cell empty if the value is not known."
        )
    below, above = cell.low is not None and value < cell.low, cell.high is not None and value > cell.high
    if below or above:
        span = f"{cell.low} to {cell.high} {cell.unit or ''}".rstrip()
        raise ValueError(
            f"{where}: {value:g} is outside the possible range {span}. Correct the cell, empty it, or widen "
            "low and high in the schema."
        )
    return standardised


def _spell(raw: Any, where: str) -> str:
    try:
        return spell(raw)
    except ValueError as error:
        raise ValueError(f"{where}: {error} Write one level, or leave the cell empty.") from None


def _level(cell: Category, raw: Any, where: str, notes: list[str]) -> float | None:
    """A cell as the index of its level; one never seen in training counts as not recorded, and is said."""
    level = _spell(raw, where)
    if level in cell.levels:
        return float(cell.levels.index(level))
    message = f"{where}: the category {level!r} was never seen in training.{suggestion(level, cell.levels)}"
    message += f" Known: {listing(cell.levels)}."
    if cell.unknown == "error":
        raise ValueError(f"{message} Correct the cell, empty it, or set unknown='missing' in the schema.")
    notes.append(f"{message} It counts as not recorded.")
    warnings.warn(notes[-1], stacklevel=2)
    return None


def _read_text(modality: Text, value: Any, record: Record, notes: list[str]) -> str:
    if not isinstance(value, str):
        where = _where(record, modality.column)
        raise ValueError(f"{where}: text was expected, got {plain(value)}. Pass a string, or leave it out.")
    return value


def _read_series(modality: Series, value: Any, record: Record, notes: list[str]) -> Any:
    """-> (times, values, known) of the latest steps, or None if no step holds a value."""
    where = _where(record, modality.column)
    steps = []
    for step in _steps(value, where):
        if not isinstance(step, Mapping) or _is_blank(_TIME, step.get(modality.time)):
            raise ValueError(
                f"{where}: every step needs a {modality.time!r} and its values, got {plain(step)}. Complete "
                "it, or take it out."
            )
        time = _number(_TIME, step[modality.time], f"{where}, {modality.time!r}")
        cells = [step.get(channel.name) for channel in modality.channels]
        known = [not _is_blank(channel, c) for channel, c in zip(modality.channels, cells, strict=True)]
        if any(known):
            numbers = [
                _number(channel, cell, f"{where}, channel {channel.name!r}") if here else 0.0
                for channel, cell, here in zip(modality.channels, cells, known, strict=True)
            ]
            steps.append((time, numbers, known))
    if not steps:
        return None
    steps = sorted(steps, key=lambda step: step[0])[-modality.length :]
    last = steps[-1][0]
    return (
        [(step[0] - last) / modality.time_scale for step in steps],
        [s[1] for s in steps],
        [s[2] for s in steps],
    )


def _steps(value: Any, where: str) -> list[Any]:
    """A series as a list of steps; also {column: list} and arrays of steps, as tables in memory hold them."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, (list, tuple)):
        return list(value)
    columns = list(value.values()) if isinstance(value, Mapping) else [None]
    columns = [column.tolist() if hasattr(column, "tolist") else column for column in columns]
    if not all(isinstance(column, (list, tuple)) for column in columns):
        raise ValueError(
            f"{where}: a list of steps was expected, or a list for each column, got {plain(value)}. Leave it "
            "out if it was not recorded."
        )
    if len({len(column) for column in columns}) != 1:
        lengths = {name: len(column) for name, column in zip(value, columns, strict=True)}
        raise ValueError(
            f"{where}: all columns of a series should be equally long, got {lengths}. Fill gaps with None."
        )
    return [dict(zip(value, step, strict=True)) for step in zip(*columns, strict=True)]


# ---------------------------------------------------------------------------- several records' inputs, packed


def _pack_images(modality: Image, items: list[Any]) -> dict[str, Tensor]:
    import torch

    most = max(len(item) for item in items)
    pixels = torch.zeros(len(items), most, modality.channels, *modality.size)
    views = torch.zeros(len(items), most, dtype=torch.bool)
    for row, item in enumerate(items):
        pixels[row, : len(item)] = torch.from_numpy(item)
        views[row, : len(item)] = True
    return {"pixels": pixels, "views": views}


def _pack_volumes(modality: Volume, items: list[Any]) -> dict[str, Tensor]:
    import numpy as np
    import torch

    return {"voxels": torch.from_numpy(np.stack(items)).float()}


def _pack_tables(modality: Tabular, items: list[Any]) -> dict[str, Tensor]:
    import torch

    cells, known = zip(*items, strict=True)
    return {"cells": torch.tensor(cells), "known": torch.tensor(known)}


def _pack_texts(modality: Text, items: list[str]) -> dict[str, Tensor]:
    return dict(zip(("ids", "mask"), tokenize(items, modality), strict=True))


def _pack_series(modality: Series, items: list[Any]) -> dict[str, Tensor]:
    import torch

    longest = max(len(times) for times, _, _ in items)
    times = torch.zeros(len(items), longest)
    values = torch.zeros(len(items), longest, len(modality.channels))
    known = torch.zeros_like(values, dtype=torch.bool)
    for row, (moments, numbers, here) in enumerate(items):
        times[row, : len(moments)] = torch.tensor(moments)
        values[row, : len(moments)] = torch.tensor(numbers)
        known[row, : len(moments)] = torch.tensor(here)
    return {"times": times, "values": values, "known": known}


_READERS = {
    Image: _read_image,
    Volume: _read_volume,
    Tabular: _read_table,
    Text: _read_text,
    Series: _read_series,
}
_PACKERS = {
    Image: _pack_images,
    Volume: _pack_volumes,
    Tabular: _pack_tables,
    Text: _pack_texts,
    Series: _pack_series,
}


# ---------------------------------------------------------------------------------------------------- targets


def read_targets(name: str, task: Task, records: Sequence[Record]) -> tuple[Tensor, Tensor]:
    """Targets and which of them are known: [batch], or [batch labels] for a multilabel task.

    Binary: 0.0 or 1.0; multiclass: index of the level; multilabel: 0.0 or 1.0 per label; regression:
    standardised. Raises ValueError that names the record if a label is none of the schema's levels.
    """
    import torch

    columns = task.columns
    cells = [[record.targets.get(column) for column in columns] for record in records]
    blank = torch.tensor([[_is_blank(task, cell) for cell in row] for row in cells], dtype=torch.bool)
    known = ~blank.reshape(len(records), len(columns))
    numbers = [
        [_target(task, cell, _where(record, column)) for column, cell in zip(columns, row, strict=True)]
        for record, row in zip(records, cells, strict=True)
    ]
    kind = torch.long if isinstance(task, Multiclass) else torch.float
    targets = torch.tensor(numbers, dtype=kind).reshape(len(records), len(columns))
    return (targets, known) if isinstance(task, Multilabel) else (targets[:, 0], known[:, 0])


def _target(task: Task, cell: Any, where: str) -> float:
    if _is_blank(task, cell):
        return 0
    if isinstance(task, Regression):
        return _number(Number(task.column, task.unit, mean=task.mean, scale=task.scale), cell, where)
    levels = task.levels if isinstance(task, (Binary, Multiclass)) else ("0", "1")
    level = _spell(cell, where)
    if level not in levels:
        raise ValueError(
            f"{where}: the label {level!r} is none of {listing(levels)}.{suggestion(level, levels)} "
            "Correct it, leave it empty if it is not known, or add the level to the schema's task."
        )
    return levels.index(level)
