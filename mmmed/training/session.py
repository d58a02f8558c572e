"""One training run from its first epoch, or from where it was interrupted, to its last."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmmed.training.checkpoint import (
    Checkpoint,
    Progress,
    load_checkpoint,
    optimiser_tensors,
    restore_optimiser,
    save_checkpoint,
    state_of,
)
from mmmed.training.loop import Loop, mean_buffers
from mmmed.training.plan import plan_epoch
from mmmed.training.progress import Reporter
from mmmed.training.run import write_metrics
from mmmed.training.validate import Validation
from mmmed.training.weights import CohortWeights


@dataclass
class Session:
    """Runs epochs, keeps the best weights, stops early, saves.

    validation: None if there are no validation records; then the last epoch counts as the best. output: where
    checkpoints go, or None. fingerprint: what must be the same for a checkpoint to be resumed.
    """

    loop: Loop
    validation: Validation | None
    weights: CohortWeights
    output: Path | None
    fingerprint: Mapping[str, Any]
    progress: Progress = field(default_factory=Progress)
    best: dict[str, Tensor] = field(default_factory=dict)
    losses: list[Tensor] = field(default_factory=list)

    def resume(self) -> None:
        """Go back to the newest checkpoint, if there is one."""
        saved = load_checkpoint(self.output / "checkpoints", self.fingerprint) if self.output else None
        if saved is not None:
            self.loop.model.load_state_dict(saved.model)
            restore_optimiser(self.loop.optimiser, saved.optimiser)
            self.progress, self.best = saved.progress, saved.best

    def run(self, reporter: Reporter) -> None:
        """Train until the last epoch or until patience ends; then the model holds the best weights."""
        while not self.progress.finished:
            started = time.perf_counter()
            plan = plan_epoch(
                self.loop.supply,
                self.loop.tasks,
                self.weights,
                self.loop.settings,
                self.progress.epoch,
            )
            last = len(plan.updates) - 1

            def after(index: int, loss: Tensor, last: int = last) -> None:
                self.losses.append(loss)
                reporter.step()
                every = self.loop.settings.optimisation.checkpoint_every
                if every and index < last and (index + 1) % every == 0:
                    self.loop.watch.look()  # no checkpoint of weights that are no numbers
                    self._gather_losses()
                    self.progress.update = index + 1
                    self._save()

            rate = self.loop.epoch(plan, self.progress.epoch, self.progress.update, after)
            self._gather_losses()
            line = self._line(rate, plan.effective)
            line["seconds"] = time.perf_counter() - started
            self._close_epoch(line)
            reporter.epoch(line)
        self.loop.model.load_state_dict(self.best)

    def _gather_losses(self) -> None:
        """Move the losses since the last look, summed over processes, to the saved progress."""
        if self.losses:
            summed = self.loop.accelerator.reduce(torch.stack(self.losses), "sum")
            self.progress.losses += summed.tolist()
            self.losses = []

    def _line(self, rate: float, effective: float) -> dict[str, Any]:
        accelerator, model = self.loop.accelerator, self.loop.model
        mean_buffers(model, accelerator)
        losses = self.progress.losses
        line = {"epoch": self.progress.epoch + 1, "train_loss": sum(losses) / len(losses)}
        scores: Mapping[str, float | None] = dict.fromkeys(
            ("val_loss", "val_loss_recorded", "val_loss_hidden", "val_auroc")
        )
        if self.validation is not None:
            rank, world = accelerator.process_index, accelerator.num_processes
            logits = self.validation.logits(model, accelerator.device, rank, world)
            scores = self.validation.scores(accelerator.reduce(logits, "sum"))
        line.update({name: v if v is None or math.isfinite(v) else None for name, v in scores.items()})
        return {**line, "lr": rate, "ess": effective}

    def _close_epoch(self, line: dict[str, Any]) -> None:
        progress = self.progress
        progress.history.append(line)
        progress.epoch, progress.update, progress.losses = progress.epoch + 1, 0, []
        loss = line["val_loss"]
        better = loss is not None and (progress.best_loss is None or loss < progress.best_loss)
        if better or self.validation is None or progress.best_epoch == 0:
            progress.best_epoch = progress.epoch
            progress.best_loss = loss if better else progress.best_loss
            self.best = state_of(self.loop.model)
        waited = progress.epoch - progress.best_epoch
        settings = self.loop.settings
        impatient = settings.patience is not None and waited >= settings.patience
        progress.finished = progress.epoch >= settings.epochs or impatient
        self._save()

    def _save(self) -> None:
        if self.output is None or not self.loop.accelerator.is_main_process:
            return
        state = state_of(self.loop.model)
        checkpoint = Checkpoint(
            self.progress, state, self.best or state, optimiser_tensors(self.loop.optimiser)
        )
        save_checkpoint(self.output / "checkpoints", checkpoint, self.fingerprint)
        write_metrics(self.output / "metrics.jsonl", self.progress.history)
