"""Protocols: rules of missingness with their options, to be saved beside results and run again.

The rules themselves are in `mmmed.data.hiding`; the names here are the same functions.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmmed.checks import check_known, listing, plain
from mmmed.data.hiding import (
    drop_one,
    keep_one,
    mar,
    mcar,
    mnar_by_label,
    mnar_by_value,
    natural,
    sequential,
    uniforms,
    whole_site,
)
from mmmed.types import Binary, Number, Tabular
from mmmed.types.record import is_missing, spell

__all__ = [
    "RULES",
    "Mechanism",
    "drop_one",
    "keep_one",
    "mar",
    "mcar",
    "mnar_by_label",
    "mnar_by_value",
    "natural",
    "sequential",
    "standard_mechanisms",
    "uniforms",
    "whole_site",
]

RULES = {
    rule.__name__: rule
    for rule in (
        natural,
        drop_one,
        keep_one,
        mcar,
        mar,
        mnar_by_value,
        mnar_by_label,
        whole_site,
        sequential,
    )
}
MAR = {"low": 0.25, "high": 0.70}  # share hidden where the observed column is low, and where it is high


@dataclass(frozen=True)
class Mechanism:
    """One rule with its options, so that a protocol can be saved beside its results and run again.

    name: a key of RULES; options: its keyword arguments, plain values only. Raises ValueError for a name or
    an option that the rule does not have, and for one that it needs and did not get.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_known(self.name, RULES, what="missingness mechanism")
        parameters = dict(inspect.signature(RULES[self.name]).parameters)
        del parameters["cohort"]
        for option in self.options:
            check_known(option, parameters, what=f"option of {self.name}")
        needed = [
            name
            for name, item in parameters.items()
            if item.default is item.empty and name not in self.options
        ]
        if needed:
            raise ValueError(f"The mechanism {self.name!r} needs {listing(needed)}.")
        try:
            plain_options = json.loads(json.dumps(dict(self.options)))
        except TypeError as error:
            raise ValueError(
                f"Options of {self.name!r} should be plain numbers, text and lists, got "
                f"{plain(self.options)}."
            ) from error
        object.__setattr__(self, "options", plain_options)

    def apply(self, cohort: Any) -> np.ndarray:
        """What stays: [records modality] bool."""
        return RULES[self.name](cohort, **self.options)

    @property
    def label(self) -> str:
        """A few words for a table: 'mcar 30 %', 'without image', 'by label sepsis: image, flipped'."""
        options = self.options
        if self.name == "natural":
            return "as recorded"
        if self.name == "mcar":
            only = f" of {listing(options['modalities'])}" if options.get("modalities") else ""
            return f"mcar {100 * options['share']:g} %{only}"
        if self.name in ("drop_one", "keep_one"):
            return f"{'without' if self.name == 'drop_one' else 'only'} {options['modality']}"
        if self.name == "mnar_by_label":
            turned = ", flipped" if options.get("flipped") else ""
            strength = "".join(
                f", {100 * options[side]:g} % of {word}"
                for side, word in (("positive", "yes"), ("negative", "no"))
                if side in options
            )
            return f"by label {options['task']}: {options['modality']}{strength}{turned}"
        if self.name == "whole_site":
            return f"without {options['modality']} at {options['column']} {options['site']}"
        if self.name == "sequential":
            share = (
                f", {100 * options['share']:g} % without {options['after']}" if options.get("share") else ""
            )
            return f"{options['modality']} only after {options['after']}{share}"
        way = "mar" if self.name == "mar" else "by value"
        return f"{way} {options['column']}: {options['modality']}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {"name": self.name, "options": dict(self.options)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Mechanism:
        """Read what `to_dict` wrote. Raises ValueError for anything else."""
        if not isinstance(data, Mapping) or set(data) != {"name", "options"}:
            raise ValueError(f"A mechanism should be an object with name and options, got {plain(data)}.")
        if not isinstance(data["options"], Mapping):
            raise ValueError(f"Options of a mechanism should be an object, got {plain(data['options'])}.")
        return cls(data["name"], data["options"])


