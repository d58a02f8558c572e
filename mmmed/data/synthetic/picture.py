"""Drawing a scene: an 8-bit picture and, bit by bit, where every organ and lesion is.

Grey values 0 to 1 before the site's gain: air around the body .04, body .34 with a coarse texture per
patient, lungs .12 darker, lesions brighter by .18 / .29 / .42 (d), noise. A lesion is a disc of radius .065
/ .105 / .145 (r) whose edge waves with six lobes of 0 / 22 / 44 % (a). These levels lie further apart than
human eyes would need, because the exact ceilings assume that a reader makes no error: a small network must
be able to tell them apart at 64 px.

A site adds its own gain and noise and burns its letter into the upper left corner, outside the body.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from mmmed.data.synthetic.scene import EFFUSIONS, LOBES, SIDES, Lesion, Scene

AIR, BODY, LUNG, TEXTURE = 0.04, 0.34, -0.12, 0.02
GAINS = {"A": 0.95, "B": 1.0, "C": 1.05}
NOISES = {"A": 0.025, "B": 0.03, "C": 0.035}
FLUID = {"absent": 0.0, "uncertain": 0.05, "present": 0.11}  # height of the fluid above the base of the lung
ANGLES = (0.0, 0.1)  # radians by which the field is turned in the first and second view
LETTERS = {  # three by five dots
    "A": ("010", "101", "111", "101", "101"),
    "B": ("110", "101", "110", "101", "110"),
    "C": ("011", "100", "100", "100", "011"),
}
STRUCTURES = ("body", "right lung", "left lung", "effusion", "lesion 1", "lesion 2", "lesion 3")


def render(
    scene: Scene, size: int, generator: np.random.Generator, angle: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one view: picture [size size] uint8, structures [size size] uint8 with one bit per name in
    `STRUCTURES`.
    """
    picture, structures = _body(scene, size, angle)
    for place, lesion in enumerate(scene.lesions):
        cover, inside = lesion_cover(lesion, size, angle)
        picture += lesion.contrast * cover
        structures |= inside.astype(np.uint8) << (4 + place)
    return finish(picture, scene.site, generator), structures


def render_stack(scene: Scene, size: int, depth: int, generator: np.random.Generator) -> np.ndarray:
    """A coarse stack of slices, front to back: [depth size size] uint8.

    The stack is as deep as it is wide, and the lungs narrow towards both ends. Each lesion has its full size
    in one slice of the middle half and shrinks like a ball in the ones beside it.
    """
    own = [int(depth / 4 + generator.random() * depth / 2) for _ in scene.lesions]
    slices = []
    for place in range(depth):
        end = (2 * place + 1) / depth - 1
        narrow = float(np.sqrt(1 - (0.8 * end) ** 2))
        picture, _ = _body(scene, size, 0.0, narrow)
        for lesion, middle in zip(scene.lesions, own, strict=True):
            away = (place - middle) / depth / lesion.radius
            if abs(away) < 1:
                picture += lesion.contrast * lesion_cover(lesion, size, 0.0, float(np.sqrt(1 - away**2)))[0]
        slices.append(finish(picture, scene.site, generator))
    return np.stack(slices)


def lesion_cover(
    lesion: Lesion, size: int, angle: float, shrink: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """The covered share of each pixel and which pixel centres lie inside the lesion, [size size] each."""
    x, y, _ = grid(size, angle)
    across, down = x - lesion.x, y - lesion.y
    wave = lesion.amplitude * np.sin(LOBES * np.arctan2(down, across) + lesion.phase)
    depth = shrink * lesion.radius * (1 + wave) - np.hypot(across, down)
    return np.clip(size * depth + 0.5, 0, 1), depth > 0


def finish(picture: np.ndarray, site: str, generator: np.random.Generator) -> np.ndarray:
    """Gain, letter and noise of the site, then eight bits, which the last digits of a sine cannot change."""
    size = len(picture)
    picture = picture * GAINS[site]
    dot = max(1, round(size / 32))
    letter = np.array([[mark == "1" for mark in line] for line in LETTERS[site]])
    letter = letter.repeat(dot, 0).repeat(dot, 1)
    picture[: letter.shape[0], : letter.shape[1]][letter] = 0.9
    picture = picture + NOISES[site] * generator.standard_normal(picture.shape)
    return np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8)


def bits(structures: np.ndarray, name: str) -> np.ndarray:
    """The mask of one structure, bool of the same shape."""
    return (structures >> STRUCTURES.index(name) & 1).astype(bool)


@lru_cache(maxsize=8)
def grid(size: int, angle: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the pixel centres lie in the scene, x and y, and which lie in the body, [size size] each.

    angle: the field is turned about its middle. The body is an ellipse with fuller corners.
    """
    middle = (np.arange(size) + 0.5) / size - 0.5
    across, down = np.meshgrid(middle, middle)
    cosine, sine = np.cos(angle), np.sin(angle)
    x, y = cosine * across + sine * down + 0.5, cosine * down - sine * across + 0.5
    return x, y, np.abs((x - 0.5) / 0.49) ** 2.5 + np.abs((y - 0.5) / 0.51) ** 2.5 < 1


def _body(scene: Scene, size: int, angle: float, narrow: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Body, lungs and fluid without lesions: grey values and structures, [size size] each."""
    x, y, body = grid(size, angle)
    row, column = (np.clip((part * 8).astype(int), 0, 7) for part in (y, x))
    picture = np.where(body, BODY + TEXTURE * scene.texture[row, column], AIR)
    structures = body.astype(np.uint8)
    for place, side in enumerate(SIDES):
        middle_x, middle_y, half_width, half_height = scene.lungs[side]
        across, down = (x - middle_x) / half_width, (y - middle_y) / half_height
        lung = across**2 + down**2 < narrow**2
        structures |= lung.astype(np.uint8) << (1 + place)
        if side == scene.effusion_side and scene.effusion != EFFUSIONS[0]:
            fluid = lung & (y > middle_y + half_height - FLUID[scene.effusion])
            structures |= fluid.astype(np.uint8) << 3
            lung = lung & ~fluid
        picture = picture + LUNG * lung
    return picture, structures
