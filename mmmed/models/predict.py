"""One record's prediction: the answer, the way to it, what each modality added, and what was missing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from mmmed.checks import check_known, suggestion
from mmmed.data.collate import Collator
from mmmed.models.calibration import interval, log_odds, probabilities
from mmmed.models.conformal import SET_LEVEL, names_in_set, prediction_set
from mmmed.models.inference import asking, device_of, remarks, schema_of
from mmmed.models.multimodal import MultimodalModel, check_sequential
from mmmed.models.reference import ReferenceModel
from mmmed.types import (
    Answer,
    Batch,
    Binary,
    Outputs,
    Partial,
    Prediction,
    Record,
    Regression,
    Schema,
    Tabular,
    Task,
    Tokens,
)
from mmmed.types.carried import CarriedState

MOST_EXACT = 10  # modalities up to which all subsets are enumerated (1,024 of them)


def predict(
    model: MultimodalModel,
    record: Record | Mapping[str, Any],
    *,
    until: str | None = None,
    missing_files: str = "error",
    unreadable: str = "error",
) -> Prediction:
    """What the model says about one record, and how each modality moved it.

    record: a `Record`, or a table row (column -> cell). until: stop after this modality, in the order of
    `model.modalities`; what comes later is not even read, as if it were not there yet. missing_files,
    unreadable: "error", or "absent" (the modality counts as not recorded). Every modality is encoded once;
    then all subsets of the present ones are fused, which gives the trajectory (adding one modality after the
    other in the order of fusion) and the exact Shapley contribution of each. Raises ValueError for cells,
    files or modalities that cannot be read.
    """
    _check_predicts(model)
    whole, notes = _read(record, schema_of(model))
    seen = whole
    if until is not None:
        check_known(until, model.modalities, what="modality")
        seen = whole.only(*model.modalities[: model.modalities.index(until) + 1])
        if unused := [name for name in whole.present if name not in seen.present]:
            notes.append(f"Stopped after {until}; recorded, but not looked at: {', '.join(unused)}.")
    collator = Collator(schema_of(model), missing_files, unreadable)
    said = _said(model, seen, collator, notes)
    later = set(whole.present) - set(seen.present)  # recorded, but not looked at
    return replace(said, missing=tuple(name for name in said.missing if name not in later))


def predict_partial(
    model: MultimodalModel,
    state: CarriedState | None,
    record: Record | Mapping[str, Any],
    *,
    missing_files: str = "error",
    unreadable: str = "error",
) -> Prediction:
    """Go on from `Prediction.state` of an earlier call with what has been recorded since.

    The earlier modalities are not needed again. A modality that the state has seen already counts as measured
    once more, as at a later visit. The result's `prior` is the answer of the state, its trajectory and
    contributions are those of the new modalities, and its `state` can be carried on in turn. state: None
    starts from nothing known. Raises ValueError for a state of another model, and for a fusion that carries
    none. Source: the states that MultiModN hands from visit to visit (Swamy et al., arXiv:2309.14118).
    """
    fresh, notes = _read(record, schema_of(model))
    check_sequential(getattr(model, "fusion", model))
    if state is not None and state.model != _checksum(model):
        raise ValueError(
            "This state comes from another model, or from this one before it was trained further. Predict "
            "again from the whole record."
        )
    return _said(model, fresh, Collator(schema_of(model), missing_files, unreadable), notes, state)


def _check_predicts(model: Any) -> None:
    if hasattr(model, "generate"):
        raise ValueError("This model writes reports and predicts no task: use model.generate(record).")


def _read(record: Record | Mapping[str, Any], schema: Schema) -> tuple[Record, list[str]]:
    """A record, and notes on columns that are probably misspelt."""
    if isinstance(record, Record):
        return record, []
    return Record.from_row(record, schema), _misspelt(record, schema)


def _said(
    model: MultimodalModel,
    record: Record,
    collator: Collator,
    notes: list[str],
    state: CarriedState | None = None,
) -> Prediction:
    """The prediction for what a record holds, from nothing known or from a carried state."""
    schema, batch = schema_of(model), collator([record])
    used = tuple(name for name in model.modalities if name in batch.values)
    subsets = _subsets(used)
    if isinstance(model, ReferenceModel):
        logits, carry = model.subset_logits(record.only(*used), subsets), None
    else:
        with asking(model):
            tokens = model.encode(batch.to(device_of(model)))
            outputs = _fuse_subsets(model, tokens, subsets, state)
        logits = {name: outputs[name].double().cpu().numpy() for name in outputs}
        carry = outputs.fused.carry
    before = () if state is None else state.used
    present = np.array([[n in subset or n in before for n in model.modalities] for subset in subsets])
    answers = {
        name: _answer(
            task,
            logits[name],
            present,
            used,
            subsets,
            model.calibration.get(name),
            model.conformal.get(name),
        )
        for name, task in schema.tasks.items()
    }
    known = tuple(name for name in model.modalities if name in used or name in before)
    notes = [*notes, *batch.notes[0]]
    if before:
        notes.append(f"Goes on from an earlier state that had seen {', '.join(before)}.")
    if not known:
        notes.append(
            "Nothing was recorded: this is what the model expects of anybody, not a finding about this "
            "patient."
        )
    notes += remarks(model, present[-1])
    missing = tuple(name for name in model.modalities if name not in known)
    empty, left = _empty_cells(schema, batch), _carried(model, carry, known)
    return Prediction(record.id, answers, used, missing, empty, tuple(notes), left)


def _carried(model: MultimodalModel, carry: Tensor | None, known: tuple[str, ...]) -> CarriedState | None:
    """What `predict_partial` needs: the state after all that is known (the last subset)."""
    if carry is None:
        return None
    last = carry[-1].float().cpu()
    return CarriedState(tuple(last.flatten().tolist()), tuple(last.shape), known, _checksum(model))


def _checksum(model: MultimodalModel) -> int:
    """A number that changes when the weights of the fusion or of a head do."""
    number = 0
    for part in (model.fusion, model.heads):
        for tensor in part.state_dict().values():
            number = crc32(tensor.detach().cpu().contiguous().numpy().tobytes(), number)
    return number


def _misspelt(row: Mapping[str, Any], schema: Schema) -> list[str]:
    """A note for every column that the model does not read but whose name is close to one it does."""
    known = [*schema.columns, *(column for task in schema.tasks.values() for column in task.columns)]
    known += [name for name in (schema.group, schema.id) if name]
    hints = {name: suggestion(name, schema.columns) for name in row if name not in known}
    return [
        f'The row has "{name}", which the model does not read.{hint}' for name, hint in hints.items() if hint
    ]


def shapley(values: Mapping[frozenset[str], float], names: tuple[str, ...]) -> dict[str, float]:
    """Exact Shapley values: how much each name adds, averaged over all orders (Shapley 1953).

    values: subset of names -> value, for all 2^n subsets. The results add up to the value of all minus that
    of none.
    """
    total = math.factorial(len(names))
    shares = dict.fromkeys(names, 0.0)
    for name in names:
        others = [other for other in names if other != name]
        for size in range(len(names)):
            weight = math.factorial(size) * math.factorial(len(names) - size - 1) / total
            for before in combinations(others, size):
                with_it = values[frozenset((*before, name))]
                shares[name] += weight * (with_it - values[frozenset(before)])
    return shares


def _subsets(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """All subsets, smallest first; beyond MOST_EXACT names only the prefixes in order."""
    if len(names) > MOST_EXACT:
        return [names[:size] for size in range(len(names) + 1)]
    return [subset for size in range(len(names) + 1) for subset in combinations(names, size)]


def _fuse_subsets(
    model: MultimodalModel,
    tokens: Mapping[str, Tokens],
    subsets: list[tuple[str, ...]],
    state: CarriedState | None = None,
) -> Outputs:
    """One record as a batch: row i sees subset i of its modalities, all from the same state."""
    device = device_of(model)
    present = torch.tensor(
        [[name in subset for name in model.modalities] for subset in subsets], device=device
    )
    rows, repeated = {}, {}
    for name, single in tokens.items():
        rows[name] = present[:, model.modalities.index(name)].nonzero().squeeze(1)
        size = len(rows[name])
        repeated[name] = Tokens(*(t.expand(size, *t.shape[1:]) for t in (single.values, single.mask)))
    if state is None:
        return model.fuse(repeated, rows, present)
    carry = torch.tensor(state.values, device=device).reshape(1, *state.shape)
    return model.fuse(repeated, rows, present, state=carry.expand(len(subsets), *state.shape))


def _answer(
    task: Task,
    logits: np.ndarray,
    present: np.ndarray,
    used: tuple[str, ...],
    subsets: list[tuple[str, ...]],
    calibration: Any,
    conformal: Any,
) -> Answer:
    """logits [subset outputs], present [subset modality], subsets as `_subsets` lists them (none first, all
    last)."""
    chances = probabilities(task, logits, calibration, present)
    keys = _keys(task)
    place = {frozenset(subset): row for row, subset in enumerate(subsets)}
    named = [{key: float(value) for key, value in zip(keys, row, strict=True)} for row in chances]
    way = [(name, named[place[frozenset(used[: i + 1])]]) for i, name in enumerate(used)]
    leading = int(chances[-1].argmax())
    scale = chances[:, leading] if isinstance(task, Regression) else log_odds(chances[:, leading])
    contributions = {}
    if len(used) <= MOST_EXACT:
        contributions = shapley({subset: float(scale[row]) for subset, row in place.items()}, used)
    left = None
    if calibration is not None and conformal is not None:
        left = names_in_set(task, prediction_set(task, logits[-1:], conformal, present[-1:], SET_LEVEL)[0])
    kind, unit = type(task).__name__.lower(), getattr(task, "unit", None)
    bounds = _bounds(task, logits, present, calibration, keys)
    parts = {seen: Partial(named[row], bounds[row]) for row, seen in enumerate(subsets)}
    return Answer(kind, named[-1], named[0], tuple(way), contributions, bounds[-1], unit, left, parts)


def _bounds(
    task: Task, logits: np.ndarray, present: np.ndarray, calibration: Any, keys: tuple[str, ...]
) -> list[dict[str, tuple[float, float]]]:
    """The interval of every subset; empty ones if the model was never calibrated."""
    if calibration is None:
        return [{} for _ in logits]
    low, high = interval(task, logits, calibration, present)
    pairs = np.stack([low, high], axis=-1).tolist()
    return [{key: tuple(pair) for key, pair in zip(keys, row, strict=True)} for row in pairs]


def _keys(task: Task) -> tuple[str, ...]:
    if isinstance(task, Binary):
        return (task.levels[1],)
    return getattr(task, "levels", None) or task.columns


def _empty_cells(schema: Schema, batch: Batch) -> dict[str, tuple[str, ...]]:
    """Columns that are not known although their table is there."""
    empty = {}
    for name, modality in schema.modalities.items():
        if isinstance(modality, Tabular) and name in batch.values:
            known = batch.values[name]["known"][0].tolist()
            columns = tuple(c for c, here in zip(modality.columns, known, strict=True) if not here)
            if columns:
                empty[name] = columns
    return empty
