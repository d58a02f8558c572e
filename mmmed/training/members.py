"""Folds and seeds of a cross-validation trained at once: many small models as one, on a leading member axis.

A small model keeps a processor busy with starting operations, not with arithmetic, so ten of them side by
side cost little more than one. Every member learns what `finetune` would teach it alone: the same order of
its own records, modality dropout and weights, the same steps of the optimiser, its own early stopping and
calibration. Only dropout inside layers draws other numbers, and accumulated forward passes are one.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from mmmed.models.multimodal import MultimodalModel
from mmmed.training.augment import Augmentation
from mmmed.training.finetune import (
    check_inputs,
    finetune,
    finish,
    in_training,
    make_accelerator,
    make_supplies,
)
from mmmed.training.member_epochs import Member, MemberEpochs
from mmmed.training.member_trial import refusal, trial
from mmmed.training.optimisation import Optimisation
from mmmed.training.policy import Policy
from mmmed.training.progress import Reporter
from mmmed.training.run import Run
from mmmed.training.settings import Settings
from mmmed.training.stacked import Stacked
from mmmed.training.supply import PackedCohort
from mmmed.training.validate import Validation, cohort_weights

if TYPE_CHECKING:
    from accelerate import Accelerator

    from mmmed.data.cohort import Cohort

logger = logging.getLogger("mmmed")


def can_train_together(models: Sequence[MultimodalModel], settings: Settings | None = None) -> str | None:
    """Why these models cannot be members of one training run, in words; None if they can.

    They need one architecture (weights and schema of the same shapes), encoders that judge each record alone
    and are cheap (pictures and volumes only frozen), and a fusion that heeds `present`. That is tried out on
    two made-up records. settings: of the run; None = the defaults, nothing frozen.
    """
    if settings is None:
        settings = Settings(1, None, Policy(), Optimisation(), None, (), 0)
    return refusal(models, settings) or trial(models, settings.frozen)


def finetune_members(
    models: Sequence[MultimodalModel],
    cohorts: Sequence[Cohort],
    seeds: Sequence[int] | None = None,
    *,
    epochs: int = 30,
    policy: Policy = Policy(),  # noqa: B008 (frozen)
    optimisation: Optimisation = Optimisation(),  # noqa: B008 (frozen)
    augmentation: Augmentation | None = Augmentation(),  # noqa: B008 (frozen)
    patience: int | None = 10,
    frozen: Sequence[str] = (),
    caches: Path | None = None,
    progress: bool = False,
) -> list[Run]:
    """Train models[i] on cohorts[i] with seeds[i] (None: 0, 1, 2, ...), all at once where that is possible.

    The models are changed in place: trained, calibrated each on its own validation records, and not saved.
    caches: folder in which the tokens of frozen encoders stay, so that further runs with the same encoders
    find them; None = a temporary one. What the other arguments mean, and what is raised, is as in `finetune`.
    Where the members cannot be trained together (see `can_train_together`) they are trained one after
    another. -> one Run per member.
    """
    seeds = list(range(len(models))) if seeds is None else list(seeds)
    if not len(models) == len(cohorts) == len(seeds) > 0:
        raise ValueError(
            f"Each member needs a model, a cohort and a seed, got {len(models)} models, {len(cohorts)} "
            f"cohorts and {len(seeds)} seeds."
        )
    frozen = tuple(dict.fromkeys((frozen,) if isinstance(frozen, str) else frozen))
    settings = [Settings(epochs, patience, policy, optimisation, augmentation, frozen, s) for s in seeds]
    reason = can_train_together(models, settings[0])
    if reason is None:
        result = _together(models, cohorts, settings, caches, progress)
        if not isinstance(result, str):
            return result
        reason = result
    logger.info("%d members are trained one after another: %s", len(models), reason)
    return [_alone(*member, progress) for member in zip(models, cohorts, settings, strict=True)]


def _alone(model: MultimodalModel, cohort: Cohort, settings: Settings, progress: bool) -> Run:
    return finetune(
        model,
        cohort,
        epochs=settings.epochs,
        policy=settings.policy,
        optimisation=settings.optimisation,
        augmentation=settings.augmentation,
        patience=settings.patience,
        frozen=settings.frozen,
        seed=settings.seed,
        progress=progress,
    )


def _together(
    models: Sequence[MultimodalModel],
    cohorts: Sequence[Cohort],
    settings: list[Settings],
    caches: Path | None,
    progress: bool,
) -> list[Run] | str:
    """Runs, or the reason why the data do not allow it (nothing was changed then)."""
    accelerator, frozen = make_accelerator(), settings[0].frozen
    if accelerator.num_processes > 1:
        return "several processes are at work."
    cohorts = [check_inputs(model, cohort, frozen) for model, cohort in zip(models, cohorts, strict=True)]
    with ExitStack() as training:
        if caches is None:
            caches = Path(training.enter_context(tempfile.TemporaryDirectory(prefix="mmmed-tokens-")))
        for model in models:  # before `_member`: frozen encoders are asked there, where they will learn
            training.enter_context(in_training(model, accelerator, frozen))
        members = []
        for model, cohort, own in zip(models, cohorts, settings, strict=True):
            member = _member(model, cohort, own, caches, accelerator)
            if isinstance(member, str):
                return member
            members.append(member)
        if len({member.validation is None for member in members}) > 1:
            return "some members have validation records and some have none."
        stacked = Stacked(models, frozen, accelerator.device)
        work = MemberEpochs(members, stacked, accelerator.device)
        reporter = Reporter(progress, settings[0].epochs, 0)
        try:
            work.run(reporter)
        finally:
            reporter.close()
    runs = []
    for member, model, cohort in zip(members, models, cohorts, strict=True):
        history, best = member.progress.history, member.progress.best_epoch
        counts = {
            "train": len(member.train),
            "val": 0 if member.validation is None else len(member.validation.supply),
        }
        run = Run(history, best, None, member.weights.effective, counts)
        finish(model, cohort, run, member.settings, accelerator)
        runs.append(run)
    return runs


def _member(
    model: MultimodalModel, cohort: Cohort, settings: Settings, caches: Path, accelerator: Accelerator
) -> Member | str:
    train, val = make_supplies(model, cohort, settings, caches, accelerator)
    if not isinstance(train, PackedCohort) or not isinstance(val, PackedCohort | None):
        return "a cohort is too large to be kept in memory."
    tasks, policy, seed = model.schema.tasks, settings.policy, settings.seed
    weights = cohort_weights(train, tasks, policy, seed)
    weights.warn(train.known)
    validation = None if val is None else Validation.of(val, train, tasks, policy, seed)
    return Member(train, validation, weights, settings, tasks)
