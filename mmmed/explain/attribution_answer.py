"""One answer as a function of what one modality holds, everything else as it was recorded."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from mmmed.checks import check_known, listing
from mmmed.data.collate import Collator
from mmmed.models.calibration import Calibration
from mmmed.models.inference import device_of, schema_of
from mmmed.models.multimodal import MultimodalModel, encode
from mmmed.types import Batch, Binary, Image, Multiclass, Record, Regression, Task, Tokens, Volume


@dataclass(frozen=True)
class Question:
    """What is asked: how likely is this level, given `values` in one modality and the rest of the record?

    values: what the encoder of `modality` takes, one row; tokens: of the other modalities that are present;
    present [1 modality]; level: which output; fit: the calibration of this pattern of presence.
    """

    model: MultimodalModel
    modality: str
    values: Mapping[str, Tensor]
    tokens: Mapping[str, Tokens]
    present: Tensor
    task: str
    level: int
    fit: Calibration | None

    @property
    def kind(self) -> Task:
        return schema_of(self.model).tasks[self.task]

    @property
    def name(self) -> str:
        """The level in words: the positive one, a class, a label, or the column of a number."""
        return levels_of(self.kind)[self.level]

    @property
    def unit(self) -> str:
        """What the answer is counted in."""
        return (self.kind.unit or "units") if isinstance(self.kind, Regression) else "log-odds"

    def __call__(self, values: Mapping[str, Tensor]) -> Tensor:
        """Calibrated log-odds of the level (regression: the number in its unit) for n rows: [n] double.

        Differentiable in values. The same figure that `mmmed.predict` gives for the whole record.
        """
        return _log_odds(self.kind, self.outputs(values), self.fit, self.level)

    def outputs(self, values: Mapping[str, Tensor]) -> Tensor:
        """Raw outputs of the task, [n outputs]."""
        seen = encode(self.model.encoders[self.modality], values)
        count = len(seen.mask)
        rest = {
            name: Tokens(*(part.expand(count, *part.shape[1:]) for part in (item.values, item.mask)))
            for name, item in self.tokens.items()
        }
        tokens = {
            name: rest.get(name, seen) for name in self.model.modalities if name in (*rest, self.modality)
        }
        rows = dict.fromkeys(tokens, torch.arange(count, device=seen.mask.device))
        return self.model.fuse(tokens, rows, self.present.expand(count, -1))[self.task]


def ask_about(
    model: MultimodalModel, record: Record, modality: str | None, task: str | None, level: str | None
) -> Question:
    """The question that a record, a modality, a task and a level make.

    modality: None = the first picture or volume that is there; task: None = the only one; level: None = the
    leading one. The model is left as it is. Raises ValueError for what cannot be asked.
    """
    if not isinstance(model, MultimodalModel):
        raise ValueError(
            "Only a network that answers tasks can be asked what moved its answer, got a "
            f"{type(model).__name__}. Pass a model with a fusion, such as mmmed.create_model(schema)."
        )
    schema, model = schema_of(model), _resting(model)
    task = _only_task(schema.tasks) if task is None else check_known(task, schema.tasks, what="task")
    batch = Collator(schema)([record]).to(device_of(model))
    modality = _chosen(model, record, batch, modality)
    others = {name: values for name, values in batch.values.items() if name != modality}
    tokens = {name: encode(model.encoders[name], values) for name, values in others.items()}
    fit = model.calibration.get(task)
    fit = None if fit is None else fit.of(batch.present[0].cpu().numpy())
    question = Question(model, modality, batch.values[modality], tokens, batch.present, task, 0, fit)
    outputs = question.outputs(question.values)
    kind = schema.tasks[task]
    every = [float(_log_odds(kind, outputs, fit, place)) for place in range(outputs.shape[1])]
    place = every.index(max(every)) if level is None else _place(kind, level)
    return Question(model, modality, batch.values[modality], tokens, batch.present, task, place, fit)


def levels_of(kind: Task) -> tuple[str, ...]:
    """One name for each output of a task."""
    if isinstance(kind, Binary):
        return (kind.levels[1],)
    return getattr(kind, "levels", None) or kind.columns


def _place(kind: Task, level: str) -> int:
    levels = levels_of(kind)
    return levels.index(check_known(str(level), levels, what="level"))


def _only_task(tasks: Mapping[str, Task]) -> str:
    if len(tasks) != 1:
        raise ValueError(f"There are {len(tasks)} tasks: name one of {listing(tasks)}.")
    return next(iter(tasks))


def _chosen(model: MultimodalModel, record: Record, batch: Batch, modality: str | None) -> str:
    here = [name for name in model.modalities if name in batch.values]
    if modality is None:
        kinds = schema_of(model).modalities
        modality = next((name for name in here if isinstance(kinds[name], Image | Volume)), None)
        if modality is None:
            raise ValueError(
                f'Record "{record.id}" has no picture that could be explained; it has {listing(here)}. Name '
                'one of these by modality="...".'
            )
    check_known(modality, model.modalities, what="modality")
    if modality not in here:
        raise ValueError(
            f'Record "{record.id}" has no {modality}, so nothing in it moved the answer; it has '
            f"{listing(here)}. Choose one of these."
        )
    return modality


def _resting(model: MultimodalModel) -> MultimodalModel:
    """The model itself if all of it rests in evaluation mode, else a copy that does and shares its weights.

    Setting the mode and setting it back would be seen by every other thread that asks the same model.
    """
    if not any(part.training for part in model.modules()):
        return model
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    return deepcopy(model, shared).eval()


def _log_odds(kind: Task, outputs: Tensor, fit: Calibration | None, level: int) -> Tensor:
    """outputs [n outputs] -> [n]."""
    outputs = outputs.cpu().double()
    if fit is not None:
        outputs = outputs * torch.from_numpy(fit.slopes[0]) + torch.from_numpy(fit.shifts[0])
    one = outputs[:, level]
    if isinstance(kind, Regression):
        return one * kind.scale + kind.mean
    if isinstance(kind, Multiclass):
        rest = [place for place in range(outputs.shape[1]) if place != level]
        return one - outputs[:, rest].logsumexp(1)
    return one
