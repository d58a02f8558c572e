"""The jobs of a study: one model on one fold, trained under one mask and asked under all test masks.

A job that is done is a file; a study that was killed and is started again trains what has no file. Jobs of
one recipe and training mask whose models can be members of one run are trained together, whether or not
several processes share the work: so the same study gives the same numbers either way.
"""

from __future__ import annotations

import io
import json
import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mmmed.evaluation.asking import asker_of
from mmmed.evaluation.scores import write_whole
from mmmed.training.chance import stream_seed
from mmmed.training.fingerprint import digest, schema_fingerprint
from mmmed.training.members import can_train_together
from mmmed.training.recipe import Recipe
from mmmed.training.study_folds import hide_from_learning
from mmmed.training.token_cache import record_content

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort
    from mmmed.data.missingness import Mechanism

FORMAT = 1  # of the files; changes whenever the same job would give other numbers


@dataclass(frozen=True)
class Job:
    """recipe, train: names; seed, fold: which member of the cross-validation."""

    recipe: str
    train: str
    seed: int
    fold: int

    def __str__(self) -> str:
        return f"{self.recipe}, trained {self.train}, seed {self.seed}, fold {self.fold}"


@dataclass
class Outcome:
    """answers[test][task]: probabilities of the test records, [records] or [records outputs]. seconds: CPU
    time; of a job that was trained with others its share. together: how many jobs were. error: why there are
    no answers."""

    job: Job
    answers: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    epochs: int | None = None
    together: int = 1
    notes: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Work:
    """Everything that the jobs of a study share. train, test: label -> mechanism."""

    cohort: Cohort
    recipes: Mapping[str, Recipe]
    train: Mapping[str, Mechanism]
    test: Mapping[str, Mechanism]
    folds: int
    seeds: tuple[int, ...]
    output: Path | None = None

    @cached_property
    def whole_folds(self) -> dict[int, list[Cohort]]:
        """Seed -> its folds, nothing hidden."""
        return {seed: self.cohort.folds(self.folds, seed) for seed in self.seeds}

    @property
    def caches(self) -> Path | None:
        """Where tokens of frozen encoders lie: the encoders of a fold start alike in every recipe that names
        them."""
        return None if self.output is None else self.output / "tokens"

    def groups(self) -> list[tuple[Job, ...]]:
        """All jobs; those that are trained together in one group."""
        result = []
        for name, recipe in self.recipes.items():
            together = self._stackable(recipe)
            for label in self.train:
                jobs = [Job(name, label, seed, fold) for seed in self.seeds for fold in range(self.folds)]
                result += [tuple(jobs)] if together else [(job,) for job in jobs]
        return result

    def _stackable(self, recipe: Recipe) -> bool:
        """Whether its architecture allows it; folds that still differ are seen to in training."""
        fold = self.whole_folds[self.seeds[0]][0]
        try:
            return can_train_together([recipe.build(fold.schema, 0)], recipe.settings(0)) is None
        except Exception:  # wrong options, for example: every job will say so
            return False

    # ------------------------------------------------------------------------------------------------ files

    @cached_property
    def contents(self) -> str:
        """Hash of what the records hold (files by size and date) and of what is hidden from them."""
        held = (
            part
            for record in self.cohort
            for name in self.cohort.schema.modalities
            if name in record.inputs
            for part in (name, *record_content(record, name))
        )
        rules = (*self.train.values(), *self.test.values())
        return digest([*held, *(torch.from_numpy(rule.apply(self.cohort)) for rule in rules)])

    def fingerprint(self, job: Job) -> str:
        """Hash of all that the answers of a job follow from."""
        fold = self.whole_folds[job.seed][job.fold]
        targets = (part for task in fold.schema.tasks for part in fold.targets(task))
        facts = {
            "format": FORMAT,
            "recipe": self.recipes[job.recipe].facts(),
            "train": self.train[job.train].to_dict(),
            "test": [mechanism.to_dict() for mechanism in self.test.values()],
            "members": [self.folds, list(self.seeds), job.seed, job.fold],
            "policies": [fold.missing_files, fold.unreadable],
        }
        arrays = (torch.from_numpy(np.array(part)) for part in (fold.present, fold.parts, *targets))
        return digest(
            [
                json.dumps(facts, sort_keys=True),
                self.contents,
                schema_fingerprint(fold.schema),
                *fold.ids,
                *fold.groups,
                *arrays,
            ]
        )

    def file(self, job: Job) -> Path:
        """Where the answers of a job lie."""
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", job.recipe).strip("-") or "recipe"
        place = f"{plain}-s{job.seed}-f{job.fold}-{self.fingerprint(job)[:16]}.npz"
        return self.output / "jobs" / place

    def load(self, job: Job) -> Outcome | None:
        """What a former run left of a job; None if there is nothing, or nothing whole."""
        if self.output is None or not self.file(job).is_file():
            return None
        try:
            with np.load(self.file(job), allow_pickle=False) as held:
                facts = json.loads(str(held["facts"]))
                answers: dict[str, dict[str, np.ndarray]] = {label: {} for label in self.test}
                for key, label, task in facts["answers"]:
                    answers[label][task] = held[key]
        except Exception:  # cut off or damaged, in whatever way: the job runs again
            return None
        same = facts["fingerprint"] == self.fingerprint(job)
        known = {name: facts[name] for name in ("thresholds", "seconds", "epochs", "together")}
        return Outcome(job, answers, notes=tuple(facts["notes"]), **known) if same else None

    def save(self, outcome: Outcome) -> None:
        """Write the answers of a job, whole or not at all. An error is not kept: it is tried again."""
        if self.output is None or outcome.error:
            return
        job, arrays, index = outcome.job, {}, []
        for label, answers in outcome.answers.items():
            for task, values in answers.items():
                key = f"answers{len(index)}"
                arrays[key] = values
                index.append((key, label, task))
        facts = {
            "fingerprint": self.fingerprint(job),
            "job": vars(job),
            "thresholds": outcome.thresholds,
            "seconds": outcome.seconds,
            "epochs": outcome.epochs,
            "together": outcome.together,
            "notes": outcome.notes,
            "answers": index,
        }
        arrays["ids"] = self.whole_folds[job.seed][job.fold]["test"].ids
        content = io.BytesIO()
        np.savez_compressed(content, facts=np.array(json.dumps(facts)), **arrays)
        write_whole(self.file(job), content.getvalue())

    # ----------------------------------------------------------------------------------------------- at work

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Train and ask the jobs of one group, on one thread. An error of a job is part of its outcome."""
        with one_thread(), warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            outcomes = self._run(jobs)
        notes = tuple(dict.fromkeys(str(w.message) for w in said if issubclass(w.category, UserWarning)))
        for outcome in outcomes:
            outcome.notes = notes
            self.save(outcome)
        return outcomes

    def _run(self, jobs: Sequence[Job]) -> list[Outcome]:
        recipe, started = self.recipes[jobs[0].recipe], time.process_time()
        outcomes, ready = {job: Outcome(job) for job in jobs}, []
        for job in jobs:
            try:
                cohort = hide_from_learning(self.whole_folds[job.seed][job.fold], self.train[job.train])
                ready.append((job, recipe.build(cohort.schema, seed_of(job)), cohort))
            except Exception as error:  # whatever it is, the other jobs go on
                outcomes[job].error = _said(error)
        ready = _trained(recipe, ready, outcomes, self.caches)
        for job, model, cohort in ready:
            try:
                outcomes[job].answers = self._ask(model, cohort["test"])
                outcomes[job].thresholds = {k: float(v) for k, v in model.thresholds.items()}
                outcomes[job].together = len(ready)
            except Exception as error:
                outcomes[job].error = _said(error)
        share = (time.process_time() - started) / len(jobs)
        for outcome in outcomes.values():
            outcome.seconds = share
        return list(outcomes.values())

    def _ask(self, model: Any, cohort: Cohort) -> dict[str, dict[str, np.ndarray]]:
        ask, result = asker_of(model, cohort), {}
        for label, mechanism in self.test.items():
            only = mechanism.options.get("task")
            said = ask(mechanism.apply(cohort))
            result[label] = {task: values for task, values in said.items() if only in (None, task)}
        return result


def _trained(
    recipe: Recipe, ready: list[tuple], outcomes: Mapping[Job, Outcome], caches: Path | None
) -> list[tuple]:
    """Train what is ready; if that fails together, each alone, so that only the culprit has an error."""
    try:
        jobs, models, cohorts = zip(*ready, strict=True) if ready else ((), (), ())
        runs = recipe.train(models, cohorts, [seed_of(job) for job in jobs], caches) if ready else []
        for job, run in zip(jobs, runs, strict=True):
            outcomes[job].epochs = len(run.history) if run is not None else None
        return ready
    except Exception as error:
        if len(ready) == 1:
            outcomes[ready[0][0]].error = _said(error)
            return []
    fresh = [(job, recipe.build(cohort.schema, seed_of(job)), cohort) for job, _, cohort in ready]
    return [one for item in fresh for one in _trained(recipe, [item], outcomes, caches)]


def seed_of(job: Job) -> int:
    """Of initial weights, order and dropout: each member its own, the same for all recipes and masks."""
    return stream_seed(job.seed, "fold", job.fold) % 2**31


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in one order, whatever the machine: the same numbers in this process as in one of several."""
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


# --------------------------------------------------------------------------------------- several processes

_WORK: list[Work] = []  # what a worker process was started for


def run_groups(work: Work, groups: Sequence[tuple[Job, ...]], workers: int) -> Iterator[list[Outcome]]:
    """Outcomes of the groups as they come: one after another, or by `workers` fresh processes."""
    if not workers:
        for group in groups:
            yield work.run(group)
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    # Spawned, not forked: a fork copies the locks of torch's threads without the threads.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start, (work,))
    try:
        waiting = {pool.submit(_run_group, group): group for group in groups}
        for done in as_completed(waiting):
            try:
                yield done.result()
            except BrokenProcessPool:
                said = "A process died, probably for want of memory. Run it again: finished jobs are kept."
                yield [Outcome(job, error=said) for job in waiting[done]]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start(work: Work) -> None:
    torch.set_num_threads(1)
    _WORK[:] = [work]


def _run_group(group: tuple[Job, ...]) -> list[Outcome]:
    return _WORK[0].run(group)
