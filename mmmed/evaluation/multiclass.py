"""Scores of a task with several classes: labels [rows] class numbers or NaN, probabilities [rows classes].

weights and undefined scores: as in `metrics`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.evaluation.metrics import auroc
from mmmed.evaluation.weighted import (
    answer,
    bins_of,
    calibration_error,
    many_classes,
    mean_of_defined,
    none_known,
    one_class,
    share,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def macro_auroc(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Mean over classes of the AUROC of that class against the rest; classes without rows here are left out.

    Source: Provost and Domingos 2000 (one against rest), with equal instead of prevalence weights.
    """
    y, p, w, flat = many_classes(labels, probabilities, weights)
    here = [k for k in range(p.shape[1]) if (y == k).any()]
    if len(here) < 2:
        return answer(np.full(len(w), np.nan), flat, one_class("AUROC", y))
    scores = np.stack([auroc((y == k).astype(float), p[:, k], w) for k in here])
    return answer(mean_of_defined(scores), flat, "")


def macro_f1(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Mean over classes of the F1 score of the most probable class; classes neither true nor predicted are
    left out.
    """
    y, p, w, flat = many_classes(labels, probabilities, weights)
    best = p.argmax(axis=1) if len(p) else np.zeros(0)
    scores = []
    for k in range(p.shape[1]):
        true, said = (y == k).astype(float), (best == k).astype(float)
        scores.append(share(2 * (w @ (true * said)), w @ true + w @ said))
    return answer(mean_of_defined(np.stack(scores)), flat, one_class("macro F1", y) if not len(y) else "")


def macro_recall(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Balanced accuracy of the most probable class: mean over the true classes of the share found."""
    y, p, w, flat = many_classes(labels, probabilities, weights)
    right = (p.argmax(axis=1) == y).astype(float) if len(p) else np.zeros(0)
    scores = np.stack([share(w @ (right * (y == k)), w @ (y == k).astype(float)) for k in range(p.shape[1])])
    return answer(mean_of_defined(scores), flat, one_class("balanced accuracy", y) if not len(y) else "")


def multiclass_brier(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Squared distance of all probabilities to the outcome, summed over classes (0 to 2, Brier's original
    form).
    """
    y, p, w, flat = many_classes(labels, probabilities, weights)
    losses = ((p - (y[:, None] == np.arange(p.shape[1]))) ** 2).sum(axis=1)
    return answer(share(w @ losses, w.sum(axis=1)), flat, none_known("Brier", y))


def multiclass_log_loss(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Mean negative log-probability of the true class, in nats; probabilities are kept above 1e-12."""
    y, p, w, flat = many_classes(labels, probabilities, weights)
    losses = -np.log(np.maximum(p[np.arange(len(y)), y], 1e-12))
    return answer(share(w @ losses, w.sum(axis=1)), flat, none_known("log loss", y))


def top_label_ece(
    labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None, *, bins: int = 10
) -> Any:
    """Expected calibration error of the most probable class (Guo et al. 2017, arXiv:1706.04599, sec. 2)."""
    y, p, w, flat = many_classes(labels, probabilities, weights)
    confidence = p.max(axis=1) if len(p) else np.zeros(0)
    right = p.argmax(axis=1) == y if len(p) else np.zeros(0)
    result = calibration_error(confidence - right, bins_of(confidence, bins, False), w)
    return answer(result, flat, none_known("ECE", y))
