"""The epochs of a referring segmenter, the same on a CPU, a GPU, and several processes."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mmmed.data.alternating import alternating_batches
from mmmed.losses.masks import deep_supervision, mask_loss, presence_loss
from mmmed.segmentation.feature_pyramid import resize
from mmmed.segmentation.matching import contrast, count_taught
from mmmed.training.chance import seed_layers, stream, stream_seed
from mmmed.training.gradients import add_up
from mmmed.training.loop import mean_buffers
from mmmed.training.mask_batches import MaskBatch, make_batch
from mmmed.training.mask_lessons import Lessons
from mmmed.training.mask_recipe import MaskRecipe
from mmmed.training.optimisation import parameter_groups
from mmmed.training.policy import drop_modalities
from mmmed.training.schedule import rate_factor
from mmmed.types import Phrase, Tokens

if TYPE_CHECKING:
    from accelerate import Accelerator

    from mmmed.models.referring_segmenter import ReferringSegmenter

LOSSES = ("contrast", "presence", "mask", "coarse")
DICE = 1.0  # beside 2 x cross-entropy


@dataclass
class MaskLoop:
    """A segmenter, its lessons and its optimiser; `epoch` teaches every record once."""

    segmenter: ReferringSegmenter
    lessons: Lessons
    recipe: MaskRecipe
    epochs: int
    seed: int
    accelerator: Accelerator

    def __post_init__(self) -> None:
        groups = parameter_groups(self.segmenter.network, self.recipe.weight_decay)
        fused = all(p.device.type in ("cpu", "cuda") for group in groups for p in group["params"])
        self.optimiser = torch.optim.AdamW(groups, lr=self.recipe.lr, fused=fused)

    @property
    def updates(self) -> int:
        """In an epoch."""
        return len(self.batches(0))

    def batches(self, number: int) -> list[Tensor]:
        """The records of each update of an epoch. Where the phrases name several acquisitions, each update
        has one of them, and they take turns (see `mmmed.data.alternating`)."""
        rows, generator = self.lessons.rows, stream(self.seed, "order", number)
        told = {row: self.lessons.phrases[k].acquisition for k, row in enumerate(self.lessons.row.tolist())}
        names = sorted(set(told.values()))
        if len(names) < 2:
            order = rows[torch.randperm(len(rows), generator=generator)]
            return list(order.split(self.recipe.batch_size))
        groups = [names.index(told[row]) for row in rows.tolist()]
        return [rows[part] for part in alternating_batches(groups, self.recipe.batch_size, generator)]

    def epoch(self, number: int, after: Callable[[], Any]) -> dict[str, float]:
        """Teach every record once; -> mean of each loss, and the last learning rate. after(): called after
        each update."""
        batches = self.batches(number)
        self.segmenter.network.train()
        totals: dict[str, float] = {}
        rate = 0.0
        for index, part in enumerate(batches):
            done, whole = number * len(batches) + index, self.epochs * len(batches)
            rate = self.recipe.lr * rate_factor(done, whole, self.recipe.warmup, "cosine")
            losses = self._update(part, number, index, rate)
            for name, value in losses.items():
                totals[name] = totals.get(name, 0.0) + value / len(batches)
            after()
        mean_buffers(self.segmenter.network, self.accelerator)
        return {**totals, "lr": rate}

    def _update(self, rows: Tensor, number: int, index: int, rate: float) -> dict[str, float]:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        seed = stream_seed(self.seed, "dropout", number, index, self.accelerator.process_index)
        seed_layers(seed, self.accelerator.device)
        batch, sizes = self._own(rows, number, index)
        with self._autocast():
            draws = self.draws(number)
            losses = mask_losses(self.segmenter, self.lessons, batch, self.recipe, draws, sizes)
        loss = sum(losses.values(), torch.zeros((), device=self.accelerator.device))
        if loss.requires_grad:
            loss.backward()
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        parts = [losses.get(name, torch.zeros_like(loss)).detach().float() for name in LOSSES]
        added = add_up(parameters, torch.stack(parts), self.accelerator).tolist()
        value = sum(added)
        moved = [parameter for parameter in parameters if parameter.grad is not None]
        norm = nn.utils.clip_grad_norm_(moved, self.recipe.clip or math.inf)
        if not (math.isfinite(value) and bool(norm.isfinite())):
            raise ValueError(
                f"Epoch {number + 1}, step {index + 1}: the loss is not finite. Look at the pictures for "
                "enormous values; if they are sound, lower the learning rate: MaskRecipe(lr=...)."
            )
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        told = {name: part for name, part in zip(LOSSES, added, strict=True) if name in losses or part}
        return {"loss": value, **told}

    def draws(self, number: int) -> bool:
        """Whether masks and presence are learned in this epoch; in the last one they always are."""
        first = min(round(self.recipe.first * self.epochs), self.epochs - 1)
        return self.segmenter.weak or not self.recipe.contrast or number >= first

    def _own(self, rows: Tensor, number: int, index: int) -> tuple[MaskBatch, tuple[int, int, int]]:
        """This process's share of an update, and how many phrases, drawn targets and pairs the whole has.
        What is chosen does not depend on the number of processes."""
        whole = self._make(rows, number, index)
        sizes = len(whole.which), int(whole.drawn.sum()), count_taught(whole.right, whole.told_which)
        return whole.share(self.accelerator.process_index, self.accelerator.num_processes), sizes

    def _make(self, rows: Tensor, number: int, index: int) -> MaskBatch:
        generator = stream(self.seed, "batch", number, index)
        supply, names = self.lessons.supply, tuple(self.segmenter.schema.modalities)
        present = supply.present[rows]
        own = [names.index(name) for name in self.segmenter.modalities]
        mask, rate = present.clone(), self.recipe.dropout if len(own) > 1 else 0.0
        mask[:, own] = drop_modalities(present[:, own], rate, generator)
        batch = next(iter(supply.batches([(rows, mask)])))
        return make_batch(self.segmenter.network, self.lessons, batch, rows, self.recipe, generator)

    def _autocast(self) -> AbstractContextManager:
        if self.recipe.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.accelerator.device.type, dtype=torch.bfloat16)


def mask_losses(
    segmenter: ReferringSegmenter,
    lessons: Lessons,
    batch: MaskBatch,
    recipe: MaskRecipe,
    draws: bool = True,
    sizes: tuple[int, int, int] | None = None,
) -> dict[str, Tensor]:
    """The losses of a batch, each over what the whole update counts. draws: masks and presence too, not only
    the contrast. sizes: phrases, drawn targets and contrasted pairs of the whole update, None = of this."""
    network, device = segmenter.network, segmenter.network.device
    if sizes is None:
        sizes = (len(batch.which), int(batch.drawn.sum()), count_taught(batch.right, batch.told_which))
    phrases, drawn, pairs = (max(size, 1) for size in sizes)
    if not batch.count:
        return {}  # a gradient of zero would still decay weights that do not learn yet
    values = {name: pictures.to(device) for name, pictures in batch.values.items()}
    rows = {name: places.to(device) for name, places in batch.rows.items()}
    seen = network.see(values, rows, batch.count)
    losses: dict[str, Tensor] = {}
    if recipe.contrast and not segmenter.weak and sizes[2] and batch.told:
        words = words_of(segmenter, lessons, batch.told, device)
        picture = batch.told_which.to(device)
        regions = network.decoder.match.regions(
            seen.summary, network.decoder.shares(batch.regions.to(device), seen)
        )
        scores = network.decoder.match.score(regions[picture], words)
        losses["contrast"] = contrast(scores, batch.right.to(device), picture) * recipe.contrast / pairs
    if not draws or not len(batch.which):
        return losses
    which, there = batch.which.to(device), batch.there.to(device)
    drawing = network.draw(seen, words_of(segmenter, lessons, batch.phrases, device), which)
    losses["presence"] = presence_loss(drawing.presence, there.float()).sum() * recipe.presence / phrases
    if segmenter.weak or not bool(batch.drawn.any()):
        return losses
    known = batch.drawn.to(device)
    target = batch.target.to(device).unsqueeze(1)[known]
    there, logits = there[known], drawing.logits[known]
    logits = resize(logits, target.shape[2:])
    losses["mask"] = mask_loss(logits, target, there, dice=DICE).sum() * recipe.mask / drawn
    coarse = deep_supervision([one[known] for one in drawing.coarse], target, there)
    losses["coarse"] = coarse.sum() * recipe.coarse / drawn
    return losses


def words_of(
    segmenter: ReferringSegmenter, lessons: Lessons, asked: list[tuple[int, str]], device: torch.device
) -> Tokens:
    """Tokens of phrases; those that say the same are read once. States of a language model were
    made beforehand."""
    if lessons.states is not None:
        indices = torch.tensor([index for index, _ in asked], dtype=torch.long)
        return segmenter.network.ask(states=lessons.states[indices].to(device))
    phrases = [replace(lessons.phrases[index], text=text) for index, text in asked]
    keys = [(phrase.text, phrase.category, phrase.acquisition) for phrase in phrases]
    places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    firsts: dict[Any, Phrase] = {}
    for key, phrase in zip(keys, phrases, strict=True):
        firsts.setdefault(key, phrase)
    read = segmenter.reader.read([firsts[key] for key in places])
    words = segmenter.network.ask(**{name: tensor.to(device) for name, tensor in read.items()})
    return words[torch.tensor([places[key] for key in keys], device=device)]
