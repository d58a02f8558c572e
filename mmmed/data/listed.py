"""A list of records as a source: plain rows, or `Record`s with the schema that says which column is which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mmmed.checks import check_known, listing, plain
from mmmed.data.sources import Source, check_rows, read_rows
from mmmed.types import Record, Schema, Tabular, is_missing


def read_records(
    records: Sequence[Record | Mapping[str, Any]], schema: Schema | None, root: Any
) -> tuple[Source, Schema | None, np.ndarray | None]:
    """-> source, schema, and for `Record`s what each of them shows [records modality] (None for plain rows).

    Records keep their id and patient: where the schema has no column for them, it gets "id" and "patient".
    """
    records = list(records)
    check_rows(len(records), "The list of records")
    if not all(isinstance(record, (Record, Mapping)) for record in records):
        odd = next(record for record in records if not isinstance(record, (Record, Mapping)))
        raise ValueError(f"Records or rows {{column: cell}} were expected, got {plain(odd)}.")
    if not isinstance(records[0], Record):
        return read_rows(records, root), schema, None
    if schema is None:
        raise ValueError(
            "A list of Record needs its schema: Cohort.from_records(records, schema=cohort.schema)."
        )
    schema = _with_keys(records, schema)
    folder = _folder(records) if root is None else root
    rows = [_row(record, schema) for record in records]
    stays = np.array([[name in record.inputs for name in schema.modalities] for record in records], bool)
    return read_rows(rows, folder), schema, stays


def _with_keys(records: Sequence[Record], schema: Schema) -> Schema:
    used = {*schema.columns, *(column for task in schema.tasks.values() for column in task.columns)}
    for record in records:
        for name in record.inputs:
            check_known(name, schema.modalities, what=f"modality of record {record.id!r}")
    if schema.id is None:
        schema = replace(schema, id=_free("id", {*used, schema.group}))
    if schema.group is None and any(record.group is not None for record in records):
        schema = replace(schema, group=_free("patient", {*used, schema.id}))
    return schema


def _free(name: str, used: set[str | None]) -> str:
    while name in used:
        name = f"record_{name}"
    return name


def _folder(records: Sequence[Record]) -> str | None:
    folders = {record.folder for record in records}
    if len(folders) > 1:
        raise ValueError(
            f"The records' paths start in different folders ({listing(sorted(map(str, folders)), 3)}). Make "
            f"them "
            "relative to one folder and pass it as root=."
        )
    return folders.pop()


def _row(record: Record, schema: Schema) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(schema.columns)
    row |= {column: None for task in schema.tasks.values() for column in task.columns}
    for name, value in record.inputs.items():
        modality = schema.modalities[name]
        cells = value if isinstance(modality, Tabular) else {modality.column: value}
        for column, cell in cells.items():
            check_known(column, modality.columns, what=f"column of record {record.id!r}")
            if not is_missing(row[column]) and not _same(row[column], cell):
                raise ValueError(
                    f'Record "{record.id}": two modalities bring different cells of column "{column}".'
                )
            row[column] = cell
    row |= record.targets
    row[schema.id] = record.id
    if schema.group is not None:
        row[schema.group] = record.group
    return row


def _same(one: Any, other: Any) -> bool:
    if hasattr(one, "shape") or hasattr(other, "shape"):
        return one is other or bool(np.array_equal(one, other))
    return bool(one == other)
