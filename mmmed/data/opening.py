"""The steps from a table to a cohort that is safe to learn from: schema, cells, ids, roles, files, given
splits."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mmmed.checks import check_known, listing, plain
from mmmed.data.cells import as_keys, typed
from mmmed.data.inference import Columns, infer_schema
from mmmed.data.presence import check_files
from mmmed.data.sources import SPLIT_NAMES, Source
from mmmed.data.splitting import SPLITS, check_groups_whole
from mmmed.types import Schema

if TYPE_CHECKING:
    from mmmed.data.view import View

ROLES = (
    "input",
    "target",
    "id",
    "group",
    "split",
    "leak",
    "confounder",
    "provenance",
    "mask",
    "descriptor",
    "text target",
    "truth",
    "spacing",
    "other",
)
NEVER_INPUT = {
    "leak": "is a leak: it is only known once the answer is known",
    "truth": "is part of the truth behind a synthetic cohort",
    "confounder": "is a confounder: it goes with the label for reasons other than the disease",
    "provenance": "tells where a record comes from",
    "id": "is an id",
    "group": "names the patient",
    "split": "says in which part a record is",
}


def prepare(
    source: Source,
    columns: Columns,
    schema: Schema | None,
    roles: Mapping[str, str] | None,
    missing_files: str,
) -> tuple[Source, Schema]:
    """Infer or take the schema, read the cells by it, and check ids, roles and files."""
    given = schema is not None
    if given:
        schema = _with_keys(schema, columns)
    else:
        schema = infer_schema(source, columns)
    source = typed(source, _without_absent_keys(schema, source) if given else schema, strict=not given)
    schema = _without_absent_keys(schema, source)
    source = replace(source, roles=complete_roles(source, schema, {**source.roles, **(roles or {})}))
    check_roles(schema, source.roles)
    check_ids(source, schema)
    if missing_files == "error":
        check_files(source, schema)
    return source, schema


def _with_keys(schema: Schema, columns: Columns) -> Schema:
    if columns.given:
        raise ValueError(
            f"Both a schema and {listing(columns.given)} were given. The schema names the inputs and targets "
            f"already; "
            "pass one of the two."
        )
    return replace(schema, group=columns.group or schema.group, id=columns.id or schema.id)


def _without_absent_keys(schema: Schema, source: Source) -> Schema:
    """A given schema over a table without its id or patient column: each row its own, said aloud."""
    absent = [key for key in (schema.id, schema.group) if key is not None and key not in source.columns]
    if not absent:
        return schema
    warnings.warn(
        f"The table has no column {listing(map(repr, absent))} (id or patient of the schema): rows are "
        f"numbered, and "
        "without a patient column each row counts as a patient of its own.",
        stacklevel=5,
    )
    return replace(
        schema,
        id=None if schema.id in absent else schema.id,
        group=None if schema.group in absent else schema.group,
    )


# ------------------------------------------------------------------------------------------------------ roles


def complete_roles(source: Source, schema: Schema, declared: Mapping[str, str]) -> dict[str, str]:
    """A role for every column: the declared one, else what the schema makes of it, else "other"."""
    for column, role in declared.items():
        check_known(column, source.columns, what="column with a role")
        check_known(role, ROLES, what=f'role of column "{column}"')
    targets = {column for task in schema.tasks.values() for column in task.columns}
    derived = dict.fromkeys(source.columns, "other")
    derived |= dict.fromkeys(schema.columns, "input") | dict.fromkeys(targets, "target")
    derived |= {key: role for key, role in ((schema.group, "group"), (schema.id, "id")) if key}
    kept = {column: role for column, role in declared.items() if role != "other"}
    return {column: kept.get(column, derived[column]) for column in source.columns}


def check_roles(schema: Schema, roles: Mapping[str, str]) -> None:
    """Raise ValueError if the schema takes as an input what must never be one."""
    for name, modality in schema.modalities.items():
        for column in modality.columns:
            role = roles.get(column)
            if role in NEVER_INPUT:
                raise ValueError(
                    f'Column "{column}" {NEVER_INPUT[role]}. It can never be an input; take it out of '
                    f'"{name}".'
                )


# --------------------------------------------------------------------------------------------- ids and splits


def check_ids(source: Source, schema: Schema) -> None:
    """Raise ValueError if ids are empty or occur twice; warn if patients are unknown."""
    if schema.id is not None:
        ids = source.arrow.column(schema.id).to_pylist()
        empty = [row + 1 for row, name in enumerate(ids) if name is None]
        if empty:
            raise ValueError(
                f'The id column "{schema.id}" is empty in {len(empty)} rows, first in row {empty[0]}.'
            )
        if len(set(ids)) < len(ids):
            twice = [name for name, count in Counter(ids).items() if count > 1]
            raise ValueError(
                f'The id column "{schema.id}" has {len(twice)} ids in more than one row: '
                f"{listing(twice, 5)}. An id "
                "names one record. If it names a patient, pass it as group= and leave id= out."
            )
    if schema.group is not None and source.arrow.column(schema.group).null_count:
        count = source.arrow.column(schema.group).null_count
        warnings.warn(
            f'{count} rows have no patient in column "{schema.group}"; each counts as a patient of its own.',
            stacklevel=5,
        )


def read_split(source: Source, column: str) -> np.ndarray:
    """A column of train, val, test (also training, valid, validation, dev, testing) -> int8 [rows]."""
    check_known(column, source.columns, what="column")
    words = as_keys(source.arrow.column(column), lambda row: f'row {row + 1}, column "{column}"').to_pylist()
    codes = {word: SPLITS.index(name) for word, name in SPLIT_NAMES.items()}
    parts = np.zeros(len(words), np.int8)
    for row, word in enumerate(words):
        code = None if word is None else codes.get(word.lower())
        if code is None:
            raise ValueError(
                f'row {row + 1}, column "{column}": train, val or test was expected, got {plain(word)}. '
                f"Correct it, or "
                "leave split= out and a split by patient is made."
            )
        parts[row] = code
    return parts


def check_whole(view: View, parts: np.ndarray, column: str) -> None:
    """Raise ValueError if a column of the split tears a patient apart."""
    if view.schema.group is not None:
        check_groups_whole(view.groups.tolist(), parts, column)


def remark_unused_split(columns: Sequence[str]) -> None:
    """Warn that a column called split is there but was not named."""
    if "split" in columns:
        warnings.warn(
            'The table has a column "split" that was not used; pass split="split" to keep its parts.',
            stacklevel=4,
        )
