"""Scores of a study: inside each member, averaged over members, with intervals from redrawn patients.

Answers of different fits are not on one scale, so nothing is pooled: a member (one fold of one seed) is
scored on its own test records, and the mean over members is reported. Its interval comes from drawing
patients with replacement inside each fold. All recipes are scored on the same draws, so differences between
them have intervals, too; and a patient has one weight in all repetitions of the cross-validation, as the same
patient again is no new information.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.evaluation.bootstrap import Estimate, is_biased
from mmmed.evaluation.metrics import Metric
from mmmed.evaluation.tasks import kind_of, labels_of, metrics_for
from mmmed.evaluation.weighted import UndefinedMetric
from mmmed.training.study_jobs import Job, Outcome, Work

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort

LEVEL = 0.95


@dataclass(frozen=True)
class Scored:
    """One recipe under one training and one test mask: values [members 1+draws] of one score, the sample as
    it is first; NaN where a member, or a draw of it, has no score."""

    jobs: tuple[Job, ...]
    values: np.ndarray

    @property
    def members(self) -> np.ndarray:
        """The score of each member."""
        return self.values[:, 0]

    def mean(self, centred: bool, n: int, patients: int) -> Estimate:
        """The mean over members that have a score, and its percentile interval."""
        return estimate(mean_of(self.values), centred, n, patients, self.lost)

    @property
    def lost(self) -> int:
        """Members without a score."""
        return int(np.isnan(self.members).sum())


@dataclass(frozen=True)
class Scorer:
    """All outcomes of a study, ready to be scored. draws: of patients; seed: of the draws."""

    work: Work
    outcomes: Mapping[Job, Outcome]
    draws: int
    seed: int

    def jobs(self, recipe: str, train: str) -> tuple[Job, ...]:
        """Jobs of a recipe and training mask that ended well."""
        return tuple(
            job
            for job, outcome in self.outcomes.items()
            if (job.recipe, job.train) == (recipe, train) and not outcome.error
        )

    def metrics(self, task: str) -> tuple[str, ...]:
        """Names of the scores of a task, the most telling first."""
        return tuple(metrics_for(kind_of(self.work.cohort, task)))

    def scores(self, jobs: Sequence[Job], test: str, task: str, names: Sequence[str]) -> dict[str, Scored]:
        """Each score of these jobs under a test mask."""
        rows: dict[str, list[np.ndarray]] = {name: [] for name in names}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndefinedMetric)
            for job in jobs:
                metrics = self._metrics(job, task)
                labels, weights = self._labels(job, task), self._weights(job)
                answers = self.outcomes[job].answers[test][task]
                for name in names:
                    rows[name].append(np.asarray(metrics[name](labels, answers, weights), dtype=float))
        return {name: Scored(tuple(jobs), np.array(values)) for name, values in rows.items()}

    def is_biased(self, task: str, name: str) -> bool:
        """Whether redrawing raises a score (calibration errors)."""
        return is_biased(metrics_for(kind_of(self.work.cohort, task))[name])

    def sizes(self, jobs: Sequence[Job], task: str) -> tuple[int, int]:
        """Records with a known label, and their patients, in the test parts of these jobs."""
        records, patients = set(), set()
        for job in jobs:
            cohort, labels = self._test(job), self._labels(job, task)
            known = ~np.isnan(labels.reshape(len(labels), -1)).all(axis=1)
            records.update(cohort.ids[known])
            patients.update(cohort.groups[known])
        return len(records), len(patients)

    def changed(self, jobs: Sequence[Job], test: str) -> float:
        """Share of the test records that a test mask takes something from."""
        lost = []
        for job in jobs:
            cohort = self._test(job)
            stays = np.asarray(self.work.test[test].apply(cohort))
            lost.append((stays != np.asarray(cohort.present)).any(axis=1))
        return float(np.concatenate(lost).mean()) if lost else float("nan")

    # ------------------------------------------------------------------------------------------------- parts

    def _test(self, job: Job) -> Cohort:
        return self._tests[job.seed, job.fold]

    @cached_property
    def _tests(self) -> dict[tuple[int, int], Cohort]:
        folds = self.work.whole_folds
        return {(seed, k): fold["test"] for seed, own in folds.items() for k, fold in enumerate(own)}

    def _labels(self, job: Job, task: str) -> np.ndarray:
        key = (job.seed, job.fold, task)
        if key not in self._known:
            self._known[key] = labels_of(self._test(job), task)
        return self._known[key]

    @cached_property
    def _known(self) -> dict[tuple[int, int, str], np.ndarray]:
        return {}

    def _metrics(self, job: Job, task: str) -> dict[str, Metric]:
        return metrics_for(kind_of(self.work.cohort, task), self.outcomes[job].thresholds.get(task, 0.5))

    def _weights(self, job: Job) -> np.ndarray:
        """[1+draws records]: ones, then how often the patient of each test record was drawn."""
        cohort = self._test(job)
        drawn = self._times[:, [self._place[patient] for patient in cohort.groups.tolist()]]
        return np.concatenate([np.ones((1, len(cohort))), drawn])

    @cached_property
    def _place(self) -> dict[str, int]:
        return {patient: k for k, patient in enumerate(np.unique(self.work.cohort.groups).tolist())}

    @cached_property
    def _times(self) -> np.ndarray:
        """[draws patients]: how often each was drawn, inside the folds of the first seed."""
        times = np.zeros((self.draws, len(self._place)), dtype=np.uint16)
        first = self.work.seeds[0]
        for fold in range(self.work.folds):
            patients = [self._place[p] for p in np.unique(self._tests[first, fold].groups).tolist()]
            generator = np.random.default_rng([self.seed, fold])
            chosen = generator.integers(0, len(patients), size=(self.draws, len(patients)))
            chosen += len(patients) * np.arange(self.draws)[:, None]
            counts = np.bincount(chosen.ravel(), minlength=self.draws * len(patients))
            times[:, patients] = counts.reshape(self.draws, -1)
        return times


def mean_of(values: np.ndarray) -> np.ndarray:
    """values [members 1+draws] -> [1+draws]: the mean over members; those without a score of their own are
    left out everywhere, and in a draw those that have none there."""
    usable = values[~np.isnan(values[:, 0])] if len(values) else values
    if not len(usable):
        return np.full(values.shape[-1] if values.ndim == 2 else 1, np.nan)
    scored = ~np.isnan(usable)
    total = np.where(scored, usable, 0).sum(axis=0)
    return np.divide(total, scored.sum(axis=0), out=np.full(len(total), np.nan), where=scored.any(axis=0))


def estimate(values: np.ndarray, centred: bool, n: int, patients: int, lost: int = 0) -> Estimate:
    """values [1+draws] -> the first, and the interval of the rest. centred: move the draws to have their mean
    at the value. lost: members without a score, for the note."""
    note = f"{lost} members could not be scored (one class only, or no known label)" if lost else ""
    value, drawn = float(values[0]), values[1:][np.isfinite(values[1:])]
    if not np.isfinite(value):
        return Estimate(float("nan"), float("nan"), float("nan"), n, patients, note or "no member was scored")
    if patients < 2 or not len(drawn):
        return Estimate(value, float("nan"), float("nan"), n, patients, "one patient: no interval")
    if centred:
        drawn = np.maximum(drawn + value - drawn.mean(), 0)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high), n, patients, note)


def spread(members: np.ndarray) -> float | None:
    """Standard deviation over members; None for fewer than two."""
    members = members[np.isfinite(members)]
    return float(members.std(ddof=1)) if len(members) > 1 else None


def score_rows(scorer: Scorer) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """One row per task, recipe, training and test mask; and one per member of each."""
    rows, members = [], []
    work = scorer.work
    for task in work.cohort.schema.tasks:
        names = scorer.metrics(task)
        for train in work.train:
            for recipe in work.recipes:
                jobs = scorer.jobs(recipe, train)
                n, patients = scorer.sizes(jobs, task)
                for test, mechanism in work.test.items():
                    if mechanism.options.get("task") not in (None, task):
                        continue
                    head = {"task": task, "recipe": recipe, "trained_on": train, "tested_on": test}
                    scored = scorer.scores(jobs, test, task, names)
                    rows.append({**head, **_row(scorer, jobs, test, task, scored, n, patients)})
                    members += _member_rows(scorer, head, jobs, scored)
    return rows, members


def _row(
    scorer: Scorer,
    jobs: Sequence[Job],
    test: str,
    task: str,
    scored: Mapping[str, Scored],
    n: int,
    patients: int,
) -> dict[str, Any]:
    estimates = {
        name: one.mean(scorer.is_biased(task, name), n, patients)
        if jobs
        else Estimate(float("nan"), float("nan"), float("nan"), 0, 0, "no job ended well")
        for name, one in scored.items()
    }
    first = next(iter(scored))
    all_jobs = scorer.work.folds * len(scorer.work.seeds)
    failed = f"{all_jobs - len(jobs)} of {all_jobs} jobs failed" if len(jobs) < all_jobs else ""
    uncut = sum(task not in scorer.outcomes[job].thresholds for job in jobs)
    binary = kind_of(scorer.work.cohort, task) == "binary"
    default = f"{uncut} members had no validation threshold and took 0.5" if binary and uncut else ""
    notes = [failed, default, *(score.note for score in estimates.values())]
    return {
        "n": n,
        "patients": patients,
        "members": len(jobs),
        **estimates,
        f"{first}_sd": spread(scored[first].members) if jobs else None,
        "changed": scorer.changed(jobs, test) if jobs else None,
        "cpu_seconds": float(np.mean([scorer.outcomes[job].seconds for job in jobs])) if jobs else None,
        "note": "; ".join(dict.fromkeys(note for note in notes if note)),
    }


def _member_rows(
    scorer: Scorer, head: Mapping[str, Any], jobs: Sequence[Job], scored: Mapping[str, Scored]
) -> list[dict[str, Any]]:
    return [
        {
            **head,
            "seed": job.seed,
            "fold": job.fold,
            "threshold": scorer.outcomes[job].thresholds.get(head["task"]),
            **{name: float(one.members[k]) for name, one in scored.items()},
        }
        for k, job in enumerate(jobs)
    ]
