"""Phrases from a table: a CSV, or rows in memory, with the columns record, expression and mask.

    record,expression,mask
    case001,the lesion in the upper left,masks/case001.png
    case001,the cyst on the right,absent

"absent" (or "none") in the mask cell: such a thing is known not to be there. An empty cell: nobody drew it,
so nothing is known, and the row is left out. Further columns may be key (the array inside an .npz), category
and acquisition.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import MissingFile, check_known, listing, plain, suggestion
from mmmed.data.paths import resolve
from mmmed.data.sources import read_table
from mmmed.types import Phrase, is_missing, spell

if TYPE_CHECKING:
    from mmmed.data.view import View

RECORD = ("record", "id", "image_id")  # names of a column, the first that is there counts
TEXT = ("expression", "phrase", "text")
MASK = ("mask",)
ABSENT = ("absent", "none")
_GONE = object()


def table_phrases(
    view: View,
    shown: Mapping[str, str],
    expressions: Any,
    category: str = "",
    acquisition: str = "",
) -> list[Phrase]:
    """The phrases of a table about the records that are shown. shown: record -> patient.

    expressions: the path of a CSV, whose masks lie beside it or in the cohort's folder; or a list of rows
    {column: cell} and of Phrase. Rows about other records of the cohort are passed over.

    Raises ValueError for columns that are not there, a record that the cohort does not have, and a row
    without words; MissingFile and UnsafePath for a mask.
    """
    rows, folders = _rows(expressions, view.folder)
    known = set(every_id(view))
    unknown, found = 0, []
    columns = _columns(view, [row for row in rows if not isinstance(row, Phrase)])
    for number, row in enumerate(rows, start=1):
        if isinstance(row, Phrase):
            _check_record(row.record, known, number)
            patient = row.group or shown.get(row.record)
            found.append(replace(row, group=patient, folder=row.folder or view.folder))
            continue
        record = _text(row.get(columns["record"]), number, "record")
        _check_record(record, known, number)
        mask = row.get(columns["mask"])
        if is_missing(mask):
            unknown += 1
        elif record in shown:
            told, folder = _mask(view, mask, folders, f"expression {number} of record {plain(record)}")
            if told is _GONE:
                unknown += 1
                continue
            found.append(
                Phrase(
                    record,
                    _text(row.get(columns["text"]), number, "phrase"),
                    told,
                    None if told is None else _optional(row, "key", None),
                    shown[record],
                    _optional(row, "category", category),
                    _optional(row, "acquisition", acquisition),
                    folder=folder,
                )
            )
    if unknown:
        warnings.warn(
            f"{unknown} of {len(rows)} expressions have no mask (an empty cell, or no such file): "
            f"whether there is such a thing is not known, so they are left out. Write "
            f'"{ABSENT[0]}" where it is known not to be there.',
            stacklevel=3,
        )
    return [phrase for phrase in found if phrase.record in shown]


def every_id(view: View) -> list[str]:
    """The ids of all records of the table, whatever the view."""
    column, rows = view.schema.id, np.arange(len(view.source))
    return view.source.fetch(rows, [column])[column] if column else [str(row) for row in rows.tolist()]


def _rows(expressions: Any, folder: str | None) -> tuple[list[Any], tuple[str | None, ...]]:
    """Rows, and the folders in which their masks may lie, the nearest first."""
    if isinstance(expressions, (str, os.PathLike)):
        source = read_table(expressions)
        beside = str(Path(expressions).parent)
        return source.arrow.to_pylist(), (beside, folder) if folder is not None else (beside,)
    good = isinstance(expressions, Sequence) and all(
        isinstance(row, (Mapping, Phrase)) for row in expressions
    )
    if not good:
        raise ValueError(
            "expressions should be the path of a CSV, or a list of rows {column: cell} or of Phrase, got "
            f"{plain(expressions)}."
        )
    if not expressions:
        raise ValueError("expressions is an empty list. Leave it out to use what comes with the cohort.")
    return list(expressions), (folder,)


def _columns(view: View, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """How the table calls record, text and mask."""
    there = list(dict.fromkeys(str(name) for row in rows for name in row))
    if not rows:
        return {}
    own = (view.schema.id,) if view.schema.id else ()
    ways = {"record": (*own, *RECORD), "text": TEXT, "mask": MASK}
    found = {what: next((n for n in names if n in there), None) for what, names in ways.items()}
    lacking = [" or ".join(dict.fromkeys(ways[what])) for what, name in found.items() if name is None]
    if lacking:
        raise ValueError(
            f"A table of expressions should have a column for record, expression and mask; there is none for "
            f"{listing(lacking)}. Its columns: {listing(there)}."
        )
    return found  # type: ignore[return-value]


def _check_record(record: str, known: set[str], number: int) -> None:
    if record not in known:
        raise ValueError(
            f"Expression {number} is about the record {plain(record)}, which the cohort does not have."
            f"{suggestion(record, known)} Its ids are such as {listing(sorted(known), 3)}."
        )


def _text(cell: Any, number: int, what: str) -> str:
    if is_missing(cell):
        raise ValueError(f"Expression {number} has no {what}. Fill the cell in, or remove the row.")
    return cell if isinstance(cell, str) else spell(cell)


def _optional(row: Mapping[str, Any], column: str, other: Any) -> Any:
    return other if is_missing(row.get(column)) else str(row[column])


def _mask(view: View, mask: Any, folders: Sequence[str | None], where: str) -> tuple[Any, str | None]:
    """A mask and the folder it lies in; None for what is absent, _GONE for a file that the cohort's policy
    lets be missing."""
    if not isinstance(mask, (str, os.PathLike)):
        if not hasattr(mask, "__array__"):
            raise ValueError(
                f'{where}: the mask should be a path, an array, or "{ABSENT[0]}", got {plain(mask)}.'
            )
        return np.asarray(mask), folders[-1]
    if str(mask).strip().lower() in ABSENT:
        return None, folders[-1]
    for folder in folders:
        try:
            resolve(mask, folder, where)
        except MissingFile:
            if folder == folders[-1] and view.missing_files == "error":
                raise
            continue
        return str(mask), folder
    return _GONE, folders[-1]


# ------------------------------------------------------------------------------------- columns of the cohort


def column_phrases(
    view: View,
    shown: Mapping[str, str],
    column: str,
    mask: str | tuple[str, str],
    category: str = "",
    acquisition: str = "",
    spacing: Mapping[str, tuple[float, ...]] | None = None,
) -> list[Phrase]:
    """The phrases in a column of the cohort's own table, with the masks that another column names.

    mask: a column, or (column, key) for arrays inside .npz files; "absent" in it counts as in a table of
    expressions. spacing: record -> mm per pixel. A row without words or without a mask gives no phrase:
    whether there is such a thing is not known.
    """
    name, key = (mask, None) if isinstance(mask, str) else mask
    for asked in (column, name):
        check_known(asked, view.source.columns, what="column")
    cells = zip(view.ids.tolist(), view.column(column), view.column(name), strict=True)
    found = []
    for number, (record, text, cell) in enumerate(cells, start=1):
        if record not in shown or is_missing(text) or is_missing(cell):
            continue
        told, folder = _mask(view, cell, (view.folder,), f'record "{record}", column "{name}"')
        if told is not _GONE:
            words, group = _text(text, number, "phrase"), shown[record]
            own = None if told is None else key
            size = (spacing or {}).get(record)
            found.append(Phrase(record, words, told, own, group, category, acquisition, size, folder))
    return found
