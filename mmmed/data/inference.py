"""From named columns to a schema: which are numbers, which are categories, what the target asks.

Rules, all of them visible in the result, which can be edited and given back:

- table cell: every recorded cell a finite number (0/1 too) -> Number; text, true/false -> Category.
- target: two levels -> Binary; more levels of text, or whole numbers with at most 10 levels -> Multiclass;
  other numbers -> Regression. The positive level is the one among POSITIVE, else the one that is not among
  NEGATIVE, else the later one in sorted order.
- Text that is nearly a number ("<5", "12,5", "12 mg") is an error: as a category it would learn nothing.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmmed.checks import check_known, listing, plain
from mmmed.data.cells import as_files, as_levels, as_numbers, as_series, blank_to_null, is_text
from mmmed.data.sources import Source
from mmmed.data.statistics import in_order
from mmmed.types import (
    Binary,
    Category,
    Image,
    Modality,
    Multiclass,
    Multilabel,
    Number,
    Regression,
    Schema,
    Series,
    Tabular,
    Task,
    Text,
    Volume,
)

if TYPE_CHECKING:
    import pyarrow as pa

POSITIVE = frozenset(
    ("1", "true", "yes", "y", "positive", "pos", "present", "malignant", "abnormal", "case", "died", "dead")
)
NEGATIVE = frozenset(
    ("0", "false", "no", "n", "negative", "neg", "absent", "benign", "normal", "control", "survived", "alive")
)
CLASSES = 10  # whole numbers with more levels than this are a quantity
LEVELS = 50  # text with more levels than this is no set of classes
SAME = 0.95  # a column whose commonest value has this share tells next to nothing
_NEARLY = re.compile(
    r"""^\s*(?:[<>≤≥~]=?\s*\d+(?:[.,]\d+)?.*      # <5, >= 12 mg
         |[+-]?\d+,\d+\s*\S*                      # 12,5
         |[+-]?\d+(?:\.\d+)?(?:\s+\S+|\s*(?:%|[a-zµ]{2,}|[a-zµ]+/\S+)))\s*$  # 12 mg, 12mg, 12 %, 3 g/dl""",
    re.VERBOSE | re.IGNORECASE,
)
_ID_NAME = re.compile(r"(^|_)(id|uid|uuid|mrn)$", re.IGNORECASE)


@dataclass(frozen=True)
class Columns:
    """Which columns play which part, as the user wrote it: a name, a list, a dict, or ready-made
    modalities."""

    image: Any = None
    volume: Any = None
    tabular: Any = None
    text: Any = None
    series: Any = None
    target: Any = None
    group: str | None = None
    id: str | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the parts that were given, apart from group and id."""
        parts = ("image", "volume", "tabular", "text", "series", "target")
        return tuple(name for name in parts if getattr(self, name) is not None)


def infer_schema(source: Source, columns: Columns) -> Schema:
    """A schema for the named columns, its statistics still open. Raises ValueError that names the column;
    warns once about columns that are nearly constant or look like ids."""
    remarks: list[str] = []
    modalities: dict[str, Modality] = {}
    for kind, reader in _MODALITIES.items():
        for name, item in _named(getattr(columns, kind), "table" if kind == "tabular" else kind).items():
            if name in modalities:
                raise ValueError(
                    f"Two modalities would be called {name!r}. Name them: {kind}={{name: column, ...}}."
                )
            modalities[name] = reader(item, source, remarks)
    if not modalities:
        raise ValueError(
            "No input was named. Pass image=, tabular=[...], text=, volume= or series= with names of "
            "columns, or a "
            f"schema=. The table has: {listing(source.columns)}."
        )
    for column in {columns.group, columns.id} - {None}:
        _there(column, source)
    tasks = {name: _task(item, source) for name, item in _named(columns.target, None).items()}
    if remarks:
        warnings.warn(f"Columns of the table: {' '.join(remarks)}", stacklevel=4)
    return Schema(modalities, tasks, group=columns.group, id=columns.id)


def _named(value: Any, name: str | None) -> dict[str, Any]:
    """What the user wrote -> {name: column or ready-made part}. name: for a single column, None = its own."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return dict(value)
    if name == "table":  # a list of columns is one table
        return {name: [value] if isinstance(value, str) else value}
    if not isinstance(value, (list, tuple)):
        return {name or _plain_name(value): value}
    return {_plain_name(item): item for item in value}


