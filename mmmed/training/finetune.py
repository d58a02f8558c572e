"""finetune: a model, a cohort, a few settings -> a trained, calibrated, saved model and an account of it."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mmmed.checks import check_known, listing
from mmmed.data.collate import Collator
from mmmed.models.inference import calibrate, check_cohort
from mmmed.models.reference import ReferenceModel
from mmmed.models.referring_segmenter import ReferringSegmenter
from mmmed.models.report_generator import ReportGenerator
from mmmed.training.augment import Augmentation
from mmmed.training.chance import streams_kept
from mmmed.training.checkpoint import claim_output
from mmmed.training.fingerprint import architecture_fingerprint, schema_fingerprint, supply_fingerprint
from mmmed.training.loop import Loop
from mmmed.training.mask_finetune import finetune_masks
from mmmed.training.optimisation import Optimisation, make_optimiser
from mmmed.training.plan import check_learnable, count_updates, useful_rows
from mmmed.training.policy import Policy
from mmmed.training.progress import Reporter, check_progress, make_tracker
from mmmed.training.references import fit_reference
from mmmed.training.report_finetune import finetune_reports
from mmmed.training.run import Run
from mmmed.training.session import Session
from mmmed.training.settings import Settings
from mmmed.training.supply import Supply, make_supply
from mmmed.training.token_cache import Readable, cache_tokens
from mmmed.training.validate import Validation, cohort_weights

if TYPE_CHECKING:
    from accelerate import Accelerator

    from mmmed.data.cohort import Cohort
    from mmmed.models.multimodal import MultimodalModel
    from mmmed.training.mask_run import MaskRun
    from mmmed.training.report_run import ReportRun


def finetune(
    model: MultimodalModel | ReportGenerator | ReferringSegmenter,
    cohort: Cohort,
    *,
    phrases: Any = None,
    epochs: int | None = None,
    output: str | Path | None = None,
    policy: Policy = Policy(),  # noqa: B008 (frozen)
    optimisation: Optimisation = Optimisation(),  # noqa: B008 (frozen)
    augmentation: Augmentation | None = Augmentation(),  # noqa: B008 (frozen)
    patience: int | None = 10,
    frozen: Sequence[str] = (),
    resume: bool = True,
    seed: int = 0,
    progress: bool | str = True,
) -> Run | ReportRun | MaskRun:
    """Train on cohort["train"], choose the epoch on cohort["val"], calibrate on it; the model is changed in
    place.

    epochs: 30 at most, if nothing is said. output: folder for checkpoints, metrics.jsonl and, at the end,
    the model (<output>/model). resume: go on from a checkpoint there; a run that was killed and resumed
    ends with the weights of one that was not, bit for bit on a CPU; False throws old checkpoints away.
    policy: what is done about missing modalities. patience: epochs without improvement of the validation
    loss (see `mmmed.training.validate`) after which training stops; None = never. frozen: modalities
    whose encoder is not trained; it runs once and its tokens are cached. progress: True, False (silent)
    or "tensorboard". seed: of order, dropout and augmentation; the global seed is not touched.

    A reference model (see `create_model`) is fitted to five copies of the records, each with modality dropout
    drawn anew, and the same weights; everything but policy and seed is without effect.

    A `ReportGenerator` goes through its stages, the last of `epochs`, see
    `mmmed.training.report_finetune.finetune_reports`; -> a `ReportRun`. What policy, optimisation,
    augmentation, patience and frozen say for other models, its stages say, so these are refused. The same
    goes for a `ReferringSegmenter`, which learns from phrases (left out: what comes with the cohort), see
    `mmmed.training.mask_finetune.finetune_masks`; -> a `MaskRun`.

    Under torchrun or `accelerate launch` each process works on its share of every batch. Raises ValueError if
    the output cannot be written, if a checkpoint belongs to another run, or if a loss is not finite.
    """
    output = None if output is None else Path(output)
    frozen = tuple(dict.fromkeys((frozen,) if isinstance(frozen, str) else frozen))
    if phrases is not None and not isinstance(model, ReferringSegmenter):
        raise ValueError("phrases= is for a ReferringSegmenter; this model has no masks to learn.")
    if isinstance(model, (ReportGenerator, ReferringSegmenter)):
        _check_settings(model, (policy, optimisation, augmentation, patience, frozen))
        settings = {"output": output, "resume": resume, "seed": seed, "progress": progress}
        if isinstance(model, ReferringSegmenter):
            return finetune_masks(model, cohort, phrases, epochs=epochs, **settings)
        return finetune_reports(model, cohort, epochs=epochs, **settings)
    epochs = 30 if epochs is None else epochs
    if isinstance(model, ReferenceModel):
        check_cohort(model, cohort)
        if output is not None:
            said = f"A {model.name} is refitted in seconds and not saved: {output} stays empty."
            warnings.warn(said, stacklevel=2)
        return fit_reference(model, cohort, policy, seed)
    settings = Settings(epochs, patience, policy, optimisation, augmentation, frozen, seed)
    check_progress(progress, output)
    cohort = check_inputs(model, cohort, frozen)
    accelerator = make_accelerator()
    with _output(output, model, accelerator, resume) as caches, in_training(model, accelerator, frozen):
        train, val = make_supplies(model, cohort, settings, caches, accelerator)
        session = _session(model, train, val, accelerator, settings, output)
        session.resume()
        reporter = _reporter(session, progress if accelerator.is_main_process else False)
        try:
            session.run(reporter)
        finally:
            reporter.close()
        run = Run(
            session.progress.history,
            session.progress.best_epoch,
            output,
            session.weights.effective,
            {"train": len(train), "val": 0 if val is None else len(val)},
        )
        finish(model, cohort, run, settings, accelerator)
    return run


# ------------------------------------------------------------------------------------------ before


def _check_settings(model: ReportGenerator | ReferringSegmenter, given: tuple) -> None:
    names = ("policy", "optimisation", "augmentation", "patience", "frozen")
    default = (Policy(), Optimisation(), Augmentation(), 10, ())
    wrong = [n for n, own, other in zip(names, given, default, strict=True) if own != other]
    if wrong:
        other = (
            "A ReportGenerator learns in stages: mmmed.training.finetune_reports(reporter, cohort, "
            "stages=[...])"
            if isinstance(model, ReportGenerator)
            else "A ReferringSegmenter learns by a recipe: mmmed.training.finetune_masks(segmenter, cohort, "
            "recipe=MaskRecipe(...))"
        )
        raise ValueError(f"{listing(wrong)} is for models that predict. {other}.")


def make_accelerator() -> Accelerator:
    from accelerate import Accelerator

    # Unless it is told that there are only CPUs, accelerate lets the processes of torchrun work side by side,
    # each on its own.
    cards = torch.cuda.is_available() or torch.backends.mps.is_available() or torch.xpu.is_available()
    return Accelerator(cpu=not cards)


def check_inputs(model: MultimodalModel, cohort: Cohort, frozen: Sequence[str]) -> Cohort:
    """The cohort as the model reads it."""
    for name in frozen:
        check_known(name, model.modalities, what="modality to freeze")
    check_cohort(model, cohort)
    if cohort.schema != model.schema:
        cohort = cohort.with_schema(model.schema)
    if not len(cohort["train"]):
        raise ValueError(
            "The cohort has no training records. Split it: cohort.split(), or name its split column."
        )
    return cohort


@contextmanager
def _output(
    output: Path | None, model: MultimodalModel, accelerator: Accelerator, resume: bool
) -> Iterator[Path]:
    """Make sure that the output can be written. -> folder for cached tokens (temporary without output)."""
    if output is None:
        with tempfile.TemporaryDirectory(prefix="mmmed-tokens-") as folder:
            yield Path(folder)
        return
    if accelerator.is_main_process:
        claim_output(output, model.state_dict().values(), resume)
    accelerator.wait_for_everyone()
    yield output / "tokens"


@contextmanager
def in_training(model: MultimodalModel, accelerator: Accelerator, frozen: Sequence[str]) -> Iterator[None]:
    """On the accelerator's device, some encoders frozen; afterwards torch's random stream is as before."""
    device = next(model.parameters()).device
    trained = [p for name in frozen for p in model.encoders[name].parameters() if p.requires_grad]
    try:
        with streams_kept(accelerator.device):
            for parameter in trained:
                parameter.requires_grad_(False)
            model.to(accelerator.device)
            yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        model.zero_grad(set_to_none=True)
        model.to(device)
        model.eval()


def make_supplies(
    model: MultimodalModel, cohort: Cohort, settings: Settings, caches: Path, accelerator: Accelerator
) -> tuple[Supply, Supply | None]:
    """Training and validation records, with cached tokens in place of what a frozen encoder reads."""
    plain = Collator(model.schema, cohort.missing_files, cohort.unreadable)
    stores = {}
    with accelerator.main_process_first():
        for name in settings.frozen:
            records = [record for part in ("train", "val") for record in cohort[part]]
            stores[name] = cache_tokens(model.encoders[name], name, records, plain, caches)
    collator = Collator(model.schema, cohort.missing_files, cohort.unreadable, tokens=stores)
    parts = [Readable(cohort[part], stores) if stores else cohort[part] for part in ("train", "val")]
    train, val = (make_supply(part, collator, workers=settings.optimisation.workers) for part in parts)
    check_learnable(model.modalities, train.present, train.known)
    return train, val


def _session(
    model: MultimodalModel,
    train: Supply,
    val: Supply | None,
    accelerator: Accelerator,
    settings: Settings,
    output: Path | None,
) -> Session:
    tasks, policy, seed = model.schema.tasks, settings.policy, settings.seed
    weights = cohort_weights(train, tasks, policy, seed)
    weights.warn(train.known)
    validation = None if val is None else Validation.of(val, train, tasks, policy, seed)
    # The norm and the sum over parts are the loop's business; of the accelerator only the exchange is wanted.
    wrapped = accelerator.prepare_model(model) if accelerator.num_processes > 1 else model
    optimiser = make_optimiser(model, settings.optimisation)
    loop = Loop(accelerator, model, wrapped, optimiser, train, tasks, settings)
    fingerprint = {}
    if output is not None:
        fingerprint = {
            **settings.facts(),
            "schema": schema_fingerprint(model.schema),
            "architecture": architecture_fingerprint(model),
            **supply_fingerprint(train, "training"),
            **supply_fingerprint(val, "validation"),
        }
    return Session(loop, validation, weights, output, fingerprint)


def _reporter(session: Session, progress: bool | str) -> Reporter:
    settings = session.loop.settings
    updates = count_updates(len(useful_rows(session.loop.supply)), settings.optimisation)
    done = session.progress.epoch * updates + session.progress.update
    return Reporter(progress, settings.epochs * updates, done, make_tracker(progress, session.output))


# ------------------------------------------------------------------------------------------ after


def finish(
    model: MultimodalModel, cohort: Cohort, run: Run, settings: Settings, accelerator: Accelerator
) -> None:
    """Calibrate on the validation records, note the facts, save."""
    model.calibration, model.conformal, model.thresholds = {}, {}, {}
    if len(cohort["val"]):
        calibrate(model, cohort["val"], patterns=settings.policy.weighs)
    patterns = np.unique(np.array(cohort["train"].present), axis=0).tolist()
    model.card = {**card_facts(run, settings, cohort.name), "patterns": patterns, "tables": {}}
    if run.folder is not None and accelerator.is_main_process:
        model.save_pretrained(run.folder / "model")
    accelerator.wait_for_everyone()


def card_facts(run: Run, settings: Settings, name: str) -> dict[str, Any]:
    """What the model card says about data and training."""
    policy, optimisation = settings.policy, settings.optimisation
    weights = "on" if policy.weighs else "off"
    facts: dict[str, Any] = {
        "epochs": f"{len(run.history)} of at most {settings.epochs}, weights of epoch {run.best_epoch}",
        "modality dropout": policy.dropout,
        "missingness": f"{policy.missingness}, inverse-pattern weights {weights}",
        **{f"effective sample size, {task}": round(size) for task, size in run.effective_sample_size.items()},
        "optimiser": f"AdamW, learning rate {optimisation.lr:g}, weight decay {optimisation.weight_decay:g}",
        "batch size": optimisation.batch_size * optimisation.accumulate,
        "precision": optimisation.precision,
        "frozen encoders": ", ".join(settings.frozen) or "none",
        "seed": settings.seed,
    }
    for key, label in (("val_loss", "validation loss"), ("val_auroc", "validation AUROC")):
        if run.best[key] is not None:
            facts[label] = round(run.best[key], 4)
    counts = " and ".join(f"{count:,} {part} records" for part, count in run.records.items())
    return {"data": f"{name or 'A cohort'}: {counts}.", "training": facts}
