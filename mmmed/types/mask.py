"""Mask: what a segmenter answers to one phrase about one picture or volume, "not there" included."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmmed.checks import check_share, plain
from mmmed.types.overlay import colours_of, draw, inline
from mmmed.types.phrase import check_phrase, check_spacing
from mmmed.types.prediction import NOTICE

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

AXES = {2: ("row", "column"), 3: ("depth", "row", "column")}


@dataclass(frozen=True, eq=False)
class Mask:
    """Where one thing is in one picture, on the grid of the picture as it came.

    pixels: bool [height width] or [depth height width], all False if there is no such thing. presence: the
    probability that there is such a thing; present: the decision, which agrees with `pixels`. probability:
    float, same shape, before the decision on presence. picture: uint8 [height width], [height width 3] or
    [depth height width], what is drawn under the mask. spacing: mm per pixel, (row, column) or (depth, row,
    column); None = not known. used, missing: modalities. notes: what else the reader must know.

    A NIfTI volume is answered in the orientation in which it is read (`mmmed.data.volumes.read_volume`: depth
    towards the head), not in that of its file, and `save` writes that grid.

    Raises ValueError if shapes, types or the decision disagree, and for a presence outside of 0..1.
    """

    id: str
    phrase: str
    pixels: np.ndarray = field(repr=False)
    presence: float
    present: bool
    probability: np.ndarray | None = None
    picture: np.ndarray | None = None
    spacing: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()
    used: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_phrase(self.phrase)
        _check_pixels(self.pixels)
        put = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731 (frozen)
        put("presence", check_share(float(self.presence), name="presence"))
        put("present", bool(self.present))
        for name in ("notes", "used", "missing"):
            put(name, tuple(getattr(self, name)))
        self._check_decision()
        _check_grids(self.pixels, self.probability, self.picture)
        if self.spacing is not None:
            put("spacing", check_spacing(self.spacing))
            if len(self.spacing) != self.pixels.ndim:
                raise ValueError(
                    f"spacing should have one length per axis ({', '.join(AXES[self.pixels.ndim])}), got "
                    f"{self.spacing} for pixels of shape {list(self.pixels.shape)}."
                )

    def _check_decision(self) -> None:
        count = int(self.pixels.sum())
        if self.present != (count > 0):
            raise ValueError(
                f"present is {self.present}, but {count} pixels are set. Clear all pixels of what is not "
                "there, and call nothing present that has no pixel."
            )

    @property
    def size(self) -> float | None:
        """Area in mm² or volume in mm³; None where the spacing is not known."""
        return None if self.spacing is None else float(self.pixels.sum()) * math.prod(self.spacing)

    @property
    def unit(self) -> str | None:
        """The unit of `size`; None where the spacing is not known."""
        return None if self.spacing is None else ("mm²" if self.pixels.ndim == 2 else "mm³")

    @property
    def share(self) -> float:
        """Which part of the picture or volume is inside, 0..1."""
        return float(self.pixels.mean())

    @property
    def box(self) -> dict[str, tuple[int, int]] | None:
        """The smallest box around it: axis -> (first pixel, one after the last); None if it is empty."""
        if not self.present:
            return None
        ranges = {}
        for axis, name in enumerate(AXES[self.pixels.ndim]):
            others = tuple(other for other in range(self.pixels.ndim) if other != axis)
            (inside,) = self.pixels.any(axis=others).nonzero()
            ranges[name] = (int(inside[0]), int(inside[-1]) + 1)
        return ranges

    def overlay(self, slice: int | None = None, *, colour: str | None = None, opacity: float = 0.45) -> Image:
        """The picture with the mask tinted and outlined; the plain picture if there is no such thing.

        slice: of a volume; None = the one that shows most of it, or the middle one. colour: "#rrggbb".
        """
        return overlay_of([self], slice, colours=None if colour is None else [colour], opacity=opacity)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready form, without pixels."""
        return {
            "id": self.id,
            "phrase": self.phrase,
            "present": self.present,
            "presence": self.presence,
            "size": self.size,
            "unit": self.unit,
            "share": self.share,
            "box": None if self.box is None else {name: list(ends) for name, ends in self.box.items()},
            "shape": list(self.pixels.shape),
            "spacing": None if self.spacing is None else list(self.spacing),
            "used": list(self.used),
            "missing": list(self.missing),
            "notes": list(self.notes),
            "notice": NOTICE,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the pixels, whole or not at all: a 1-bit .png of a picture; an .npz of a volume, with
        "mask" (uint8) and, where known, "spacing" (mm), on the grid and in the orientation of `pixels`."""
        path, suffix = Path(path), {2: ".png", 3: ".npz"}[self.pixels.ndim]
        if path.suffix.lower() != suffix:
            kind = "a picture" if self.pixels.ndim == 2 else "a volume"
            raise ValueError(
                f"The mask of {kind} is saved as {suffix}, got {plain(path.name)}. "
                f"Name it {path.stem}{suffix}."
            )
        temporary = path.with_name(path.name + ".part")
        with open(temporary, "wb") as stream:
            (_write_picture if suffix == ".png" else _write_volume)(self, stream)
        os.replace(temporary, path)

    def __str__(self) -> str:
        lines = [f'record {printable(self.id)}, "{printable(self.phrase)}"', f"  {_say(self)}"]
        lines.append(
            f"  used: {', '.join(self.used) or 'nothing'}; missing: {', '.join(self.missing) or 'nothing'}"
        )
        lines += [f"  note: {printable(note)}" for note in self.notes]
        return "\n".join([*lines, f"  {NOTICE}"])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """A card for the notebook; every text is escaped, since it may come from data."""
        return card_of([self])


def overlay_of(
    masks: Sequence[Mask],
    slice: int | None = None,
    *,
    colours: Sequence[str] | None = None,
    opacity: float = 0.45,
) -> Image:
    """Several masks on their one picture, each in its own colour; where they overlap, both are seen.

    slice: as in `Mask.overlay`. colours: "#rrggbb", one each; None = a series told apart with any kind of
    colour vision, which begins anew after six. Raises ValueError for no mask, and for masks of different
    records or grids.
    """
    masks = list(masks)
    _check_together(masks)
    ground, areas = _section(masks, slice)
    return draw(ground, areas, colours_of(len(masks), colours), opacity)


def card_of(masks: Sequence[Mask]) -> str:
    """HTML for the notebook: one picture with all masks, a colour chip and an answer for each phrase."""
    masks = list(masks)
    _check_together(masks)
    first, lines = masks[0], []
    if first.pixels.ndim == 3:
        shown, depth = _slice(masks, None), len(first.pixels)
        lines.append(f'<div style="opacity:.7">slice {shown} of 0 to {depth - 1}</div>')
    for mask, colour in zip(masks, colours_of(len(masks)), strict=True):
        chip = colour if mask.present else "transparent"
        lines.append(
            f'<div><span style="display:inline-block;width:.8em;height:.8em;border-radius:3px;'
            f'border:1px solid #8886;background:{chip}"></span> <b>{html.escape(mask.phrase)}</b> '
            f"{html.escape(_say(mask))}</div>"
        )
    facts = [f"<b>Used</b> {html.escape(', '.join(first.used)) or 'nothing'}"]
    facts.append(f"<b>Missing</b> {html.escape(', '.join(first.missing)) or 'nothing'}")
    notes = dict.fromkeys(note for mask in masks for note in mask.notes)
    facts += [f"&#9432; {html.escape(note)}" for note in notes]
    return (
        '<div style="font:14px/1.55 system-ui,sans-serif;max-width:620px;border:1px solid #8886;'
        'border-radius:8px;padding:12px 16px">'
        f'<div style="opacity:.7">Record {html.escape(first.id)}</div>'
        f"{inline(overlay_of(masks), ', '.join(mask.phrase for mask in masks))}{''.join(lines)}"
        f'<div style="margin-top:8px">{"<br>".join(facts)}</div>'
        f'<div style="margin-top:8px;font-size:12px;opacity:.7">{NOTICE}</div></div>'
    )


# ----------------------------------------------------------------------------------------------------- checks


def _check_pixels(pixels: Any) -> None:
    shape, kind = getattr(pixels, "shape", None), str(getattr(pixels, "dtype", type(pixels).__name__))
    if shape is None or len(shape) not in AXES or kind != "bool" or 0 in shape:
        raise ValueError(
            "pixels should be a bool array [height width] or [depth height width] with some pixels, got "
            f"{kind}{'' if shape is None else f' {list(shape)}'}. Threshold probabilities first."
        )


def _check_grids(pixels: Any, probability: Any, picture: Any) -> None:
    grid = list(pixels.shape)
    if probability is not None and list(probability.shape) != grid:
        raise ValueError(
            f"probability should have the shape of pixels, {grid}, got {list(probability.shape)}. Bring both "
            "to the grid of the picture."
        )
    if picture is None:
        return
    shape = list(picture.shape)
    coloured = pixels.ndim == 2 and shape == [*grid, 3]
    if str(picture.dtype) != "uint8" or not (shape == grid or coloured):
        colour = f" or {[*grid, 3]}" if pixels.ndim == 2 else ""
        raise ValueError(
            f"picture should be uint8 of the shape of pixels, {grid}{colour}, got {picture.dtype} {shape}. "
            "Bring it to that grid, 0 black and 255 white."
        )


def _check_together(masks: list[Mask]) -> None:
    if not masks:
        raise ValueError("At least one mask is needed to draw a picture, got none.")
    for mask in masks[1:]:
        if (mask.id, mask.pixels.shape) != (masks[0].id, masks[0].pixels.shape):
            raise ValueError(
                f"Masks on one picture should be of one record and grid, got {masks[0].id!r} "
                f"{list(masks[0].pixels.shape)} and {mask.id!r} {list(mask.pixels.shape)}. Draw them apart."
            )


# --------------------------------------------------------------------------------------- drawing and files


def _section(masks: list[Mask], slice: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The ground uint8 [height width 3] and the areas bool [masks height width] that are drawn."""
    import numpy as np

    areas = np.stack([mask.pixels for mask in masks])
    picture = next((mask.picture for mask in masks if mask.picture is not None), None)
    ground = np.zeros(areas.shape[1:], dtype=np.uint8) if picture is None else picture
    if areas.ndim == 4:
        index = _slice(masks, slice)
        ground, areas = ground[index], areas[:, index]
    elif slice is not None:
        raise ValueError(f"slice is for volumes; this is one picture. Leave it out (got {plain(slice)}).")
    return ground if ground.ndim == 3 else np.repeat(ground[:, :, None], 3, axis=2), areas


def _slice(masks: list[Mask], given: int | None) -> int:
    """The slice that shows most of all masks together, the middle one if they are empty, or the given one."""
    depth = len(masks[0].pixels)
    if given is None:
        filled = sum(mask.pixels.sum(axis=(1, 2)) for mask in masks)
        return int(filled.argmax()) if filled.any() else depth // 2
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given < depth:
        raise ValueError(f"slice should be a whole number from 0 to {depth - 1}, got {plain(given)}.")
    return given


def _write_picture(mask: Mask, stream: Any) -> None:
    from PIL import Image

    Image.fromarray(mask.pixels).save(stream, format="PNG")


def _write_volume(mask: Mask, stream: Any) -> None:
    import numpy as np

    spacing = {} if mask.spacing is None else {"spacing": np.array(mask.spacing)}
    np.savez_compressed(stream, mask=mask.pixels.astype(np.uint8), **spacing)


# ------------------------------------------------------------------------------------------------------ words


def printable(text: str) -> str:
    """A text on one line, without what would steer a terminal."""
    return "".join(letter for letter in " ".join(str(text).split()) if letter.isprintable())


def _say(mask: Mask) -> str:
    """The answer in words."""
    presence = f"(presence {_percent(mask.presence)})"
    if not mask.present:
        return f"not there {presence}"
    whole = "picture" if mask.pixels.ndim == 2 else "volume"
    size = "" if mask.size is None else f", {_number(mask.size)} {mask.unit}"
    return f"there {presence}{size}, {_percent(mask.share, digits=1)} of the {whole}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _percent(value: float, digits: int = 0) -> str:
    if not 0.001 <= value <= 0.999:  # never "0 %" or "100 %": no model is that sure
        return "< 0.1 %" if value < 0.5 else "> 99.9 %"
    return f"{100 * value:.{digits}f} %" if 0.01 <= value <= 0.99 else f"{100 * value:.1f} %"
