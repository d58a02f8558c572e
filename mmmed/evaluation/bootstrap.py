"""Intervals by patient: whole patients are drawn with replacement, so rows of one patient never count as
independent.

Source: the cluster bootstrap, Field and Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x; percentile
intervals, Efron and Tibshirani 1993, ch. 13. Drawing a patient twice is giving the rows weight two, so all
draws are scored at once.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmmed.checks import check_count, check_share
from mmmed.evaluation import metrics as scores
from mmmed.evaluation.multiclass import top_label_ece

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

CELLS = 4_000_000  # weights held at a time: 32 MB


@dataclass(frozen=True)
class Estimate:
    """A score with its interval, and what it rests on: n rows of `groups` patients.

    value is NaN where the score is undefined; `note` then says why.
    """

    value: float
    low: float
    high: float
    n: int
    groups: int
    note: str = ""

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "-"
        if math.isnan(self.low):
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(
    metric: scores.Metric,
    labels: ArrayLike,
    probabilities: ArrayLike,
    groups: ArrayLike | None = None,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """A score with a percentile interval over draws of patients.

    metric(labels, probabilities, weights) as in `metrics`; a function without `weights` works too, one draw
    at a time. groups [rows]: the patient of each row; None = every row is a patient of its own. Rows with an
    unknown label are left out. Draws without a score (one class only) are left out too and counted in the
    note. The calibration error is biased upwards by redrawing, so its draws are moved to have their mean at
    the value. A score at its best possible value (AUROC 1) gets an interval of no width: read it with n.
    """
    return estimates({"score": metric}, labels, probabilities, groups, draws, seed, level)["score"]


def estimates(
    metrics: Mapping[str, scores.Metric],
    labels: ArrayLike,
    probabilities: ArrayLike,
    groups: ArrayLike | None = None,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Estimate]:
    """Several scores over the same draws of patients: name -> Estimate. See `bootstrap`."""
    many = Draws(labels, groups, draws, seed)
    scores = many.scores(metrics, probabilities)
    return {name: many.estimate(scores[name], level, is_biased(metrics[name])) for name in metrics}


def difference(
    metric: scores.Metric,
    labels: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    groups: ArrayLike | None = None,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Score of `first` minus score of `second` on the same rows, with an interval over the same draws of
    patients.

    Both are scored on every draw (paired), so what is hard for both does not widen the interval.
    """
    many = Draws(labels, groups, draws, seed)
    one, other = (many.scores({"score": metric}, answers)["score"] for answers in (first, second))
    return many.estimate(one - other, level)