def standard_mechanisms(
    cohort: Any, seed: int = 0, positive: float | None = None, negative: float | None = None
) -> list[Mechanism]:
    """The rows of the benchmark; with one modality there is nothing to hide.

    As recorded; mcar 10 / 30 / 50 / 70 %; each modality dropped, each kept alone; by value, each table with a
    number, by the first of them; for every binary task each modality by label, in both directions; and at
    random, each other modality by the first column of a table that is never missing. cohort: also a `Schema`,
    which cannot tell what is never missing: then nothing is hidden at random. That column, and the number
    that parts its high from its low values, are taken from the training rows if the cohort holds any.
    positive, negative: see `mnar_by_label` (None: its own).
    """
    schema = getattr(cohort, "schema", cohort)
    modalities = list(schema.modalities)
    if len(modalities) == 1:
        return [Mechanism("natural")]
    binary = [name for name, task in schema.tasks.items() if isinstance(task, Binary)]
    shares = {"positive": positive, "negative": negative}
    shares = {name: share for name, share in shares.items() if share is not None}
    return [
        Mechanism("natural"),
        *(Mechanism("mcar", {"share": share, "seed": seed}) for share in (0.1, 0.3, 0.5, 0.7)),
        *(Mechanism("drop_one", {"modality": name}) for name in modalities),
        *(Mechanism("keep_one", {"modality": name}) for name in modalities),
        *([] if cohort is schema else _at_random(cohort, seed)),
        *_by_value(schema, seed),
        *(
            Mechanism(
                "mnar_by_label",
                {"task": task, "modality": name, "flipped": flipped, "seed": seed, **shares},
            )
            for task in binary
            for name in modalities
            for flipped in (False, True)
        ),
    ]


def _by_value(schema: Any, seed: int) -> list[Mechanism]:
    """Each table that has a number, hidden by the first of them."""
    firsts = {
        name: next((cell.name for cell in modality.cells if isinstance(cell, Number)), None)
        for name, modality in schema.modalities.items()
        if isinstance(modality, Tabular)
    }
    return [
        Mechanism("mnar_by_value", {"modality": name, "column": column, "seed": seed})
        for name, column in firsts.items()
        if column is not None
    ]


def _at_random(cohort: Any, seed: int) -> list[Mechanism]:
    """Each other modality, hidden by the first cell of a table that every record has; none if there is
    none.
    """
    for owner, modality in cohort.schema.modalities.items():
        for cell in getattr(modality, "cells", ()):
            cut = _cut(cohort, owner, cell)
            if cut is not None:
                rule = {"column": cell.name, **MAR, "cut": cut, "seed": seed}
                others = [name for name in cohort.schema.modalities if name != owner]
                return [
                    Mechanism("mar", {"modality": name, **rule})
                    for name in others
                    if cell.name not in cohort.schema.modalities[name].columns
                ]
    return []


def _cut(cohort: Any, owner: str, cell: Any) -> float | str | None:
    """Where a column parts the records: the median of a number, the level nearest to half of them of a
    category. None if it is missing anywhere or parts nothing.
    """
    there = np.asarray(cohort.present)[:, list(cohort.schema.modalities).index(owner)]
    cells = cohort.column(cell.name)
    if not len(cells) or not there.all() or any(is_missing(value) for value in cells):
        return None
    training = np.asarray(cohort.splits) == "train"
    if training.any():
        cells = [value for value, chosen in zip(cells, training, strict=True) if chosen]
    if isinstance(cell, Number):
        values = np.array([float(value) for value in cells])
        cut = float(np.median(values))
        return cut if (values > cut).any() else None
    levels, counts = np.unique([spell(value) for value in cells], return_counts=True)
    return str(levels[np.abs(counts / len(cells) - 0.5).argmin()]) if len(levels) > 1 else None