def _plain_name(item: Any) -> str:
    """A column's own name as the name of a modality or task, which cannot have dots."""
    name = item if isinstance(item, str) else "_".join(getattr(item, "columns", ())) or str(item)
    return name.replace(".", "_")


def _there(column: Any, source: Source) -> pa.ChunkedArray:
    """The column. Raises ValueError, with what was probably meant, if there is none, or nothing in it."""
    if not isinstance(column, str):
        raise ValueError(f"A column is named by text, got {plain(column)}.")
    check_known(column, source.columns, what="column")
    cells = source.arrow.column(column)
    if is_text(cells.type):
        cells = blank_to_null(cells)
    if cells.null_count == len(cells):
        raise ValueError(f'Column "{column}" is empty in all {len(cells)} rows. Leave it out.')
    return cells


def _where(column: str):
    return lambda row: f'row {row + 1}, column "{column}"'


# ------------------------------------------------------------------------------------------------- modalities


def _image(item: Any, source: Source, remarks: list[str]) -> Image:
    if isinstance(item, Image):
        _there(item.column, source)
        return item
    _there(item, source)
    return Image(item, channels=_channels(source, item))


def _channels(source: Source, column: str) -> int:
    """3 if the first picture that can be read has colour, else 1."""
    from mmmed.checks import MissingFile, UnreadableFile, UnsafePath
    from mmmed.data.readers import read_image

    if column not in source.arrays:
        first = next(
            cell
            for cell in as_files(source.arrow.column(column), _where(column)).to_pylist()
            if cell is not None
        )
    else:
        first = next(cell for cell in source.arrays[column] if cell is not None)
    try:
        pixels = read_image(first[0] if isinstance(first, list) else first, channels=3, folder=source.folder)
    except (MissingFile, UnreadableFile, UnsafePath):
        return 1  # what is wrong with the file is said where files are checked
    return 1 if (pixels[0] == pixels[1]).all() and (pixels[1] == pixels[2]).all() else 3


def _volume(item: Any, source: Source, remarks: list[str]) -> Volume:
    modality = item if isinstance(item, Volume) else Volume(item)
    _there(modality.column, source)
    return modality


def _text(item: Any, source: Source, remarks: list[str]) -> Text:
    modality = item if isinstance(item, Text) else Text(item)
    _there(modality.column, source)
    return modality


def _series(item: Any, source: Source, remarks: list[str]) -> Series:
    if isinstance(item, Series):
        _there(item.column, source)
        return item
    _there(item, source)
    cells = as_series(source.arrow.column(item), _where(item)).to_pylist()
    names: dict[str, None] = {}
    for cell in cells:
        steps = [cell] if isinstance(cell, dict) else cell or []
        names.update(dict.fromkeys(name for step in steps for name in step or {}))
    if "time" not in names or len(names) < 2:
        raise ValueError(
            f'Column "{item}": every step of a series needs "time" and one quantity at least, got '
            f"{listing(names)}. "
            "If the time has another name, pass Series(column, channels, time=...)."
        )
    return Series(item, tuple(Number(name) for name in names if name != "time"))


def _table(item: Any, source: Source, remarks: list[str]) -> Tabular:
    if isinstance(item, Tabular):
        return item
    if isinstance(item, (str, Number, Category)):
        item = [item]
    return Tabular(tuple(_cell(part, source, remarks) for part in item))


def _cell(item: Any, source: Source, remarks: list[str]) -> Number | Category:
    if isinstance(item, (Number, Category)):
        _remark(_there(item.name, source), item.name, isinstance(item, Number), remarks)
        return item
    column = _there(item, source)
    numeric = is_numeric(column, item)
    _remark(column, item, numeric, remarks)
    return Number(item) if numeric else Category(item)


