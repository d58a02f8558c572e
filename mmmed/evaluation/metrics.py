"""Scores of predictions: plain functions of labels and probabilities, on numpy arrays.

labels [rows]: 0, 1, or NaN where the label is unknown (such rows are left out, never counted as negatives).
probabilities [rows]: of the positive level. Multiclass: labels [rows] class numbers, probabilities [rows
classes]. Regression: two arrays of numbers in the same unit.

weights: None, [rows], or [draws rows]; with the last, one call scores all bootstrap draws and returns
[draws]. A whole number as weight means exactly what repeating the row would mean. Where a score is undefined
(one class only) the answer is NaN, with an `UndefinedMetric` warning that says why; it is no error, because
small groups of patients are normal.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.evaluation.weighted import (
    UndefinedMetric,
    answer,
    bins_of,
    by_value,
    calibration_error,
    check_weights,
    mean_of_defined,
    none_known,
    share,
    two_classes,
    two_numbers,
    why_undefined,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Metric = Callable[..., Any]


# ------------------------------------------------------------------------------------------------ two classes


def auroc(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Area under the ROC curve: how often a positive ranks above a negative, ties counted one half.

    Source: Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747, here from weighted ranks.
    """
    y, p, w, flat = two_classes(labels, probabilities, weights)
    positive, negative = by_value(y, p, w)
    below = np.cumsum(negative, axis=1) - negative
    area = (positive * (below + negative / 2)).sum(axis=1)
    return answer(share(area, positive.sum(axis=1) * negative.sum(axis=1)), flat, why_undefined(y, "AUROC"))


