"""The loop: one epoch of updates over an accelerator, the same on a CPU, a GPU, and several processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mmmed.checks import listing
from mmmed.losses.stepwise import record_losses
from mmmed.training.chance import seed_layers, stream, stream_seed
from mmmed.training.plan import EpochPlan, Update
from mmmed.training.schedule import rate_factor
from mmmed.training.settings import Settings
from mmmed.training.supply import Supply
from mmmed.types import Batch, Image, Task

if TYPE_CHECKING:
    from accelerate import Accelerator

DELAY = 25  # updates between two looks at whether losses are finite on a GPU, where looking makes it wait


@dataclass
class Watch:
    """Remembers the last updates until it has been seen that their losses are finite."""

    parts: list[tuple[tuple[int, int], tuple[str, ...], dict[str, Tensor]]] = field(default_factory=list)
    norms: list[tuple[tuple[int, int], Tensor]] = field(default_factory=list)

    def keep(self, moment: tuple[int, int], ids: tuple[str, ...], losses: Mapping[str, Tensor]) -> None:
        """Losses [batch] of one forward pass."""
        self.parts.append((moment, ids, {name: loss.detach() for name, loss in losses.items()}))

    def note(self, moment: tuple[int, int], norm: Tensor) -> None:
        """Norm of the gradient of one update."""
        self.norms.append((moment, norm))

    def look(self) -> None:
        """Raise ValueError if anything since the last look was not finite."""
        parts, norms = self.parts, self.norms
        self.parts, self.norms = [], []
        if not norms or torch.stack([norm for _, norm in norms]).isfinite().all():
            return  # a loss that is not finite gives a gradient that is not
        # On a GPU more updates than one are looked at, and the first bad one spoils all that follow.
        moment = next(moment for moment, norm in norms if not norm.isfinite())
        parts = [(ids, losses) for when, ids, losses in parts if when == moment]
        for ids, losses in parts:
            for task, loss in losses.items():
                if not loss.isfinite().all():
                    bad = [id for id, fine in zip(ids, loss.isfinite().tolist(), strict=True) if not fine]
                    raise ValueError(
                        f"{_when(moment)}the loss of task {task!r} is not finite for {listing(bad)}. "
                        "Look at the cells of these records for enormous values; if they are sound, lower "
                        "Optimisation(lr=...) or use precision='fp32'."
                    )
        ids = [id for part, _ in parts for id in part]
        raise ValueError(
            f"{_when(moment)}the losses are finite but their gradient is not; the records were "
            f"{listing(ids)}. Lower Optimisation(lr=...), or use precision='fp32'."
        )


@dataclass
class Loop:
    """Everything an epoch needs. `wrapped` is the model as the accelerator prepared it (the model itself if
    alone)."""

    accelerator: Accelerator
    model: nn.Module
    wrapped: nn.Module
    optimiser: torch.optim.Optimizer
    supply: Supply
    tasks: Mapping[str, Task]
    settings: Settings
    watch: Watch = field(default_factory=Watch)

    def epoch(self, plan: EpochPlan, number: int, start: int, after: Callable[[int, Tensor], None]) -> float:
        """Run the updates of one epoch from `start` on. -> the learning rate of the last one.

        number: of the epoch, from 0. after: called after each update with its index and its loss (a tensor,
        not read, so that a GPU need not wait). Raises ValueError that names epoch, step, task and records if
        a loss is no number.
        """
        self._to_training()
        batches = self.supply.batches(self._shares(plan, start))
        settings, rate = self.settings.optimisation, 0.0
        total = self.settings.epochs * len(plan.updates)
        for index in range(start, len(plan.updates)):
            moment = number * len(plan.updates) + index
            rate = settings.lr * rate_factor(moment, total, settings.warmup, settings.schedule)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            loss, norm = self._update(plan, plan.updates[index], batches, (number, index))
            self.watch.note((number, index), norm + 0.0 * loss)  # not finite if either is not
            if (
                self.accelerator.device.type == "cpu"
                or index % DELAY == DELAY - 1
                or index == len(plan.updates) - 1
            ):
                self.watch.look()
            after(index, loss)
        return rate

    def _shares(self, plan: EpochPlan, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's rows of every forward pass; none if there are fewer rows than processes."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        for update in plan.updates[start:]:
            for part in update.parts:
                rows = part.tensor_split(world)[rank] if world > 1 else part
                yield rows, plan.mask[rows]

    def _update(
        self, plan: EpochPlan, update: Update, batches: Iterator[Batch], moment: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Forward and backward over all parts, then one step. -> this process's loss, and the norm of the
        gradient."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        total = torch.zeros((), device=self.accelerator.device)
        for piece, part in enumerate(update.parts):
            rows = part.tensor_split(world)[rank] if world > 1 else part
            batch = self._prepare(next(batches), plan.numbers[rows], moment, piece)
            weights = {
                name: weight[rows].to(self.accelerator.device) for name, weight in plan.weights.items()
            }
            self._seed_layers(moment, piece)
            with self._only_last(piece, update), self._autocast():
                outputs = self.wrapped(batch, self._order(plan, rows))
                losses = record_losses(outputs, batch, self.tasks, weights)
                loss = mean_over_tasks(losses, update.totals)
                if len(rows):  # what the fusion adds, such as the load of experts: by this part's share
                    loss = loss + sum(outputs.fused.extra.values()) * (len(rows) / len(update))
                if world > 1:
                    # Every process must touch every weight, also those of a modality that none of its records
                    # has; and gradients are averaged over processes, where the sum of the parts is wanted.
                    loss = loss * world + sum(
                        0.0 * p.sum() for p in self.model.parameters() if p.requires_grad
                    )
            loss.backward()
            total += loss.detach() / world
            self.watch.keep(moment, batch.ids, losses)
        norm = self._step()
        self.optimiser.zero_grad(set_to_none=True)
        return total, norm

    def _order(self, plan: EpochPlan, rows: Tensor) -> Sequence[str] | Tensor | None:
        """The order of fusion of some records: names where they share one, which is faster, else indices."""
        if plan.orders is None:
            return None
        orders = plan.orders[rows]
        if len(rows) and (orders == orders[0]).all():
            return [self.model.modalities[index] for index in orders[0].tolist()]
        return orders.to(self.accelerator.device)

    def _prepare(self, batch: Batch, numbers: Tensor, moment: tuple[int, int], piece: int) -> Batch:
        if self.settings.augmentation is not None:
            images = [n for n, m in self.model.schema.modalities.items() if isinstance(m, Image)]
            generator = stream(self.settings.seed, "noise", *moment, piece, self.accelerator.process_index)
            batch = self.settings.augmentation.batch(batch, images, numbers, generator)
        return batch.to(self.accelerator.device)

    def _seed_layers(self, moment: tuple[int, int], piece: int) -> None:
        rank = self.accelerator.process_index
        seed = stream_seed(self.settings.seed, "dropout layers", *moment, piece, rank)
        seed_layers(seed, self.accelerator.device)

    def _only_last(self, piece: int, update: Update) -> AbstractContextManager:
        """Gradients travel between processes once per update, with the last part."""
        if self.wrapped is self.model or piece == len(update.parts) - 1:
            return nullcontext()
        return self.wrapped.no_sync()

    def _autocast(self) -> AbstractContextManager:
        if self.settings.optimisation.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.accelerator.device.type, dtype=torch.bfloat16)

    def _step(self) -> Tensor:
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        for parameter in parameters:
            if (
                parameter.grad is None
            ):  # no record of the batch had the modality; other processes may have zeros here
                parameter.grad = torch.zeros_like(parameter)
        together = self.accelerator.device.type in ("cpu", "cuda") or None
        norm = nn.utils.clip_grad_norm_(
            parameters, self.settings.optimisation.clip or math.inf, foreach=together
        )
        self.optimiser.step()
        return norm

    def _to_training(self) -> None:
        self.model.train()
        for name in self.settings.frozen:
            self.model.encoders[name].eval()


def mean_over_tasks(losses: Mapping[str, Tensor], totals: Mapping[str, float]) -> Tensor:
    """Sum over each task's records [batch], divided by the number of labels in the whole update; then the
    mean over tasks.

    A task without a known label in this update adds exactly 0.
    """
    return sum(loss.sum() / (totals[name] or 1.0) for name, loss in losses.items()) / len(losses)


def _when(moment: tuple[int, int]) -> str:
    return f"Epoch {moment[0] + 1}, step {moment[1] + 1}: "


def mean_buffers(model: nn.Module, accelerator: Any) -> None:
    """Give all processes the mean of each running statistic, which each gathered from its own records."""
    for buffer in model.buffers():
        if accelerator.num_processes > 1 and buffer.is_floating_point():
            buffer.copy_(accelerator.reduce(buffer.clone(), "mean"))
