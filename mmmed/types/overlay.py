"""Overlay: areas tinted and outlined on a picture, so that they are seen on bright and on dark ground.

An outline is one line in the colour of the area and one white line around it: a dark ground is left by the
white one, a bright ground by the coloured one. Where areas overlap, their tints mix and the outlines they
share become dashes of each colour, so none hides another. numpy and PIL are imported when something is drawn.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmmed.checks import check_share, plain

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

_SHOWN = 640  # pixels along the longer side of a picture inside a notebook
_COARSE = 256  # a smaller picture is enlarged with its pixels visible instead of blurred


def colours_of(count: int, given: Sequence[str] | None = None) -> list[str]:
    """One colour "#rrggbb" per area, told apart with any kind of colour vision; the series begins anew after
    six. given: the caller's own, checked."""
    from mmmed.palette import PALETTE

    if given is None:
        # Orange and sky blue first: bright on a radiograph, dark on a histology slide; black would hide.
        order = [PALETTE[place] for place in (4, 5, 3, 2, 1, 0)]
        return [order[index % len(order)] for index in range(count)]
    if isinstance(given, str) or len(given) != count:
        raise ValueError(f"colours should be a list of one colour per mask ({count}), got {plain(given)}.")
    for colour in given:
        _rgb(colour)
    return list(given)


def draw(ground: np.ndarray, areas: np.ndarray, colours: Sequence[str], opacity: float = 0.45) -> Image:
    """Ground uint8 [height width 3], areas bool [n height width], n colours "#rrggbb" -> an RGB picture."""
    import numpy as np
    from PIL import Image

    check_share(opacity, name="opacity")
    tints = np.array([_rgb(colour) for colour in colours], dtype=np.float32)
    drawn = _blend(ground.astype(np.float32), areas, tints, opacity)
    width = max(1, round(max(ground.shape[:2]) / 400))  # still seen once it is shrunk to a page
    inside = areas.any(0)
    drawn[_grown(inside, width) & ~inside] = 255
    edges = np.stack([area & _grown(~area, width) for area in areas])
    drawn = _blend(drawn, _taking_turns(edges, 3 * width), tints, 1.0)
    return Image.fromarray(np.rint(drawn).astype(np.uint8))


def inline(picture: Image, words: str) -> str:
    """HTML of a picture that carries its own data, so that a saved notebook stays whole. words: for readers
    who do not see it."""
    picture = picture.copy()
    picture.thumbnail((_SHOWN, _SHOWN))
    content = io.BytesIO()
    picture.save(content, format="PNG")
    data = base64.b64encode(content.getvalue()).decode()
    coarse = max(picture.size) < _COARSE
    size = f"width:{_COARSE}px;image-rendering:pixelated" if coarse else "max-height:480px"
    return (
        f'<img alt="{html.escape(words)}" src="data:image/png;base64,{data}" '
        f'style="display:block;max-width:100%;{size};border-radius:4px;margin:6px 0">'
    )


def _rgb(colour: str) -> tuple[int, ...]:
    try:
        if len(colour) != 7 or colour[0] != "#":
            raise ValueError(colour)
        return tuple(bytes.fromhex(colour[1:]))
    except (ValueError, TypeError) as error:
        raise ValueError(f'A colour should be written as "#rrggbb", got {plain(colour)}.') from error


def _blend(drawn: np.ndarray, areas: np.ndarray, tints: np.ndarray, opacity: float) -> np.ndarray:
    """Lay the mean tint of the areas [n height width] over [height width 3], where there is any."""
    count = areas.sum(0)[:, :, None]
    tint = (areas[:, :, :, None] * tints[:, None, None]).sum(0) / count.clip(1)
    return drawn + (count > 0) * opacity * (tint - drawn)


def _grown(area: np.ndarray, width: int) -> np.ndarray:
    """The area [height width] and its neighbours up to `width` steps along rows and columns."""
    for _ in range(width):
        wider = area.copy()
        wider[1:] |= area[:-1]
        wider[:-1] |= area[1:]
        wider[:, 1:] |= area[:, :-1]
        wider[:, :-1] |= area[:, 1:]
        area = wider
    return area


def _taking_turns(edges: np.ndarray, dash: int) -> np.ndarray:
    """Edges [n height width] where each pixel belongs to one area: those that are shared become dashes."""
    import numpy as np

    row, column = np.indices(edges.shape[1:])
    turn = (row + column) // dash % edges.sum(0).clip(1)
    return edges & (edges.cumsum(0) - 1 == turn)
