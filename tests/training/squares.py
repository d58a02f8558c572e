"""Pictures of bright squares, and phrases that say on which side, at which height, or how large one is."""

import numpy as np
import pandas

from mmmed.data.cohort import Cohort
from mmmed.models.referring_segmenter import ReferringSegmenter
from mmmed.types import Image, Phrase, Schema, Volume

SIDE = 32
SMALL = {
    "pyramid": ("small", {"widths": (8, 12, 16)}),
    "query": ("words", {"layers": 1, "heads": 2, "dropout": 0.0}),
    "width": 12,
    "dim": 16,
}
SIDES = ("left", "right")


def square(middle, half=3, side=SIDE):
    """bool [side side], a square around (row, column)."""
    mask = np.zeros((side, side), bool)
    row, column = middle
    mask[max(row - half, 0) : row + half + 1, max(column - half, 0) : column + half + 1] = True
    return mask


def paint(masks, generator, shape=(SIDE, SIDE)):
    """Grey noise with bright squares, uint8."""
    values = generator.normal(60, 12, shape)
    for mask in masks:
        values[mask] += 130
    return values.clip(0, 255).astype(np.uint8)


def cohort_of(pictures, splits, schema=None):
    """A cohort of arrays: r0, r1, ..."""
    schema = schema or Schema({"image": Image("picture", size=(SIDE, SIDE))}, id="id", group="id")
    names = [modality.column for modality in schema.modalities.values()]
    ids = [f"r{number}" for number in range(len(pictures))]
    rows = [dict(zip(names, one if isinstance(one, tuple) else (one,), strict=True)) for one in pictures]
    frame = pandas.DataFrame({"id": ids, "part": splits} | {n: [row[n] for row in rows] for n in names})
    return Cohort.from_frame(frame, schema=schema, split="part")


def splits_of(count, val=0.2):
    held = round(count * val)
    return ["train"] * (count - held) + ["val"] * held


def make_task(count=60, seed=0, alone=0.34, val=0.2):
    """Pictures with a square on each side, some with one alone -> cohort, phrases. Each picture is asked for
    both sides."""
    generator = np.random.default_rng(seed)
    pictures, phrases = [], []
    for number in range(count):
        shown = {
            name: square((generator.integers(6, SIDE - 6), generator.integers(*columns)))
            for name, columns in zip(SIDES, ((5, 11), (SIDE - 10, SIDE - 5)), strict=True)
        }
        if generator.random() < alone:
            del shown[SIDES[generator.integers(2)]]
        pictures.append(paint(shown.values(), generator))
        phrases += [Phrase(f"r{number}", f"the square on the {name}", shown.get(name)) for name in SIDES]
    return cohort_of(pictures, splits_of(count, val)), phrases


def make_segmenter(cohort, phrases, **options):
    return ReferringSegmenter.from_cohort(cohort, phrases, **{**SMALL, **options})


def make_volumes(count=6, depth=6, names=("flair",), seed=0):
    """Volumes with a square on slices 2 and 3 of six -> cohort, phrases of one true and one false side."""
    generator = np.random.default_rng(seed)
    schema = Schema({name: Volume(name, size=(depth, 16, 16)) for name in names}, id="id", group="id")
    volumes, phrases = [], []
    for number in range(count):
        side = int(generator.integers(2))
        mask = np.zeros((depth, 16, 16), bool)
        mask[2:4] = square((int(generator.integers(4, 12)), (4, 11)[side]), 2, 16)
        volumes.append(tuple(paint([mask], generator, mask.shape) for _ in names))
        for place, name in enumerate(SIDES):
            phrases.append(Phrase(f"r{number}", f"the square on the {name}", mask if place == side else None))
    return cohort_of(volumes, splits_of(count, 0.34), schema), phrases
