"""Intervals by patient: whole patients are drawn with replacement, so rows of one patient never count as
independent.

Source: the cluster bootstrap, Field and Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x; percentile
intervals, Efron and Tibshirani 1993, ch. 13. Drawing a patient twice is giving the rows weight two, so all
draws are scored at once.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
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
    y, (p,), patients = _known_rows(labels, (probabilities,), groups)
    redrawn = {name: [] for name in metrics}
    for weights in _weights(patients, draws, seed):
        for name, metric in metrics.items():
            redrawn[name].append(_scored(metric, y, p, weights))
    result = {}
    for name, metric in metrics.items():
        first, *rest = np.concatenate(redrawn[name])
        result[name] = _interval(first, np.array(rest), patients, level, centred=_is_biased(metric))
    return result


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
    y, (p, q), patients = _known_rows(labels, (first, second), groups)
    gaps = [
        _scored(metric, y, p, weights) - _scored(metric, y, q, weights)
        for weights in _weights(patients, draws, seed)
    ]
    value, *rest = np.concatenate(gaps)
    return _interval(value, np.array(rest), patients, level)


def _known_rows(labels: ArrayLike, predictions: tuple, groups: ArrayLike | None) -> tuple:
    """Labels, predictions and patient numbers 0..G-1 of the rows that have a known label."""
    y = np.asarray(labels, dtype=float)
    arrays = [np.asarray(values, dtype=float) for values in predictions]
    names = np.arange(len(y)) if groups is None else np.asarray(groups)
    for name, array in [("groups", names), *(("probabilities", array) for array in arrays)]:
        if len(array) != len(y):
            raise ValueError(f"{name} should have {len(y)} rows like labels, got {len(array)}.")
    known = ~np.isnan(y) if y.ndim == 1 else ~np.isnan(y).all(axis=1)
    _, patients = np.unique(names[known], return_inverse=True)
    return y[known], [array[known] for array in arrays], patients


def _weights(patients: np.ndarray, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Row weights [draws rows] in blocks; the very first row is all ones: the sample as it is."""
    check_count(draws, name="draws")
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


def _is_biased(metric: scores.Metric) -> bool:
    """Is it a calibration error, also inside a partial or averaged over labels?"""
    inner = getattr(metric, "keywords", {}).get("metric", metric)
    return getattr(inner, "func", inner) in (scores.ece, top_label_ece)
