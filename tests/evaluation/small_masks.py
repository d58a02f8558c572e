"""Records with a square on the left and one on the right, and segmenters that answer with a rule."""

from __future__ import annotations

import numpy as np

from mmmed.types import Record
from mmmed.types.mask import Mask
from mmmed.types.phrase import Phrase

GRID = (12, 16)
BOXES = {"left": (slice(3, 8), slice(1, 6)), "right": (slice(3, 8), slice(10, 15))}


def square(side: str) -> np.ndarray:
    mask = np.zeros(GRID, dtype=bool)
    mask[BOXES[side]] = True
    return mask


def records_of(count: int = 6, patients: int | None = None) -> list[Record]:
    patients = patients or count
    return [
        Record(f"r{k}", {"image": np.zeros(GRID, np.float32)}, group=f"p{k % patients}") for k in range(count)
    ]


def phrases_of(records, empty: bool = True, **options) -> list[Phrase]:
    """For each record: both squares, and a ring that is not there."""
    phrases = []
    for record in records:
        phrases += [Phrase(record.id, f"the {side} square", mask=square(side), **options) for side in BOXES]
        phrases += [Phrase(record.id, "the ring", **options)] if empty else []
    return phrases


class Rule:
    """A segmenter that answers with rule(record, text) -> bool mask; presence .9, or .1 for none."""

    def __init__(self, rule):
        self.rule = rule

    def segment(self, record, phrases, *, spacing=None):
        masks = [self.answer(record, text) for text in ([phrases] if isinstance(phrases, str) else phrases)]
        return masks[0] if isinstance(phrases, str) else masks

    def iterate(self, records, phrases):
        for record, texts in zip(records, phrases, strict=True):
            yield [self.answer(record, text) for text in texts]

    def answer(self, record, text):
        pixels = self.rule(record, text)
        there = bool(pixels.any())
        return Mask(record.id, text, pixels, presence=0.9 if there else 0.1, present=there)


def obeys(record, text) -> np.ndarray:
    """Every word is followed."""
    return next((square(side) for side in BOXES if side in text), np.zeros(GRID, bool))


def nothing(record, text) -> np.ndarray:
    return np.zeros(GRID, bool)


def deaf(record, text) -> np.ndarray:
    """The left square, whatever the words."""
    return square("left")
