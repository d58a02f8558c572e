"""The plan of one epoch: who comes when, what is hidden from whom, and what each record weighs.

Everything is drawn for the whole epoch at once from (seed, epoch), so it does not depend on batch size,
number of processes, or whether the run was interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmmed.checks import listing
from mmmed.losses.stepwise import labelled
from mmmed.training.augment import NUMBERS
from mmmed.training.chance import stream
from mmmed.training.optimisation import Optimisation
from mmmed.training.policy import drop_modalities
from mmmed.training.settings import Settings
from mmmed.training.supply import Supply
from mmmed.training.weights import CohortWeights
from mmmed.types import Task


@dataclass(frozen=True)
class Update:
    """One step of the optimiser. parts: rows [batch] of its forward passes; totals[task]: how many of all
    these have a known label."""

    parts: tuple[Tensor, ...]
    totals: Mapping[str, float]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)


@dataclass(frozen=True)
class EpochPlan:
    """updates; mask [records modality]: what each record keeps in this epoch; weights[task]: [records
    (labels)].

    numbers [records 5]: what augmentation draws, uniform in 0..1.
    effective: the effective sample size (sum w)^2 / sum w^2 of this epoch, of the task where it is smallest.
    orders [records modality]: in which order each record is fused; None = as the schema lists them.
    """

    updates: tuple[Update, ...]
    mask: Tensor
    weights: Mapping[str, Tensor]
    numbers: Tensor
    effective: float
    orders: Tensor | None = None


def count_updates(records: int, optimisation: Optimisation) -> int:
    """Updates of one epoch."""
    return math.ceil(records / (optimisation.batch_size * optimisation.accumulate))


def useful_rows(supply: Supply) -> Tensor:
    """Rows with a known label in some task; the others teach nothing."""
    known = torch.stack([known.reshape(len(supply), -1).any(1) for known in supply.known.values()])
    return known.any(0).nonzero().squeeze(1)


def check_learnable(modalities: Sequence[str], present: Tensor, known: Mapping[str, Tensor]) -> None:
    """Raise ValueError if a modality or a task would stay untrained and then answer as if it were not.

    present [records modality], known[task] [records (labels)]: of the training records.
    """
    labelled = {task: bool(here.any()) for task, here in known.items()}
    if not any(labelled.values()):
        raise ValueError("No training record has a known label, so there is nothing to learn.")
    if untold := [task for task, any_label in labelled.items() if not any_label]:
        raise ValueError(
            f"No training record has a known label of {listing(untold)}: untrained weights would answer. "
            "Leave it out of the schema's tasks, or split the cohort differently."
        )
    if unseen := [name for k, name in enumerate(modalities) if not present[:, k].any()]:
        raise ValueError(
            f"No training record has {listing(unseen)}, so its encoder would stay untrained. Leave it out: "
            f"cohort.with_schema(cohort.schema.without({unseen[0]!r})), and build the model from that schema."
        )


def plan_epoch(
    supply: Supply,
    tasks: Mapping[str, Task],
    weights: CohortWeights,
    settings: Settings,
    epoch: int,
) -> EpochPlan:
    """Shuffle, hide and weigh. The batches are of equal size (give or take one), so none is a noisy
    remainder."""
    rows = useful_rows(supply)
    order = rows[torch.randperm(len(rows), generator=stream(settings.seed, "order", epoch))]
    mask = drop_modalities(
        supply.present, settings.policy.dropout, stream(settings.seed, "modality dropout", epoch)
    )
    drawn = weights(mask, supply.targets, supply.known)
    counted = {name: labelled(supply.known[name]) for name in tasks}
    updates = []
    for group in order.tensor_split(count_updates(len(rows), settings.optimisation)):
        parts = tuple(part for part in group.tensor_split(settings.optimisation.accumulate) if len(part))
        updates.append(Update(parts, {name: float(here[group].sum()) for name, here in counted.items()}))
    sizes = [size for name in tasks for size in _effective(supply.known[name], drawn.get(name))]
    numbers = torch.rand(len(supply), NUMBERS, generator=stream(settings.seed, "augmentation", epoch))
    orders = draw_orders(settings.policy.order, supply.present.shape, updates, settings.seed, epoch)
    return EpochPlan(tuple(updates), mask, drawn, numbers, min(sizes, default=0.0), orders)


def draw_orders(
    kind: str, shape: Sequence[int], updates: Sequence[Update], seed: int, epoch: int
) -> Tensor | None:
    """Orders of fusion for one epoch, [records modality] long; "random": the same for a whole update."""
    if kind == "fixed":
        return None
    generator = stream(seed, "order of fusion", epoch)
    orders = torch.rand(tuple(shape), generator=generator).argsort(1)
    if kind == "random":
        for update in updates:
            rows = torch.cat(update.parts)
            orders[rows] = orders[rows[0]].clone()
    return orders


def _effective(known: Tensor, weight: Tensor | None) -> list[float]:
    """(sum w)^2 / sum w^2 over the known labels, one number, or one per label."""
    weight = (known.double() if weight is None else known * weight.double()).reshape(len(known), -1)
    return [float(w.sum() ** 2 / (w**2).sum()) for w in weight.unbind(1) if w.any()]
