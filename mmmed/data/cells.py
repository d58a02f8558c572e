"""Cells to what the schema says they are: numbers, levels, text, files, series; or an error that names the
cell.

One spelling for one meaning: a level is trimmed text, and 1, 1.0 and "1" are the same level "1". Blank text
is a missing cell. In a numeric column "nan" is missing too, since that is how a number spells it.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable
from datetime import date, time
from typing import TYPE_CHECKING, Any

from mmmed.checks import listing, plain, suggestion
from mmmed.data.sources import Source
from mmmed.types import (
    Category,
    Image,
    Multilabel,
    Number,
    Regression,
    Schema,
    Series,
    Tabular,
    Text,
    Volume,
    spell,
)

if TYPE_CHECKING:
    import pyarrow as pa

WHOLE = r"^(-?\d+)\.0+$"  # a whole number as pandas writes it beside empty cells: "1.0"


def kinds_of(schema: Schema) -> dict[str, str]:
    """Column -> number, level, text, file, series or key. Raises ValueError if a column is wanted as two
    kinds."""
    kinds: dict[str, str] = {}

    def add(column: str, kind: str) -> None:
        if kinds.setdefault(column, kind) != kind:
            raise ValueError(
                f'Column "{column}" cannot be read both as {kinds[column]} and as {kind}. Use it once, or '
                f"copy it."
            )

    for modality in schema.modalities.values():
        match modality:
            case Tabular():
                for cell in modality.cells:
                    add(cell.name, "number" if isinstance(cell, Number) else "level")
            case Image() | Volume():
                add(modality.column, "file")
            case Text():
                add(modality.column, "text")
            case Series():
                add(modality.column, "series")
    for task in schema.tasks.values():
        for column in task.columns:
            add(column, "number" if isinstance(task, Regression) else "level")
    for column in {schema.group, schema.id} - {None}:
        add(column, "key")
    return kinds


def typed(source: Source, schema: Schema, strict: bool = True) -> Source:
    """Read every column of the schema as what it is; the other columns stay as they came.

    strict: a column that the table does not have is an error; else it is missing in every row, with a
    warning. Raises ValueError that names record, column, value and what to do.
    """
    import pyarrow as pa

    kinds = kinds_of(schema)
    _check_there(source, schema, kinds, strict)
    columns = {name: source.arrow.column(name) for name in source.columns}
    names = columns.get(schema.id) if schema.id else None
    for column, kind in kinds.items():

        def where(row: int, column: str = column) -> str:
            return f'record "{names[row].as_py() if names is not None else row}", column "{column}"'

        if column not in columns:
            columns[column] = pa.nulls(len(source), pa.float64() if kind == "number" else pa.string())
        elif column in source.arrays:
            if kind != "file":
                raise ValueError(f'Column "{column}" holds arrays; it can only be an image or a volume.')
        else:
            columns[column] = _READERS[kind](_nothing_as_null(columns[column]), where)
            if kind == "file" and source.folder is not None:
                columns[column] = relative(columns[column], source.folder)
    result = source.with_columns(columns)
    _check_bounds(result, schema)
    return _check_labels(result, schema)


def _check_there(source: Source, schema: Schema, kinds: dict[str, str], strict: bool) -> None:
    absent = [column for column in kinds if column not in source.columns]
    if not absent:
        return
    hints = "".join(f"{suggestion(c, source.columns)}" for c in absent[:3])
    message = f"The table has no column {listing(map(repr, absent))}.{hints}"
    if strict or not set(schema.columns) & set(source.columns):
        raise ValueError(f"{message} It has: {listing(source.columns)}.")
    warnings.warn(f"{message} Counted as missing in every row.", stacklevel=4)


# --------------------------------------------------------------------------------------------- column readers


def _nothing_as_null(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of nothing but NaN or null says nothing about its kind, whatever its type."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    empty = column.null_count == len(column)
    return pa.chunked_array([pa.nulls(len(column))]) if empty else column


def as_numbers(column: pa.ChunkedArray, where: Callable[[int], str]) -> pa.ChunkedArray:
    """Float column; missing = null. Text must be plain decimal numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if is_text(column.type):
        trimmed = blank_to_null(column)
        trimmed = pc.if_else(pc.equal(pc.utf8_lower(trimmed), "nan"), pa.scalar(None, trimmed.type), trimmed)
        try:
            numbers = trimmed.cast(pa.float64())
        except pa.ArrowInvalid:
            row = next(
                i for i, cell in enumerate(trimmed.to_pylist()) if cell is not None and not _float(cell)
            )
            raise ValueError(
                f"{where(row)}: a number was expected, got {plain(column[row].as_py())}. Write digits with a "
                f"decimal "
                "point, without unit, comma or comparison sign; leave the cell empty if the value is not "
                "known; or "
                "declare the column as a Category."
            ) from None
    elif pa.types.is_null(column.type):
        return column.cast(pa.float64())
    elif pa.types.is_boolean(column.type):
        numbers = column.cast(pa.int8()).cast(pa.float64())
    else:
        try:
            numbers = column.cast(pa.float64(), safe=False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise ValueError(f"{where(0)}: numbers were expected, got {column.type} cells.") from None
    numbers = pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers)
    infinite = pc.index(pc.is_inf(numbers), True).as_py()
    if infinite >= 0:
        raise ValueError(
            f"{where(infinite)}: {plain(column[infinite].as_py())} is no finite number. Leave the cell empty "
            f"if the "
            "value is not known; if the column holds codes or ids, declare it as a Category or leave it out."
        )
    return numbers


