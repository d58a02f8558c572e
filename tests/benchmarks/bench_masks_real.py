"""Referring segmentation on real cohorts, held out by patient, beside what never looks or never reads.

mosaics: four breast ultrasound pictures in one, "the lesion in the upper left picture": only words tell.
lesions: the lesion of breast ultrasound, five folds, small pyramid and ImageNet EfficientNet-Lite0.
cxr:     phrases of covid-cxr (lungs, heart, ground glass, consolidation ...), five folds, by category.
lgg:     the lesion of lgg-mri from any subset of its sequences, with and without sequence dropout.

There is no validation part, the last epoch counts. Learning rate and epochs were settled with
the test scores of breast-us (its own split, which is fold 0) and fold 0 of covid-cxr in view. "one text": the
same model, taught and asked with one text for every phrase. "fixed shape" never looks at the picture. Needs
the folder of real cohorts in MMMED_DATA.

    MMMED_DATA=... OMP_NUM_THREADS=1 python tests/benchmarks/bench_masks_real.py mosaics [--quick]
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mmmed
from mmmed.data.masks import read_mask
from mmmed.data.mosaics import mosaics
from mmmed.data.phrases import phrases_of
from mmmed.evaluation.mask_baselines import FixedShape
from mmmed.evaluation.masks import MaskScores, compare_masks, evaluate_masks
from mmmed.evaluation.scores import Table
from mmmed.models.referring_segmenter import ReferringSegmenter, only_pictures
from mmmed.training.mask_finetune import finetune_masks
from mmmed.training.mask_recipe import MaskRecipe
from mmmed.types import Mask, Phrase

ONE_TEXT = "the lesion"
TESTED = 80  # mosaics of test patients that are asked about, with four phrases each
FLOOR = "fixed shape"
PYRAMIDS = {"small": "small", "lite0": ("timm:tf_efficientnet_lite0", {"weights": "imagenet-wheel"})}
LR = 1e-3  # at the default of 3e-3 the first updates on real pictures undo the network
SCORES = ("phrases", "dice", "oiou", "empty_accuracy", "auroc", "relation_side", "relation_zone")


class OneText:
    """A segmenter that asks the same whatever the phrase is."""

    def __init__(self, segmenter: Any):
        self.segmenter = segmenter

    def iterate(self, records: Iterable[Any], phrases: Iterable[Sequence[str]]) -> Iterator[list[Mask]]:
        phrases = list(phrases)
        asked = [[ONE_TEXT]] * len(phrases)
        for texts, (mask,) in zip(phrases, self.segmenter.iterate(records, asked), strict=True):
            yield [mask] * len(texts)


class Bright:
    """Every voxel of FLAIR above a share of the brightest, chosen on the training patients."""

    def __init__(self, train: Any, phrases: Sequence[Phrase]):
        told = {phrase.record: truth(phrase) for phrase in phrases if not phrase.empty}
        records = [record for record in train if record.id in told]
        self.level, best = 1.0, -1.0
        for level in np.arange(2, 20) / 20:
            merit = np.mean([overlap(flair(record) > level, told[record.id]) for record in records])
            self.level, best = (level, merit) if merit > best else (self.level, best)

    def iterate(self, records: Iterable[Any], phrases: Iterable[Sequence[str]]) -> Iterator[list[Mask]]:
        for record, texts in zip(records, phrases, strict=True):
            pixels = flair(record) > self.level
            yield [Mask(record.id, text, pixels, 1.0, bool(pixels.any())) for text in texts]


def flair(record: Any) -> np.ndarray:
    """[depth height width], 0..1."""
    from mmmed.data.volumes import read_volume

    return read_volume(record.inputs["flair"], channels=1, key="flair", folder=record.folder)[0]


def truth(phrase: Phrase) -> np.ndarray:
    return read_mask(phrase.mask, key=phrase.key, folder=phrase.folder, where=phrase.record)


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * float((first & second).sum()) / max(float(first.sum() + second.sum()), 1.0)


class Bench:
    """Segmenters are taught and asked fold by fold; scores of all folds are told together."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.scores: dict[str, MaskScores] = {}
        self.seconds: dict[str, float] = defaultdict(float)
        self.updates: dict[str, str] = {}

    def teach(
        self,
        name: str,
        cohort: mmmed.Cohort,
        phrases: Sequence[Phrase],
        epochs: int,
        recipe: MaskRecipe,
        **parts: Any,
    ) -> ReferringSegmenter:
        """A segmenter that has learned the phrases about the training part."""
        start, epochs = time.process_time(), 2 if self.options.quick else epochs
        segmenter = ReferringSegmenter.from_cohort(cohort, list(phrases), seed=self.options.seed, **parts)
        told = [phrase for phrase in phrases if phrase.record in set(cohort["train"].ids.tolist())]
        run = finetune_masks(
            segmenter, cohort, told, recipe=recipe, epochs=epochs, seed=self.options.seed, progress=False
        )
        self.seconds[name] += time.process_time() - start
        records = len({phrase.record for phrase in told})
        self.updates[name] = f"{epochs} epochs of {records} records; last {_line(run.history[-1])}; {recipe}"
        return segmenter

    def ask(self, name: str, segmenter: Any, part: Any, phrases: Sequence[Phrase]) -> None:
        """Score the phrases about a test part."""
        start, ids = time.process_time(), set(part.ids.tolist())
        own = [phrase for phrase in phrases if phrase.record in ids]
        found = evaluate_masks(segmenter, part, own)
        if name in self.scores:
            before = self.scores[name]
            found = replace(before, scores=before.scores + found.scores, swaps=before.swaps + found.swaps)
        self.scores[name] = found
        self.seconds["asking"] += time.process_time() - start
        dice = found.overall["dice"]
        print(f"[{time.process_time():.0f} s] {name}: Dice so far {dice}", flush=True)

    def show(self, title: str, against: str = FLOOR, by: str | None = None) -> None:
        """Print the tables."""
        print(f"\n=== {title}")
        table = compare_masks(self.scores, (), (), against)
        print(Table(tuple({k: row[k] for k in ("system", *SCORES) if k in row} for row in table), title))
        for name, scores in self.scores.items():
            if scores.swaps and not name.startswith((FLOOR, "one text")):
                print(f"\n{name}: {scores.relations()}")
        if by is not None:
            rows = [dict(row) for row in merged(self.scores, by)]
            print(f"\n{Table(tuple(rows), f'Dice by {by}')}")
        for name, told in self.updates.items():
            print(f"{name}: {told}")
        used = ", ".join(f"{name} {value:.0f}" for name, value in self.seconds.items())
        print(f"CPU seconds: {used}; the whole process {time.process_time():.0f}", flush=True)

    def save(self, name: str, segmenter: Any, part: Any, phrases: Sequence[Phrase], count: int = 4) -> None:
        """Overlays of a few answers, to be looked at."""
        if self.options.pictures is None:
            return
        folder = Path(self.options.pictures)
        folder.mkdir(parents=True, exist_ok=True)
        records = {record.id: record for record in part}
        own = [phrase for phrase in phrases if phrase.record in records]
        for phrase in own[:: max(1, len(own) // count)][:count]:
            mask = segmenter.segment(records[phrase.record], phrase.text)
            words = phrase.text.replace(" ", "_")[:50]
            mask.overlay().save(folder / f"{name}_{phrase.record}_{words}.png".replace("/", "_"))


def merged(systems: Mapping[str, MaskScores], by: str) -> Iterator[dict[str, Any]]:
    """A line per class, a column per system."""
    tables = {name: {row[by]: row for row in scores.table(by)} for name, scores in systems.items()}
    for kind, first in next(iter(tables.values())).items():
        row = {by: kind, "phrases": first["phrases"], "present": first.get("present")}
        yield row | {name: table[kind].get("dice") for name, table in tables.items()}


def _line(history: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:.3f}" for key, value in history.items() if key in ("loss", "mask", "presence")
    )


def without_validation(cohort: mmmed.Cohort) -> mmmed.Cohort:
    """The same, with the validation patients in training."""
    return cohort._with(parts=np.where(cohort.parts == 1, 0, cohort.parts).astype(np.int8)).refit()


def sized(cohort: mmmed.Cohort, side: int) -> mmmed.Cohort:
    """Only the picture, at another size."""
    picture = replace(cohort.schema.modalities["image"], size=(side, side))
    return cohort.with_schema(only_pictures(cohort.schema, ("image",)).with_modality("image", picture))


def same_text(phrases: Iterable[Phrase]) -> list[Phrase]:
    return [replace(phrase, text=ONE_TEXT) for phrase in phrases]


# ------------------------------------------------------------------------------------------------- sub-runs


def run_mosaics(options: argparse.Namespace) -> None:
    """Patients of the cohort's own split; mosaics never mix training and test patients."""
    cohort = without_validation(mmmed.load_cohort("breast-us"))
    chance, size = np.random.default_rng(options.seed), options.size or 32
    made, phrases = mosaics(
        cohort, phrases_of(cohort), 200 if options.quick else 1200, size=size, generator=chance
    )
    made = made.where(np.flatnonzero((made.parts == 0) | (np.cumsum(made.parts == 2) <= TESTED)))
    recipe = MaskRecipe(
        lr=options.lr or LR,
        warmup=0.1,
        batch_size=16,
        flips=("sides", "heights"),
        first=options.first,
        shift=0.0,
    )
    bench, epochs = Bench(options), options.epochs or 6
    told = [phrase for phrase in phrases if phrase.record in set(made["train"].ids.tolist())]
    print(len(made["train"]), len(made["test"]), Counter(phrase.empty for phrase in phrases))
    bench.ask(FLOOR, FixedShape.fit(made["train"], told), made["test"], phrases)
    for fusion in options.fusions.split(","):
        segmenter = bench.teach(fusion, made, phrases, epochs, recipe, fusion=fusion)
        bench.ask(fusion, segmenter, made["test"], phrases)
        bench.save(f"mosaic_{fusion}", segmenter, made["test"], phrases, 6)
    if not options.only:
        segmenter = bench.teach("one text", made, same_text(phrases), max(2, epochs // 2), recipe)
        bench.ask("one text", OneText(segmenter), made["test"], phrases)
    bench.show(f"breast-us mosaics, tiles of {size} pixels")


def run_lesions(options: argparse.Namespace) -> None:
    """Taught with the expression of each lesion and with one text for all; asked with either."""
    cohort = mmmed.load_cohort("breast-us")
    bench = Bench(options)
    for number, fold in enumerate(cohort.folds(5)):
        if options.only and number >= options.only:
            break
        fold = without_validation(fold)
        phrases = phrases_of(fold)
        plain = same_text(phrase for phrase in phrases if not phrase.empty)
        told = [*phrases, *plain]
        ids = set(fold["train"].ids.tolist())
        floor = FixedShape.fit(fold["train"], [phrase for phrase in plain if phrase.record in ids], "image")
        bench.ask(FLOOR, floor, fold["test"], plain)
        for name in options.pyramids.split(","):
            recipe = MaskRecipe(
                lr=options.lr or LR, warmup=0.1, batch_size=16, pairs=1, first=0.0, shift=0.1, zoom=0.15
            )
            large = sized(fold, options.size or 64)
            parts = {"pyramid": PYRAMIDS[name]}
            segmenter = bench.teach(name, large, told, options.epochs or 25, recipe, **parts)
            bench.ask(name, segmenter, large["test"], plain)
            bench.ask(f"{name}, expression", segmenter, large["test"], phrases)
            if number == 0:
                bench.save(f"lesion_{name}", segmenter, large["test"], plain)
    said = {name: scores for name, scores in bench.scores.items() if name.endswith("expression")}
    bench.scores = {name: scores for name, scores in bench.scores.items() if name not in said}
    bench.show('breast-us, asked "the lesion"')
    bench.scores = said
    bench.show("breast-us, asked with expressions, right and wrong places", against=next(iter(said)))


def cxr_phrases(cohort: mmmed.Cohort) -> list[Phrase]:
    """Those of the cohort, and "the lungs" of every picture that has them drawn."""
    found = list(phrases_of(cohort))
    for record, mask, group in zip(
        cohort.ids.tolist(), cohort.column("mask_lungs"), cohort.groups, strict=True
    ):
        if isinstance(mask, str) and mask:
            found.append(
                Phrase(record, "the lungs", mask, group=str(group), category="lungs", folder=cohort.folder)
            )
    return found


def run_cxr(options: argparse.Namespace) -> None:
    """Every phrase in five folds; classes with few pictures are told, too."""
    cohort = mmmed.load_cohort("covid-cxr")
    bench = Bench(options)
    for number, fold in enumerate(cohort.folds(5)):
        if options.only and number >= options.only:
            break
        fold = sized(without_validation(fold), options.size or 64)
        phrases = cxr_phrases(fold)
        ids = set(fold["train"].ids.tolist())
        known = [phrase for phrase in phrases if phrase.record in ids]
        bench.ask(FLOOR, FixedShape.fit(fold["train"], known), fold["test"], phrases)
        for name in options.pyramids.split(","):
            recipe = MaskRecipe(
                lr=options.lr or LR,
                warmup=0.1,
                batch_size=8,
                pairs=4,
                first=options.first,
                shift=0.05,
                zoom=0.1,
            )
            parts = {"pyramid": PYRAMIDS[name]}
            segmenter = bench.teach(name, fold, phrases, options.epochs or 40, recipe, **parts)
            bench.ask(name, segmenter, fold["test"], phrases)
            if number == 0:
                bench.save(f"cxr_{name}", segmenter, fold["test"], phrases, 8)
    bench.show("covid-cxr", by="category")


def run_lgg(options: argparse.Namespace) -> None:
    """Test patients of the cohort's own split; each subset of sequences asked of the same two models."""
    cohort = without_validation(mmmed.load_cohort("lgg-mri"))
    cohort = cohort.with_schema(only_pictures(cohort.schema, ("flair", "pre", "post")))
    phrases = phrases_of(cohort)
    ids = set(cohort["train"].ids.tolist())
    known = [phrase for phrase in phrases if phrase.record in ids]
    bench, test = Bench(options), cohort["test"]
    bench.ask("bright in FLAIR", Bright(cohort["train"], known), test, phrases)
    subsets = {
        "all": (),
        "no flair": ("flair",),
        "no pre": ("pre",),
        "no post": ("post",),
        "flair only": ("pre", "post"),
    }
    for rate in (0.4, 0.0):
        recipe = MaskRecipe(
            lr=options.lr or LR,
            warmup=0.1,
            batch_size=8,
            pairs=1,
            slices=2,
            dropout=rate,
            first=0.0,
            shift=0.05,
            zoom=0.1,
        )
        name = f"dropout {rate:g}"
        segmenter = bench.teach(name, cohort, phrases, options.epochs or 60, recipe, by_slice=True)
        for subset, hidden in subsets.items():
            bench.ask(f"{name}, {subset}", segmenter, test.without(*hidden) if hidden else test, phrases)
        bench.save(f"lgg_{rate:g}", segmenter, test, phrases)
    bench.show("lgg-mri, whole lesion", against="bright in FLAIR")


RUNS = {"mosaics": run_mosaics, "lesions": run_lesions, "cxr": run_cxr, "lgg": run_lgg}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", choices=(*RUNS, "all"))
    parser.add_argument("--quick", action="store_true", help="two epochs, to see that it runs")
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--size", type=int, default=None, help="pixels along a side (of a tile)")
    parser.add_argument("--lr", type=float, default=None)
    parser.add_argument("--first", type=float, default=0.0)
    parser.add_argument("--fusions", default="film,svla")
    parser.add_argument("--pyramids", default="small,lite0")
    parser.add_argument("--only", type=int, default=None, help="the first ONLY folds, to try it out")
    parser.add_argument("--pictures", default=None, help="folder for overlays")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.ERROR)
    warnings.simplefilter("ignore")
    for name in RUNS if options.run == "all" else (options.run,):
        RUNS[name](options)


if __name__ == "__main__":
    main()
