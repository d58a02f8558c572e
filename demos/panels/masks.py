"""Masks on their picture: the pixels as they are, the areas as crisp lines over them, the answers in words.

The areas are drawn as SVG paths along the edges of the pixels, so that an outline stays thin on a small
picture and the strength of the colour is one attribute. Only the picture itself is sent as pixels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmmed.checks import check_share, plain
from mmmed.types import Mask
from mmmed.types.prediction import NOTICE

from .picture import data_uri, edges, runs, step_of
from .svg import escape, finding, percent, remark

if TYPE_CHECKING:
    import numpy as np

UNKNOWN = re.compile(r'the word "(.+)" was never seen in training')  # as a reader of phrases notes it
GUESSED = "Nothing was found, which says little: words of the phrase were never seen in training."


def masks(found: Sequence[Mask], opacity: float = 0.5, outline: bool = True, slice: int | None = None) -> str:
    """One picture with all masks, a number and a colour for each, and the answer to each phrase in words.

    found: masks of one picture or volume. opacity: of the colour, 0..1. slice: of a volume; None = the one
    with the largest cross-section (`best_slice`). Raises ValueError for masks of different pictures.
    """
    found = list(found)
    check_share(opacity, name="opacity")
    if not found:
        return f'<div class="mm-masks">{finding("Nothing was asked about the picture.")}</div>'
    _check_together(found)
    shown = _shown(found, slice)
    parts = [finding(_headline(found))]
    if found[0].missing:
        parts.append(f'<p class="mm-lack">Not available: {escape(", ".join(found[0].missing))}.</p>')
    parts += [f'<p class="mm-told">{escape(note)}</p>' for note in _notes(found)]
    drawn = f"<div>{_drawing(found, shown, opacity, outline)}{_slices(found, shown)}</div>"
    parts.append(f'<div class="mm-masks-both">{drawn}{_answers(found)}</div>')
    return f'<div class="mm-masks">{"".join(parts)}{remark(NOTICE)}</div>'


def best_slice(found: Sequence[Mask]) -> int | None:
    """The slice with the largest cross-section of all masks together, the middle one if they are empty; None
    for a picture."""
    if not found or found[0].pixels.ndim == 2:
        return None
    filled = sum(mask.pixels.sum(axis=(1, 2)) for mask in found)
    return int(filled.argmax()) if filled.any() else len(found[0].pixels) // 2


# ------------------------------------------------------------------------------------------------------ words


def _headline(found: Sequence[Mask]) -> str:
    """HTML: what was found, in one line."""
    if _unseen(found):
        return "There is no picture to look at."
    there = [mask for mask in found if mask.present]
    if not there:
        if any(_unknown(mask) for mask in found):
            return (
                GUESSED
                if len(found) == 1
                else "Nothing was found. Where words were never seen, that says little."
            )
        which = f": <b>{escape(found[0].phrase)}</b>" if len(found) == 1 else " any of these phrases."
        return f"{_nothing(found[0])} for{which}"
    if len(found) == 1:
        return f"Found: <b>{escape(there[0].phrase)}</b>"
    return f"<b>{len(there)} of {len(found)}</b> things were found."


def _unknown(mask: Mask) -> list[str]:
    """The words of a phrase that training did not have."""
    return [match[1] for note in mask.notes if (match := UNKNOWN.fullmatch(note))]


def _notes(found: Sequence[Mask]) -> list[str]:
    """What must be known about the answers, each once; all words that were never seen in one line."""
    words = dict.fromkeys(word for mask in found for word in _unknown(mask))
    notes = dict.fromkeys(note for mask in found for note in mask.notes if not UNKNOWN.fullmatch(note))
    first = [f"Never seen in training: {', '.join(words)}."] if words else []
    return first + [f"Note: {note}" for note in notes]


def _answers(found: Sequence[Mask]) -> str:
    unseen = _unseen(found)
    rows = []
    for place, mask in enumerate(found):
        swatch = "" if mask.present else " mm-swatch-none"
        said = "not looked for: there is no picture" if unseen else _said(mask).replace(" %", "\u00a0%")
        rows.append(
            f'<li><span class="mm-swatch mm-area{place % 6}{swatch}" aria-hidden="true">{place + 1}</span> '
            f"<span><b>{escape(mask.phrase)}</b><br>{escape(said)}</span></li>"
        )
    return f'<ol class="mm-answers">{"".join(rows)}</ol>'


def _said(mask: Mask) -> str:
    """Whether it is there, how surely, and how large it is."""
    if not mask.present:
        nothing = GUESSED if _unknown(mask) else f"{_nothing(mask)}."
        return f"{nothing} Probability that there is something: {percent(mask.presence)}."
    whole = _ground_of(mask)
    size = "size in mm not known" if mask.size is None else f"{_number(mask.size)} {mask.unit}"
    share = f"{percent(mask.share)} of the {whole}"
    return f"There, with a probability of {percent(mask.presence)}; {share}; {size}."


def _nothing(mask: Mask) -> str:
    """Right for what was looked for in vain and for a denial ("no effusion"), which asks for no area."""
    return f"Nothing to mark in this {_ground_of(mask)}"


def _ground_of(mask: Mask) -> str:
    return "picture" if mask.pixels.ndim == 2 else "volume"


def _slices(found: Sequence[Mask], shown: int | None) -> str:
    if shown is None or _unseen(found):
        return ""
    last, best = len(found[0].pixels) - 1, best_slice(found)
    here = any(mask.pixels[shown].any() for mask in found)
    which = f"Slice {shown} (of 0 to {last})"
    if shown == best and here:
        words = f"{which}: the largest cross-section."
    elif any(mask.present for mask in found):
        words = (
            f"{which}; the largest cross-section is slice {best}{'' if here else '; nothing is marked here'}."
        )
    else:
        words = f"{which}."
    return f'<p class="mm-masks-slice">{words}</p>'


def _unseen(found: Sequence[Mask]) -> bool:
    return all(mask.picture is None and not mask.present for mask in found)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


# ---------------------------------------------------------------------------------------------------- drawing


def _shown(found: Sequence[Mask], given: int | None) -> int | None:
    """The slice that is drawn; None for a picture."""
    best = best_slice(found)
    if given is None or best is None:
        return best
    last = len(found[0].pixels) - 1
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= last:
        raise ValueError(f"slice should be a whole number from 0 to {last}, got {plain(given)}.")
    return given


def _drawing(found: Sequence[Mask], shown: int | None, opacity: float, outline: bool) -> str:
    if _unseen(found):
        return ""
    picture = next((mask.picture for mask in found if mask.picture is not None), None)
    areas = [mask.pixels if shown is None else mask.pixels[shown] for mask in found]
    if picture is not None and shown is not None:
        picture = picture[shown]
    step = step_of(areas[0].shape)
    areas = [_fewer(area, step) for area in areas]
    height, width = areas[0].shape
    tall = height * _aspect(found[0])
    ground = "" if picture is None else _ground(picture[::step, ::step], width, height)
    paths = [_area(area, place, opacity, outline) for place, area in enumerate(areas) if area.any()]
    numbers = [_number_at(area, place, max(width, tall), tall / height) for place, area in enumerate(areas)]
    several = sum(area.any() for area in areas) > 1
    words = escape("; ".join(f"{mask.phrase}: {_said(mask)}" for mask in found))
    return (
        f'<svg class="mm-masks-picture" viewBox="0 0 {width} {tall:g}" role="img" aria-label="{words}">'
        f'<g transform="scale(1 {tall / height:.6g})">{ground}{"".join(paths)}</g>'
        f"{''.join(numbers) if several else ''}</svg>"
    )


def _fewer(area: np.ndarray, step: int) -> np.ndarray:
    """One pixel for `step` x `step` of them, set if any is: a tiny finding must not vanish."""
    import numpy as np

    area = np.pad(area, [(0, -size % step) for size in area.shape])
    return area.reshape(area.shape[0] // step, step, area.shape[1] // step, step).any(axis=(1, 3))


def _aspect(mask: Mask) -> float:
    """Height of a pixel over its width."""
    return 1.0 if mask.spacing is None else mask.spacing[-2] / mask.spacing[-1]


def _ground(picture: np.ndarray, width: int, height: int) -> str:
    return (
        f'<image class="mm-masks-pixels" width="{width}" height="{height}" preserveAspectRatio="none" '
        f'href="{data_uri(picture)}"/>'
    )


def _area(area: np.ndarray, place: int, opacity: float, outline: bool) -> str:
    """The tint of one area, and a white and a coloured line along its edge: one is seen on any ground."""
    tint = f'<path class="mm-tint mm-area{place % 6}" fill-opacity="{opacity:g}" d="{runs(area)}"/>'
    if not outline:
        return tint
    edge = edges(area)
    return f'{tint}<path class="mm-halo" d="{edge}"/><path class="mm-edge mm-area{place % 6}" d="{edge}"/>'


def _number_at(area: np.ndarray, place: int, side: float, aspect: float) -> str:
    """The number of the phrase, on a pixel of its area near the middle."""
    import numpy as np

    rows, columns = np.nonzero(area)
    if not len(rows):
        return ""
    near = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    x, y = columns[near] + 0.5, (rows[near] + 0.5) * aspect
    return f'<text class="mm-masks-number" x="{x:g}" y="{y:g}" font-size="{side / 18:.3g}">{place + 1}</text>'


def _check_together(found: Sequence[Mask]) -> None:
    first = found[0]
    for mask in found[1:]:
        if (mask.id, mask.pixels.shape) != (first.id, first.pixels.shape):
            raise ValueError(
                f"Masks on one picture should be of one record and grid, got {plain(first.id)} "
                f"{list(first.pixels.shape)} and {plain(mask.id)} {list(mask.pixels.shape)}. Show them apart."
            )