def auprc(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Average precision: precision summed over the steps of recall, without interpolation.

    Source: Davis and Goadrich 2006, doi:10.1145/1143844.1143874 (why not to interpolate). Its value without
    any skill is the share of positives, so compare it only between equal shares.
    """
    y, p, w, flat = two_classes(labels, probabilities, weights)
    positive, negative = (side[:, ::-1] for side in by_value(y, p, w))  # highest probability first
    hits, misses = np.cumsum(positive, axis=1), np.cumsum(negative, axis=1)
    precision = np.nan_to_num(share(hits, hits + misses))
    result = share((positive * precision).sum(axis=1), positive.sum(axis=1))
    return answer(result, flat, why_undefined(y, "AUPRC", negatives=False))


def sensitivity(
    labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None, *, threshold: float = 0.5
) -> Any:
    """Share of the positives whose probability reaches the threshold."""
    y, p, w, flat = two_classes(labels, probabilities, weights)
    result = share(w @ (y * (p >= threshold)), w @ y)
    return answer(result, flat, why_undefined(y, "sensitivity", negatives=False))


def specificity(
    labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None, *, threshold: float = 0.5
) -> Any:
    """Share of the negatives whose probability stays below the threshold."""
    y, p, w, flat = two_classes(labels, probabilities, weights)
    result = share(w @ ((1 - y) * (p < threshold)), w @ (1 - y))
    return answer(result, flat, why_undefined(y, "specificity", positives=False))


def balanced_accuracy(
    labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None, *, threshold: float = 0.5
) -> Any:
    """Mean of sensitivity and specificity. Take the threshold from validation rows (`threshold_for`)."""
    y, p, w, flat = two_classes(labels, probabilities, weights)
    hits, rejections = w @ (y * (p >= threshold)), w @ ((1 - y) * (p < threshold))
    result = (share(hits, w @ y) + share(rejections, w @ (1 - y))) / 2
    return answer(result, flat, why_undefined(y, "balanced accuracy"))


def brier(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Mean squared distance of probability and outcome; 0 is perfect.

    Source: Brier 1950, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2, in the usual form for two classes
    (0 to 1).
    """
    y, p, w, flat = two_classes(labels, probabilities, weights)
    return answer(share(w @ (p - y) ** 2, w.sum(axis=1)), flat, why_undefined(y, "Brier", False, False))


def log_loss(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Mean negative log-likelihood in nats. Probabilities are kept 1e-12 away from 0 and 1, so it stays
    finite.
    """
    y, p, w, flat = two_classes(labels, probabilities, weights)
    p = np.clip(p, 1e-12, 1 - 1e-12)
    losses = -(y * np.log(p) + (1 - y) * np.log1p(-p))
    return answer(share(w @ losses, w.sum(axis=1)), flat, why_undefined(y, "log loss", False, False))


def ece(
    labels: ArrayLike,
    probabilities: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    bins: int = 10,
    equal_mass: bool = False,
) -> Any:
    """Expected calibration error: distance of mean probability and share of positives, averaged over bins.

    bins: of equal width, or (equal_mass) with about equally many rows. Source: Guo et al. 2017,
    arXiv:1706.04599, sec. 2, for the probability of the positive level. Even a perfect model scores above 0
    on few rows: `ece_by_chance` says how much.
    """
    y, p, w, flat = two_classes(labels, probabilities, weights)
    result = calibration_error(p - y, bins_of(p, bins, equal_mass), w)
    return answer(result, flat, why_undefined(y, "ECE", False, False))


def ece_by_chance(probabilities: ArrayLike, *, bins: int = 10, draws: int = 200, seed: int = 0) -> float:
    """The ECE a perfectly calibrated model with these probabilities would show on average, by luck alone.

    Outcomes are drawn from the probabilities themselves. Source: the idea of a consistency test for
    reliability diagrams, Bröcker and Smith 2007, doi:10.1175/WAF993.1.
    """
    p = np.asarray(probabilities, dtype=float).ravel()
    if not len(p):
        return float("nan")
    outcomes = np.random.default_rng(seed).random((draws, len(p))) < p
    index = bins_of(p, bins, False)
    inside = (index[:, None] == np.arange(index.max() + 1)).astype(float)
    return float((np.abs((p - outcomes) @ inside).sum(axis=1) / len(p)).mean())


def threshold_for(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """The threshold with the best balanced accuracy, for use on other rows than these (validation, then
    test).

    It lies halfway between two neighbouring probabilities; of equally good ones the nearest to 0.5 is taken.
    With one class only it is 0.5, with a warning.
    """
    y, p, _, _ = two_classes(labels, probabilities, None)
    reason = why_undefined(y, "a threshold")
    if reason:
        warnings.warn(f"{reason} 0.5 is used.", UndefinedMetric, stacklevel=2)
        return 0.5
    values = np.unique(p)
    candidates = np.concatenate([[values[0]], (values[1:] + values[:-1]) / 2])
    positives, negatives = np.sort(p[y == 1]), np.sort(p[y == 0])
    hits = 1 - np.searchsorted(positives, candidates) / len(positives)
    rejections = np.searchsorted(negatives, candidates) / len(negatives)
    scores = hits + rejections
    best = candidates[scores > scores.max() - 1e-12]
    return float(best[np.abs(best - 0.5).argmin()])


# --------------------------------------------------------------------------------------------- several labels


def mean_over_labels(
    labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None, *, metric: Metric
) -> Any:
    """A score for two classes, averaged over the labels of a multilabel task for which it is defined.

    labels, probabilities [rows labels]; an unknown label is NaN and leaves its row out for that label only.
    """
    y, p = np.asarray(labels, dtype=float), np.asarray(probabilities, dtype=float)
    if y.ndim != 2 or y.shape != p.shape:
        raise ValueError(
            "labels and probabilities should both have shape [rows labels], "
            f"got {list(y.shape)} and {list(p.shape)}."
        )
    w, flat = check_weights(weights, len(y))
    scores = np.stack([np.atleast_1d(metric(y[:, k], p[:, k], w)) for k in range(y.shape[1])])
    nowhere = "" if np.isfinite(scores).any() else "No label of these rows has what the score needs."
    return answer(mean_of_defined(scores), flat, nowhere)


# ---------------------------------------------------------------------------------------------------- numbers


def mae(labels: ArrayLike, predictions: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Mean absolute error, in the unit of the labels."""
    y, p, w, flat = two_numbers(labels, predictions, weights)
    return answer(share(w @ np.abs(p - y), w.sum(axis=1)), flat, none_known("MAE", y))


def rmse(labels: ArrayLike, predictions: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Root of the mean squared error, in the unit of the labels."""
    y, p, w, flat = two_numbers(labels, predictions, weights)
    return answer(np.sqrt(share(w @ (p - y) ** 2, w.sum(axis=1))), flat, none_known("RMSE", y))


def r2(labels: ArrayLike, predictions: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Share of the variance explained, 1 - residual / total; undefined where all labels are equal."""
    y, p, w, flat = two_numbers(labels, predictions, weights)
    centre = (
        y.mean() if len(y) else 0.0
    )  # moved to zero first: the variance below is a difference of large sums
    y, p = y - centre, p - centre
    total = w @ y**2 - share((w @ y) ** 2, w.sum(axis=1))
    total = np.where(total > 1e-12 * (w @ y**2), total, 0)  # a draw of equal labels: rounding leaves crumbs
    constant = "R2 is undefined: all known labels are equal." if len(np.unique(y)) < 2 else ""
    return answer(1 - share(w @ (p - y) ** 2, total), flat, constant)
