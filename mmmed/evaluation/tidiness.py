"""Audit, part two: sizes, gaps and columns. Counts only; nothing is fitted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import listing
from mmmed.data.features import presence
from mmmed.evaluation.evaluate import patterns_of
from mmmed.evaluation.findings import Finding
from mmmed.evaluation.scores import Table
from mmmed.evaluation.shortcuts import input_cells
from mmmed.evaluation.tasks import Question
from mmmed.types import Category, Tabular, spell

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort

SPLITS = ("train", "val", "test")
FEW = 10  # rows of a class, or of a pattern, below which a score says little
SHOWN = 4  # questions that get a column of their own in the tables


def check_sizes(cohort: Cohort, asked: Sequence[Question]) -> tuple[list[Finding], Table]:
    """Rows, patients and positives of each part; parts with one class or few of one."""
    rows, found = [], []
    splits, groups = np.asarray(cohort.splits), np.asarray(cohort.groups)
    for split in [name for name in SPLITS if (splits == name).any()]:
        here = splits == split
        row: dict[str, Any] = {
            "part": split,
            "rows": int(here.sum()),
            "patients": len(np.unique(groups[here])),
        }
        for question in asked:
            labels = question.labels[here]
            known = labels[~np.isnan(labels)]
            ones, zeros = int(known.sum()), int(len(known) - known.sum())
            if question in asked[:SHOWN]:
                row[f"{question.name} yes / no / unknown"] = f"{ones} / {zeros} / {len(labels) - len(known)}"
            if min(ones, zeros) < FEW:
                severity = "warning" if min(ones, zeros) == 0 else "note"
                text = f"{split} holds {ones} positives and {zeros} negatives of {question.name}."
                advice = (
                    " Scores on it are undefined." if severity == "warning" else " Intervals will be wide."
                )
                found.append(Finding(severity, "sizes", text + advice))
        rows.append(row)
    if cohort.schema.group is None:
        text = "no column names the patient, so every row counts as one. Set the group if patients repeat."
        found.append(Finding("note", "patients", text))
    return found, Table(tuple(rows), "Sizes")


def check_patterns(cohort: Cohort, asked: Sequence[Question]) -> tuple[list[Finding], Table]:
    """Which modalities come together, how often, and how often the answer is yes then."""
    rows, found = [], []
    modalities, few = tuple(cohort.schema.modalities), []
    for name, index in patterns_of(np.asarray(cohort.present), modalities).items():
        row: dict[str, Any] = {"recorded": name, "rows": len(index), "share": len(index) / len(cohort)}
        for question in asked[:SHOWN]:
            labels = question.labels[index]
            known = labels[~np.isnan(labels)]
            row[f"{question.name} positive"] = float(known.mean()) if len(known) else None
        rows.append(row)
        if len(index) < FEW:
            few.append(name)
        if name == "nothing":
            text = f"{len(index)} rows have no modality at all. A model can only answer with the prevalence."
            found.append(Finding("note", "patterns", text))
    if few:
        text = (
            f"fewer than {FEW} rows have the pattern {listing(few, 5)}: scores per pattern say little there."
        )
        found.append(Finding("note", "patterns", text))
    return found, Table(tuple(rows), "Patterns of presence")


def check_gaps(cohort: Cohort, asked: Sequence[Question]) -> tuple[list[Finding], Table]:
    """Missing share of every column, per part and per answer to the first question."""
    flags, names = presence(cohort, "columns")
    splits = np.asarray(cohort.splits)
    rows, found = [], []
    for name, flag in zip(names, flags.T, strict=True):
        row: dict[str, Any] = {"column": name, "missing": float(1 - flag.mean())}
        shares = {
            split: float(1 - flag[splits == split].mean()) for split in SPLITS if (splits == split).any()
        }
        row |= shares
        for question in asked[:1]:
            for value, word in ((0, "no"), (1, "yes")):
                there = flag[question.labels == value]
                row[f"if {question.name} {word}"] = float(1 - there.mean()) if len(there) else None
        rows.append(row)
        if row["missing"] == 1:
            found.append(Finding("warning", "gaps", f"{name} was never recorded. Take it out of the inputs."))
        elif shares and max(shares.values()) - min(shares.values()) > 0.2:
            spoken = ", ".join(f"{share:.0%} in {split}" for split, share in shares.items())
            found.append(Finding("note", "gaps", f"{name} is missing unevenly: {spoken}."))
    return found, Table(tuple(rows), "Gaps")


def check_cells(cohort: Cohort) -> list[Finding]:
    """Columns that say (nearly) the same for everybody, look like identifiers, or have levels of very few
    rows.
    """
    found = []
    categories = {
        cell.name
        for modality in cohort.schema.modalities.values()
        if isinstance(modality, Tabular)
        for cell in modality.cells
        if isinstance(cell, Category)
    }
    for name, cells in input_cells(cohort).items():
        values = Counter(spell(cell) for cell in cells if cell is not None)
        total = sum(values.values())
        if not total:
            continue
        top, count = values.most_common(1)[0]
        if len(values) == 1:
            found.append(Finding("note", "columns", f"{name} is constant ({top}): it carries nothing."))
        elif count >= 0.98 * total:
            found.append(
                Finding("note", "columns", f"{name} is nearly constant: {count} of {total} are {top}.")
            )
        elif name in categories and total >= 20 and len(values) >= 0.5 * total:
            text = (
                f"{name} is a category with {len(values)} levels on {total} rows: an identifier or free text?"
            )
            found.append(Finding("warning", "columns", text))
        elif name not in categories and _looks_like_id(values, total):
            text = f"{name} is a different whole number on every row: an identifier?"
            found.append(Finding("warning", "columns", text))
        elif name in categories and min(values.values()) < 5:
            rare = [f"{level} ({n})" for level, n in sorted(values.items()) if n < 5]
            found.append(
                Finding("note", "columns", f"{name} has levels of fewer than 5 rows: {listing(rare, 6)}.")
            )
    return found


def _looks_like_id(values: Counter, total: int) -> bool:
    """At least 20 whole numbers, all different, that are dense (a counter) or have six digits and more."""
    if total < 20 or len(values) < total:
        return False
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        return False
    whole = bool((numbers % 1 == 0).all())
    return whole and (np.ptp(numbers) < 3 * total or float(np.abs(numbers).min()) >= 1e5)
