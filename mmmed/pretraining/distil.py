"""Distillation from module to module: one encoder learns from a stronger one, inside a fusion that stays as
it is.

Source: m2mKD (Lo et al., arXiv:2402.16918). There a large teacher and a small student are cut into modules,
and each student module learns from its counterpart through a small *meta model* that both are put into and
that is frozen. Here the modules are the encoders of one modality and the meta model is the trained
`MultimodalModel` itself: its fusion, its heads and its other encoders are frozen.

    y_T = heads(fusion(other tokens, stitch(teacher(x))))     y_S the same with the student
    loss = (1 - alpha) CE(y_S, y) + alpha tau^2 KL(y_T || y_S)

Differs: other modalities are hidden at random, so the student also learns to answer alone; tasks of all kinds
(see `mmmed.losses.distillation`); a record without a label learns from the teacher alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mmmed.checks import check_count, check_known, check_share, plain
from mmmed.data.collate import Collator
from mmmed.losses.distillation import distillation_loss
from mmmed.losses.stepwise import labelled, task_loss
from mmmed.models.create import Part, create_model, seeded
from mmmed.models.inference import calibrate, check_cohort, device_of
from mmmed.models.multimodal import MultimodalModel, encode
from mmmed.pretraining.fit import fit
from mmmed.pretraining.lessons import Lesson, Lessons, make_lessons
from mmmed.training.optimisation import Optimisation
from mmmed.training.run import Run
from mmmed.types import Outputs, Tokens

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort


class Stitch(nn.Module):
    """A linear layer between an encoder and a fusion that was trained without it: Tokens [n tokens width] ->
    [n tokens dim]. Of equal widths it begins by changing nothing."""

    def __init__(self, width: int, dim: int):
        super().__init__()
        self.linear = nn.Linear(width, dim)
        if width == dim:
            nn.init.eye_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)

    def forward(self, tokens: Tokens) -> Tokens:
        return Tokens(self.linear(tokens.values), tokens.mask)


class StitchedEncoder(nn.Module):
    """An encoder whose tokens have another width than the fusion wants, with the layer that mends it."""

    def __init__(self, encoder: nn.Module, width: int, dim: int):
        super().__init__()
        self.encoder, self.stitch, self.dim = encoder, Stitch(width, dim), dim

    def forward(self, *values: Any, **named: Any) -> Tokens:
        return self.stitch(encode(self.encoder, named or values[0]))


def distil_encoder(
    model: MultimodalModel,
    modality: str,
    teacher: nn.Module,
    cohort: Cohort,
    student: Part | None = None,
    *,
    alpha: float = 0.5,
    tau: float = 1.0,
    per: str = "record",
    epochs: int = 30,
    dropout: float = 0.5,
    optimisation: Optimisation = Optimisation(),  # noqa: B008 (frozen)
    seed: int = 0,
) -> Run:
    """Let a student encoder learn from `teacher`, and put it into the model; no other weight changes.

    teacher: an encoder of the same modality that is good already (pretrained, larger, trained on more
    records); its tokens may have another width. It is not trained: a linear layer fits its tokens to the
    fusion first. student: a module, a catalogue name or a pair (name, options) as for `create_model`; None
    goes on with a copy of the encoder that the model has. If its tokens are of another width, it too gets
    such a layer. alpha: weight of the teacher against the labels, 0 to 1; tau: temperature; per: see
    `distillation_loss` ("number" is the divisor of the released code). dropout: share of the other modalities
    that is hidden in each epoch.

    Only training records that have the modality are opened. The epoch is chosen on the validation records
    that have it: the mean of this loss as recorded and with the modality alone. Calibration is fitted anew.
    Raises ValueError for an unknown modality, a teacher that gives no tokens, or if no training record has
    the modality.
    """
    check_known(modality, model.modalities, what="modality to distil")
    check_share(alpha, name="alpha")
    check_share(dropout, name="dropout")
    check_count(epochs, name="epochs")
    check_cohort(model, cohort)
    if cohort.schema != model.schema:
        cohort = cohort.with_schema(model.schema)
    recipe = _Recipe(modality, alpha, tau, per, epochs, dropout, optimisation, seed)
    pupil, description = _student(model, modality, student, seed)
    with _frozen(model, teacher), tempfile.TemporaryDirectory(prefix="mmmed-tokens-") as folder:
        train, val = _lessons(model, modality, teacher, cohort, Path(folder))
        with seeded(seed):
            pupil = _widened(model, modality, pupil, train)
            stitch = Stitch(next(train.recorded(1)).teacher.values.shape[2], _width(model, modality, train))
        stitch.to(device_of(model))
        history, best = _learn(model, pupil, stitch, train, val, recipe)
    model.encoders[modality] = pupil.eval()
    if model.config is not None:
        model.config["encoders"][modality] = description if not isinstance(pupil, StitchedEncoder) else None
    plain = bool(model.calibration) and not any(fit.patterns for fit in model.calibration.values())
    model.calibration, model.conformal, model.thresholds = {}, {}, {}
    if len(cohort["val"]):
        calibrate(model, cohort["val"], patterns=not plain)  # as the policy of its training had it
    run = Run(history, best, records={"train": len(train.rows), "val": 0 if val is None else len(val.rows)})
    model.card = _card(model.card, run, recipe, teacher)
    return run


# ------------------------------------------------------------------------------------------ inner workings


@dataclass(frozen=True)
class _Recipe:
    modality: str
    alpha: float
    tau: float
    per: str
    epochs: int
    dropout: float
    optimisation: Optimisation
    seed: int


def _learn(
    model: MultimodalModel,
    pupil: nn.Module,
    stitch: Stitch,
    train: Lessons,
    val: Lessons | None,
    recipe: _Recipe,
) -> tuple[list[dict[str, Any]], int]:
    """First the stitch of the teacher by the labels, then the student by labels and teacher."""

    def taught(lesson: Lesson) -> Outputs:
        return _answer(model, lesson, recipe.modality, stitch(lesson.teacher))

    def fitting(lesson: Lesson) -> Tensor:
        return _label_loss(model, taught(lesson), lesson)

    def learning(lesson: Lesson) -> Tensor:
        with torch.no_grad():
            target = taught(lesson)
        tokens = encode(pupil, lesson.batch.values[recipe.modality])
        answer = _answer(model, lesson, recipe.modality, tokens)
        return _transfer_loss(model, answer, target, lesson, recipe)

    if train.labelled:
        gentle = replace(
            recipe.optimisation, weight_decay=0.0
        )  # decay would pull it to 0, not to the identity
        _fit(stitch, fitting, train, val, replace(recipe, optimisation=gentle))
    return _fit(pupil, learning, train, val, recipe)


def _fit(
    part: nn.Module, loss: Callable[[Lesson], Tensor], train: Lessons, val: Lessons | None, recipe: _Recipe
) -> tuple[list[dict[str, Any]], int]:
    size, seed = recipe.optimisation.batch_size, recipe.seed

    def score() -> Mapping[str, float | None]:
        recorded, hidden = _mean(loss, val.recorded()), _mean(loss, val.alone())
        return {
            "val_loss": (recorded + hidden) / 2,
            "val_loss_recorded": recorded,
            "val_loss_hidden": hidden,
        }

    return fit(
        part,
        lambda epoch: train.epoch(epoch, size, recipe.dropout, seed),
        lambda lesson, step: loss(lesson),
        updates=train.updates(size),
        epochs=recipe.epochs,
        optimisation=recipe.optimisation,
        seed=seed,
        score=None if val is None else score,
    )


def _mean(loss: Callable[[Lesson], Tensor], lessons: Iterator[Lesson]) -> float:
    """Mean over records; the parts may be of different size."""
    with torch.inference_mode():
        pairs = [(float(loss(lesson)), len(lesson.batch)) for lesson in lessons]
    return sum(value * count for value, count in pairs) / sum(count for _, count in pairs)


def _answer(model: MultimodalModel, lesson: Lesson, modality: str, tokens: Tokens) -> Outputs:
    """The frozen rest of the model, with these tokens in the place of the modality."""
    batch = lesson.batch
    return model.fuse(
        {**model.encode(_without(batch, modality)), modality: tokens}, batch.rows, batch.present
    )


def _without(batch: Any, modality: str) -> Any:
    """The batch without the values that the model's own encoder would read."""
    return replace(batch, values={name: v for name, v in batch.values.items() if name != modality})


