"""A cohort in a page of text: sizes, labels, which modalities are there together, what is not used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmmed.checks import listing
from mmmed.data.splitting import SPLITS
from mmmed.types import Binary, Multiclass, Multilabel

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort

PATTERNS = 12  # rows of the pattern table that are shown


def summarise(cohort: Cohort) -> str:
    """Aligned text; every count is counted now."""
    lines = [_sizes(cohort), *_labels(cohort), "", *pattern_table(cohort)]
    unused = [name for name, role in cohort.roles.items() if role == "other"]
    if unused:
        lines += ["", f"columns not used: {listing(unused, 20)}"]
    return "\n".join(lines)


def _sizes(cohort: Cohort) -> str:
    patients = len(np.unique(cohort.group_codes()))
    splits = cohort.splits
    parts = ", ".join(f"{name} {int((splits == name).sum())}" for name in SPLITS)
    rows = f"{len(cohort)} record{'s' * (len(cohort) != 1)}"
    return (
        f"{cohort.name}: {rows} of {patients} patient{'s' * (patients != 1)}; {parts} ({cohort.split_origin})"
    )


def _labels(cohort: Cohort) -> list[str]:
    """One line per task (per label of a multilabel task): how many records have which answer."""
    lines = []
    for name, task in cohort.schema.tasks.items():
        values, known = cohort.targets(name)
        match task:
            case Binary() | Multiclass():
                counts = [int((values[known] == i).sum()) for i in range(len(task.levels))]
                parts = [f"{level} {count}" for level, count in zip(task.levels, counts, strict=True)]
                lines.append(f"{name}: {listing(parts, 12)}{_unknown(known)}")
            case Multilabel():
                for i, label in enumerate(task.labels):
                    yes = int(values[known[:, i], i].sum())
                    lines.append(f"{name}, {label}: {yes} of {int(known[:, i].sum())}{_unknown(known[:, i])}")
            case _:
                unit = f" {task.unit}" if task.unit else ""
                shown = values[known]
                extent = (
                    f"{shown.min():g} to {shown.max():g}{unit}, mean {shown.mean():.4g}"
                    if len(shown)
                    else "none"
                )
                lines.append(f"{name}: {extent}{_unknown(known)}")
    return lines


def _unknown(known: np.ndarray) -> str:
    missing = int((~known).sum())
    return f", unknown {missing}" if missing else ""


def pattern_table(cohort: Cohort) -> list[str]:
    """Which modalities come together, how often, and the share of the positive answer of the first binary
    task."""
    names = list(cohort.schema.modalities)
    binary = next((name for name, task in cohort.schema.tasks.items() if isinstance(task, Binary)), None)
    header = ["pattern", "n", "share"]
    if binary is not None:
        values, known = cohort.targets(binary)
        header.append(f"{binary} = {cohort.schema.tasks[binary].levels[1]}")
    patterns, codes, counts = np.unique(cohort.present, axis=0, return_inverse=True, return_counts=True)
    rows = [header]
    for index in np.argsort(-counts, kind="stable"):
        label = " + ".join(n for n, here in zip(names, patterns[index], strict=True) if here) or "nothing"
        row = [label, str(counts[index]), f"{counts[index] / len(cohort):.0%}"]
        if binary is not None:
            inside = known & (codes.reshape(-1) == index)
            row.append(f"{values[inside].mean():.0%} of {int(inside.sum())}" if inside.any() else "unknown")
        rows.append(row)
    hidden = rows[PATTERNS + 1 :]
    lines = _aligned(rows[: PATTERNS + 1])
    if hidden:
        lines.append(f"... and {len(hidden)} rarer patterns, {sum(int(row[1]) for row in hidden)} records")
    return lines


def _aligned(rows: list[list[str]]) -> list[str]:
    """Columns side by side, the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
