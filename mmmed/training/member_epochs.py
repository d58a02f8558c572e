"""The epochs of members that are trained side by side: `Session` and `Loop`, with a member axis."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from mmmed.losses.stepwise import record_losses
from mmmed.training.chance import seed_layers, stream_seed
from mmmed.training.checkpoint import Progress
from mmmed.training.dense import DenseCohorts, chosen, stacked
from mmmed.training.plan import EpochPlan, count_updates, plan_epoch, useful_rows
from mmmed.training.progress import Reporter
from mmmed.training.schedule import rate_factor
from mmmed.training.settings import Settings
from mmmed.training.stacked import MemberAdamW, Stacked
from mmmed.training.supply import PackedCohort
from mmmed.training.validate import ROWS, Validation
from mmmed.training.weights import CohortWeights
from mmmed.types import Batch, Fused, Outputs, Task


@dataclass
class Member:
    """What one model learns from, and how far it is."""

    train: PackedCohort
    validation: Validation | None
    weights: CohortWeights
    settings: Settings
    tasks: Mapping[str, Task]
    progress: Progress = field(default_factory=Progress)

    @property
    def updates(self) -> int:
        """Of one epoch."""
        return count_updates(len(useful_rows(self.train)), self.settings.optimisation)


@dataclass(frozen=True)
class Layout:
    """The plans of one epoch side by side.

    rows, real [members updates batch]: records of each update, and which of them are no padding;
    mask [members records modality]; weights[task] [members records], or [members records labels];
    totals[task] [members updates]; rates, active [members updates].
    """

    rows: Tensor
    real: Tensor
    mask: Tensor
    weights: Mapping[str, Tensor]
    totals: Mapping[str, Tensor]
    rates: Tensor
    active: Tensor


class MemberEpochs:
    """Runs all members until the last of them has stopped; then the models hold their best weights."""

    def __init__(self, members: Sequence[Member], models: Stacked, device: torch.device):
        self.members, self.models, self.device = list(members), models, device
        self.tasks, self.settings = members[0].tasks, members[0].settings
        self.train = DenseCohorts.of([member.train for member in members], device)
        self.updates = [member.updates for member in members]
        optimisation = self.settings.optimisation
        self.optimiser = MemberAdamW(
            models.weights, models.decayed, optimisation.weight_decay, optimisation.clip
        )
        self.best = models.state()
        self.val = self.masks = None
        if members[0].validation is not None:
            self.val = DenseCohorts.of([member.validation.supply for member in members], device)
            masks = [torch.stack(member.validation.masks, dim=1) for member in members]
            self.masks = stacked(masks).to(device)  # [members records masks modality]

    def run(self, reporter: Reporter) -> None:
        """All epochs."""
        for epoch in range(self.settings.epochs):
            if all(member.progress.finished for member in self.members):
                break
            started = time.perf_counter()
            plans = [
                None
                if member.progress.finished
                else plan_epoch(member.train, self.tasks, member.weights, member.settings, epoch)
                for member in self.members
            ]
            layout = self._lay_out(plans, epoch)
            losses = self._epoch(layout, epoch)
            answers = self._validate() if self.val is not None else None
            lines = self._lines(plans, layout, losses, answers, epoch)
            seconds = (time.perf_counter() - started) / len(lines)
            for index, line in lines.items():
                self._close(index, {**line, "seconds": seconds})
            reporter.step()
            reporter.epoch(_mean_line(list(lines.values()), seconds * len(lines)))
        self.models.hand_back(self.best)

    # ------------------------------------------------------------------------------------------- one epoch

    def _lay_out(self, plans: Sequence[EpochPlan | None], epoch: int) -> Layout:
        members, updates = len(plans), max(self.updates)
        width = max(len(update) for plan in plans if plan for update in plan.updates)
        rows = torch.zeros(members, updates, width, dtype=torch.long)
        real, active = (
            torch.zeros_like(rows, dtype=torch.bool),
            torch.zeros(members, updates, dtype=torch.bool),
        )
        totals = {name: torch.zeros(members, updates) for name in self.tasks}
        rates = torch.zeros(members, updates)
        for index, plan in enumerate(plans):
            for place, update in enumerate(plan.updates if plan else ()):
                group = torch.cat(update.parts)
                rows[index, place, : len(group)] = group
                real[index, place, : len(group)] = True
                active[index, place] = True
                rates[index, place] = self._rate(index, epoch, place)
                for name, total in update.totals.items():
                    totals[name][index, place] = total
        some = next(plan for plan in plans if plan)
        blank = [
            torch.zeros(len(member.train), len(self.models.modalities), dtype=torch.bool)
            for member in self.members
        ]
        mask = stacked([plan.mask if plan else empty for plan, empty in zip(plans, blank, strict=True)])
        weights = {
            name: stacked([p.weights[name] if p else some.weights[name][:0] for p in plans])
            for name in some.weights
        }
        to = self.device
        return Layout(
            rows.to(to),
            real.to(to),
            mask.to(to),
            {name: _as_long(weight, mask.shape[1]).to(to) for name, weight in weights.items()},
            {name: total.to(to) for name, total in totals.items()},
            rates.to(to),
            active.to(to),
        )

    def _rate(self, member: int, epoch: int, update: int) -> float:
        settings, count = self.settings.optimisation, self.updates[member]
        moment, total = epoch * count + update, self.settings.epochs * count
        return settings.lr * rate_factor(moment, total, settings.warmup, settings.schedule)

    def _epoch(self, layout: Layout, epoch: int) -> Tensor:
        """All updates. -> loss of each [members updates]."""
        losses = []
        for place in range(layout.rows.shape[1]):
            rows, real = layout.rows[:, place], layout.real[:, place]
            present = chosen(layout.mask, rows) & real[:, :, None]
            seed = stream_seed(self.settings.seed, "dropout layers of members", epoch, place)
            seed_layers(seed, self.device)
            steps, taken = self.models(self.train.take(rows), present, self.train.ready, training=True)
            loss = self._loss(steps, taken, layout, place)
            loss.sum().backward()  # no member's loss depends on another's weights
            norm = self.optimiser.step(layout.rates[:, place], layout.active[:, place])
            losses.append(loss.detach())
            self._check(loss, norm, layout.active[:, place], epoch, place)
        return torch.stack(losses, dim=1)

    def _loss(self, steps: Mapping[str, Tensor], taken: Tensor, layout: Layout, place: int) -> Tensor:
        """As `mean_over_tasks`, for each member: [members]."""
        rows, real = layout.rows[:, place], layout.real[:, place]
        known = {name: _real(chosen(table, rows), real) for name, table in self.train.known.items()}
        targets = {name: chosen(table, rows) for name, table in self.train.targets.items()}
        weights = {name: chosen(table, rows) for name, table in layout.weights.items()}
        members, flat = len(rows), lambda tensor: tensor.flatten(0, 1)
        batch = Batch((), {}, {}, flat(real), _each(targets, flat), _each(known, flat))
        fused = Fused(
            flat(taken), flat(taken), flat(taken)
        )  # of the state only which steps were taken matters
        losses = record_losses(Outputs(_each(steps, flat), fused), batch, self.tasks, _each(weights, flat))
        sums = [
            loss.unflatten(0, (members, -1)).sum(1) / layout.totals[name][:, place].clamp(min=1)
            for name, loss in losses.items()
        ]
        return torch.stack(sums).mean(0)

    def _check(self, loss: Tensor, norm: Tensor, active: Tensor, epoch: int, place: int) -> None:
        fine = (loss.detach() + norm).isfinite() | ~active
        if not fine.all():
            index = int((~fine).nonzero()[0])
            raise ValueError(
                f"Epoch {epoch + 1}, step {place + 1}: the loss of member {index + 1} of {len(fine)} or "
                "its gradient is not finite. Train it alone with finetune to see which records do that, or "
                "lower Optimisation(lr=...)."
            )

    # ---------------------------------------------------------------------------------------- after an epoch

    @torch.no_grad()
    def _validate(self) -> Tensor:
        """Final answers of all members, as `Validation.logits`: [members masks records outputs]."""
        members, records, masks = self.masks.shape[:3]
        parts = []
        for start in range(0, records, ROWS):
            count = min(ROWS, records - start)
            rows = torch.arange(start, start + count, device=self.device).expand(members, -1)
            repeated = rows[:, :, None].expand(-1, -1, masks).flatten(1)  # each record under each mask
            present = self.masks[:, start : start + count].flatten(1, 2)
            steps, _ = self.models(self.val.take(repeated), present, self.val.ready, training=False)
            answers = torch.cat([steps[task][:, :, -1].float() for task in self.tasks], dim=2)
            parts.append(answers.unflatten(1, (count, masks)).transpose(1, 2))
        return torch.cat(parts, dim=2)

    def _lines(
        self,
        plans: Sequence[EpochPlan | None],
        layout: Layout,
        losses: Tensor,
        answers: Tensor | None,
        epoch: int,
    ) -> dict[int, dict[str, Any]]:
        """What happened to each member that is still learning."""
        result, answers = {}, None if answers is None else answers.cpu()
        for index, plan in enumerate(plans):
            if plan is None:
                continue
            member, count = self.members[index], self.updates[index]
            scores = dict.fromkeys(("val_loss", "val_loss_recorded", "val_loss_hidden", "val_auroc"))
            if member.validation is not None:
                own = member.validation
                scores = own.scores(answers[index, : len(own.masks), : len(own.supply)])
            result[index] = {
                "epoch": epoch + 1,
                "train_loss": float(losses[index, :count].mean()),
                **{name: v if v is None or math.isfinite(v) else None for name, v in scores.items()},
                "lr": float(layout.rates[index, count - 1]),
                "ess": plan.effective,
            }
        return result

    def _close(self, index: int, line: dict[str, Any]) -> None:
        """Keep the best weights, stop early: the rule of `Session`."""
        member = self.members[index]
        progress, patience = member.progress, member.settings.patience
        progress.history.append(line)
        progress.epoch += 1
        loss = line["val_loss"]
        better = loss is not None and (progress.best_loss is None or loss < progress.best_loss)
        if better or member.validation is None or progress.best_epoch == 0:
            progress.best_epoch = progress.epoch
            progress.best_loss = loss if better else progress.best_loss
            for name, tensor in self.models.live().items():
                self.best[name][index] = tensor[index]
        waited = progress.epoch - progress.best_epoch
        progress.finished = progress.epoch >= member.settings.epochs or (
            patience is not None and waited >= patience
        )


def _each(tensors: Mapping[str, Tensor], change: Any) -> dict[str, Tensor]:
    return {name: change(tensor) for name, tensor in tensors.items()}


def _real(known: Tensor, real: Tensor) -> Tensor:
    """Nothing is known of rows that only fill a batch up."""
    return known & (real if known.ndim == 2 else real[:, :, None])


def _as_long(weight: Tensor, records: int) -> Tensor:
    """[members records ...], padded to `records`."""
    return pad(weight, (*(0, 0) * (weight.ndim - 2), 0, records - weight.shape[1]))


def _mean_line(lines: Sequence[Mapping[str, Any]], seconds: float) -> dict[str, Any]:
    """One line for the bar: the mean over members."""
    result: dict[str, Any] = {"epoch": lines[0]["epoch"], "seconds": seconds}
    for name in ("train_loss", "val_loss", "val_auroc"):
        values = [line[name] for line in lines if line[name] is not None]
        result[name] = sum(values) / len(values) if values else None
    return result