def _label_loss(model: MultimodalModel, outputs: Outputs, lesson: Lesson) -> Tensor:
    """Loss of the final answers against the known labels: the mean over records, then over tasks. 0 if none
    is known."""
    total = 0.0
    for name, task in model.schema.tasks.items():
        target, known = lesson.batch.targets[name], lesson.batch.known[name]
        loss = task_loss(task, outputs[name][:, None], target, known)[:, 0]
        total = total + loss.sum() / labelled(known).sum().clamp(min=1)
    return total / len(model.schema.tasks)


def _transfer_loss(
    model: MultimodalModel, student: Outputs, teacher: Outputs, lesson: Lesson, recipe: _Recipe
) -> Tensor:
    """(1 - alpha) of the labels' loss + alpha of the distance from the teacher, on the rows that have the
    modality."""
    rows = lesson.batch.rows[recipe.modality]
    distances = [
        distillation_loss(task, student[name][rows], teacher[name][rows], recipe.tau, recipe.per).mean()
        for name, task in model.schema.tasks.items()
    ]
    far = sum(distances) / len(distances)
    return (1 - recipe.alpha) * _label_loss(model, student, lesson) + recipe.alpha * far


@contextmanager
def _frozen(model: MultimodalModel, teacher: nn.Module) -> Iterator[None]:
    """Nothing of the model or the teacher learns or drops out; afterwards everything is as before."""
    parts = [part for whole in (model, teacher) for part in whole.modules()]
    modes = [(part, part.training) for part in parts]
    wanted = [(p, p.requires_grad) for p in model.parameters()]
    place = next((p.device for p in teacher.parameters()), None)
    try:
        model.eval()
        teacher.to(device_of(model)).eval()
        for parameter, _ in wanted:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, wants in wanted:
            parameter.requires_grad_(wants)
        for part, training in modes:
            part.training = training
        if place is not None:
            teacher.to(place)


