"""What is in a picture, before it is drawn: lungs, lesions with side, zone, size, margin and density, fluid.

The **index lesion** carries the factors: its margin is a, its size r, its density d. It is always the
largest lesion of the picture, and note and impression describe it alone. The others are distractors: tiny
(at most .7 of the radius of the smallest index lesion), smooth and ground-glass, and never in a place that
touches the index lesion, so they blur no factor. Sides are the patient's: as in every chest
radiograph, the right lung is on the left of the picture, and mirroring a picture makes its phrases wrong.

Lengths are shares of the picture's side, which stands for 120 mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmmed.data.synthetic.truth import COLUMNS

FIELD = 120.0  # mm along the side of the picture
SIDES = ("right", "left")
ZONES = ("upper", "middle", "lower")
SIZES = ("small", "medium", "large")  # of the index lesion, r = -1, 0, +1
TINY = "tiny"  # the size of every distractor
MARGINS = ("smooth", "lobulated", "spiculated")  # a = -1, 0, +1
DENSITIES = ("ground-glass", "part-solid", "solid")  # d = -1, 0, +1
EFFUSIONS = ("absent", "uncertain", "present")

CENTRES = {"right": 0.27, "left": 0.73}  # of the lungs
ACROSS = {"right": 0.285, "left": 0.715}  # of the lesions: further in, so that none leaves the body
DOWN = {"upper": 0.335, "middle": 0.5, "lower": 0.665}
RADII = (0.065, 0.105, 0.145)
TINY_RADII = (0.042, 0.032)  # first and second distractor: apart, so that one is the smallest
AMPLITUDES = (0.0, 0.22, 0.44)
LOBES = 6
CONTRASTS = (0.18, 0.29, 0.42)
MOST_LESIONS = 1 + len(TINY_RADII)
DISTRACTORS = (0.6, 0.25, 0.15)  # chances of 0, 1, 2 where so many are allowed
EFFUSION_CHANCES = (0.6, 0.2, 0.2)


@dataclass(frozen=True)
class Lesion:
    """One lesion. x, y, radius: shares of the picture's side; phase in radians; contrast: added grey."""

    side: str
    zone: str
    size: str
    margin: str
    density: str
    x: float
    y: float
    radius: float
    amplitude: float
    contrast: float
    phase: float
    index: bool

    @property
    def millimetres(self) -> int:
        """The diameter, in whole millimetres."""
        return round(2 * self.radius * FIELD)


@dataclass(frozen=True, eq=False)
class Scene:
    """What one picture shows.

    lungs: side -> (x, y, half width, half height); texture [8 8] standard normal numbers; lesions: the index
    lesion first; effusion: absent, uncertain or present, on `effusion_side`; site: A, B or C.
    """

    lungs: dict[str, tuple[float, float, float, float]]
    texture: np.ndarray
    lesions: tuple[Lesion, ...]
    effusion: str
    effusion_side: str
    site: str


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What stays over the visits of a patient, and makes two pictures of one patient recognisable."""

    lungs: dict[str, tuple[float, float, float, float]]
    texture: np.ndarray
    cells: tuple[tuple[str, str], ...]  # side and zone of the index lesion, then of two distractors
    jitter: np.ndarray  # [lesions 2] from the middle of the cell
    order: float  # uniform number that decides how many distractors there are
    empty: bool  # no lesion at all, where that is allowed


def draw_anatomy(generator: np.random.Generator, fewest: int) -> Anatomy:
    """Lungs, texture and places of the lesions of a patient. fewest: lesions per picture, 0 to 3."""
    width = 0.19 + 0.02 * generator.random(2)
    height = 0.36 + 0.03 * generator.random(2)
    lungs = {
        side: (CENTRES[side], 0.5, float(w), float(h))
        for side, w, h in zip(SIDES, width, height, strict=True)
    }
    texture = generator.standard_normal((8, 8))
    cells = _places(generator)
    jitter = np.clip(0.02 * generator.standard_normal((MOST_LESIONS, 2)), -0.03, 0.03)
    order, empty = generator.random(2)
    # lesion-free pictures are one in five where they are allowed
    return Anatomy(lungs, texture, cells, jitter, float(order), bool(fewest == 0 and empty < 0.2))


def draw_scene(
    anatomy: Anatomy,
    levels: np.ndarray,
    site: str,
    generator: np.random.Generator,
    lesions: tuple[int, int],
) -> Scene:
    """The scene of one visit: levels [columns] of the factors, lesions the fewest and most per picture."""
    phases, sizes = 2 * np.pi * generator.random(MOST_LESIONS), 2 * generator.random(MOST_LESIONS) - 1
    effusion = EFFUSIONS[int(np.digitize(generator.random(), np.cumsum(EFFUSION_CHANCES)[:2]))]
    found = []
    if not anatomy.empty:
        level = {name: int(value) + 1 for name, value in zip(COLUMNS, levels, strict=True)}
        found.append(_index_lesion(anatomy, level, phases[0], sizes[0]))
        for place in range(1, 1 + _distractors(anatomy.order, lesions)):
            found.append(_distractor(anatomy, place, phases[place], sizes[place]))
    # the fluid lies on the side where the index lesion is not, so that it hides none of its margin
    side = next(other for other in SIDES if other != anatomy.cells[0][0])
    return Scene(anatomy.lungs, anatomy.texture, tuple(found), effusion, side, site)


def _index_lesion(anatomy: Anatomy, level: dict[str, int], phase: float, size: float) -> Lesion:
    (side, zone), (x, y) = anatomy.cells[0], anatomy.jitter[0]
    return Lesion(
        side=side,
        zone=zone,
        size=SIZES[level["r"]],
        margin=MARGINS[level["a"]],
        density=DENSITIES[level["d"]],
        x=float(ACROSS[side] + x),
        y=float(DOWN[zone] + y),
        radius=float(RADII[level["r"]] * (1 + 0.04 * size)),
        amplitude=AMPLITUDES[level["a"]],
        contrast=CONTRASTS[level["d"]],
        phase=float(phase),
        index=True,
    )


def _distractor(anatomy: Anatomy, place: int, phase: float, size: float) -> Lesion:
    (side, zone), (x, y) = anatomy.cells[place], anatomy.jitter[place]
    return Lesion(
        side=side,
        zone=zone,
        size=TINY,
        margin=MARGINS[0],
        density=DENSITIES[0],
        x=float(ACROSS[side] + x),
        y=float(DOWN[zone] + y),
        radius=float(TINY_RADII[place - 1] * (1 + 0.04 * size)),
        amplitude=0.0,
        contrast=CONTRASTS[0],
        phase=float(phase),
        index=False,
    )


def _distractors(order: float, lesions: tuple[int, int]) -> int:
    drawn = int(np.digitize(order, np.cumsum(DISTRACTORS)[:2]))
    return max(min(drawn, lesions[1] - 1), lesions[0] - 1)


def _places(generator: np.random.Generator) -> tuple[tuple[str, str], ...]:
    """Cells of (side, zone) for the index lesion and two distractors; neighbours of the index lesion stay
    free.
    """
    every = [(side, zone) for side in SIDES for zone in ZONES]
    side, zone = every[int(generator.random() * len(every))]
    free = [(s, z) for s, z in every if s != side or abs(ZONES.index(z) - ZONES.index(zone)) > 1]
    chosen = generator.random(len(every))[: len(free)].argsort()[:2]
    return ((side, zone), *[free[place] for place in chosen])
