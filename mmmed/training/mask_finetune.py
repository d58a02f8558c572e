"""finetune for a referring segmenter: phrases and masks, resumable, validated, saved."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from mmmed.checks import MissingFile, UnreadableFile, check_count
from mmmed.data.collate import Collator
from mmmed.data.hidden_copies import without_hidden_copies
from mmmed.data.phrases import NoPhrases, phrases_of
from mmmed.models.phrase_reader import ClassReader
from mmmed.training.chance import streams_kept
from mmmed.training.checkpoint import (
    Checkpoint,
    Progress,
    claim_output,
    load_checkpoint,
    optimiser_tensors,
    restore_optimiser,
    save_checkpoint,
    state_of,
)
from mmmed.training.fingerprint import architecture_fingerprint, digest, supply_fingerprint
from mmmed.training.mask_classes import by_class
from mmmed.training.mask_lessons import Lessons, make_lessons
from mmmed.training.mask_loop import MaskLoop
from mmmed.training.mask_recipe import MaskRecipe
from mmmed.training.mask_run import MaskRun
from mmmed.training.mask_validation import best_threshold, quality, validate
from mmmed.training.progress import Reporter, check_progress, make_tracker
from mmmed.training.run import write_metrics
from mmmed.training.supply import make_supply
from mmmed.types import Phrase

if TYPE_CHECKING:
    from accelerate import Accelerator

    from mmmed.data.cohort import Cohort
    from mmmed.data.view import View
    from mmmed.models.referring_segmenter import ReferringSegmenter

EPOCHS = 22


def finetune_masks(
    segmenter: ReferringSegmenter,
    cohort: Cohort,
    phrases: Any = None,
    *,
    recipe: MaskRecipe | None = None,
    epochs: int | None = None,
    output: str | Path | None = None,
    resume: bool = True,
    seed: int = 0,
    progress: bool | str = True,
    accelerator: Accelerator | None = None,
) -> MaskRun:
    """Teach a segmenter the phrases about cohort["train"]; the weights of the epoch with the best validation
    are kept, and the threshold of presence is set on the validation phrases. Changes the segmenter in place.

    phrases: a list of `mmmed.types.Phrase`, or what `mmmed.data.phrases.phrases_of` takes; left out, what
    comes with the cohort (of the synthetic one, every phrase about a training picture). Those about
    validation records choose the epoch: by the mean of Dice where something is there (of what is found,
    where nothing is drawn) and the share of empty targets that stay empty. recipe: None = the default one.
    epochs: 22 if nothing is said. output, resume, seed, progress: as in `mmmed.finetune`; a run that was
    killed goes on after its last epoch. Raises ValueError for a cohort without phrases, a mask on another
    grid than its picture, if the output cannot be written, and if a checkpoint belongs to another run.
    """
    from mmmed.training.finetune import make_accelerator

    recipe, epochs = recipe or MaskRecipe(), EPOCHS if epochs is None else check_count(epochs, name="epochs")
    output = None if output is None else Path(output)
    check_progress(progress, output)
    if segmenter.reader.schema is not None:  # states were made from pictures as they are
        recipe = replace(recipe, flips=(), shift=0.0, zoom=0.0, dropout=0.0)
    elif segmenter.reader.kind == "classes":  # a class "left lung" does not turn with its picture
        recipe = replace(recipe, flips=())
    if segmenter.network.by_slice and "heights" in recipe.flips:
        raise ValueError('flips="heights" turns slices, in which nothing is up or down; use "sides" alone.')
    accelerator = accelerator or make_accelerator()
    if output is not None and accelerator.is_main_process:
        claim_output(output, segmenter.network.state_dict().values(), resume)
    accelerator.wait_for_everyone()
    train = lessons_of(segmenter, cohort["train"], phrases, "training")
    val = lessons_of(segmenter, cohort["val"], phrases, "validation")
    with _in_training(segmenter, accelerator):
        loop = MaskLoop(segmenter, train, recipe, epochs, seed, accelerator)
        session = MaskSession(loop, val, output, {} if output is None else _fingerprint(loop, val))
        session.resume()
        accelerator.wait_for_everyone()  # or one would read what another has written since
        session.run(progress if accelerator.is_main_process else False)
    run = session.finish()
    if val is not None and not segmenter.weak:
        segmenter.threshold = best_threshold(segmenter, val)
    # Scores of earlier weights are none of these.
    segmenter.card = {**segmenter.card, "training": _account(cohort, run, recipe), "tables": {}}
    if output is not None and accelerator.is_main_process and segmenter.config:
        segmenter.save_pretrained(output / "model")
    accelerator.wait_for_everyone()
    return run


def lessons_of(segmenter: ReferringSegmenter, part: View, phrases: Any, what: str) -> Lessons | None:
    """The lessons of a part of a cohort. None for a part without records, or validation without phrases."""
    told: Sequence[Phrase]
    if not len(part):
        if what == "training":
            raise ValueError("The cohort has no training records. Split it: cohort.split().")
        return None
    try:
        told = phrases_of(part, phrases, whole=what == "training")
    except NoPhrases:
        if what == "training":
            raise
        return None
    about = {phrase.record for phrase in told}
    part = part.where([identity in about for identity in part.ids.tolist()])
    part = part.with_schema(segmenter.schema) if part.schema != segmenter.schema else part
    part = _without_copies(part, segmenter)
    collator = Collator(segmenter.schema, part.missing_files, part.unreadable)
    supply = make_supply(part, collator)
    lessons = make_lessons(supply, part, told, segmenter.schema, segmenter.modalities)
    if not lessons.phrases:
        if what == "training":
            raise ValueError(
                f"None of the {len(told)} training phrases is about a record that has its "
                f"{' or '.join(segmenter.modalities)}. Look at the cohort's missing and unreadable files."
            )
        return None
    if segmenter.network.by_slice and bool((lessons.there & ~lessons.known).any()):
        raise ValueError(
            "Drawn slice by slice, a segmenter must know in which slice a thing is, and some phrases have no "
            "mask. Pass phrases with masks, or make it with by_slice=False."
        )
    if isinstance(segmenter.reader, ClassReader):
        return by_class(lessons, segmenter.reader)
    if segmenter.reader.schema is None:
        return lessons
    return replace(lessons, states=_states(segmenter, part, lessons))


def _without_copies(part: View, segmenter: ReferringSegmenter) -> View:
    """The same records; sequences that are copies of others count as not recorded, as when it is asked."""
    names = list(part.schema.modalities)
    if len(segmenter.modalities) < 2:
        return part
    stays = np.ones((len(part), len(names)), dtype=bool)
    for row, record in enumerate(part):
        try:
            kept = without_hidden_copies(record, part.schema)[0].present
        except (MissingFile, UnreadableFile):  # the reader of the batches says so, or leaves it out
            continue
        stays[row] = [name not in record.present or name in kept for name in names]
    return part.keep(stays)


def _states(segmenter: ReferringSegmenter, part: View, lessons: Lessons) -> Tensor:
    """What the language model makes of every phrase before its record: read once, since it does not learn."""
    records = list(part.with_schema(segmenter.reader.schema))
    return segmenter.reader.read(lessons.phrases, records, lessons.row.tolist())["states"]


@dataclass
class MaskSession:
    """Runs epochs, keeps the best weights, saves. val: None if there is nothing to validate on; then the last
    epoch counts as the best."""

    loop: MaskLoop
    val: Lessons | None
    output: Path | None
    fingerprint: Mapping[str, Any]
    progress: Progress = field(default_factory=Progress)
    best: dict[str, Tensor] = field(default_factory=dict)

    def resume(self) -> None:
        """Go back to the newest checkpoint, if there is one."""
        saved = load_checkpoint(self.output / "checkpoints", self.fingerprint) if self.output else None
        if saved is not None:
            self.loop.segmenter.network.load_state_dict(saved.model)
            restore_optimiser(self.loop.optimiser, saved.optimiser)
            self.progress, self.best = saved.progress, saved.best

    def run(self, progress: bool | str) -> None:
        """Everything that is left to do; then the network holds the best weights."""
        loop, done = self.loop, self.progress.epoch
        bar = Reporter(
            progress, loop.epochs * loop.updates, done * loop.updates, make_tracker(progress, self.output)
        )
        try:
            while self.progress.epoch < loop.epochs:
                self._epoch(bar)
        finally:
            bar.close()
        loop.segmenter.network.load_state_dict(self.best)

    def _epoch(self, bar: Reporter) -> None:
        began, number = time.perf_counter(), self.progress.epoch
        line = {"epoch": number + 1, **self.loop.epoch(number, bar.step)}
        draws = self.val is not None and self.loop.draws(number)
        scores = validate(self.loop.segmenter, self.val) if draws else {}
        line |= {"val_dice": None, "val_found": None, "val_empty": None, **scores}
        line["seconds"] = time.perf_counter() - began
        good = quality(line)
        worse = None if good is None else -good
        progress = self.progress
        if worse is None or progress.best_loss is None or worse <= progress.best_loss:
            progress.best_loss, progress.best_epoch = worse, number + 1
            self.best = state_of(self.loop.segmenter.network)
        progress.epoch += 1
        progress.history.append(line)
        if self.output is not None and self.loop.accelerator.is_main_process:
            state = state_of(self.loop.segmenter.network)
            saved = Checkpoint(progress, state, self.best, optimiser_tensors(self.loop.optimiser))
            save_checkpoint(self.output / "checkpoints", saved, self.fingerprint)
            write_metrics(self.output / "metrics.jsonl", progress.history)
        bar.epoch({"train_loss": line["loss"], **line})

    def finish(self) -> MaskRun:
        """The account of the run."""
        train = self.loop.lessons
        counts = {"train records": len(train.rows), "train phrases": len(train.phrases)}
        if self.val is not None:
            counts |= {"val records": len(self.val.rows), "val phrases": len(self.val.phrases)}
        return MaskRun(self.progress.history, self.progress.best_epoch, self.output, counts)


@contextmanager
def _in_training(segmenter: ReferringSegmenter, accelerator: Accelerator) -> Iterator[None]:
    """On the accelerator's device, and back; the global generators are left as they were."""
    network = segmenter.network
    device = network.device
    with streams_kept(accelerator.device):
        network.to(accelerator.device)
        try:
            yield
        finally:
            network.to(device).eval()
            network.zero_grad(set_to_none=True)


