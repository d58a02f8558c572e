"""One stage of a report generator, epoch by epoch, the same on a CPU, a GPU, and several processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from mmmed.models.inference import asking
from mmmed.models.report_writing import segments_of
from mmmed.training.chance import seed_layers, stream, stream_seed
from mmmed.training.gradients import add_up
from mmmed.training.optimisation import parameter_groups
from mmmed.training.policy import drop_modalities
from mmmed.training.report_lessons import Lesson
from mmmed.training.report_part import Part
from mmmed.training.report_stages import Stage, set_views
from mmmed.training.schedule import rate_factor
from mmmed.training.supply import PackedCohort
from mmmed.types import Batch, Tokens

if TYPE_CHECKING:
    from accelerate import Accelerator

    from mmmed.models.report_generator import ReportGenerator

POOL = 8  # batches among which records are sorted by the length of their reports, so that little is padding
CHUNK = 64  # records that are encoded at a time
KEPT = 1024 * 2**20  # bytes of tokens that are kept in memory


@dataclass
class StageLoop:
    """A stage at work: what it does not train rests, and `epoch` teaches the rest."""

    reporter: ReportGenerator
    stage: Stage
    accelerator: Accelerator
    train: Part
    seed: int

    def __post_init__(self) -> None:
        network = self.reporter.network
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        for name in self.stage.trains:
            for parameter in network.part(name):
                parameter.requires_grad_(True)
        set_views(network, self.stage.views)
        groups = parameter_groups(network, self.stage.weight_decay)
        fused = all(p.device.type in ("cpu", "cuda") for group in groups for p in group["params"])
        self.optimiser = torch.optim.AdamW(groups, lr=self.stage.lr, fused=fused)
        self.train = self._encoded(self.train)
        if self.stage.learns == "findings":  # labels that are known and that the record's inputs can show
            head, present = network.finding_head, self.train.supply.present
            self._counted = self.train.known & head.assessable(present, self.reporter.modalities)

    # ------------------------------------------------------------------------------------------------- epochs

    def epoch(self, number: int, after: Callable[[], Any]) -> tuple[float, float]:
        """Teach everything once. -> mean loss and the last learning rate. after(): called after each
        update."""
        batches = self._findings(number) if self.stage.learns == "findings" else self._words(number)
        self._to_training()
        total, weight, rate = 0.0, 0.0, 0.0
        for index, (batch, loss_of, size) in enumerate(batches):
            done = number + index / len(batches)
            rate = self.stage.lr * rate_factor(
                round(done * 1000), self.stage.epochs * 1000, self.stage.warmup, "cosine"
            )
            seed_layers(stream_seed(self.seed, self.stage.name, number, index), self.accelerator.device)
            total += self._update(batch, loss_of, size, rate, (number, index)) * size
            weight += size
            after()
        return total / max(weight, 1), rate

    def _update(
        self,
        batch: Callable[[], Batch],
        loss_of: Callable[[Batch], Tensor],
        size: float,
        rate: float,
        moment: tuple[int, int],
    ) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        with self._autocast():
            loss = loss_of(batch().to(self.accelerator.device)) / max(size, 1)
        if loss.requires_grad:
            loss.backward()
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        value = float(add_up(parameters, loss.detach(), self.accelerator))
        moved = [parameter for parameter in parameters if parameter.grad is not None]
        norm = nn.utils.clip_grad_norm_(moved, self.stage.clip or math.inf)
        if not (math.isfinite(value) and bool(norm.isfinite())):
            raise ValueError(
                f"Stage {self.stage.name!r}, epoch {moment[0] + 1}, step {moment[1] + 1}: the loss is not "
                "finite. Look at the cells for enormous values; if they are sound, lower the stage's lr."
            )
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return value

    def _to_training(self) -> None:
        """Training mode for what learns, and for nothing else: a resting encoder drops nothing."""
        network = self.reporter.network
        network.eval()
        for module in (*network.encoders.values(), *network.adapters.values(), network.language_model):
            module.train(any(p.requires_grad for p in module.parameters()))
        for module in (network.fusion, network.finding_head, network.finding_tokens):
            if module is not None:
                module.train(any(p.requires_grad for p in module.parameters()))

    def _autocast(self) -> AbstractContextManager:
        if self.stage.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.accelerator.device.type, dtype=torch.bfloat16)

    # --------------------------------------------------------------------------------------------- findings

    def _findings(self, number: int) -> list[tuple[Any, Any, float]]:
        rows = self.train.rows
        order = rows[torch.randperm(len(rows), generator=stream(self.seed, self.stage.name, "order", number))]
        return [self._finding_batch(part) for part in order.split(self.stage.batch_size)]

    def _finding_batch(self, rows: Tensor) -> tuple[Any, Any, float]:
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        own = rows[rank::world]
        weight = float(self._counted[rows].sum())
        return (
            lambda: self.train.take(own),
            lambda batch: finding_losses(
                self.reporter, batch, self.train.targets[own], self.train.known[own]
            ).sum(),
            weight,
        )

    # ------------------------------------------------------------------------------------------------ words

    def _words(self, number: int) -> list[tuple[Any, Any, float]]:
        """The batches of an epoch: every record's report once, and for some of them one thing more."""
        rows, name = self.train.rows, self.stage.name
        present = self.train.supply.present
        mask = drop_modalities(present, self.stage.dropout, stream(self.seed, name, "hide", number))
        if self.reporter.blind:
            mask = present  # what it does not see cannot be hidden from it
        draws = torch.rand(len(present), 2, generator=stream(self.seed, name, "asides", number)).tolist()
        order = rows[torch.randperm(len(rows), generator=stream(self.seed, name, "order", number))]
        names = self.reporter.modalities
        entries: list[tuple[int, Lesson]] = []
        for row in order.tolist():
            here = tuple(n for n, there in zip(names, mask[row].tolist(), strict=True) if there)
            if not here and not self.reporter.blind:
                continue  # of whom nothing is known there is nothing to write
            # A report of which nothing is left would teach to end at once, which then is the likeliest first
            # word for everybody: all reports of a small cohort came out empty. Silence is the filter's duty.
            if self.train.lessons.target(row, here):
                entries.append((row, self.train.lessons.report(row, here)))
            if draws[row][0] < self.stage.asides:
                aside = self.train.lessons.aside(row, here, draws[row][1])
                entries += [] if aside is None else [(row, aside)]
        batches = _by_length(entries, self.stage.batch_size, stream(self.seed, name, "batches", number))
        return [self._word_batch(batch, mask) for batch in batches]

    def _word_batch(self, entries: list[tuple[int, Lesson]], mask: Tensor) -> tuple[Any, Any, float]:
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        own = entries[rank::world]
        rows = torch.tensor([row for row, _ in own], dtype=torch.long)
        return (
            lambda: self.train.take(rows, mask[rows]),
            lambda batch: word_losses(self.reporter, batch, [lesson for _, lesson in own]).sum(),
            float(sum(len(lesson.ids) for _, lesson in entries)),
        )

    # ---------------------------------------------------------------------------------------- frozen tokens

    def _encoded(self, part: Part) -> Part:
        """The records with the tokens of resting encoders in place of what these read, if they fit into
        memory."""
        network = self.reporter.network
        rests = [
            n
            for n in network.modalities
            if not any(p.requires_grad for p in network.encoders[n].parameters())
        ]
        rests = [n for n in rests if isinstance(part.supply, PackedCohort) and n in part.supply.whole.values]
        if not rests or self.reporter.blind:
            return part
        whole, values = part.supply.whole, dict(part.supply.whole.values)
        with asking(network):
            for name in rests:
                tokens = _encode_all(network.encoders[name], values[name], self.accelerator.device)
                if tokens is not None:
                    values[name] = tokens
        return replace(part, supply=replace(part.supply, whole=replace(whole, values=values)))


