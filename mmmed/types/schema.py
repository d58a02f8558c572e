"""Schema: what a record may hold and what is asked about it. Frozen, and saved with every model.

A schema names modalities (inputs) and tasks (questions). Whatever was learned from the training rows and is
needed to read a new record the same way (means, scales, category levels, vocabularies) lives here too, so a
saved model reads tomorrow's patient exactly as it read yesterday's.

    Schema(
        modalities={
            "image": Image("path", size=(64, 64)),
            "labs": Tabular((Number("crp", unit="mg/l"), Category("sex", levels=("f", "m")))),
            "note": Text("history"),
        },
        tasks={"sepsis": Binary("sepsis")},
        group="patient_id",
    )
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mmmed.checks import check_known, listing, plain
from mmmed.types.modalities import Category, Image, Modality, Number, Series, Tabular, Text, Volume
from mmmed.types.tasks import Binary, Multiclass, Multilabel, Regression, Task

FORMAT = 1  # raised when a saved schema can no longer be read by an older release

_MODALITIES = {"image": Image, "volume": Volume, "tabular": Tabular, "text": Text, "series": Series}
_TASKS = {"binary": Binary, "multiclass": Multiclass, "multilabel": Multilabel, "regression": Regression}
_CELLS = {"number": Number, "category": Category}


@dataclass(frozen=True)
class Schema:
    """Modalities, tasks, and the columns that hold the patient (`group`) and the examination (`id`).

    Raises ValueError if a target column is also an input, if the group or id is, or if a name is empty.
    """

    modalities: Mapping[str, Modality]
    tasks: Mapping[str, Task] = field(default_factory=dict)
    group: str | None = None
    id: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "modalities", MappingProxyType(dict(self.modalities)))
        object.__setattr__(self, "tasks", MappingProxyType(dict(self.tasks)))
        if not self.modalities:
            raise ValueError(
                "A schema needs at least one modality. Name an image, tabular, text, volume or series column."
            )
        for name, modality in self.modalities.items():
            if not isinstance(modality, Modality):
                raise ValueError(
                    f"Modality {name!r} should be one of {listing(_MODALITIES)}, got {plain(modality)}."
                )
            if (
                not name or not isinstance(name, str) or "." in name
            ):  # torch uses the dot between module names
                raise ValueError(f"A modality needs a name without dots, got {plain(name)}.")
        for name, task in self.tasks.items():
            if not isinstance(task, Task):
                raise ValueError(f"Task {name!r} should be one of {listing(_TASKS)}, got {plain(task)}.")
            if not name or not isinstance(name, str) or "." in name:
                raise ValueError(f"A task needs a name without dots, got {plain(name)}.")
        self._check_column_names()
        targets = {column for task in self.tasks.values() for column in task.columns}
        both = targets & set(self.columns)
        if both:
            raise ValueError(
                f"Column {listing(sorted(both))} is both an input and a target. Take it out of the inputs."
            )
        keys = {self.group, self.id} - {None}
        if keys & (set(self.columns) | targets):
            raise ValueError(
                f"The group or id column ({listing(sorted(keys))}) cannot be an input or a target."
            )

    def _check_column_names(self) -> None:
        parts = [*self.modalities.values(), *self.tasks.values()]
        keys = [key for key in (self.group, self.id) if key is not None]
        for column in (*(column for part in parts for column in part.columns), *keys):
            if not isinstance(column, str) or not column:
                raise ValueError(f"A column is named by text, got {plain(column)}.")

    # A MappingProxyType cannot be copied or sent to worker processes: go through the dict form.
    def __reduce__(self) -> tuple:
        return (Schema.from_dict, (self.to_dict(),))

    # The order of modalities is that of fusion and of the columns of `present`, so it is part of equality.
    def __eq__(self, other: object) -> bool:
        return self._parts == other._parts if isinstance(other, Schema) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._parts)

    @property
    def _parts(self) -> tuple[Any, ...]:
        return (tuple(self.modalities.items()), tuple(self.tasks.items()), self.group, self.id)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every input column, in order, each once."""
        return tuple(
            dict.fromkeys(column for modality in self.modalities.values() for column in modality.columns)
        )

    def with_modality(self, name: str, modality: Modality) -> Schema:
        """The same schema with one modality added (last) or replaced (in place)."""
        return replace(self, modalities={**self.modalities, name: modality})

    def without(self, *names: str) -> Schema:
        """The same schema without some modalities."""
        for name in names:
            check_known(name, self.modalities, what="modality")
        return replace(self, modalities={n: m for n, m in self.modalities.items() if n not in names})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready form."""
        return {
            "format": FORMAT,
            "modalities": {name: _dump(modality) for name, modality in self.modalities.items()},
            "tasks": {name: _dump(task) for name, task in self.tasks.items()},
            "group": self.group,
            "id": self.id,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Schema:
        """Read the JSON form. Raises ValueError for a newer format, unknown kinds and unknown fields."""
        if not isinstance(data, Mapping):
            raise ValueError(f"A schema should be a JSON object, got {plain(data)}.")
        version = data.get("format", FORMAT)
        if not isinstance(version, int) or version > FORMAT:
            raise ValueError(
                f"This schema has format {plain(version)}; this release reads up to {FORMAT}. Update mmmed."
            )
        for key in data:
            check_known(key, ("format", "modalities", "tasks", "group", "id"), what="schema field")
        sections = {key: data.get(key) or {} for key in ("modalities", "tasks")}
        for key, section in sections.items():
            if not isinstance(section, Mapping):
                raise ValueError(
                    f"Schema field {key!r} should be an object of name to description, got {plain(section)}."
                )
        return cls(
            modalities={
                name: _read(item, _MODALITIES, f"modality {name!r}")
                for name, item in sections["modalities"].items()
            },
            tasks={name: _read(item, _TASKS, f"task {name!r}") for name, item in sections["tasks"].items()},
            group=data.get("group"),
            id=data.get("id"),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write JSON, whole or not at all."""
        path = Path(path)
        temporary = path.with_name(path.name + ".part")
        temporary.write_text(json.dumps(self.to_dict(), indent=1, ensure_ascii=False), encoding="utf-8")
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Schema:
        """Read what `save` wrote. Raises ValueError that names the file if it is not a schema."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls.from_dict(data)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} is not a schema: {error}") from error

    def __str__(self) -> str:
        lines = []
        for name, modality in self.modalities.items():
            lines.append(f"{name:<12} {type(modality).__name__:<10} {_describe(modality)}")
        for name, task in self.tasks.items():
            lines.append(f"{name:<12} {'-> ' + type(task).__name__:<10} {_describe(task)}")
        lines.append(f"patient: {self.group or 'each row its own'}; id: {self.id or 'row number'}")
        return "\n".join(lines)


def _kind(item: object) -> str:
    return type(item).__name__.lower()


def _dump(item: Any) -> dict[str, Any]:
    result: dict[str, Any] = {"kind": _kind(item)}
    for f in fields(item):
        value = getattr(item, f.name)
        if isinstance(value, tuple):
            value = [_dump(part) if isinstance(part, (Number, Category)) else part for part in value]
        result[f.name] = value
    return result


def _read(item: Any, kinds: Mapping[str, type], what: str) -> Any:
    if not isinstance(item, Mapping) or not isinstance(item.get("kind"), str):
        raise ValueError(
            f'The {what} should be an object with a "kind" ({listing(kinds)}), got {plain(item)}.'
        )
    kind = kinds[check_known(item["kind"], kinds, what=f"kind of {what}")]
    known = {f.name for f in fields(kind)}
    values = {}
    for key, value in item.items():
        if key == "kind":
            continue
        check_known(key, known, what=f"field of {what}")
        if isinstance(value, list):
            value = tuple(
                _read(p, _CELLS, f"column of {what}") if isinstance(p, Mapping) else p for p in value
            )
        values[key] = value
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"The {what} cannot be read: {error}") from error


def _describe(item: Any) -> str:
    match item:
        case Image() | Volume():
            channels = f"{item.channels} channel{'s' * (item.channels > 1)}"
            return f"{item.column}, {' x '.join(map(str, item.size))} px, {channels}"
        case Tabular():
            cells = [
                f"{c.name} [{c.unit}]"
                if isinstance(c, Number) and c.unit
                else f"{c.name} ({'/'.join(c.levels[:4])}{'/...' * (len(c.levels) > 4)})"
                if isinstance(c, Category)
                else c.name
                for c in item.cells
            ]
            return listing(cells, 8)
        case Text():
            pieces = item.tokenizer or f"{len(item.vocabulary)} word pieces"
            return f"{item.column}, up to {item.length} tokens, {pieces}"
        case Series():
            return f"{item.column}: {listing([c.name for c in item.channels], 8)}"
        case Binary():
            return f"{item.column}: {item.levels[1]} against {item.levels[0]}"
        case Multiclass():
            return f"{item.column}: {listing(item.levels, 8)}"
        case Multilabel():
            return listing(item.labels, 8)
    return f"{item.column}{f' [{item.unit}]' if item.unit else ''}"