_MODALITIES = {"image": _image, "volume": _volume, "tabular": _table, "text": _text, "series": _series}


def is_numeric(column: pa.ChunkedArray, name: str) -> bool:
    """Whether all recorded cells are finite numbers. Raises ValueError for text that is nearly a number."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type) or pa.types.is_boolean(column.type):
        return False
    if pa.types.is_nested(column.type):
        raise ValueError(
            f'Column "{name}" holds {column.type} cells, which no table can. Name it as image or series.'
        )
    if not is_text(column.type):
        return not pa.types.is_temporal(column.type)
    try:
        as_numbers(column, _where(name))
        return True
    except ValueError as error:
        distinct = [value for value in pc.unique(column).to_pylist() if value is not None]
        numbers = [
            value for value in distinct if re.fullmatch(r"[+-]?\d+\.?\d*(e[+-]?\d+)?", value, re.IGNORECASE)
        ]
        nearly = [value for value in distinct if _NEARLY.match(value)]
        if nearly and 2 * (len(numbers) + len(nearly)) > len(distinct):
            raise error
        if len(numbers) >= 10 and 10 * (len(distinct) - len(numbers)) <= len(distinct):
            raise error  # nine in ten are numbers: the rest are slips ("n/a", "?")
        return False


def _remark(column: pa.ChunkedArray, name: str, numeric: bool, remarks: list[str]) -> None:
    """Say what is odd about a column of a table: nearly constant, like an id, like free text."""
    import pyarrow.compute as pc

    counts = pc.value_counts(column.drop_null())
    known, distinct = len(column) - column.null_count, len(counts)
    commonest = pc.max(counts.field("counts")).as_py() / known
    if commonest >= SAME:
        remarks.append(f'"{name}" has one value in {commonest:.0%} of the rows where it is known.')
    elif distinct == known > LEVELS and (not numeric or _ID_NAME.search(name)):
        remarks.append(f'"{name}" is different in every row, like an id: it can only be learned by heart.')
    elif not numeric and distinct > LEVELS:
        remarks.append(f'"{name}" has {distinct} different texts; free text belongs in text=.')
    elif _ID_NAME.search(name):
        remarks.append(f'"{name}" is named like an id.')


# ------------------------------------------------------------------------------------------------------ tasks


def _task(item: Any, source: Source) -> Task:
    if isinstance(item, (Binary, Multiclass, Multilabel, Regression)):
        for column in item.columns:
            _there(column, source)
        return item
    if isinstance(item, (list, tuple)):
        for column in item:
            _there(column, source)
        return Multilabel(tuple(item))
    return infer_task(_there(item, source), item)


def infer_task(column: pa.ChunkedArray, name: str) -> Task:
    """The question that a column answers. Raises ValueError for a constant column and for free text."""
    import pyarrow.compute as pc

    levels = in_order([v for v in pc.unique(as_levels(column, _where(name))).to_pylist() if v is not None])
    if len(levels) == 1:
        raise ValueError(
            f'Target "{name}" is {levels[0]!r} in every row where it is known: there is nothing to learn. '
            f"Name another "
            "column, or check that no class was lost on the way."
        )
    if len(levels) == 2:
        return Binary(name, levels=_negative_first(levels))
    if is_numeric(column, name):
        whole = all(re.fullmatch(r"[+-]?\d+", level) for level in levels)
        return Multiclass(name, tuple(levels)) if whole and len(levels) <= CLASSES else Regression(name)
    if len(levels) > LEVELS:
        raise ValueError(
            f'Target "{name}" has {len(levels)} different texts, for example '
            f"{listing(map(repr, levels), 3)}; that is no "
            "set of classes. Group them, or pass Multiclass(column, levels) if they are meant."
        )
    return Multiclass(name, tuple(levels))


def _negative_first(levels: list[str]) -> tuple[str, str]:
    first, second = levels
    yes = [level.lower() in POSITIVE for level in levels]
    no = [level.lower() in NEGATIVE for level in levels]
    turned = (yes == [True, False]) or (yes[0] == yes[1] and no == [False, True])
    return (second, first) if turned else (first, second)
