"""Prediction sets: the levels that cannot be excluded at 90 %, with that promise kept for every pattern.

A level is excluded if its probability is lower than it was in nine of ten validation records that have this
level and the same modalities: split conformal prediction with the score 1 - p(level) (Sadinle, Lei and
Wasserman 2019, arXiv:1609.00451), separately per pattern of presence and true level (Mondrian: Vovk,
Gammerman and Shafer 2005, ch. 4.5). Per level, because records that can be reduced to a pattern hold another
mix of levels than those that come with it, where the label drives what is recorded. Regression: the range of
the absolute errors. Multilabel: every label for itself.

The records that fit the calibration also give the scores, but never at once: the scores of a fifth of the
patients come from a calibration fitted without them (cross-conformal prediction, Vovk 2015,
doi:10.1007/s10472-013-9368-4); that this keeps the promise is measured, not proven. What the promise does not
cover: validation records that also chose the epoch to stop at, patients with many records (records are
counted, not patients), and another hospital. It is a promise about records of a kind, on average, not about
the single patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmmed.checks import check_share
from mmmed.models.calibration import Pattern, Reduced, by_pattern, matching, read
from mmmed.models.calibration_fits import fit_outputs, fit_pattern, patient_folds
from mmmed.types import Binary, Multiclass, Multilabel, Regression, Task

SET_LEVEL = 0.90
ENOUGH = 100  # records; with fewer, the promise of a pattern's own scores would rest on a handful in the tail
FOLDS = 5
_SLACK = 1e-6  # scores closer than this are equal: float32 logits differ by that much between batch sizes


@dataclass(frozen=True)
class Scores:
    """The scores of one pattern and the fits they came from.

    slopes, shifts [folds outputs]: the calibration without each fold. values [records columns]: the score of
    the truth, NaN where a label is unknown; one column, or one per label. fold [records]. truth [records
    columns]: which answer was the true one (0 for a regression).
    """

    slopes: np.ndarray
    shifts: np.ndarray
    values: np.ndarray
    fold: np.ndarray
    truth: np.ndarray

    def __len__(self) -> int:
        return int((~np.isnan(self.values)).any(axis=1).sum())

    def to_dict(self) -> dict[str, Any]:
        values = [[None if np.isnan(v) else v for v in row] for row in self.values.tolist()]
        fits = {"slopes": self.slopes.tolist(), "shifts": self.shifts.tolist()}
        return {**fits, "values": values, "fold": self.fold.tolist(), "truth": self.truth.tolist()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Scores:
        slopes, values = np.array(data["slopes"], float), np.array(data["values"], float)
        fold, truth = (np.array(data[name], int) for name in ("fold", "truth"))
        return cls(slopes, np.array(data["shifts"], float), values, fold, truth)


@dataclass(frozen=True)
class Conformal:
    """What is needed for the prediction sets of one task.

    kind: of the task. general: the fits of the records as they came, for patterns that were never seen; its
    scores are those of all patterns together. patterns: each with its own.
    """

    kind: str
    general: Scores
    patterns: Mapping[Pattern, Scores] = field(default_factory=dict)

    def records(self, present: Any) -> int:
        """How many calibration records could be reduced to this pattern [modalities]."""
        pattern = matching(self.patterns, present)
        return 0 if pattern is None else len(self.patterns[pattern])

    @property
    def plain(self) -> bool:
        """Were the records only taken as they came, without patterns?"""
        return set(self.patterns) == {()}

    def own(self, present: Any) -> bool:
        """Does the pattern have scores of its own? With fewer than ENOUGH records all patterns are pooled."""
        return self.records(present) >= ENOUGH

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready form, unrounded. The pooled scores are not repeated."""
        general = {"slopes": self.general.slopes.tolist(), "shifts": self.general.shifts.tolist()}
        patterns = [{"present": list(key), **part.to_dict()} for key, part in self.patterns.items()]
        return {"kind": self.kind, "general": general, "patterns": patterns}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Conformal:
        patterns = {tuple(item["present"]): Scores.from_dict(item) for item in data["patterns"]}
        fits = (np.array(data["general"][name], float) for name in ("slopes", "shifts"))
        return cls(data["kind"], _pooled(*fits, patterns), patterns)


