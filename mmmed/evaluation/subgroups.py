"""Scores of subgroups: the same answers and threshold, one line per group, and how far groups lie apart.

AUROC, and sensitivity and specificity at the fixed threshold: disparities sit in the latter two more often
than in the AUROC (the threshold is one for all, the distributions are not).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import check_known, plain
from mmmed.evaluation import metrics, multiclass
from mmmed.evaluation.bootstrap import Draws, Estimate
from mmmed.evaluation.scoring import notes_of
from mmmed.evaluation.tasks import kind_of
from mmmed.types import is_missing, spell

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort

FEW = 4  # a number with so few different values is read as levels
MOST = 12  # levels shown; rarer ones are put together
OTHER, UNKNOWN, GAP = "other levels", "not recorded", "best - worst"
Cuts = Mapping[str, Sequence[float] | None]


def subgroup_rows(
    said: Mapping[str, Mapping[str, np.ndarray]],
    cohort: Cohort,
    subgroups: Sequence[str] | Cuts,
    thresholds: Mapping[str, Mapping[str, float]],
    drawn: Mapping[str, Draws],
) -> list[dict[str, Any]]:
    """A line per task, model, column and group, and after each column the gap between its best and its worst
    group.

    said: model -> task -> probabilities. subgroups: columns of the cohort, or column -> cuts (None: thirds of
    a number, levels of anything else). drawn: task -> draws of patients, the same for all groups.
    The best and the worst group are those of the sample, score by score; the interval of their gap does not
    cover that they were picked for it, so of many groups one gap will look large by luck. Who has no group is
    shown, but is not part of the gap.
    """
    groups = {name: members(cohort, name, cuts) for name, cuts in _cuts_of(subgroups).items()}
    rows = []
    for task, drawing in drawn.items():
        for model, answers in said.items():
            if task not in answers:
                continue
            scores = _metrics(kind_of(cohort, task), thresholds[model][task])
            for column, parts in groups.items():
                head = {"task": task, "model": model, "column": column}
                rows += [
                    {**head, **line}
                    for line in _lines(scores, parts, answers[task], drawing, kind_of(cohort, task))
                ]
    return rows


def members(cohort: Cohort, column: str, cuts: Sequence[float] | None = None) -> dict[str, np.ndarray]:
    """Group -> bool [records]. A number is cut (at thirds if no cuts are given), anything else goes by level.

    Raises ValueError for cuts of a column that is not numeric, and for cuts that do not rise.
    """
    cells = cohort.column(column)
    missing = np.array([is_missing(cell) for cell in cells], dtype=bool)
    numbers = _numbers(cells)
    if cuts is not None and (numbers is None or list(cuts) != sorted(set(cuts)) or not len(cuts)):
        raise ValueError(
            f"Cuts of {column!r} should be rising numbers for a numeric column, got {plain(cuts)}."
        )
    if numbers is not None and (cuts is not None or len(np.unique(numbers[~missing])) > FEW):
        parts = _thirds(numbers, missing) if cuts is None else _cut(numbers, missing, cuts)
    else:
        parts = _levels(cells, missing)
    return {**parts, **({UNKNOWN: missing} if missing.any() else {})}


def _cuts_of(subgroups: Sequence[str] | Cuts) -> dict[str, Sequence[float] | None]:
    if isinstance(subgroups, str):
        return {subgroups: None}
    return dict(subgroups) if isinstance(subgroups, Mapping) else dict.fromkeys(subgroups)


def _numbers(cells: Sequence[Any]) -> np.ndarray | None:
    """Cells as floats with NaN, None if they are no numbers."""
    try:
        return np.array([np.nan if is_missing(cell) else float(cell) for cell in cells], dtype=float)
    except (TypeError, ValueError):
        return None


def _thirds(numbers: np.ndarray, missing: np.ndarray) -> dict[str, np.ndarray]:
    return _cut(numbers, missing, np.unique(np.quantile(numbers[~missing], [1 / 3, 2 / 3])).tolist())


def _cut(numbers: np.ndarray, missing: np.ndarray, cuts: Sequence[float]) -> dict[str, np.ndarray]:
    """'below 50', '50 to below 66', '66 and above'; a group of nobody is left out."""
    place = np.searchsorted(np.asarray(cuts, dtype=float), numbers, side="right")
    words = [f"{cut:.4g}" for cut in cuts]
    names = [f"below {words[0]}", *(f"{a} to below {b}" for a, b in pairwise(words))]
    names.append(f"{words[-1]} and above")
    parts = {name: (place == k) & ~missing for k, name in enumerate(names)}
    return {name: rows for name, rows in parts.items() if rows.any()}


def _levels(cells: Sequence[Any], missing: np.ndarray) -> dict[str, np.ndarray]:
    """Levels by name, the rarest beyond twelve put together."""
    spelled = np.array(
        ["" if gone else spell(cell) for cell, gone in zip(cells, missing, strict=True)], object
    )
    found, counts = np.unique(spelled[~missing].astype(str), return_counts=True)
    common = found[np.sort(np.argsort(-counts, kind="stable")[:MOST])]
    parts = {str(level): (spelled == level) & ~missing for level in common}
    rest = ~missing & ~np.isin(spelled.astype(str), common)
    return {**parts, **({OTHER: rest} if rest.any() else {})}


def _metrics(kind: str, threshold: float) -> dict[str, metrics.Metric]:
    """The scores of a group."""
    two = {
        "auroc": metrics.auroc,
        "sensitivity": partial(metrics.sensitivity, threshold=threshold),
        "specificity": partial(metrics.specificity, threshold=threshold),
    }
    check_known(kind, ("binary", "multilabel", "multiclass", "regression"), what="kind of task")
    if kind == "multilabel":
        return {name: partial(metrics.mean_over_labels, metric=score) for name, score in two.items()}
    if kind == "multiclass":
        return {"auroc": multiclass.macro_auroc, "balanced_accuracy": multiclass.macro_recall}
    return two if kind == "binary" else {"mae": metrics.mae, "rmse": metrics.rmse}


def _lines(
    scores: Mapping[str, metrics.Metric],
    parts: Mapping[str, np.ndarray],
    probabilities: np.ndarray,
    drawn: Draws,
    kind: str,
) -> list[dict[str, Any]]:
    rows, redrawn = [], {}
    for name, inside in parts.items():
        values = drawn.scores(scores, probabilities, inside)
        estimates = {key: drawn.estimate(draws, rows=inside) for key, draws in values.items()}
        some = next(iter(estimates.values()))
        known = drawn.labels[inside[drawn.known]] if kind == "binary" else np.zeros(0)
        sizes = {
            "n": some.n,
            "patients": some.groups,
            "positive": float(known.mean()) if len(known) else None,
        }
        rows.append({"group": name, **sizes, **estimates, "note": notes_of(estimates)})
        if name != UNKNOWN:
            redrawn[name] = values
    gaps, notes = {}, []
    for key in scores:
        gap = _gap({name: values[key] for name, values in redrawn.items()}, drawn, key in ("mae", "rmse"))
        if gap is not None:
            best, worst, gaps[key] = gap
            notes.append(f"{key.replace('_', ' ')}: {best} - {worst}")
    if gaps:
        rows.append(
            {"group": GAP, "n": None, "patients": None, "positive": None, **gaps, "note": "; ".join(notes)}
        )
    return rows


def _gap(
    redrawn: Mapping[str, np.ndarray], drawn: Draws, smaller_is_better: bool
) -> tuple[str, str, Estimate] | None:
    """Best group, worst group and the distance of their scores; None with fewer than two scored groups."""
    scored = {name: values for name, values in redrawn.items() if np.isfinite(values[0])}
    if len(scored) < 2:
        return None
    order = sorted(scored, key=lambda name: scored[name][0], reverse=not smaller_is_better)
    best, worst = order[0], order[-1]
    return best, worst, drawn.estimate(scored[best] - scored[worst])
