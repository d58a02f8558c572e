"""Asking a model under many masks: encoders run once, each mask is asked once, and a killed run goes on.

Answers are kept in files named by a fingerprint of the mask, of the model (its weights and its calibration)
and of the records (ids and cells). A model without weights to look at is always asked again. What a cell only
points to (the file of a picture) is not part of the fingerprint.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterable
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.evaluation.scores import write_whole
from mmmed.evaluation.tasks import answers_of, as_probabilities, kind_of

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort

Ask = Callable[[np.ndarray], dict[str, np.ndarray]]


def asker_of(model: Any, cohort: Cohort) -> Ask:
    """A function from stays [records modality] bool to {task: probabilities}.

    model: of this package (encoders run once, here), anything with `asker(cohort)`, or a function of a cohort
    (called once per mask).
    """
    if hasattr(model, "asker"):
        ask = model.asker(cohort)
    elif hasattr(model, "encode"):
        ask = _encoded_asker(model, cohort)
    else:
        return lambda stays: answers_of(model, cohort.keep(stays))

    def shaped(stays: np.ndarray) -> dict[str, np.ndarray]:
        said = ask(np.asarray(stays, dtype=bool))
        return {task: as_probabilities(task, kind_of(cohort, task), values) for task, values in said.items()}

    return shaped


def _encoded_asker(model: Any, cohort: Cohort) -> Ask:
    from mmmed.models.inference import check_cohort, encode_cohort, predict_encoded

    check_cohort(model, cohort)
    encoded = encode_cohort(model, cohort)
    order = [list(cohort.schema.modalities).index(name) for name in encoded.modalities]
    return lambda stays: predict_encoded(model, encoded, stays[:, order])


def is_cheap(model: Any) -> bool:
    """Does a further mask cost little, because nothing has to be read or encoded again?"""
    return hasattr(model, "asker") or hasattr(model, "encode")


class Answers:
    """One model's answers about one cohort: `answers(stays)` -> {task: probabilities}, each mask asked once.

    folder: where they are kept for a run that goes on; None = nowhere.
    """

    def __init__(self, model: Any, cohort: Cohort, folder: Path | None = None):
        self.model, self.cohort = model, cohort
        self.kept: dict[bytes, dict[str, np.ndarray]] = {}
        self.prefix = None if folder is None else fingerprint(model, cohort)
        self.folder = folder

    def __call__(self, stays: np.ndarray) -> dict[str, np.ndarray]:
        stays = np.asarray(stays, dtype=bool)
        key = stays.tobytes()
        if key not in self.kept:
            self.kept[key] = self._remembered(stays)
        return self.kept[key]

    def ask_all(self, masks: Iterable[np.ndarray], tick: Callable[[], Any] = lambda: None) -> None:
        """Ask every mask, then let go of what was encoded for it. tick: called after each."""
        for stays in masks:
            self(stays)
            tick()
        self.__dict__.pop("_ask", None)

    @cached_property
    def _ask(self) -> Ask:
        """Made when the first mask has to be asked: a run that only goes on encodes nothing."""
        return asker_of(self.model, self.cohort)

    def _remembered(self, stays: np.ndarray) -> dict[str, np.ndarray]:
        if self.folder is None or self.prefix is None:
            return self._ask(stays)
        path = self.folder / f"{_digest([self.prefix, stays])}.npz"
        known = _read(path, len(self.cohort))
        if known is None:
            known = self._ask(stays)
            _write(path, known)
        return known


def fingerprint(model: Any, cohort: Cohort) -> str | None:
    """What makes two answers the same but for the mask; None for a model whose weights cannot be seen."""
    if not hasattr(model, "state_dict") or not hasattr(model, "encode"):
        return None
    calibration = {name: fit.to_dict() for name, fit in model.calibration.items()}
    facts = [model.schema.to_dict(), model.config, calibration, repr(model)]
    parts: list[Any] = [json.dumps(facts, sort_keys=True)]
    for name, tensor in model.state_dict().items():
        parts += [name, tensor.detach().cpu().float().numpy()]
    parts += cohort.ids.tolist()
    for column in cohort.schema.columns:
        parts.append(column)
        for cell in cohort.column(column):
            parts += [
                part if isinstance(part, np.ndarray) else repr(part)
                for part in (cell if isinstance(cell, (list, tuple)) else [cell])  # several views
            ]
    return _digest(parts)


def _digest(parts: Iterable[str | np.ndarray]) -> str:
    """32 hexadecimal digits of texts and arrays."""
    total = blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, np.ndarray):
            total.update(f"{part.dtype}{part.shape}".encode())
            total.update(np.ascontiguousarray(part).tobytes())
        else:
            total.update(part.encode())
        total.update(b"\0")
    return total.hexdigest()


def _write(path: Path, answers: dict[str, np.ndarray]) -> None:
    content = io.BytesIO()
    arrays = {f"answer{k}": values for k, values in enumerate(answers.values())}
    np.savez(content, tasks=np.array(list(answers), dtype=np.str_), **arrays)
    write_whole(path, content.getvalue())


def _read(path: Path, records: int) -> dict[str, np.ndarray] | None:
    """What `_write` wrote; None if there is nothing, or nothing whole."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            answers = {str(task): file[f"answer{k}"] for k, task in enumerate(file["tasks"])}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return answers if all(len(values) == records for values in answers.values()) else None