def fit_conformal(
    task: Task,
    logits: np.ndarray,
    targets: np.ndarray,
    known: np.ndarray,
    groups: np.ndarray,
    seed: int = 0,
    reduced: Reduced | None = None,
) -> Conformal | None:
    """Scores of validation records, arguments as in `fit_calibration`. None if no label is known.

    Without `reduced` the records as they came are the only pattern, which then serves every record.
    """
    if not known.any():
        return None
    folds = patient_folds(groups, FOLDS, seed)
    kind, patterns = type(task).__name__.lower(), {}
    weights = (folds != np.arange(FOLDS)[:, None]).astype(float)  # [folds records]
    regression = isinstance(task, Regression)  # its scores need no fit, so no fold is left out
    plain = np.ones((FOLDS, 1)), np.zeros((FOLDS, 1))
    fits = plain if regression else fit_outputs(task, logits, targets, known, weights)
    for pattern, (rows, part) in (reduced or {(): (np.arange(len(logits)), logits)}).items():
        if not known[rows].any():
            continue
        own = (part, targets[rows], known[rows])
        centre = fits
        if pattern and not regression:
            centre = _fits_without_each_fold(task, pattern, (rows, part), targets, known, folds, fits)
        values, truth = _scores_of_truth(task, *own, folds[rows], centre)
        patterns[pattern] = Scores(*centre, values, folds[rows], truth)
    return Conformal(kind, _pooled(*fits, patterns), patterns)


def prediction_set(
    task: Task,
    logits: np.ndarray,
    conformal: Conformal,
    present: np.ndarray | None = None,
    level: float = SET_LEVEL,
) -> np.ndarray:
    """Which levels cannot be excluded; logits [records outputs], present [records modalities] or None.

    Binary, multiclass: bool [records levels]. Multilabel: bool [records labels 2], absent and present.
    Regression: low and high [records 2] in its unit. An answer that was true in fewer than 1 / (1 - level)
    records is never excluded. A row may be empty, where every level is less likely than it usually is when
    true.
    """
    check_share(level, name="level")
    if isinstance(task, Regression):
        shape: tuple[int, ...] = (len(logits), 2)
    elif isinstance(task, Multilabel):
        shape = (len(logits), task.outputs, 2)
    else:
        shape = (len(logits), len(task.levels))
    result = np.empty(shape, dtype=float if isinstance(task, Regression) else bool)
    parts = [((), np.ones(len(logits), bool))] if present is None else by_pattern(present, (len(logits),))
    for pattern, rows in parts:
        key = matching(conformal.patterns, pattern)
        fits = conformal.general if key is None else conformal.patterns[key]
        scores = fits if key is not None and len(fits) >= ENOUGH else conformal.general
        if isinstance(task, Regression):
            radius = _quantile(scores.values[:, 0], level)
            result[rows] = read(task, logits[rows] + np.array([-radius, radius]))
        else:
            result[rows] = _not_excluded(task, logits[rows], fits, scores, level)
    return result


def names_in_set(task: Task, allowed: np.ndarray) -> tuple[str, ...] | None:
    """The set of one record in words: levels that cannot be excluded; of several labels, those whose presence
    cannot. None for a regression, whose range is an interval."""
    if isinstance(task, Regression):
        return None
    if isinstance(task, Multilabel):
        return tuple(label for label, (_, present) in zip(task.columns, allowed, strict=True) if present)
    return tuple(level for level, here in zip(task.levels, allowed, strict=True) if here)


# ---------------------------------------------------------------------------------------- inner workings


