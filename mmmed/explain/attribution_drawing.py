"""How a saliency map is drawn: orange raised the answer, striped blue lowered it."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mmmed.checks import plain
from mmmed.explain.style import quiet
from mmmed.palette import DARK, GREY, PALETTE, Picture
from mmmed.types.overlay import inline
from mmmed.types.prediction import NOTICE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mmmed.explain.attribution_map import Saliency

RAISED, LOWERED = PALETTE[1], PALETTE[5]  # told apart with any kind of colour vision, bright on a radiograph
SHOWN = 384  # pixels: a smaller picture is enlarged, so that the stripes and outlines are fine
STRONGEST = 0.75  # opacity of what moved the answer most
TOP = 99.5  # percentile that counts as most: a single pixel does not set the scale
MOST_NAMES = 20


def overlay(
    picture: np.ndarray, values: np.ndarray, marked: np.ndarray, slice: int | None = None
) -> Image.Image:
    """picture uint8 [height width], [height width 3] or [depth height width], values and marked without
    channels -> an RGB picture, at least 384 pixels along its longer side."""
    scale = strength(values)
    if values.ndim == 3:
        place = _slice(values, slice)
        picture, values, marked = picture[place], values[place], marked[place]
    elif slice is not None:
        raise ValueError(f"slice is for volumes; this is one picture. Leave it out (got {plain(slice)}).")
    times = max(1, -(-SHOWN // max(values.shape)))
    ground = picture if picture.ndim == 3 else np.repeat(picture[:, :, None], 3, axis=2)
    ground = ground.repeat(times, 0).repeat(times, 1).astype(np.float32)
    size = (values.shape[1] * times, values.shape[0] * times)
    smooth = Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    part = np.clip(np.asarray(smooth) / scale, -1, 1)
    row, column = np.indices(part.shape)
    stripes = np.where((row + column) // 3 % 2, 1.0, 0.45)
    alpha = STRONGEST * np.where(part < 0, -part * stripes, part)[:, :, None]
    tint = np.where(part[:, :, None] > 0, _rgb(RAISED), _rgb(LOWERED))
    drawn = ground + alpha * (tint - ground)
    area = marked.repeat(times, 0).repeat(times, 1)
    drawn[_rim(area)] = 255
    return Image.fromarray(np.rint(drawn).astype(np.uint8))


def strength(values: np.ndarray) -> float:
    """What counts as the strongest: never 0."""
    return float(np.percentile(np.abs(values), TOP)) or float(np.abs(values).max()) or 1.0


def plot_pictures(found: Saliency) -> Figure:
    """Every view beside its map."""
    rows = len(found.maps)
    figure = Picture(figsize=(6.4, 1.3 + 2.9 * rows))
    height = figure.get_figheight()
    for place, (picture, values) in enumerate(zip(found.pictures, found.maps, strict=True)):
        bottom = (0.42 + 2.9 * (rows - 1 - place)) / height
        left = figure.add_axes((0.02, bottom, 0.47, 2.75 / height))
        right = figure.add_axes((0.51, bottom, 0.47, 2.75 / height))
        shown = picture[_slice(values, None)] if values.ndim == 3 else picture
        left.imshow(shown, cmap="gray" if shown.ndim == 2 else None, vmin=0, vmax=255)
        right.imshow(np.asarray(found.overlay(place)))
        for axes in (left, right):
            axes.set_axis_off()
    figure.text(0.02, 1 - 0.1 / height, _wrapped(found.finding, 78), va="top", size=11)
    figure.text(
        0.02, 1 - 0.55 / height, _wrapped(str(found.faithfulness), 104), va="top", size=8.5, color=DARK
    )
    figure.text(0.02, 0.08 / height, f"{LEGEND}\nBy {found.method}. {NOTICE}", size=7.5, color=DARK)
    return figure


def plot_names(found: Saliency) -> Figure:
    """A bar for each column or word, the strongest on top, in a text in the order in which they stand."""
    order = np.argsort(-np.abs(found.maps[0]), kind="stable")[:MOST_NAMES]
    values = found.maps[0][order]
    figure = Picture(figsize=(6.2, 1.2 + 0.27 * len(values)))
    height = figure.get_figheight()
    axes = figure.add_axes((0.3, 0.55 / height, 0.64, 1 - 1.05 / height))
    axes.barh(range(len(values)), values, color=[RAISED if v > 0 else LOWERED for v in values], height=0.7)
    axes.set_yticks(range(len(values)), [found.names[k] for k in order], size=9, parse_math=False)
    axes.invert_yaxis()
    axes.axvline(0, color=GREY, lw=1)
    axes.set_xlabel(f"lowered  \N{LEFTWARDS ARROW}  {found.unit}  \N{RIGHTWARDS ARROW}  raised", size=9)
    quiet(axes, grid="x")
    figure.text(0.02, 1 - 0.1 / height, _wrapped(found.finding, 80), va="top", size=11, parse_math=False)
    return figure


LEGEND = "Orange raised it, striped blue lowered it; outlined: the fifth that moved it most."


def card(found: Saliency) -> str:
    """HTML for the notebook."""
    parts = [f'<div style="opacity:.7">Record {html.escape(found.id)}, {html.escape(found.modality)}</div>']
    parts.append(f"<b>{html.escape(found.finding)}</b>")
    if found.pictures:
        parts += [inline(found.overlay(view), found.finding) for view in range(len(found.maps))]
        parts += [
            f"<div>{html.escape(line)}</div>" for line in (LEGEND, str(found.faithfulness), adds_up(found))
        ]
    else:
        order = np.argsort(-np.abs(found.maps[0]), kind="stable")[:MOST_NAMES]
        rows = "".join(
            f'<tr><td style="text-align:left">{html.escape(found.names[k])}</td>'
            f"<td>{signed(found.maps[0][k])}</td></tr>"
            for k in order
        )
        parts.append(f"<table>{rows}</table>")
    return (
        '<div style="font:14px/1.55 system-ui,sans-serif;max-width:620px;border:1px solid #8886;'
        f'border-radius:8px;padding:12px 16px">{"".join(parts)}'
        f'<div style="margin-top:8px;font-size:12px;opacity:.7">By {html.escape(found.method)}. {NOTICE}'
        "</div></div>"
    )


def adds_up(found: Saliency) -> str:
    """Whether the map accounts for what the picture did."""
    parts, whole = signed(found.explained), signed(found.total)
    if found.method == "occlusion":
        return f"Patch by patch the map adds up to {parts} {found.unit}, all blurred at once to {whole}."
    return f"The map adds up to {parts} of {whole} {found.unit}."


def signed(value: float) -> str:
    """+0.82, or -0.82 with a true minus sign; a zero has no sign."""
    text = f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")
    return text if float(text[1:]) else text[1:]


def percent(value: float) -> str:
    """34 %; never "0 %" or "100 %": no model is that sure."""
    if value < 0.01:
        return "< 1 %"
    return "> 99 %" if value > 0.99 else f"{100 * value:.0f} %"


def _wrapped(text: str, width: int) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width))


def _slice(values: np.ndarray, given: int | None) -> int:
    """The slice that moved the answer most, or the given one."""
    if given is None:
        return int(np.abs(values).sum(axis=(1, 2)).argmax())
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given < len(values):
        raise ValueError(f"slice should be a whole number from 0 to {len(values) - 1}, got {plain(given)}.")
    return given


def _rim(area: np.ndarray) -> np.ndarray:
    """The pixels of an area that have a neighbour outside of it."""
    wide = np.pad(area, 1, mode="edge")
    inside = wide[2:, 1:-1] & wide[:-2, 1:-1] & wide[1:-1, 2:] & wide[1:-1, :-2]
    return area & ~inside


def _rgb(colour: str) -> Any:
    return np.array(list(bytes.fromhex(colour[1:])), dtype=np.float32)
