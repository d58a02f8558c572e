"""Record: one examination of one patient. What is missing is not there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mmmed.checks import check_known, listing, plain


@dataclass(frozen=True)
class Record:
    """Inputs and targets of one examination.

    inputs: modality -> its value: a path or array (or a list of them: views) for an image or volume, {column:
    cell} for a table, a string for text, a list of steps for a series. An absent modality has no key (None
    counts as absent); an absent cell of a table has no key either. targets: column -> value as written; an
    unknown label has no key. group: the patient. folder: where relative paths start.
    """

    id: str
    inputs: Mapping[str, Any]
    targets: Mapping[str, Any] = field(default_factory=dict)
    group: str | None = None
    folder: str | None = None

    def __post_init__(self) -> None:
        inputs = {name: _recorded(value) for name, value in self.inputs.items()}
        object.__setattr__(
            self, "inputs", {name: value for name, value in inputs.items() if not is_missing(value)}
        )
        object.__setattr__(self, "targets", {k: v for k, v in self.targets.items() if not is_missing(v)})

    @property
    def present(self) -> tuple[str, ...]:
        """Names of the modalities that this record has."""
        return tuple(self.inputs)

    def without(self, *names: str) -> Record:
        """The same record with some modalities taken away; taking away what is absent already is no error."""
        return replace(self, inputs={k: v for k, v in self.inputs.items() if k not in names})

    def only(self, *names: str) -> Record:
        """The same record with nothing but these modalities."""
        return replace(self, inputs={k: v for k, v in self.inputs.items() if k in names})

    def with_input(self, name: str, value: Any) -> Record:
        """The same record with one modality added or replaced."""
        return replace(self, inputs={**self.inputs, name: value})

    @classmethod
    def from_row(
        cls, row: Mapping[str, Any], schema: Any, *, id: str | None = None, folder: str | None = None
    ) -> Record:
        """Build a record from one table row (column -> cell). A column that is not there is missing."""
        from mmmed.types.modalities import Tabular

        inputs: dict[str, Any] = {}
        for name, modality in schema.modalities.items():
            if isinstance(modality, Tabular):
                inputs[name] = {column: row.get(column) for column in modality.columns}
            else:
                inputs[name] = row.get(modality.column)
        targets = {c: row.get(c) for task in schema.tasks.values() for c in task.columns}
        group = row.get(schema.group) if schema.group else None
        name = row.get(schema.id) if schema.id else id
        return cls(
            id=_key(name if not is_missing(name) else id if id is not None else "record"),
            inputs=inputs,
            targets=targets,
            group=None if is_missing(group) else _key(group),
            folder=folder,
        )

    def __repr__(self) -> str:
        return f"Record({self.id!r}, has {listing(self.inputs)}; targets {dict(self.targets)})"


def _key(value: Any) -> str:
    """An id or patient as text, as cohorts write it: 7.0 is "7"; text stays as written, "007" too."""
    return spell(value) if hasattr(value, "is_integer") else str(value).strip()


def _recorded(value: Any) -> Any:
    """A table row without its empty cells, a list of views without its empty places; anything else as it
    is."""
    if isinstance(value, Mapping):
        return {column: cell for column, cell in value.items() if not is_missing(cell)}
    if isinstance(value, (list, tuple)):
        return [item for item in value if not is_missing(item)]
    return value


def is_missing(value: Any) -> bool:
    """The spellings of missing that a table can hold: None, NaN, NaT, pandas.NA, blank text, an empty list or
    dict."""
    if value is None:
        return True
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, (list, tuple, dict)):
        return len(value) == 0 or (not isinstance(value, dict) and all(is_missing(item) for item in value))
    if hasattr(value, "shape") and getattr(value, "shape", ()) != ():
        return False
    try:
        return bool(value != value)  # noqa: PLR0124 (NaN and NaT differ from themselves)
    except (TypeError, ValueError):
        return type(value).__name__ == "NAType"  # pandas.NA refuses to be compared


def check_modalities(names: Any, schema: Any) -> tuple[str, ...]:
    """Names of modalities as a tuple, each known to the schema."""
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        check_known(name, schema.modalities, what="modality")
    return names


def spell(value: Any) -> str:
    """A category or label as text, one spelling for one meaning: 1, 1.0, "1" and "1.0" are "1"."""
    if isinstance(value, str):
        return re.sub(r"^(-?\d+)\.0+$", r"\1", value.strip())
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (bool, int, float)):
        return str(value)
    raise ValueError(f"A category or label should be text or a number, got {plain(value)}.")


def spell_levels(levels: Any, name: str) -> tuple[str, ...]:
    """Levels spelled as cells are, so that the level 0.0 is found in a column of 0 and 1."""
    if isinstance(levels, str):
        raise ValueError(f"{name}: levels should be a list of texts, got the text {plain(levels)}.")
    return tuple(spell(level) for level in levels)