def _float(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", text, re.I) is not None


def as_levels(column: pa.ChunkedArray, where: Callable[[int], str]) -> pa.ChunkedArray:
    """Text column of trimmed levels; whole numbers without ".0"."""
    import pyarrow.compute as pc

    keys = as_keys(column, where)
    return pc.replace_substring_regex(keys, WHOLE, r"\1")


def as_keys(column: pa.ChunkedArray, where: Callable[[int], str]) -> pa.ChunkedArray:
    """Text column of trimmed names (ids, patients), otherwise as written: leading zeros stay."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if is_text(column.type):
        return blank_to_null(column)
    if pa.types.is_integer(column.type) or pa.types.is_null(column.type):
        return column.cast(pa.string())
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
        raise ValueError(f"{where(0)}: text or numbers were expected, got {column.type} cells.")
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    coded = column.combine_chunks().dictionary_encode()
    words = [_word(value) for value in coded.dictionary.to_pylist()]
    spelled = pa.array(words, pa.string()).take(coded.indices)
    return pa.chunked_array([spelled])


def _word(value: Any) -> str | None:
    if value is None:
        return None
    return value.isoformat() if isinstance(value, (date, time)) else spell(value)


def as_text(column: pa.ChunkedArray, where: Callable[[int], str]) -> pa.ChunkedArray:
    """Text column as written; blank = null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type) or not is_text(column.type):
        return as_keys(column, where)
    empty = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(column)), 0)
    return pc.if_else(empty, pa.scalar(None, column.type), column)


def as_files(column: pa.ChunkedArray, where: Callable[[int], str]) -> pa.ChunkedArray:
    """Paths, lists of paths (also written as a JSON list in a text cell), or encoded pictures."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_null(column.type):
        return column.cast(pa.string())
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if is_text(column.type):
        column = blank_to_null(column)
        if pc.any(pc.starts_with(column, "[")).as_py():
            return _parsed(column, where, wrap=True)
        return column
    inner = column.type.value_type if is_list(column.type) else column.type
    encoded = pa.types.is_binary(inner) or pa.types.is_large_binary(inner)
    if (
        encoded
        or is_text(inner)
        or (pa.types.is_struct(inner) and {f.name for f in inner} >= {"bytes", "path"})
    ):
        return column
    raise ValueError(f"{where(0)}: a path or a list of paths was expected, got {column.type} cells.")


def relative(column: pa.ChunkedArray, folder: str) -> pa.ChunkedArray:
    """Absolute paths that lie in the folder, from there; other paths as they are (the reader of files judges
    them)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    start = os.path.join(os.path.abspath(folder), "")
    if is_text(column.type):
        inside = pc.starts_with(column, start)
        return pc.if_else(inside, pc.utf8_slice_codeunits(column, len(start)), column)
    if is_list(column.type) and is_text(column.type.value_type):
        views = [
            cell and [None if view is None else view.removeprefix(start) for view in cell]
            for cell in column.to_pylist()
        ]
        return pa.chunked_array([pa.array(views, column.type)])
    if pa.types.is_struct(column.type):
        names = [field.name for field in column.type]
        parts = dict(zip(names, column.combine_chunks().flatten(), strict=True))
        parts["path"] = relative(pa.chunked_array([parts["path"]]), folder).combine_chunks()
        return pa.chunked_array([pa.StructArray.from_arrays(list(parts.values()), names)])
    return column