def _encode_all(encoder: nn.Module, values: Any, device: torch.device) -> Tokens | None:
    """Tokens of all rows, None if they would need too much memory."""
    from mmmed.models.multimodal import encode

    count = len(next(iter(values.values())))
    parts, size = [], 0
    for start in range(0, count, CHUNK):
        some = {key: tensor[start : start + CHUNK].to(device) for key, tensor in values.items()}
        tokens = encode(encoder, some)
        parts.append(Tokens(tokens.values.cpu().clone(), tokens.mask.cpu().clone()))
        size += parts[-1].values.numel() * parts[-1].values.element_size()
        if size / (start + CHUNK) * count > KEPT:
            return None
    return join_tokens(parts)


def join_tokens(parts: Sequence[Tokens]) -> Tokens:
    """Tokens of one modality below each other, padded at the end to the longest."""
    longest = max(part.mask.shape[1] for part in parts)
    pad = nn.functional.pad
    return Tokens(
        torch.cat([pad(part.values, (0, 0, 0, longest - part.mask.shape[1])) for part in parts]),
        torch.cat([pad(part.mask, (0, longest - part.mask.shape[1])) for part in parts]),
    )


def _by_length(
    entries: list[tuple[int, Lesson]], size: int, generator: torch.Generator
) -> list[list[tuple[int, Lesson]]]:
    """Batches of lessons of about the same length, in random order."""
    batches = []
    for start in range(0, len(entries), POOL * size):
        pool = sorted(entries[start : start + POOL * size], key=lambda entry: len(entry[1].ids))
        batches += [pool[k : k + size] for k in range(0, len(pool), size)]
    return [batches[k] for k in torch.randperm(len(batches), generator=generator).tolist()]


# --------------------------------------------------------------------------------------------------- losses


def finding_losses(reporter: ReportGenerator, batch: Batch, targets: Tensor, known: Tensor) -> Tensor:
    """Binary cross entropy of each finding that the inputs can show: [batch labels], 0 elsewhere and where
    the report is in doubt. A finding that a report does not mention counts as absent: so CheXpert reads what
    radiologists write (Irvin et al., arXiv:1901.07031)."""
    network = reporter.network
    logits, assessable = network.find(network.encode(batch), batch.rows, len(batch))
    losses = binary_cross_entropy_with_logits(logits, targets.to(logits), reduction="none")
    return losses * (assessable & known.to(assessable.device))


def word_losses(reporter: ReportGenerator, batch: Batch, lessons: Sequence[Lesson]) -> Tensor:
    """Negative log-likelihood of the lessons' ids: [batch length]."""
    if not len(batch):
        return reporter.network.missing.sum() * 0.0
    batch = batch.hide(*batch.modalities) if reporter.blind else batch
    segments = segments_of(reporter, [lesson.ask for lesson in lessons])
    return reporter.network(batch, segments, [lesson.ids for lesson in lessons], reporter.tokenizer.bos)
