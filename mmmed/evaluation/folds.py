"""Out-of-fold predictions by patient: each row is judged by a fit that never saw its patient."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.evaluation.bootstrap import Estimate, bootstrap
from mmmed.evaluation.weighted import answer, by_value, share, two_classes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

FOLDS = 5
Fit = Callable[[np.ndarray, np.ndarray], np.ndarray]


def patient_folds(labels: np.ndarray, groups: np.ndarray, folds: int = FOLDS, seed: int = 0) -> np.ndarray:
    """The fold of each row, [rows] int. A patient stays whole; folds get equal shares of each label.

    labels [rows]: 0, 1 or NaN. Patients are sorted by their mean label, shuffled where it is equal, and dealt
    out.
    """
    _, patient = np.unique(groups, return_inverse=True)
    count = int(patient.max(initial=-1)) + 1
    known = ~np.isnan(labels)
    total = np.bincount(patient[known], weights=labels[known], minlength=count)
    rows = np.bincount(patient[known], minlength=count)
    mean = np.where(rows > 0, total / np.maximum(rows, 1), -1)
    order = np.lexsort((np.random.default_rng(seed).random(count), mean))
    fold = np.empty(count, dtype=int)
    fold[order] = np.arange(count) % folds
    return fold[patient]


def out_of_fold(
    fit_predict: Fit, labels: np.ndarray, groups: np.ndarray, folds: int = FOLDS, seed: int = 0
) -> tuple[np.ndarray, np.ndarray] | None:
    """Predictions [rows], NaN where the label is unknown, and the fold of each row; None if a class has fewer
    than two patients.

    fit_predict(train, test): positions of rows -> predictions for `test`. Fewer folds are used if a class has
    fewer patients than folds.
    """
    known = np.flatnonzero(~np.isnan(labels))
    patients = [len(np.unique(groups[known][labels[known] == level])) for level in (0, 1)]
    folds = min(folds, *patients)
    if folds < 2:
        return None
    result, fold = np.full(len(labels), np.nan), np.full(len(labels), -1)
    fold[known] = patient_folds(labels[known], groups[known], folds, seed)
    for k in range(folds):
        train, test = np.flatnonzero((fold != k) & (fold >= 0)), np.flatnonzero(fold == k)
        if len(np.unique(labels[train])) == 2 and len(test):
            result[test] = fit_predict(train, test)
    return result, fold


def auroc_within_folds(
    labels: ArrayLike, predictions: ArrayLike, weights: ArrayLike | None = None, *, fold: np.ndarray
) -> Any:
    """AUROC over all pairs of a positive and a negative of the same fold, the pairs of all folds counted
    together.

    Predictions of different fits are not on one scale. Ranked together they score too low: a fold with more
    positives leaves fewer of them to its own fit (Parker et al. 2007, doi:10.1186/1471-2105-8-326; Airola et
    al. 2011, doi:10.1016/j.csda.2010.11.018). For one 0/1 flag with AUROC .675 and 600 patients the joint
    ranking gives .65, this gives .67.
    """
    y, p, w, flat = two_classes(labels, predictions, weights)
    area, pairs = np.zeros(len(w)), np.zeros(len(w))
    for k in np.unique(fold):
        here = fold == k
        positive, negative = by_value(y[here], p[here], w[:, here])
        below = np.cumsum(negative, axis=1) - negative
        area += (positive * (below + negative / 2)).sum(axis=1)
        pairs += positive.sum(axis=1) * negative.sum(axis=1)
    return answer(share(area, pairs), flat, "")


def out_of_fold_auroc(
    fit_predict: Fit, labels: np.ndarray, groups: np.ndarray, draws: int = 1000, seed: int = 0
) -> Estimate | None:
    """AUROC of out-of-fold predictions with a 95 % interval by patient; None where it cannot be had.

    The direction is learned in the training folds, so a value below 0.5 is no signal with luck against it,
    not a signal the other way round.
    """
    made = out_of_fold(fit_predict, labels, groups, seed=seed)
    if made is None:
        return None
    predicted, fold = made
    scored = ~np.isnan(predicted)
    metric = partial(auroc_within_folds, fold=fold[scored])
    return bootstrap(metric, labels[scored], predicted[scored], groups[scored], draws, seed)
