"""What all scores share: checks at the border, ranks and bins with row weights, and the reason for a NaN."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import check_count

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class UndefinedMetric(UserWarning):
    """A score that these rows cannot have; the message says why."""


def check_weights(weights: ArrayLike | None, rows: int) -> tuple[np.ndarray, bool]:
    """-> weights [draws rows] and whether the caller wants a single number."""
    if weights is None:
        return np.ones((1, rows)), True
    w = np.asarray(weights, dtype=float)
    if w.shape[-1:] != (rows,) or w.ndim not in (1, 2):
        raise ValueError(
            f"weights should have shape [rows={rows}] or [draws rows={rows}], got {list(w.shape)}."
        )
    return (w[None], True) if w.ndim == 1 else (w, False)


def two_numbers(labels: Any, values: Any, weights: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    y, p = np.asarray(labels, dtype=float), np.asarray(values, dtype=float)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if p.ndim == 2 and p.shape[1] == 1:
        p = p[:, 0]
    if y.ndim != 1 or y.shape != p.shape:
        raise ValueError(
            f"labels and predictions should both have shape [rows], got {list(y.shape)} and {list(p.shape)}."
        )
    w, flat = check_weights(weights, len(y))
    known = ~np.isnan(y)
    if not np.isfinite(p[known]).all():
        row = int(np.flatnonzero(known & ~np.isfinite(p))[0])
        raise ValueError(
            f"The prediction in row {row} is not a finite number, got {p[row]}. Predict for every row."
        )
    return y[known], p[known], w if known.all() else w[:, known], flat


def two_classes(
    labels: Any, probabilities: Any, weights: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    y, p, w, flat = two_numbers(labels, probabilities, weights)
    if not np.isin(y, (0, 1)).all():
        strange = y[~np.isin(y, (0, 1))][0]
        raise ValueError(
            f"labels should be 0, 1 or NaN (unknown), got {strange:g}. Turn levels into numbers first."
        )
    if len(p) and (p.min() < 0 or p.max() > 1):
        raise ValueError(
            f"probabilities should lie between 0 and 1, got {p.min():g} to {p.max():g}. "
            "Apply the sigmoid to logits first."
        )
    return y, p, w, flat


def many_classes(
    labels: Any, probabilities: Any, weights: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    y, p = np.asarray(labels, dtype=float), np.asarray(probabilities, dtype=float)
    if y.ndim != 1 or p.ndim != 2 or len(y) != len(p):
        raise ValueError(
            "labels should have shape [rows] and probabilities [rows classes], "
            f"got {list(y.shape)} and {list(p.shape)}."
        )
    w, flat = check_weights(weights, len(y))
    known = ~np.isnan(y)
    y, p = y[known], p[known]
    if len(y) and (y.min() < 0 or y.max() >= p.shape[1] or (y % 1).any()):
        raise ValueError(
            f"labels should be class numbers 0 to {p.shape[1] - 1} or NaN (unknown), got {y.max():g}."
        )
    if len(p) and not (np.isfinite(p).all() and p.min() >= 0 and p.max() <= 1):
        raise ValueError(
            "probabilities should be finite and lie between 0 and 1. Apply the softmax to logits first."
        )
    return y.astype(int), p, w if known.all() else w[:, known], flat


def by_value(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight of positives and of negatives at each distinct probability, ascending: two arrays [draws
    values].
    """
    if not len(p):
        return np.zeros((len(w), 0)), np.zeros((len(w), 0))
    order = np.argsort(p, kind="stable")
    ranked = p[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    w, y = w[:, order], y[order]
    positive = w * y
    if len(starts) == len(p):
        return positive, w - positive
    positive, every = np.add.reduceat(positive, starts, axis=1), np.add.reduceat(w, starts, axis=1)
    return positive, every - positive


def bins_of(p: np.ndarray, bins: int, equal_mass: bool) -> np.ndarray:
    """The bin of each probability, [rows] int; equal probabilities share a bin."""
    check_count(bins, name="bins")
    if not len(p):
        return np.zeros(0, dtype=int)
    if equal_mass:
        return np.searchsorted(np.quantile(p, np.arange(1, bins) / bins), p, side="right")
    return np.minimum((p * bins).astype(int), bins - 1)


def calibration_error(gap: np.ndarray, index: np.ndarray, w: np.ndarray) -> np.ndarray:
    inside = (index[:, None] == np.arange(index.max(initial=0) + 1)).astype(float)  # [rows bins]
    return share(np.abs(w @ (gap[:, None] * inside)).sum(axis=1), w.sum(axis=1))


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where there is no whole."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole == 0, np.nan, part / whole)


def mean_of_defined(scores: np.ndarray) -> np.ndarray:
    """Mean over the first axis, of what is not NaN; NaN where nothing is."""
    return share(np.nansum(scores, axis=0), np.isfinite(scores).sum(axis=0))


def answer(result: np.ndarray, flat: bool, reason: str) -> Any:
    if not flat:
        return result
    value = float(np.ravel(result)[0])
    if np.isnan(value) and reason:
        warnings.warn(reason, UndefinedMetric, stacklevel=3)
    return value


def why_undefined(y: np.ndarray, name: str, positives: bool = True, negatives: bool = True) -> str:
    ones, zeros = int(y.sum()), int(len(y) - y.sum())
    if not len(y):
        return none_known(name, y)
    if (positives and not ones) or (negatives and not zeros):
        return f"{name} is undefined: the rows hold {ones} positives and {zeros} negatives."
    return ""


def none_known(name: str, y: np.ndarray) -> str:
    return "" if len(y) else f"{name} is undefined: no row has a known label."


def one_class(name: str, y: np.ndarray) -> str:
    return none_known(name, y) or f"{name} is undefined: all rows are of one class."
