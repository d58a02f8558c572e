"""Phrases share the picture: what eight phrases cost against one, on a picture of 512 x 512 pixels.

Process time of one thread, medians, ratios within one run; for each word-pixel fusion and two pyramids. Eight
below 1.5 x one is the aim. "whole" is `segment` as a user calls it, with reading, resizing and answers.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_mask_phrases.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

import mmmed
from mmmed.models.segmentation_network import SegmentationNetwork
from mmmed.types import Image, Phrase, Schema

PHRASES = [
    f"the {size} nodule in the {side} {zone} zone"
    for size in ("large", "small")
    for side in ("left", "right")
    for zone in ("upper", "lower")
]
REPEATS = 9
PYRAMIDS = ("small", "timm:tf_efficientnet_lite0")
FUSIONS = ("film", "pwam", "svla", "plain")


def main() -> None:
    torch.set_num_threads(1)
    cohort = mmmed.load_cohort("synthetic", patients=40, seed=0)
    sized = Schema(modalities={"image": Image("picture", size=(512, 512))}, tasks={}, id="id")
    generator = np.random.default_rng(0)
    record = mmmed.Record("one", {"image": generator.integers(0, 256, (512, 512), dtype=np.uint8)})
    print("pyramid, fusion: ms of the pyramid alone, of one and of eight phrases, ratio; the same as a whole")
    for pyramid in PYRAMIDS:
        for fusion in FUSIONS:
            segmenter = mmmed.ReferringSegmenter.from_cohort(
                cohort.with_schema(sized), modalities="image", pyramid=pyramid, fusion=fusion
            )
            see, one, eight = _network(segmenter.network, segmenter)
            ask = partial(segmenter.segment, record)
            whole = [milliseconds(partial(ask, PHRASES[:count])) for count in (1, 8)]
            print(
                f"{pyramid:28} {fusion:6} {see:6.0f} {one:6.0f} {eight:6.0f} {eight / one:6.2f}   "
                f"{whole[0]:6.0f} {whole[1]:6.0f} {whole[1] / whole[0]:6.2f}"
            )


def _network(network: SegmentationNetwork, segmenter: mmmed.ReferringSegmenter) -> tuple[float, float, float]:
    """Milliseconds of the pyramid, of one phrase, of eight: the network alone, to the mask's own grid."""
    pixels, rows = torch.randn(1, 1, 512, 512), {"image": torch.zeros(1, dtype=torch.long)}
    read = segmenter.reader.read([Phrase("one", text) for text in PHRASES])

    def run(count: int) -> None:
        with torch.inference_mode():
            seen = network.see({"image": pixels}, rows, 1)
            if count:
                words = network.ask(**{name: tensor[:count] for name, tensor in read.items()})
                network.draw(seen, words, torch.zeros(count, dtype=torch.long), (512, 512))

    network.eval()
    return tuple(milliseconds(lambda k=k: run(k)) for k in (0, 1, 8))


def milliseconds(work: Callable[[], object]) -> float:
    """Median process time of some repeats, after one warm-up."""
    work()
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1000 * statistics.median(times)


if __name__ == "__main__":
    main()