class Draws:
    """The same draws of patients for many answers about the same rows, so that what is made of their scores
    (differences, shares) gets its interval without drawing again.

    labels [rows] or [rows labels], NaN where unknown; groups [rows]: the patient of each row. Rows without a
    known label are left out of everything. `scores` gives [1 + draws]: the sample as it is, then each draw.
    """

    def __init__(self, labels: ArrayLike, groups: ArrayLike | None = None, draws: int = 1000, seed: int = 0):
        check_count(draws, name="draws")
        labels = np.asarray(labels, dtype=float)
        names = np.arange(len(labels)) if groups is None else np.asarray(groups)
        _check_rows("groups", names, len(labels))
        self.known = ~np.isnan(labels) if labels.ndim == 1 else ~np.isnan(labels).all(axis=1)
        self.labels = labels[self.known]
        self.patients = np.unique(names[self.known], return_inverse=True)[1].reshape(-1)
        self.draws, self.seed = draws, seed
        self._weights: list[np.ndarray] | None = None

    def scores(
        self,
        metrics: Mapping[str, scores.Metric],
        probabilities: ArrayLike,
        rows: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Name -> score of the sample and of every draw, [1 + draws]; NaN where a draw has no score.

        rows: bool [rows]; only these are scored, in draws of all patients.
        """
        p = np.asarray(probabilities, dtype=float)
        _check_rows("probabilities", p, len(self.known))
        y, p = self.labels, p[self.known]
        inside = None if rows is None else np.asarray(rows, dtype=bool)[self.known]
        if inside is not None:
            y, p = y[inside], p[inside]
        redrawn: dict[str, list[np.ndarray]] = {name: [] for name in metrics}
        for weights in self._blocks():
            weights = weights if inside is None else weights[:, inside]
            for name, metric in metrics.items():
                redrawn[name].append(_scored(metric, y, p, weights))
        return {name: np.concatenate(parts) for name, parts in redrawn.items()}

    def estimate(
        self,
        values: np.ndarray,
        level: float = 0.95,
        centred: bool = False,
        rows: np.ndarray | None = None,
    ) -> Estimate:
        """A percentile interval of what `scores` gave, or of anything computed from it, draw by draw.

        centred: move the draws so that their mean is the value. rows: as in `scores`, for n and patients.
        """
        first, *rest = values
        patients = self.patients
        if rows is not None:
            patients = np.unique(patients[np.asarray(rows, bool)[self.known]], return_inverse=True)[1]
        return _interval(first, np.array(rest), patients.reshape(-1), level, centred)

    def _blocks(self) -> Iterable[np.ndarray]:
        """Weights in blocks, kept if all of them are few enough."""
        if self._weights is not None:
            return self._weights
        blocks = _weights(self.patients, self.draws, self.seed)
        if self.draws * len(self.patients) > CELLS:
            return blocks
        self._weights = list(blocks)
        return self._weights


def _check_rows(name: str, values: np.ndarray, rows: int) -> None:
    if len(values) != rows:
        raise ValueError(f"{name} should have {rows} rows like labels, got {len(values)}.")


def _weights(patients: np.ndarray, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Row weights [draws rows] in blocks; the very first row is all ones: the sample as it is."""
    count = int(patients.max(initial=-1)) + 1
    generator = np.random.default_rng(seed)
    yield np.ones((1, len(patients)))
    block = max(1, CELLS // max(len(patients), count, 1))
    for start in range(0, draws if count else 0, block):
        size = min(block, draws - start)
        chosen = generator.integers(0, count, size=(size, count)) + count * np.arange(size)[:, None]
        times = np.bincount(chosen.ravel(), minlength=size * count).reshape(size, count)  # [draws patients]
        yield times[:, patients].astype(float)


def _scored(metric: scores.Metric, y: np.ndarray, p: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """One score per draw."""
    if "weights" in inspect.signature(metric).parameters:
        return np.asarray(metric(y, p, weights), dtype=float)
    rows = (np.repeat(np.arange(len(y)), row.astype(int)) for row in weights)
    return np.array([float(metric(y[index], p[index])) for index in rows])


def _interval(
    value: float, redrawn: np.ndarray, patients: np.ndarray, level: float, centred: bool = False
) -> Estimate:
    check_share(level, name="level")
    n, count = len(patients), int(patients.max(initial=-1)) + 1
    if not np.isfinite(value):
        return Estimate(float("nan"), float("nan"), float("nan"), n, count, _why(n))
    usable = redrawn[np.isfinite(redrawn)]
    lost = len(redrawn) - len(usable)
    note = f"{lost} of {len(redrawn)} draws could not be scored (one class only)" if lost else ""
    if count < 2 or not len(usable):
        return Estimate(float(value), float("nan"), float("nan"), n, count, "one patient: no interval")
    if centred:
        usable = np.maximum(usable + value - usable.mean(), 0)
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(value), float(low), float(high), n, count, note)


def _why(n: int) -> str:
    return "these rows are of one class, or all equal" if n else "no row has a known label"


def is_biased(metric: scores.Metric) -> bool:
    """Is it a calibration error, also inside a partial or averaged over labels?"""
    inner = getattr(metric, "keywords", {}).get("metric", metric)
    return getattr(inner, "func", inner) in (scores.ece, top_label_ece)
