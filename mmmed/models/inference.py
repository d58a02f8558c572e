"""Asking a model about a whole cohort, under any pattern of missing modalities, and calibrating it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mmmed.checks import listing
from mmmed.data.collate import Collator, read_targets
from mmmed.models.calibration import Pattern, can_show, fit_calibration, patterns_to_fit, probabilities
from mmmed.models.conformal import ENOUGH, SET_LEVEL, fit_conformal, prediction_set
from mmmed.models.multimodal import MultimodalModel
from mmmed.models.reference import Numbers, ReferenceModel
from mmmed.types import Binary, Outputs, Regression, Schema, Tokens

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort


def predict_proba(model: MultimodalModel, cohort: Cohort, batch_size: int = 64) -> dict[str, np.ndarray]:
    """Calibrated probabilities of every record: task -> [records outputs], rows in the order of the cohort.

    Binary: one column, P(positive); multilabel: one per label; regression: the number in its unit.
    """
    return predict_encoded(model, encode_cohort(model, cohort, batch_size))


@dataclass(frozen=True)
class Encoded:
    """Tokens of every record of a cohort, encoded once, to be fused under many patterns of missing
    modalities.

    tokens[modality], rows[modality] [n]: as in `Batch`; present [records modality] bool.
    """

    modalities: tuple[str, ...]
    tokens: Mapping[str, Tokens]
    rows: Mapping[str, Tensor]
    present: np.ndarray
    ids: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


def encode_cohort(
    model: MultimodalModel, cohort: Cohort, batch_size: int = 64, progress: bool = False
) -> Encoded:
    """Run the encoders over a cohort, each on the records that have its modality.

    A reference model has no encoders; it reads its numbers, and the result serves the same purpose.
    """
    if isinstance(model, ReferenceModel):
        return model.read(cohort)
    collator = Collator(schema_of(model), cohort.missing_files, cohort.unreadable)
    tokens: dict[str, list[Tokens]] = {name: [] for name in model.modalities}
    rows: dict[str, list[Tensor]] = {name: [] for name in model.modalities}
    present, ids, groups = [], [], []
    starts = range(0, len(cohort), batch_size)
    with asking(model):
        for start in _with_bar(starts) if progress else starts:
            batch = collator([cohort[i] for i in range(start, min(start + batch_size, len(cohort)))])
            for name, encoded in model.encode(batch.to(device_of(model))).items():
                tokens[name].append(Tokens(encoded.values.cpu(), encoded.mask.cpu()))
                rows[name].append(batch.rows[name] + start)
            present.append(batch.present)
            ids += batch.ids
            groups += batch.groups
    filled = [name for name in model.modalities if rows[name]]
    return Encoded(
        model.modalities,
        {name: _join(tokens[name]) for name in filled},
        {name: torch.cat(rows[name]) for name in filled},
        torch.cat(present).numpy() if present else np.zeros((0, len(model.modalities)), dtype=bool),
        np.array(ids, dtype=str),
        np.array(groups, dtype=str),
    )


def _with_bar(starts: range) -> Iterator[int]:
    from tqdm.auto import tqdm  # warns in a notebook without widgets, so only where a bar was asked for

    yield from tqdm(starts, desc="encoding", unit="batch")


def predict_encoded(
    model: MultimodalModel,
    encoded: Encoded,
    present: np.ndarray | None = None,
    batch_size: int = 1024,
    calibrated: bool = True,
) -> dict[str, np.ndarray]:
    """Probabilities (see `predict_proba`) with some modalities hidden: present [records modality] bool.

    What a record lacks stays absent whatever `present` says. The encoders do not run again. Each record is
    read by the calibration of the pattern that is left of it.
    """
    logits, here = logits_encoded(model, encoded, present, batch_size), _left(encoded, present)
    return {
        name: probabilities(task, logits[name], model.calibration.get(name) if calibrated else None, here)
        for name, task in schema_of(model).tasks.items()
    }


def logits_encoded(
    model: MultimodalModel, encoded: Encoded, present: np.ndarray | None = None, batch_size: int = 1024
) -> dict[str, np.ndarray]:
    """Raw outputs of the last step: task -> [records outputs]."""
    here = _left(encoded, present)
    if isinstance(model, ReferenceModel):
        return model.logits(encoded, here)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in model.heads}
    with asking(model):
        for start in range(0, max(len(encoded), 1), batch_size):
            outputs = _fuse_slice(model, encoded, torch.from_numpy(here[start : start + batch_size]), start)
            for name, chunks in parts.items():
                chunks.append(outputs[name].double().cpu().numpy())
    return {name: np.concatenate(chunks) for name, chunks in parts.items()}


def prediction_sets(
    model: MultimodalModel,
    cohort: Cohort | Encoded,
    present: np.ndarray | None = None,
    level: float = SET_LEVEL,
) -> dict[str, np.ndarray]:
    """What cannot be excluded at `level`, for every record and calibrated task; see `conformal`.

    Binary, multiclass: bool [records levels]. Multilabel: bool [records labels 2], absent and present.
    Regression: low and high [records 2] in its unit. present [records modality] hides as in
    `predict_encoded`.
    """
    encoded = cohort if isinstance(cohort, (Encoded, Numbers)) else encode_cohort(model, cohort)
    logits, here = logits_encoded(model, encoded, present), _left(encoded, present)
    return {
        name: prediction_set(task, logits[name], model.conformal[name], here, level)
        for name, task in schema_of(model).tasks.items()
        if name in model.conformal
    }


def calibrate(
    model: MultimodalModel, cohort: Cohort, seed: int = 0, patterns: bool = True
) -> MultimodalModel:
    """Fit `model.calibration`, `model.conformal` and, for binary tasks, `model.thresholds` on records the
    model was not trained on.

    A threshold is the probability above which sensitivity + specificity is largest on these records. A task
    without a known label here, or a binary one with a single class, stays as it is. patterns: also fit every
    pattern of presence by itself, on records reduced to it; False where absence is a symptom (the training
    policy "use"), since a record with something hidden is then not like one that never had it. -> the same
    model.
    """
    encoded = encode_cohort(model, cohort)
    logits, records = logits_encoded(model, encoded), list(cohort)
    reduced = reduced_logits(model, encoded) if patterns else {}
    for name, task in schema_of(model).tasks.items():
        targets, known = (tensor.numpy() for tensor in read_targets(name, task, records))
        classes = np.unique(targets[known]) if known.any() else ()
        if not isinstance(task, Regression) and len(classes) < 2:
            continue
        parts = {pattern: (rows, part[name]) for pattern, (rows, part) in reduced.items()} or None
        fitted = fit_calibration(task, logits[name], targets, known, encoded.groups, seed, parts)
        if fitted is None:
            continue
        model.calibration[name] = fitted
        model.conformal[name] = fit_conformal(task, logits[name], targets, known, encoded.groups, seed, parts)
        if isinstance(task, Binary):
            chances = probabilities(task, logits[name], fitted, encoded.present)[:, 0]
            model.thresholds[name] = _best_threshold(targets[known], chances[known])
    return model


def remarks(model: MultimodalModel, present: np.ndarray) -> list[str]:
    """What must be said about the calibration of one pattern of presence [modalities], in sentences."""
    names = [name for name, here in zip(model.modalities, present, strict=True) if here]
    inputs, said = " + ".join(names) or "nothing", []
    if not _was_trained(model, present):
        said.append(f"No training record had {inputs} together: how they add up is a guess.")
    fits = [fit for fit in model.calibration.values() if fit.patterns]
    if any(not fit.known(present) for fit in fits):
        said.append(f"No validation record had {inputs}: the general calibration is used.")
    sets = [model.conformal[name] for name in model.calibration if name in model.conformal]
    few = min((s.records(present) for s in sets if not s.plain and not s.own(present)), default=None)
    if few is not None:
        said.append(
            f"Only {few} validation records had {inputs} (at least {ENOUGH} are needed): the "
            f"{100 * SET_LEVEL:.0f} % sets rest on all patterns together."
        )
    return said


def _was_trained(model: MultimodalModel, present: np.ndarray) -> bool:
    """Did a training record show this pattern [modalities], as it came or after modality dropout?

    True where nothing is known about the training.
    """
    seen = model.card.get("patterns")
    if not seen or not np.any(present):
        return True
    rows = np.zeros((len(seen), len(present)), dtype=bool)  # a modality that was added later was in none
    for row, pattern in zip(rows, seen, strict=True):
        row[: len(pattern)] = pattern
    here = np.asarray(present, dtype=bool)
    dropped = bool(model.card.get("training", {}).get("modality dropout", 0))
    return bool((rows[:, here].all(axis=1) if dropped else (rows == here).all(axis=1)).any())


def check_cohort(model: MultimodalModel, cohort: Cohort) -> None:
    """The cohort must offer every modality of the model under the same columns."""
    for name, modality in schema_of(model).modalities.items():
        other = cohort.schema.modalities.get(name)
        if type(other) is type(modality) and other.columns == modality.columns:
            continue
        has = listing(other.columns) if other is not None else f"only {listing(cohort.schema.modalities)}"
        raise ValueError(
            f"The model reads {name!r} from {listing(modality.columns)}; the cohort has {has}. Build the "
            "model from this cohort's schema, or give it the model's: cohort.with_schema(model.schema)."
        )


# ---------------------------------------------------------------------------------------- inner workings


@contextmanager
def asking(model: MultimodalModel) -> Iterator[None]:
    """Evaluation mode without gradients, and the former mode of every part back afterwards."""
    modes = [
        (part, part.training) for part in model.modules()
    ]  # a frozen encoder may rest in evaluation mode
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for part, training in modes:
            part.training = training


def schema_of(model: MultimodalModel) -> Schema:
    if model.schema is None:
        raise ValueError(
            "This model has no schema, so records cannot be read: MultimodalModel(..., schema=schema)."
        )
    return model.schema


def device_of(model: MultimodalModel) -> torch.device:
    """Where the model lives."""
    return next(model.parameters()).device


def _left(encoded: Encoded, present: np.ndarray | None) -> np.ndarray:
    """What is there and stays: [records modality] bool."""
    return encoded.present if present is None else encoded.present & np.asarray(present, dtype=bool)


def reduced_logits(
    model: MultimodalModel, encoded: Encoded
) -> dict[Pattern, tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Pattern -> the rows that can be reduced to it, and task -> their logits [n outputs] when they are."""
    found = {}
    for pattern in patterns_to_fit(encoded.present):
        rows = np.flatnonzero(can_show(encoded.present, pattern))
        shown = np.zeros_like(encoded.present)
        shown[rows] = pattern
        logits = logits_encoded(model, encoded, shown)
        found[pattern] = rows, {name: values[rows] for name, values in logits.items()}
    return found


