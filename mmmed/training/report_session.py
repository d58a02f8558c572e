"""A run of a report generator through its stages: how far it is, what was best, and how to go on."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmmed.checks import listing
from mmmed.evaluation.grounding import LARGE, grounding
from mmmed.language.language_model import is_named
from mmmed.language.lora import add_lora, has_lora
from mmmed.models.inference import asking
from mmmed.training.chance import stream
from mmmed.training.checkpoint import (
    Checkpoint,
    Progress,
    load_checkpoint,
    optimiser_tensors,
    restore_optimiser,
    save_checkpoint,
)
from mmmed.training.fingerprint import digest, schema_fingerprint, supply_fingerprint
from mmmed.training.progress import Reporter, make_tracker
from mmmed.training.report_loop import StageLoop, finding_losses, word_losses
from mmmed.training.report_part import Part, Questions, part_of, spread
from mmmed.training.report_run import ReportRun
from mmmed.training.report_stages import Stage
from mmmed.training.report_threshold import fit_threshold
from mmmed.training.run import write_metrics

if TYPE_CHECKING:
    from accelerate import Accelerator

    from mmmed.data.cohort import Cohort
    from mmmed.models.report_generator import ReportGenerator

MOST = 400  # validation records that are looked at after every epoch
logger = logging.getLogger("mmmed")


@dataclass
class ReportSession:
    """The stages of one run, and how far it is. progress.epoch counts epochs over all stages.

    train, val: what is learned and what is only looked at; cohort_val: the same as val, as a cohort. best:
    weights of the best epoch of the stage at work. gaps: as in `ReportRun`. pending: the optimiser's tensors
    of a checkpoint, until the stage that they belong to goes on.
    """

    reporter: ReportGenerator
    stages: tuple[Stage, ...]
    train: Part
    val: Part | None
    cohort_val: Cohort
    output: Path | None
    seed: int
    accelerator: Accelerator
    fingerprint: Mapping[str, Any]
    progress: Progress = field(default_factory=Progress)
    best: dict[str, Tensor] = field(default_factory=dict)
    gaps: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    pending: dict[str, Tensor] | None = None

    @classmethod
    def of(
        cls,
        reporter: ReportGenerator,
        cohort: Cohort,
        stages: tuple[Stage, ...],
        questions: Questions,
        output: Path | None,
        seed: int,
        accelerator: Accelerator,
    ) -> ReportSession:
        """Read the cohort. Raises ValueError if no training record has a report."""
        if cohort.schema != reporter.schema:
            cohort = cohort.with_schema(reporter.schema)
        train = part_of(reporter, cohort["train"], questions)
        if train is None:
            raise ValueError(
                f"No training record has a report in the column {reporter.target!r}. Split the cohort, or "
                "name another column."
            )
        if train.lessons.cut:
            warnings.warn(
                f"{train.lessons.cut} reports or answers are longer than the {train.lessons.longest} pieces "
                "that are learned; their ends are left out.",
                stacklevel=3,
            )
        some = spread(cohort["val"], MOST)
        facts = {} if output is None else _fingerprint(reporter, stages, train, questions, seed)
        return cls(reporter, stages, train, part_of(reporter, some), some, output, seed, accelerator, facts)

    # ------------------------------------------------------------------------------------------------ running

    def resume(self) -> None:
        """Go back to the newest checkpoint, if there is one."""
        saved = load_checkpoint(self.output / "checkpoints", self.fingerprint) if self.output else None
        if saved is None:
            return
        self.progress = saved.progress
        for line in self.progress.history:
            if line.get("gap") is not None:
                self.gaps[line["stage"]] = tuple(line["gap"])
        begun = {line["stage"] for line in self.progress.history}
        self._equip([stage for stage in self.stages if stage.name in begun])
        network = self.reporter.network
        if set(saved.model) != set(network.own_state()):
            raise ValueError(
                f"The checkpoint in {self.output} has other weights than this generator, which was trained "
                "since, or made in another way. Make it anew, then call finetune again."
            )
        network.load_own_state(saved.model)
        self.best, self.pending = saved.best, saved.optimiser

    def _place(self) -> tuple[int, int]:
        """Stage and epoch in it that come next; the last stage and its end if nothing does."""
        done = self.progress.epoch
        for number, stage in enumerate(self.stages):
            if done < stage.epochs:
                return number, done
            done -= stage.epochs
        return len(self.stages) - 1, self.stages[-1].epochs

    def _equip(self, stages: Sequence[Stage]) -> None:
        """Put LoRA into the language model once a stage trains it."""
        lm = self.reporter.network.language_model
        if is_named(lm) and any("language model" in stage.trains for stage in stages):
            lm.opened_as = None  # its weights move now, so they must be kept
        if any("lora" in stage.trains for stage in stages) and not has_lora(lm):
            add_lora(lm, generator=stream(self.seed, "lora"))

    def run(self, progress: bool | str) -> None:
        """Everything that is left to do."""
        number, start = self._place()
        updates = [stage.epochs * math.ceil(len(self.train.rows) / stage.batch_size) for stage in self.stages]
        bar = Reporter(progress, sum(updates), sum(updates[:number]), make_tracker(progress, self.output))
        try:
            for index in range(number, len(self.stages)):
                self._stage(self.stages[index], start if index == number else 0, bar)
        finally:
            bar.close()
        self.progress.finished = True

    def _stage(self, stage: Stage, start: int, bar: Reporter) -> None:
        if start >= stage.epochs:
            return
        self._equip([stage])
        self.reporter.network.to(self.accelerator.device)
        loop = StageLoop(self.reporter, stage, self.accelerator, self.train, self.seed)
        if self.pending:
            restore_optimiser(loop.optimiser, self.pending)
        self.pending = None
        if start == 0:
            self.progress.best_loss, self.best = None, {}
        for number in range(start, stage.epochs):
            self._epoch(loop, number, bar)

    def _epoch(self, loop: StageLoop, number: int, bar: Reporter) -> None:
        """Teach, look, keep what is best, save; after the last epoch of a stage go back to its best one."""
        began, stage, last = time.perf_counter(), loop.stage, number == loop.stage.epochs - 1
        loss, rate = loop.epoch(number, bar.step)
        line = {"epoch": self.progress.epoch + 1, "stage": stage.name, "train_loss": loss, "lr": rate}
        line |= {"val_loss": None, "val_f1": None, "gap": None, **self._scores(stage)}
        self._keep_best(line["val_loss"])
        if last:
            self.reporter.network.load_own_state(self.best)
            gap = self._gap(stage)
            line["gap"] = None if gap is None else list(gap)  # as it comes back from a file
        line["seconds"] = time.perf_counter() - began
        self.progress.epoch += 1
        self.progress.history.append(line)
        self._save(loop, last)
        bar.epoch(line)

    def _keep_best(self, loss: float | None) -> None:
        if loss is None or self.progress.best_loss is None or loss <= self.progress.best_loss:
            self.progress.best_loss, self.progress.best_epoch = loss, self.progress.epoch + 1
            self.best = _copy(self.reporter.network.own_state())

    def _save(self, loop: StageLoop, last: bool) -> None:
        if self.output is None or not self.accelerator.is_main_process:
            return
        moments = {} if last else optimiser_tensors(loop.optimiser)
        own = _copy(self.reporter.network.own_state())
        save_checkpoint(
            self.output / "checkpoints", Checkpoint(self.progress, own, self.best, moments), self.fingerprint
        )
        write_metrics(self.output / "metrics.jsonl", self.progress.history)

    # --------------------------------------------------------------------------------------------- validation

    def _scores(self, stage: Stage) -> dict[str, float | None]:
        if self.val is None:
            return {}
        if stage.learns == "words":
            return {"val_loss": word_loss(self.reporter, self.val, self.accelerator.device)}
        return finding_scores(self.reporter, self.val, self.accelerator.device)

    def _gap(self, stage: Stage) -> tuple[float, float, float] | None:
        """The grounding gap after a stage, said aloud; None where no patient has a partner."""
        if stage.learns != "words" or self.val is None:
            return None
        chance = stream(self.seed, "gap", stage.name)
        found = grounding(self.reporter, self.cohort_val, modalities=(), generator=chance).gap(draws=500)
        if math.isnan(found.value):
            return None
        self.gaps[stage.name] = (found.value, found.low, found.high)
        logger.info("after stage %s: grounding gap %s nats per token", stage.name, found)
        return self.gaps[stage.name]

    def finish(self, name: str) -> ReportRun:
        """Fix the threshold on validation reports, note the facts, save. name: of the cohort."""
        reporter, notes = self.reporter, []
        reporter.threshold = None
        if self.val is not None and not reporter.blind:
            reporter.threshold, said = fit_threshold(reporter, self.cohort_val)
            notes += [said] if said else []
        if not self.gaps and not reporter.blind:
            notes.append(
                "The grounding gap was not measured: it takes two validation patients with a report."
            )
        if self.val is None and not reporter.blind:
            notes.append("No validation reports: no sentence is withheld for its score.")
        if self.gaps and not reporter.blind and list(self.gaps.values())[-1][0] < LARGE:
            notes.append(
                f"The grounding gap is below {LARGE} nats per token: what this model writes hardly depends "
                "on the patient. Do not use its reports; see whether the findings stage learned anything."
            )
            warnings.warn(notes[-1], stacklevel=4)
        counts = {"train": len(self.train.rows), "val": 0 if self.val is None else len(self.val.rows)}
        run = ReportRun(self.progress.history, dict(self.gaps), self.output, counts, tuple(notes))
        reporter.card = _card(reporter, run, self.stages, name, self.seed)
        if self.output is not None and self.accelerator.is_main_process:
            reporter.save_pretrained(self.output / "model")
        self.accelerator.wait_for_everyone()
        return run


def word_loss(reporter: ReportGenerator, part: Part, device: torch.device) -> float | None:
    """Negative log-likelihood per token of the reports that a part can teach, with their own inputs."""
    total, weight, names = 0.0, 0, reporter.modalities
    with asking(reporter.network):
        for rows in part.rows.split(64):
            here = [
                tuple(n for n, there in zip(names, row, strict=True) if there)
                for row in part.supply.present[rows].tolist()
            ]
            told = [part.lessons.target(row, own) != "" for row, own in zip(rows.tolist(), here, strict=True)]
            rows, here = rows[torch.tensor(told)], [own for own, kept in zip(here, told, strict=True) if kept]
            if len(rows):
                lessons = [part.lessons.report(r, own) for r, own in zip(rows.tolist(), here, strict=True)]
                total += float(word_losses(reporter, part.take(rows).to(device), lessons).sum())
                weight += sum(len(lesson.ids) for lesson in lessons)
    return total / weight if weight else None


def finding_scores(reporter: ReportGenerator, part: Part, device: torch.device) -> dict[str, float | None]:
    """Loss and F1 of the finding head on what the reports state, over all labels together, at 0.5."""
    total = weight = 0.0
    found, told = [], []
    network = reporter.network
    with asking(network):
        for rows in part.rows.split(64):
            batch = part.take(rows).to(device)
            losses = finding_losses(reporter, batch, part.targets[rows], part.known[rows])
            logits, judged = network.find(network.encode(batch), batch.rows, len(batch))
            judged = judged.cpu() & part.known[rows]
            total, weight = total + float(losses.sum()), weight + float(judged.sum())
            found.append((logits.cpu() > 0) & judged)
            told.append((part.targets[rows] > 0.5) & judged)
    found, told = torch.cat(found), torch.cat(told)
    both, either = float((found & told).sum()), float(found.sum() + told.sum())
    return {"val_loss": total / max(weight, 1), "val_f1": 2 * both / either if either else None}


def _copy(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU; tied weights become two, since safetensors stores no ties."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}


def _fingerprint(
    reporter: ReportGenerator, stages: Sequence[Stage], train: Part, questions: Questions, seed: int
) -> dict[str, Any]:
    """What must be the same for a run to be resumed."""
    shapes = {
        name: tuple(tensor.shape)
        for name, tensor in reporter.network.state_dict().items()
        if not name.startswith("language_model.")  # a checkpoint's own weights tell whether this one fits
    }
    table = None if reporter.labeller is None else reporter.labeller.table.to_dict()
    return {
        "seed": seed,
        "stages": [stage.facts() for stage in stages],
        "blind": reporter.blind,
        "schema": schema_fingerprint(reporter.schema),
        "architecture": digest([repr(sorted(shapes.items()))]),
        "findings": digest([repr(table)]),
        "prompt and words": digest([reporter.prompt.template, str(len(reporter.tokenizer))]),
        "reports": digest([str(text) for text in train.lessons.texts]),
        "questions": digest([repr(tuple(item)) for item in questions]),
        **supply_fingerprint(train.supply, "training"),
    }


def _card(
    reporter: ReportGenerator, run: ReportRun, stages: Sequence[Stage], name: str, seed: int
) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for stage in stages:
        said = f"{stage.epochs} epochs, learning rate {stage.lr:g}, trains {listing(stage.trains)}"
        facts[f"stage {stage.name}"] = said
    for stage, (gap, low, high) in run.gaps.items():
        facts[f"grounding gap after {stage}"] = f"{gap:.3f} [{low:.3f}, {high:.3f}] nats per token"
    facts["sentences are withheld below"] = (
        "never" if reporter.threshold is None else f"{reporter.threshold:.2f}"
    )
    facts["seed"] = seed
    counts = " and ".join(f"{count:,} {part} reports" for part, count in run.records.items())
    return {"data": f"{name or 'A cohort'}: {counts}.", "training": facts, "tables": {}}
