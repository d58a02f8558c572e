"""What the modality word is worth: two acquisitions of opposite contrast, alternating batches, a small net.

Run with OMP_NUM_THREADS=1: python tests/benchmarks/bench_modality_words.py [seeds]. Prints for each table of
words and each seed the mean Dice of new pictures with the right word (aim: .9 or more), with the wrong one
(.1 or less) and with none (.6 or less), and the CPU seconds of learning. "1 thing" is the organ alone; "2
things" asks for the vessel as well, which is the disc of the other contrast. Last, the largest difference
between a mixed batch and single pictures. Now and then a network learns to draw nothing at all: the numbers
of every seed are printed, the failed ones too.
"""

import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "segmentation"))
from modality_words import PICTURES, THINGS, WordNet, learn, make_discs, mean_dice

from mmmed.segmentation.class_table import UNSAID, hashed_rows

WORDS = {
    "right": lambda picture: picture,
    "wrong": lambda picture: 1 - picture,
    "none": lambda picture: torch.full_like(picture, UNSAID),
}


def trial(seed: int, rows: torch.Tensor | None, things: int, unsaid: float) -> WordNet:
    """Learn once and print a line."""
    torch.manual_seed(seed)
    net, start = WordNet(rows=rows), time.process_time()
    learn(net, 200, torch.Generator().manual_seed(seed), things=things, unsaid=unsaid)
    seconds = time.process_time() - start
    dice = {
        word: mean_dice(net, say, torch.Generator().manual_seed(99), things) for word, say in WORDS.items()
    }
    shown = "  ".join(f"{word} {value:.2f}" for word, value in dice.items())
    kind = "learned" if rows is None else "hashed"
    print(f"{kind:8} {things} thing(s)  unsaid {unsaid:.1f}  seed {seed}  {shown}  {seconds:.1f} s")
    return net


@torch.no_grad()
def largest_difference(net: WordNet) -> float:
    """Between a mixed batch and its pictures alone."""
    pixels, _ = make_discs(12, torch.Generator().manual_seed(5))
    thing, picture = torch.zeros(12, dtype=torch.long), torch.arange(12) % 3 - 1
    together = net(pixels, thing, picture)
    alone = torch.cat([net(*(item[i : i + 1] for item in (pixels, thing, picture))) for i in range(12)])
    return float((together - alone).abs().max())


def main(seeds: int) -> None:
    for rows in (None, hashed_rows(THINGS, PICTURES)):
        for things, unsaid in ((1, 0.0), (2, 0.0), (1, 0.2)):
            for seed in range(seeds):
                net = trial(seed, rows, things, unsaid)
    print(f"mixed batch against single pictures: logits differ by {largest_difference(net):.1e} at most")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
