"""From a task to what is scored: its labels with NaN for unknown, its kind, and the scores of that kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import check_known
from mmmed.evaluation import metrics, multiclass

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort

KINDS = ("binary", "multiclass", "multilabel", "regression")
NAMES = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "brier": "Brier",
    "ece": "ECE",
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R2",
}


def metrics_for(kind: str, threshold: float = 0.5) -> dict[str, metrics.Metric]:
    """Name -> function(labels, probabilities, weights) of every score that is reported for a kind of task.

    A multilabel task gets the scores of two classes, averaged over its labels.
    """
    check_known(kind, KINDS, what="kind of task")
    if kind == "regression":
        return {"mae": metrics.mae, "rmse": metrics.rmse, "r2": metrics.r2}
    if kind == "multiclass":
        return {
            "auroc": multiclass.macro_auroc,
            "macro_f1": multiclass.macro_f1,
            "balanced_accuracy": multiclass.macro_recall,
            "brier": multiclass.multiclass_brier,
            "ece": multiclass.top_label_ece,
        }
    scores: dict[str, metrics.Metric] = {
        "auroc": metrics.auroc,
        "auprc": metrics.auprc,
        "balanced_accuracy": partial(metrics.balanced_accuracy, threshold=threshold),
        "brier": metrics.brier,
        "ece": metrics.ece,
    }
    if kind == "binary":
        return scores
    return {name: partial(metrics.mean_over_labels, metric=score) for name, score in scores.items()}


def kind_of(cohort: Cohort, task: str) -> str:
    """binary, multiclass, multilabel or regression. Raises ValueError for a task that the schema does not
    have.
    """
    check_known(task, cohort.schema.tasks, what="task")
    return type(cohort.schema.tasks[task]).__name__.lower()


def labels_of(cohort: Cohort, task: str) -> np.ndarray:
    """The labels of a task as floats, NaN where unknown: [rows], or [rows labels] for a multilabel task."""
    values, known = cohort.targets(task)
    return np.where(np.asarray(known), np.asarray(values, dtype=float), np.nan)


@dataclass(frozen=True, eq=False)
class Question:
    """One yes-or-no view of a task: labels [rows] 0, 1 or NaN. `name` says which level, label or cut it asks
    for.
    """

    name: str
    task: str
    labels: np.ndarray


def questions(cohort: Cohort, limit: int = 12) -> list[Question]:
    """Every task as yes-or-no questions, so that one audit serves all kinds.

    A binary task is its own question; a multiclass task asks for each level against the rest, a multilabel
    task for each label, a regression whether the value lies above the median. At most `limit` for one task.
    """
    return [question for task in cohort.schema.tasks for question in _split(cohort, task)[:limit]]


def _split(cohort: Cohort, task: str) -> list[Question]:
    kind, labels = kind_of(cohort, task), labels_of(cohort, task)
    if kind == "binary":
        return [Question(task, task, labels)]
    known = ~np.isnan(labels)
    if kind == "regression":
        cut = np.median(labels[known]) if known.any() else 0.0
        above = np.where(known, labels > cut, np.nan)
        return [Question(f"{task} above {cut:.4g}", task, above)]
    if kind == "multiclass":
        levels = cohort.schema.tasks[task].levels
        if len(levels) == 2:
            return [Question(f"{task}: {levels[1]}", task, labels)]
        return [
            Question(f"{task}: {level}", task, np.where(known, labels == k, np.nan))
            for k, level in enumerate(levels)
        ]
    columns = cohort.schema.tasks[task].columns
    return [Question(f"{task}: {column}", task, labels[:, k]) for k, column in enumerate(columns)]


def as_probabilities(task: str, kind: str, values: Any) -> np.ndarray:
    """Probabilities as `predict_proba` gives them, [rows outputs], in the shape the scores take."""
    values = np.asarray(values, dtype=float)
    if kind in ("binary", "regression") and values.ndim == 2:
        if values.shape[1] != 1:
            raise ValueError(
                f"Task {task!r} is {kind}: one column was expected, got {list(values.shape)}. "
                "Give the probability of the positive level only."
            )
        return values[:, 0]
    return values


def answers_of(model: Any, cohort: Cohort) -> dict[str, np.ndarray]:
    """Probabilities of every task, from a model of this package, anything with `asker(cohort)`, or any
    function of a cohort.

    A function may return {task: array [rows] or [rows outputs]}, or the array alone if there is one task.
    """
    if hasattr(model, "asker"):
        answers = model.asker(cohort)(np.asarray(cohort.present))
    elif hasattr(model, "encode"):
        from mmmed.models.inference import predict_proba

        answers = predict_proba(model, cohort)
    else:
        answers = model(cohort)
    tasks = tuple(cohort.schema.tasks)
    if not isinstance(answers, Mapping):
        if len(tasks) != 1:
            raise ValueError(
                f"The model gave one array for {len(tasks)} tasks. Return {{task: array}} instead."
            )
        answers = {tasks[0]: answers}
    result = {}
    for task, values in answers.items():
        result[task] = as_probabilities(task, kind_of(cohort, task), values)
        if len(result[task]) != len(cohort):
            raise ValueError(
                f"The model gave {len(result[task])} rows for task {task!r}, the cohort has {len(cohort)}. "
                "Predict every row, in the cohort's order."
            )
    return result
