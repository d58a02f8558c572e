"""One record's prediction: the answer, the way to it, what each modality added, and what was missing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import torch

from mmmed.checks import suggestion
from mmmed.data.collate import Collator
from mmmed.models.calibration import interval, log_odds, probabilities
from mmmed.models.inference import asking, device_of, schema_of
from mmmed.models.multimodal import MultimodalModel
from mmmed.types import (
    Answer,
    Batch,
    Binary,
    Outputs,
    Prediction,
    Record,
    Regression,
    Schema,
    Tabular,
    Task,
    Tokens,
)

MOST_EXACT = 10  # modalities up to which all subsets are enumerated (1,024 of them)


def predict(
    model: MultimodalModel,
    record: Record | Mapping[str, Any],
    *,
    missing_files: str = "error",
    unreadable: str = "error",
) -> Prediction:
    """What the model says about one record, and how each modality moved it.

    record: a `Record`, or a table row (column -> cell). missing_files, unreadable: "error", or "absent" (the
    modality counts as not recorded). Every modality is encoded once; then all subsets of the present ones are
    fused, which gives the trajectory (adding one modality after the other in the order of fusion) and the
    exact Shapley contribution of each. Raises ValueError for cells, files or modalities that cannot be read.
    """
    schema = schema_of(model)
    notes: list[str] = []
    if not isinstance(record, Record):
        notes += _misspelt(record, schema)
        record = Record.from_row(record, schema)
    batch = Collator(schema, missing_files, unreadable)([record])
    with asking(model):
        tokens = model.encode(batch.to(device_of(model)))
        used = tuple(name for name in model.modalities if name in tokens)
        subsets = _subsets(used)
        outputs = _fuse_subsets(model, tokens, subsets)
    answers = {
        name: _answer(task, outputs[name].double().cpu().numpy(), used, subsets, model.calibration.get(name))
        for name, task in schema.tasks.items()
    }
    missing = tuple(name for name in model.modalities if name not in used)
    notes += batch.notes[0]
    if not used:
        notes.append(
            "Nothing was recorded: this is what the model expects of anybody, not a finding about this "
            "patient."
        )
    return Prediction(record.id, answers, used, missing, _empty_cells(schema, batch), tuple(notes))


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
    model: MultimodalModel, tokens: Mapping[str, Tokens], subsets: list[tuple[str, ...]]
) -> Outputs:
    """One record as a batch: row i sees subset i of its modalities."""
    device = device_of(model)
    present = torch.tensor(
        [[name in subset for name in model.modalities] for subset in subsets], device=device
    )
    rows, repeated = {}, {}
    for name, single in tokens.items():
        rows[name] = present[:, model.modalities.index(name)].nonzero().squeeze(1)
        size = len(rows[name])
        repeated[name] = Tokens(*(t.expand(size, *t.shape[1:]) for t in (single.values, single.mask)))
    return model.fuse(repeated, rows, present)


def _answer(
    task: Task, logits: np.ndarray, used: tuple[str, ...], subsets: list[tuple[str, ...]], calibration: Any
) -> Answer:
    """logits [subset outputs], subsets as `_subsets` lists them (none first, all last)."""
    chances = probabilities(task, logits, calibration)
    keys = _keys(task)
    place = {frozenset(subset): row for row, subset in enumerate(subsets)}
    named = [{key: float(value) for key, value in zip(keys, row, strict=True)} for row in chances]
    way = [(name, named[place[frozenset(used[: i + 1])]]) for i, name in enumerate(used)]
    leading = int(chances[-1].argmax())
    scale = chances[:, leading] if isinstance(task, Regression) else log_odds(chances[:, leading])
    contributions = {}
    if len(used) <= MOST_EXACT:
        contributions = shapley({subset: float(scale[row]) for subset, row in place.items()}, used)
    bounds = {}
    if calibration is not None:
        low, high = interval(task, logits[-1], calibration)
        bounds = {key: (float(a), float(b)) for key, a, b in zip(keys, low, high, strict=True)}
    kind, unit = type(task).__name__.lower(), getattr(task, "unit", None)
    return Answer(kind, named[-1], named[0], tuple(way), contributions, bounds, unit)


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