def as_series(column: pa.ChunkedArray, where: Callable[[int], str]) -> pa.ChunkedArray:
    """Lists of steps, also written as JSON in a text cell."""
    import pyarrow as pa

    if pa.types.is_null(column.type):
        return column.cast(pa.string())
    if is_text(column.type):
        return _parsed(blank_to_null(column), where, wrap=False)
    if not (is_list(column.type) or pa.types.is_struct(column.type)):
        raise ValueError(f"{where(0)}: a list of steps was expected, got {column.type} cells.")
    return column


def _parsed(column: pa.ChunkedArray, where: Callable[[int], str], wrap: bool) -> pa.ChunkedArray:
    """JSON cells as nested Arrow. wrap: a cell that is no list stands for a list of one."""
    import pyarrow as pa

    values = []
    for row, cell in enumerate(column.to_pylist()):
        try:
            listed = cell is None or not wrap or cell.startswith("[")
            value = None if cell is None else json.loads(cell) if listed else [cell]
        except json.JSONDecodeError as error:
            raise ValueError(f"{where(row)}: {plain(cell)} is no JSON list: {error}.") from error
        if value is not None and not isinstance(value, (list, dict)):
            raise ValueError(f"{where(row)}: a JSON list was expected, got {plain(cell)}.")
        values.append(value)
    try:
        return pa.chunked_array([pa.array(values)])
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(f"{where(0)}: the cells of this column have different forms: {error}") from error


_READERS = {
    "number": as_numbers,
    "level": as_levels,
    "key": as_keys,
    "text": as_text,
    "file": as_files,
    "series": as_series,
}


def is_text(kind: pa.DataType) -> bool:
    return str(kind) in ("string", "large_string", "string_view")


def is_list(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def blank_to_null(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Trimmed text; what is then empty is null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    trimmed = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, trimmed.type), trimmed)


# ---------------------------------------------------------------------------------------- checks over columns


def record_name(source: Source, schema: Schema, row: int) -> str:
    """The id of a row, or its number where the schema has no id column."""
    name = source.arrow.column(schema.id)[row].as_py() if schema.id in source.columns else None
    return str(row if name is None else name)


def _check_bounds(source: Source, schema: Schema) -> None:
    import pyarrow.compute as pc

    for modality in schema.modalities.values():
        for cell in getattr(modality, "cells", ()):
            if isinstance(cell, Category) or (cell.low is None and cell.high is None):
                continue
            column = source.arrow.column(cell.name)
            outside = pc.or_(
                pc.less(column, float("-inf") if cell.low is None else cell.low),
                pc.greater(column, float("inf") if cell.high is None else cell.high),
            )
            row = pc.index(outside, True).as_py()
            if row >= 0:
                raise ValueError(
                    f'record "{record_name(source, schema, row)}", column "{cell.name}": '
                    f"{column[row].as_py():g} is "
                    f"outside the possible range {cell.low} to {cell.high} {cell.unit or ''}".rstrip()
                    + ". Correct the cell, empty it, or widen low and high in the schema."
                )


def _check_labels(source: Source, schema: Schema) -> Source:
    """Every label is one of its task's levels; true and false count as 1 and 0 for a multilabel task."""
    import pyarrow.compute as pc

    changed = {name: source.arrow.column(name) for name in source.columns}
    for task in schema.tasks.values():
        if isinstance(task, Regression):
            continue
        levels = ("0", "1") if isinstance(task, Multilabel) else task.levels
        for name in task.columns:
            column = changed[name]
            if isinstance(task, Multilabel):
                column = pc.replace_substring_regex(column, "^(?i:true)$", "1")
                column = changed[name] = pc.replace_substring_regex(column, "^(?i:false)$", "0")
            for value in pc.unique(column).to_pylist():
                if value is not None and value not in levels:
                    row = pc.index(column, value).as_py()
                    raise ValueError(
                        f'record "{record_name(source, schema, row)}", column "{name}": the label {value!r} '
                        f"is none of "
                        f"{listing(levels)}.{suggestion(value, levels)} Correct it, leave it empty if it is "
                        f"not "
                        "known, or add the level to the schema's task."
                    )
    return source.with_columns(changed)
