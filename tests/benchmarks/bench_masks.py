"""Referring segmentation of the synthetic chest: a mask for a phrase, or "not there"; 64 px, 800 pictures.

Phrases name side, zone, size, margin and density of up to three nodules, or the larger or smaller of two; as
many point at nothing. Printed: CPU seconds of the training; Dice, empty-target accuracy, relation accuracy
and the rest with 95 % intervals by patient; the same for a model that is told nothing by the words, and for a
fixed shape.

--sentences: the sentences of the reports are taught as well, and their false twins unless --no-twins. Then,
and with --ask-sentences, the true sentences about the first 150 test pictures are asked, and their twins.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_masks.py [--fusion svla] [--epochs 20] [--seed 0]
    OMP_NUM_THREADS=1 python tests/benchmarks/bench_masks.py --pictures 490 --sentences [--no-twins]
    OMP_NUM_THREADS=1 python tests/benchmarks/bench_masks.py --pictures 490 --ask-sentences
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

import mmmed
from mmmed.data.phrase_truth import report_phrases, taught_phrases
from mmmed.data.phrases import phrases_of
from mmmed.data.view import View
from mmmed.evaluation.mask_baselines import FixedShape
from mmmed.evaluation.masks import evaluate_masks
from mmmed.training.mask_finetune import EPOCHS, finetune_masks
from mmmed.types import Phrase

SIZES = (800, 150, 400)
MUTE = "the nodule"
SENTENCED = 150  # test pictures whose reports are asked: twenty sentences each, with their twins and swaps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fusion", default="film")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--blind", action="store_true", help="also train the text-blind model")
    parser.add_argument("--pictures", type=int, default=SIZES[0], help="to train on")
    parser.add_argument("--sentences", action="store_true", help="also teach and ask sentences of reports")
    parser.add_argument("--no-twins", action="store_true", help="teach only the true ones")
    parser.add_argument("--ask-sentences", action="store_true", help="only ask them")
    parser.add_argument("--output", help="the folder in which the segmenter is saved")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cohort = mmmed.load_cohort("synthetic", patients=sum(SIZES) * 21 // 20, seed=0, split=_split())
    sizes = _PARTS | {"train": options.pictures}
    cohort = cohort.where(np.concatenate([_first(cohort, part, size) for part, size in sizes.items()]))
    told = [*phrases_of(cohort["train"], whole=True), *phrases_of(cohort["val"])]
    if options.sentences:
        told = taught_phrases(cohort, twins=not options.no_twins)
    asked = phrases_of(cohort["test"])
    print(f"{len(cohort['train'])} training pictures with {len(told):,} phrases; {len(asked)} test phrases")

    ours = _taught(cohort, told, options, options.fusion)
    scores = evaluate_masks(ours, cohort["test"], asked)
    print(scores)
    if options.output:
        ours.card["tables"] = {"Masks of the test part": scores.table().to_markdown()}
        ours.save_pretrained(options.output)
    if options.sentences or options.ask_sentences:
        _ask_sentences(ours, cohort["test"].where(np.arange(SENTENCED)))
    if options.blind:
        blind = _taught(cohort, _muted(told), options, "plain")
        print("\ntext-blind: every phrase is", repr(MUTE))
        print(evaluate_masks(blind, cohort["test"], _muted(asked), swaps=False))
    print("\nfixed shape, never looks at the picture")
    print(evaluate_masks(FixedShape.fit(cohort["train"], told), cohort["test"], asked, swaps=False))


def _ask_sentences(segmenter: mmmed.ReferringSegmenter, test: View) -> None:
    """True sentences with their swaps, then true and false twins, by what they are about."""
    for twins in (False, True):
        told = report_phrases(test, twins=twins)
        scores = evaluate_masks(segmenter, test, told, swaps=not twins)
        print(f"\nsentences of reports{', with twins' * twins}\n{scores.table('category')}")
        empty = {row["category"]: row["empty_accuracy"] for row in scores.table("category") if row["empty"]}
        print(*(f"{category}: empty accuracy {value}" for category, value in empty.items()), sep="\n")
        if not twins:
            print(scores.relations())


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