def _student(
    model: MultimodalModel, modality: str, student: Part | None, seed: int
) -> tuple[nn.Module, dict[str, Any] | None]:
    """-> the encoder that is to learn, and how to build it again (None if it came ready-made)."""
    kept = None if model.config is None else model.config["encoders"].get(modality)
    if student is None:
        return deepcopy(model.encoders[modality]), kept
    if isinstance(student, nn.Module):
        return student.to(device_of(model)), None
    dim = getattr(model.encoders[modality], "dim", None) or model.config["dim"]
    built = create_model(model.schema, encoders={modality: student}, dim=dim, seed=seed)
    return built.encoders[modality].to(device_of(model)), built.config["encoders"][modality]


def _lessons(
    model: MultimodalModel, modality: str, teacher: nn.Module, cohort: Cohort, folder: Path
) -> tuple[Lessons, Lessons | None]:
    train = cohort["train"]
    _check_teacher(model, modality, teacher, train)
    lessons = make_lessons(model, modality, teacher, train, folder)
    if lessons is None:
        raise ValueError(_nobody(modality))
    val = make_lessons(model, modality, teacher, cohort["val"], folder) if len(cohort["val"]) else None
    return lessons, val


def _nobody(modality: str) -> str:
    return (
        f"No training record has the modality {modality!r}, so its encoder cannot learn. Give a cohort whose "
        "training part has it."
    )


def _check_teacher(model: MultimodalModel, modality: str, teacher: nn.Module, train: Any) -> None:
    """One record through the teacher before all of them: it must give tokens."""
    record = next((r.only(modality) for r in train if modality in r.inputs), None)
    if record is None:
        raise ValueError(_nobody(modality))
    batch = Collator(model.schema, train.missing_files, train.unreadable)([record])
    if modality not in batch.values:
        return  # its file cannot be read, and the policy is to go on
    with torch.inference_mode():
        tokens = encode(teacher, batch.to(device_of(model)).values[modality])
    shapes = list(tokens.values.shape), list(tokens.mask.shape)
    if tokens.values.ndim != 3 or shapes[0][0] != 1 or shapes[1] != shapes[0][:2]:
        raise ValueError(
            f"The teacher of {modality!r} should give Tokens of values [n tokens dim] and mask [n tokens], "
            f"got {shapes[0]} and {shapes[1]} for one record. Flatten maps into tokens: maps.flatten(2).mT."
        )


def _card(card: Mapping[str, Any], run: Run, recipe: _Recipe, teacher: nn.Module) -> dict[str, Any]:
    """The model card's facts: what was done, without the figures of the model before."""
    stale = ("validation loss", "validation AUROC")
    facts = {name: fact for name, fact in card.get("training", {}).items() if name not in stale}
    facts[f"distilled, {recipe.modality}"] = (
        f"from {type(teacher).__name__} on {run.records['train']:,} records, alpha {recipe.alpha:g}, "
        f"tau {recipe.tau:g}, weights of epoch {run.best_epoch} of {recipe.epochs}"
    )
    return {**card, "training": facts, "tables": {}}


def _widened(model: MultimodalModel, modality: str, pupil: nn.Module, train: Lessons) -> nn.Module:
    """The student, with a linear layer behind it if its tokens are of another width than the fusion's."""
    wanted = _width(model, modality, train)
    width = _measured(pupil, modality, train)
    return pupil if width == wanted else StitchedEncoder(pupil, width, wanted).to(device_of(model))


def _width(model: MultimodalModel, modality: str, train: Lessons) -> int:
    return _measured(model.encoders[modality], modality, train)


def _measured(encoder: nn.Module, modality: str, train: Lessons) -> int:
    """Width of an encoder's tokens, seen on one record."""
    training = encoder.training
    encoder.eval()
    with torch.inference_mode():
        tokens = encode(encoder, next(train.recorded(1)).batch.values[modality])
    encoder.train(training)
    if tokens.values.ndim != 3:
        raise ValueError(
            f"A student should give Tokens [n tokens dim], got values {plain(list(tokens.values.shape))}."
        )
    return tokens.values.shape[2]