def _fits_without_each_fold(
    task: Task,
    pattern: Pattern,
    reduced: tuple[np.ndarray, np.ndarray],
    targets: np.ndarray,
    known: np.ndarray,
    folds: np.ndarray,
    general: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Slopes and shifts [folds outputs] of one pattern; the label shares too are those of the other folds."""
    fits = []
    for fold in range(FOLDS):
        others = folds != fold
        told = (known.T & others).T  # known [records] or [records labels]
        near = (general[0][fold : fold + 1], general[1][fold : fold + 1])
        fits.append(fit_pattern(task, pattern, reduced, targets, told, others[None].astype(float), near))
    slopes, shifts = zip(*fits, strict=True)
    return np.concatenate(slopes), np.concatenate(shifts)


def _pooled(slopes: np.ndarray, shifts: np.ndarray, patterns: Mapping[Pattern, Scores]) -> Scores:
    """The general fits with the scores of all patterns."""
    parts = list(patterns.values())
    names = ("values", "fold", "truth")
    return Scores(slopes, shifts, *(np.concatenate([getattr(part, n) for part in parts]) for n in names))


def _scores(task: Task, probability: np.ndarray) -> np.ndarray:
    """1 - p of every answer: [... levels], or [... labels 2] for several labels (absent, present)."""
    if isinstance(task, Multiclass):
        return 1 - probability
    both = np.stack([probability, 1 - probability], axis=-1)  # absent has 1 - p, so it scores p
    return both[..., 0, :] if isinstance(task, Binary) else both


def _scores_of_truth(
    task: Task,
    logits: np.ndarray,
    targets: np.ndarray,
    known: np.ndarray,
    folds: np.ndarray,
    fits: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """The score of the true answer of every record under the fit without its fold, and which answer that is:
    [records columns] each."""
    if isinstance(task, Regression):
        errors = np.where(known, np.abs(logits[:, 0] - targets), np.nan)[:, None]
        return errors, np.zeros(errors.shape, dtype=int)
    scores = _scores(task, read(task, logits * fits[0][folds] + fits[1][folds]))
    truth = np.where(known, targets, 0).astype(int)
    true = np.take_along_axis(scores, truth[..., None], axis=-1)[..., 0]
    return np.where(known, true, np.nan).reshape(len(logits), -1), truth.reshape(len(logits), -1)


def _not_excluded(task: Task, logits: np.ndarray, fits: Scores, scores: Scores, level: float) -> np.ndarray:
    """Answers whose score is not among the largest of the records of which they are true, compared with every
    fold under that fold's fit."""
    several = isinstance(task, Multilabel)
    counts, totals = 0, 0
    for fold in range(len(fits.slopes)):
        mine = _scores(task, read(task, logits * fits.slopes[fold] + fits.shifts[fold]))
        mine = mine if several else mine[:, None]  # [records columns answers]
        inside = scores.fold == fold
        found, known = np.zeros(mine.shape, dtype=int), np.zeros(mine.shape[1:], dtype=int)
        for column, answer in np.ndindex(known.shape):
            own = scores.values[inside, column][scores.truth[inside, column] == answer]
            found[:, column, answer] = _as_large(own, mine[:, column, answer])
            known[column, answer] = (~np.isnan(own)).sum()
        counts, totals = counts + found, totals + known
    allowed = 1 + counts > (totals + 1) * (1 - level) + 1e-9
    return allowed if several else allowed[:, 0]


def _as_large(scores: np.ndarray, mine: np.ndarray) -> np.ndarray:
    """How many known scores [records] are as large as each of mine, or larger."""
    ordered = np.sort(scores[~np.isnan(scores)])
    return len(ordered) - np.searchsorted(ordered, mine - _SLACK)


def _quantile(scores: np.ndarray, level: float) -> float:
    """The score that `level` of new ones do not pass; infinite if there are too few to say."""
    ordered = np.sort(scores[~np.isnan(scores)])
    rank = int(np.ceil((len(ordered) + 1) * level - 1e-9))
    return float(ordered[rank - 1]) if rank <= len(ordered) else float("inf")
