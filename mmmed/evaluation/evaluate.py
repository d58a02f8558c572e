"""Scores of a model, or of anybody's predictions, with intervals by patient, over all rows and per pattern of
presence.

The threshold of the balanced accuracy is never chosen on the rows that are scored: it comes from the model
(fixed on validation rows) or from the caller.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import check_known, listing, plain
from mmmed.data.phrases import phrases_of
from mmmed.evaluation.bootstrap import estimates
from mmmed.evaluation.masks import evaluate_masks
from mmmed.evaluation.metrics import ece_by_chance
from mmmed.evaluation.reports import evaluate_reports
from mmmed.evaluation.scores import Table, table_of
from mmmed.evaluation.tasks import KINDS, NAMES, answers_of, kind_of, labels_of, metrics_for
from mmmed.models.referring_segmenter import ReferringSegmenter
from mmmed.models.report_generator import ReportGenerator

if TYPE_CHECKING:
    import pandas
    from numpy.typing import ArrayLike

    from mmmed.data.cohort import Cohort

ALL = "all"
HEADS = {**NAMES, "positive": "positive share", "ece_by_chance": "ECE by chance", "rows": "rows with"}
INTERVALS = "In brackets: 95 % intervals, patients drawn with replacement."
CHANCE = "ECE by chance: what a perfectly calibrated model would show on as many rows."


def evaluate(
    model: Any,
    cohort: Cohort,
    threshold: float | Mapping[str, float] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> Table:
    """Every task: all rows first, then each pattern of presence, then each label of a multilabel task.

    model: of this package, or a function from a cohort to {task: probabilities}. threshold: for the balanced
    accuracy, one or one per task; None takes `model.thresholds` (fixed on validation rows), else 0.5. Warns
    if the cohort still holds its training rows next to others. A `ReportGenerator` gets the scores of its
    reports instead, see `mmmed.evaluation.reports`; a `ReferringSegmenter` those of its masks, for the
    phrases that come with the cohort, see `mmmed.evaluation.masks`. Its threshold is one number, of presence;
    None takes the segmenter's own.
    """
    warn_of_training_rows(cohort)
    if isinstance(model, ReportGenerator):
        return evaluate_reports({"generated": model}, cohort, draws=draws, seed=seed)
    if isinstance(model, ReferringSegmenter):
        if isinstance(threshold, Mapping):
            raise ValueError(
                "A segmenter has no tasks: its threshold is one number, the probability from which on a "
                f"thing counts as there, got {plain(dict(threshold))}. Pass a number, or leave it out."
            )
        told, options = phrases_of(cohort), {"draws": draws, "seed": seed}
        return evaluate_masks(model, cohort, told, threshold=threshold, **options).table()
    answers = answers_of(model, cohort)
    return score_answers(
        answers, cohort, {t: threshold_of(model, t, threshold) for t in answers}, draws, seed
    )


def score_answers(
    answers: Mapping[str, np.ndarray],
    cohort: Cohort,
    thresholds: Mapping[str, float],
    draws: int = 1000,
    seed: int = 0,
) -> Table:
    """The table of `evaluate` for answers that are there already: task -> probabilities in the cohort's
    order.
    """
    present = {name: cohort.present[:, k] for k, name in enumerate(cohort.schema.modalities)}
    rows = []
    for task, probabilities in answers.items():
        kind, labels, cut = kind_of(cohort, task), labels_of(cohort, task), thresholds.get(task, 0.5)
        table = score_predictions(labels, probabilities, cohort.groups, present, cut, kind, draws, seed)
        rows += [{"task": task, **row} for row in table]
        if kind == "multilabel":
            for k, label in enumerate(cohort.schema.tasks[task].columns):
                name = f"{task}: {label}"
                part = score_predictions(
                    labels[:, k], probabilities[:, k], cohort.groups, None, cut, "binary", draws, seed
                )
                rows += [{"task": name, **row} for row in part]
    return headed(rows, f"Scores on {cohort.name}")


def score_predictions(
    labels: ArrayLike,
    probabilities: ArrayLike,
    groups: ArrayLike | None = None,
    present: Mapping[str, ArrayLike] | None = None,
    threshold: float = 0.5,
    kind: str = "binary",
    draws: int = 1000,
    seed: int = 0,
) -> Table:
    """Scores of predictions from anywhere; no model and no cohort needed.

    labels [rows] 0, 1 or NaN (unknown); probabilities [rows] of the positive level. Multiclass: class numbers
    and [rows classes]; multilabel: two arrays [rows labels]; regression: two arrays of numbers. groups
    [rows]: patient. present: modality -> bool [rows]; adds a line per pattern. threshold: fixed on other rows
    than these.
    """
    check_known(kind, KINDS, what="kind of task")
    labels, probabilities = np.asarray(labels, dtype=float), np.asarray(probabilities, dtype=float)
    groups = np.arange(len(labels)) if groups is None else np.asarray(groups)
    rows = [_line(ALL, labels, probabilities, groups, threshold, kind, draws, seed)]
    for name, index in _patterns(present, len(labels)):
        rows.append(
            _line(name, labels[index], probabilities[index], groups[index], threshold, kind, draws, seed)
        )
    return headed(rows, "Scores")


def score_frame(
    frame: pandas.DataFrame,
    label: str = "label",
    probability: str | Sequence[str] = "probability",
    group: str | None = "group",
    present: Sequence[str] = (),
    threshold: float = 0.5,
    kind: str = "binary",
    draws: int = 1000,
    seed: int = 0,
) -> Table:
    """Scores of a table of predictions, by the names of its columns.

    probability: one column, or one per class. group: the patient's column (None, or a name that is not there:
    every row is a patient of its own, with a warning). present: columns of 0 and 1, one per modality.
    """
    many = [probability] if isinstance(probability, str) else list(probability)
    for name in [label, *many, *present]:
        check_known(name, list(frame.columns), what="column of the predictions")
    if group is not None and group not in frame.columns:
        warnings.warn(
            f"There is no column {group!r}: every row counts as a patient of its own, so intervals are too "
            f"narrow if patients repeat. There are {listing(frame.columns)}. Pass group=None if it is right.",
            stacklevel=2,
        )
        group = None
    values = frame[many[0]] if isinstance(probability, str) else frame[many]
    return score_predictions(
        frame[label].to_numpy(dtype=float, na_value=np.nan),
        values.to_numpy(dtype=float, na_value=np.nan),
        None if group is None else frame[group].astype(str).to_numpy(),
        {name: frame[name].to_numpy().astype(bool) for name in present} or None,
        threshold,
        kind,
        draws,
        seed,
    )


def threshold_of(model: Any, task: str, threshold: float | Mapping[str, float] | None = None) -> float:
    """The caller's threshold for a task, else the model's own (`model.thresholds`), else 0.5."""
    if isinstance(threshold, Mapping):
        threshold = threshold.get(task)
    if threshold is None:
        threshold = (getattr(model, "thresholds", None) or {}).get(task, 0.5)
    return float(threshold)


def pattern_name(present: Sequence[bool], modalities: Sequence[str]) -> str:
    """'image + text', or 'nothing'."""
    return " + ".join(name for name, here in zip(modalities, present, strict=True) if here) or "nothing"


def patterns_of(present: np.ndarray, modalities: Sequence[str]) -> dict[str, np.ndarray]:
    """Pattern -> positions of its rows; the most frequent first, ties by name."""
    kinds, index = np.unique(np.asarray(present, dtype=bool), axis=0, return_inverse=True)
    index = index.reshape(-1)
    found = {pattern_name(row, modalities): np.flatnonzero(index == k) for k, row in enumerate(kinds)}
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))


def warn_of_training_rows(cohort: Cohort) -> None:
    """Warn if rows of the training part are among rows that are to be scored."""
    splits = np.asarray(cohort.splits)
    training = int((splits == "train").sum())
    if training and training < len(splits):
        warnings.warn(
            f"{training} of the {len(splits)} rows belong to the training part of this cohort. A model that "
            'was trained on them looks better than it is: pass cohort["test"].',
            stacklevel=3,
        )


def _patterns(present: Mapping[str, ArrayLike] | None, rows: int) -> list[tuple[str, np.ndarray]]:
    if not present:
        return []
    flags = np.stack([np.asarray(flag, dtype=bool) for flag in present.values()], axis=1)
    if len(flags) != rows:
        raise ValueError(f"present should have {rows} rows like labels, got {len(flags)}.")
    found = patterns_of(flags, tuple(present))
    return list(found.items()) if len(found) > 1 else []


def _line(
    name: str,
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray,
    threshold: float,
    kind: str,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """One row of the table: sizes, every score of the kind, and what must be said about them."""
    scores = estimates(metrics_for(kind, threshold), labels, probabilities, groups, draws, seed)
    some = next(iter(scores.values()))
    known = labels[~np.isnan(labels)] if kind == "binary" else np.zeros(0)
    chance = ece_by_chance(probabilities[~np.isnan(labels)], seed=seed) if kind == "binary" else None
    return {
        "rows": name,
        "n": some.n,
        "patients": some.groups,
        "positive": float(known.mean()) if len(known) else None,
        **scores,
        "ece_by_chance": chance,
        "threshold": threshold if kind in ("binary", "multilabel") else None,
        "note": "; ".join(dict.fromkeys(score.note for score in scores.values() if score.note)),
    }


def headed(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """A table of scores with readable headings, and notes on what its columns mean."""
    notes = [INTERVALS] + [CHANCE] * any(row.get("ece_by_chance") is not None for row in rows)
    return replace(table_of(rows, title, notes), heads=HEADS)
