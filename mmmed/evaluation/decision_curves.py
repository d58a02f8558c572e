"""Decision curves: does acting on the model do more good than treating everybody, or nobody?

Whoever treats from a probability t on holds one missed patient as bad as (1 - t) / t needless treatments.
The net benefit counts both on that scale: true positives per patient, minus t / (1 - t) times the false ones.
Nobody treated is 0. Source: Vickers and Elkin 2006, doi:10.1177/0272989X06295361.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import check_known, listing, plain
from mmmed.evaluation.bootstrap import Draws
from mmmed.evaluation.evaluate import patterns_of
from mmmed.evaluation.scores import Table, table_of
from mmmed.evaluation.tasks import answers_of, as_probabilities, kind_of, labels_of
from mmmed.evaluation.weighted import answer, share, two_classes, why_undefined

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from mmmed.data.cohort import Cohort

THRESHOLDS = tuple(round(0.05 * k, 2) for k in range(1, 20))  # 5 % to 95 %
ALL_ROWS = "all"


def net_benefit(
    labels: ArrayLike,
    probabilities: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    threshold: float = 0.5,
    prevalence: float | None = None,
) -> Any:
    """True positives per patient minus threshold / (1 - threshold) times the false positives.

    Arguments as in `metrics`: weights [rows] or [draws rows]. prevalence: of the population that the answer
    is for, where the rows hold another share of positives (a case-control sample); NaN then with one class
    only. A patient is treated whose probability reaches the threshold.
    """
    y, p, w, flat = two_classes(labels, probabilities, weights)
    treated, odds = p >= check_threshold(threshold), threshold / (1 - threshold)
    hits, alarms = w @ (y * treated), w @ ((1 - y) * treated)
    if prevalence is None:
        return answer(
            share(hits - odds * alarms, w.sum(axis=1)), flat, why_undefined(y, "net benefit", False, False)
        )
    result = prevalence * share(hits, w @ y) - (1 - prevalence) * odds * share(alarms, w @ (1 - y))
    return answer(result, flat, why_undefined(y, "net benefit at a given prevalence"))


@dataclass(frozen=True)
class DecisionCurve:
    """The net benefit of one yes-or-no question over thresholds.

    table: a row per threshold (and pattern) with `model`, `treat_all` and `gain` as estimates; gain = model
    minus the better of treating all and treating none.
    """

    table: Table
    question: str

    def to_frame(self) -> pandas.DataFrame:
        """The table as a pandas DataFrame, intervals in columns of their own."""
        return self.table.to_frame()

    def plot(self) -> Figure:
        """Net benefit against threshold, a panel for each pattern."""
        from mmmed.evaluation.decision_figure import plot_decision_curve

        return plot_decision_curve(self)

    def useful(self, rows: str = ALL_ROWS) -> tuple[float, ...]:
        """The thresholds at which the whole interval of the gain lies above 0."""
        return tuple(row["threshold"] for row in self.table if row["rows"] == rows and row["gain"].low > 0)

    def __str__(self) -> str:
        return str(self.table)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


def decision_curve(
    model: Any,
    cohort: Cohort,
    task: str,
    thresholds: Sequence[float] = THRESHOLDS,
    level: str | None = None,
    prevalence: float | None = None,
    patterns: bool = False,
    draws: int = 1000,
    seed: int = 0,
) -> DecisionCurve:
    """Net benefit of treating by the model's probability, against treating all and treating none.

    model: of this package, a function of a cohort, or the probabilities themselves ([rows] or [rows outputs],
    in the cohort's order). level: of a multiclass task, or the label of a multilabel one. prevalence: see
    `net_benefit`. patterns: also every pattern of presence by itself. Intervals: 95 %, over the same draws of
    patients for all columns. Raises ValueError for a regression and for thresholds outside (0, 1).
    """
    thresholds = tuple(dict.fromkeys(check_threshold(t) for t in thresholds))
    if prevalence is not None and not 0 < prevalence < 1:
        raise ValueError(f"prevalence should lie between 0 and 1, got {plain(prevalence)}.")
    labels, chances, question = _question(model, cohort, task, level)
    many = Draws(labels, cohort.groups, draws, seed)
    parts: list[tuple[str, np.ndarray | None]] = [(ALL_ROWS, None)]
    if patterns:
        for name, index in patterns_of(cohort.present, tuple(cohort.schema.modalities)).items():
            parts.append((name, np.isin(np.arange(len(labels)), index)))
    lines = []
    for name, rows in parts:
        known = labels[~np.isnan(labels) if rows is None else rows & ~np.isnan(labels)]
        sizes = {"rows": name, "n": len(known), "positive": float(known.mean()) if len(known) else None}
        for t, found in zip(thresholds, _curve(many, chances, thresholds, prevalence, rows), strict=True):
            lines.append({**sizes, "threshold": t, **found})
    return DecisionCurve(table_of(lines, f"Net benefit: {question}", _notes(prevalence)), question)


def check_threshold(threshold: float) -> float:
    """A probability from which on a patient is treated: above 0 and below 1."""
    if not isinstance(threshold, (int, float)) or not 0 < threshold < 1:
        raise ValueError(
            f"A threshold should lie between 0 and 1, both excluded, got {plain(threshold)}: at 0 everybody "
            "is treated and at 1 a needless treatment would cost infinitely much."
        )
    return float(threshold)


def _curve(
    many: Draws,
    chances: np.ndarray,
    thresholds: tuple[float, ...],
    prevalence: float | None,
    rows: np.ndarray | None,
) -> list[dict[str, Any]]:
    """For each threshold the model, treating all, and what the model gains over the better default."""
    metrics = {str(t): partial(net_benefit, threshold=t, prevalence=prevalence) for t in thresholds}
    by_model = many.scores(metrics, chances, rows)
    by_all = many.scores(metrics, np.ones_like(chances), rows)
    found = []
    for name in metrics:
        gain = by_model[name] - np.maximum(by_all[name], 0)
        columns = {"model": by_model[name], "treat_all": by_all[name], "gain": gain}
        found.append({column: many.estimate(values, rows=rows) for column, values in columns.items()})
    return found


def _question(model: Any, cohort: Cohort, task: str, level: str | None) -> tuple[np.ndarray, np.ndarray, str]:
    """Labels [rows] 0, 1 or NaN, the probabilities [rows] of a yes, and what is asked."""
    kind, labels = kind_of(cohort, task), labels_of(cohort, task)
    if kind == "regression":
        raise ValueError(f"Task {task!r} is a number: a decision curve needs a probability of an event.")
    if any(hasattr(model, ask) for ask in ("encode", "asker")) or callable(model):
        chances = answers_of(model, cohort)[task]
    else:
        chances = as_probabilities(task, kind, model[task] if isinstance(model, Mapping) else model)
    if len(chances) != len(labels):
        raise ValueError(f"There are {len(chances)} probabilities for {len(labels)} records of the cohort.")
    if kind == "binary":
        return labels, chances, task
    names = cohort.schema.tasks[task].levels if kind == "multiclass" else cohort.schema.tasks[task].columns
    if level is None:
        raise ValueError(f"Task {task!r} has several answers: choose level= out of {listing(names)}.")
    check_known(level, names, what="level")
    k = list(names).index(level)
    if kind == "multilabel":
        return labels[:, k], chances[:, k], f"{task}: {level}"
    return np.where(np.isnan(labels), np.nan, labels == k), chances[:, k], f"{task}: {level}"


def _notes(prevalence: float | None) -> list[str]:
    notes = [
        "Net benefit: true positives per patient minus threshold / (1 - threshold) times the false ones; "
        "treating nobody is 0. gain: model minus the better of treating all and treating none.",
    ]
    if prevalence is not None:
        notes.append(f"Weighted to a prevalence of {100 * prevalence:.3g} %.")
    return notes