def _fingerprint(loop: MaskLoop, val: Lessons | None) -> dict[str, Any]:
    lessons, segmenter = loop.lessons, loop.segmenter
    return {
        "kind": "masks",
        "epochs": loop.epochs,
        "recipe": loop.recipe.facts(),
        "seed": loop.seed,
        "network": architecture_fingerprint(segmenter.network),
        "reader": digest([json.dumps(segmenter.reader.to_dict(), sort_keys=True)]),
        "modalities": list(segmenter.modalities),
        "phrases": _digest(lessons),
        "val phrases": None if val is None else _digest(val),
        **supply_fingerprint(lessons.supply, "train"),
    }


def _digest(lessons: Lessons) -> str:
    """Hash of what is asked, of the answers, and of the states that stand for the words."""
    told = [f"{p.record}\0{p.text}\0{p.category}\0{p.acquisition}" for p in lessons.phrases]
    states = [] if lessons.states is None else [lessons.states]
    return digest([*told, lessons.region, lessons.there, lessons.regions, *states])


def _account(cohort: Cohort, run: MaskRun, recipe: MaskRecipe) -> dict[str, Any]:
    """What the model card says of the training."""
    told = {"cohort": cohort.name, **run.counts, "epochs": len(run.history), "kept epoch": run.best_epoch}
    scores = {name: run.best.get(key) for name, key in (("val Dice", "val_dice"), ("val empty", "val_empty"))}
    told |= {name: f"{value:.3f}" for name, value in scores.items() if value is not None}
    return {**told, "learning rate": recipe.lr, "pictures of an update": recipe.batch_size}