def _fuse_slice(model: MultimodalModel, encoded: Encoded, present: Tensor, start: int) -> Outputs:
    device = device_of(model)
    tokens, rows = {}, {}
    for index, name in enumerate(model.modalities):
        if name not in encoded.rows:
            continue
        positions = encoded.rows[name] - start
        inside = (positions >= 0) & (positions < len(present))
        chosen = inside.nonzero().squeeze(1)
        chosen = chosen[present[positions[chosen], index]]
        if len(chosen):
            part = encoded.tokens[name][chosen]
            tokens[name] = Tokens(part.values.to(device), part.mask.to(device))
            rows[name] = positions[chosen].to(device)
    return model.fuse(tokens, rows, present.to(device))


def _join(parts: list[Tokens]) -> Tokens:
    """Packed tokens one after the other; shorter ones are padded with masked tokens."""
    longest = max(part.mask.shape[1] for part in parts)

    def pad(part: Tokens) -> Tokens:
        extra = longest - part.mask.shape[1]
        values = torch.nn.functional.pad(part.values, (0, 0, 0, extra))
        return Tokens(values, torch.nn.functional.pad(part.mask, (0, extra)))

    padded = [pad(part) for part in parts]
    return Tokens(torch.cat([part.values for part in padded]), torch.cat([part.mask for part in padded]))


def _best_threshold(labels: np.ndarray, chances: np.ndarray) -> float:
    """Midway between the two neighbouring probabilities where sensitivity + specificity is largest (Youden
    1950)."""
    order = np.argsort(-chances, kind="stable")
    chances, labels = chances[order], labels[order]
    sensitivity = np.cumsum(labels) / max(labels.sum(), 1)
    false_alarms = np.cumsum(1 - labels) / max((1 - labels).sum(), 1)
    last = np.append(chances[1:] != chances[:-1], True)  # a threshold cannot part equal probabilities
    best = int(np.argmax(np.where(last, sensitivity - false_alarms, -np.inf)))
    below = chances[best + 1] if best + 1 < len(chances) else 0.0
    return float((chances[best] + below) / 2)
