"""Referring segmentation of the synthetic chest: a mask for a phrase, or "not there"; 64 px, 800 pictures.

Phrases name side, zone, size, margin and density of up to three nodules, or the larger or smaller of two; as
many point at nothing. Printed: CPU seconds of the training; Dice, empty-target accuracy, relation accuracy
and the rest with 95 % intervals by patient; the same for a model that is told nothing by the words, and for a
fixed shape.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_masks.py [--fusion svla] [--epochs 20] [--seed 0]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

import mmmed
from mmmed.data.phrases import phrases_of
from mmmed.evaluation.mask_baselines import FixedShape
from mmmed.evaluation.masks import evaluate_masks
from mmmed.training.mask_finetune import EPOCHS, finetune_masks
from mmmed.types import Phrase

SIZES = (800, 150, 400)
MUTE = "the nodule"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fusion", default="film")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--blind", action="store_true", help="also train the text-blind model")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cohort = mmmed.load_cohort("synthetic", patients=sum(SIZES) * 21 // 20, seed=0, split=_split())
    cohort = cohort.where(np.concatenate([_first(cohort, part, size) for part, size in _PARTS.items()]))
    told = [*phrases_of(cohort["train"], whole=True), *phrases_of(cohort["val"])]
    asked = phrases_of(cohort["test"])
    print(f"{len(cohort['train'])} training pictures with {len(told):,} phrases; {len(asked)} test phrases")

    ours = _taught(cohort, told, options, options.fusion)
    print(evaluate_masks(ours, cohort["test"], asked))
    if options.blind:
        blind = _taught(cohort, _muted(told), options, "plain")
        print("\ntext-blind: every phrase is", repr(MUTE))
        print(evaluate_masks(blind, cohort["test"], _muted(asked), swaps=False))
    print("\nfixed shape, never looks at the picture")
    print(evaluate_masks(FixedShape.fit(cohort["train"], told), cohort["test"], asked, swaps=False))


_PARTS = dict(zip(("train", "val", "test"), SIZES, strict=True))


def _split() -> tuple[float, float, float]:
    return tuple(size / sum(SIZES) for size in SIZES)


def _first(cohort: mmmed.Cohort, part: str, size: int) -> np.ndarray:
    """The first records of a part whose picture is there."""
    return np.flatnonzero((cohort.splits == part) & cohort.present[:, 0])[:size]


def _muted(phrases: Sequence[Phrase]) -> list[Phrase]:
    return [replace(phrase, text=MUTE) for phrase in phrases]


def _taught(
    cohort: mmmed.Cohort, told: Sequence[Phrase], options: argparse.Namespace, fusion: str
) -> mmmed.ReferringSegmenter:
    segmenter = mmmed.ReferringSegmenter.from_cohort(
        cohort, [phrase for phrase in told], fusion=fusion, seed=options.seed
    )
    start = time.process_time()
    run = finetune_masks(segmenter, cohort, told, epochs=options.epochs, seed=options.seed, progress=False)
    count = sum(parameter.numel() for parameter in segmenter.network.parameters())
    print(f"\n{fusion}: {count:,} parameters, {time.process_time() - start:.0f} CPU s\n{run}\n")
    return segmenter


if __name__ == "__main__":
    main()
