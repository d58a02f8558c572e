"""What in a picture, a table or a text moved the answer, and whether the map of a picture can be believed.

The picture and its map lie on each other as two images of few pixels; the marked fifth is outlined by a path.
Orange raised, blue lowered, as everywhere on the page; the strongest place of each carries a triangle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmmed.types.prediction import NOTICE

from . import svg
from .picture import data_uri, edges, step_of
from .scale import Scale, number_scale, says_yes

if TYPE_CHECKING:
    import numpy as np

    from mmmed.explain import Saliency

RAISED, LOWERED = (213, 94, 0), (86, 180, 233)  # on the picture, which is dark whatever the page is
STRONGEST = 200  # of 255: opacity of what moved the answer most
SEEN = 0.4  # of the strongest: the least that gets a triangle
MOST = 12  # columns or words that are listed


def heat(found: Saliency) -> str:
    """The picture beside its map, what the colours mean, and the check by blurring in words; for a table or a
    text a bar for each column or word."""
    if not any(part.any() for part in found.maps):
        said = f"Nothing in the {svg.escape(found.modality)} moved {_what(found)}."
        return f'<div class="mm-heat">{svg.finding(said)}</div>'
    parts = [svg.finding(_finding(found))]
    if found.pictures:
        parts += [_verdict(found), _pictures(found), _legend(found)]
    else:
        parts += [_in_place(found) if _is_text(found) else "", _bars(found), svg.remark(_alone(found))]
    return f'<div class="mm-heat">{"".join(parts)}{svg.remark(NOTICE)}</div>'


# ------------------------------------------------------------------------------------------------------ words


def _what(found: Saliency) -> str:
    """The probability of sepsis; the number that is predicted (escaped)."""
    if not found.is_probability:
        return f"the prediction of {svg.escape(found.level)}"
    name = found.task if says_yes(found.level) else f"{found.task}: {found.level}"
    return f"the probability of {svg.escape(name)}"


def _finding(found: Saliency) -> str:
    if found.names:
        place = int(abs(found.maps[0]).argmax())
        verb = "raised" if found.maps[0][place] > 0 else "lowered"
        return f"<b>{svg.escape(found.names[place])}</b> {verb} {_what(found)} most."
    verb = "raised" if found.total > 0 else "lowered"
    now = svg.percent(found.value) if found.is_probability else f"{found.value:.4g} {found.unit}"
    return (
        f"What the <b>{svg.escape(found.modality)}</b> shows {verb} {_what(found)} (now {svg.escape(now)}), "
        "compared with its blurred self; the map says where."
    )


def _verdict(found: Saliency) -> str:
    """Whether the map can be believed, before it is looked at."""
    check = found.faithfulness
    looks, mark = ("mm-heat-holds", "Checked.") if check.holds else ("mm-heat-doubt", "Not reliable.")
    return f'<p class="mm-heat-check {looks}"><b>{mark}</b> {svg.escape(check)}</p>'


def _legend(found: Saliency) -> str:
    entries = (
        ("mm-heat-raised", f"{svg.UP} raised it"),
        ("mm-heat-lowered", f"{svg.DOWN} lowered it"),
        ("mm-heat-fifth", "outlined: the fifth that moved it most"),
    )
    items = "".join(f'<li><i class="mm-heat-chip {looks}"></i> {words}</li>' for looks, words in entries)
    said = (
        f"By {svg.escape(found.method)}, with everything else as recorded. The map shows what the model "
        f"used, not what is ill. A blurred {svg.escape(found.kind)} still counts as recorded: what changes "
        "when it is taken away altogether is another question, and may point the other way."
    )
    return f'<ul class="mm-heat-legend">{items}</ul>{svg.remark(said)}'


def _alone(found: Saliency) -> str:
    thing = "word hidden" if _is_text(found) else "column not recorded"
    more = len(found.names) - MOST
    rest = f" {more} more moved it less." if more > 0 else ""
    unit = svg.escape(found.unit)
    return f"The answer as it is, less the answer with that {thing}; in {unit}, all else as it is.{rest}"


def _is_text(found: Saliency) -> bool:
    return found.kind == "text"


# ----------------------------------------------------------------------------------------------- pictures


def _pictures(found: Saliency) -> str:
    several = len(found.maps) > 1
    return "".join(_pair(found, view, several) for view in range(len(found.maps)))


def _pair(found: Saliency, view: int, several: bool) -> str:
    """One view: as it is, and under its map."""
    picture, values, area = found.pictures[view], found.maps[view], found.marked[view]
    most, words = max(float(abs(part).max()) for part in found.maps), []
    if several:
        words.append(f"View {view + 1} of {len(found.maps)}")
    if values.ndim == 3:
        shown = int(abs(values).sum(axis=(1, 2)).argmax())
        words.append(f"Slice {shown} (of 0 to {len(values) - 1}): the one that moved it most")
        picture, values, area = picture[shown], values[shown], area[shown]
    step = step_of(values.shape)
    picture, values, area = picture[::step, ::step], values[::step, ::step], area[::step, ::step]
    height, width = values.shape
    size = f'width="{width}" height="{height}"'
    ground = f'<image class="mm-pixels" {size} href="{data_uri(picture)}"/>'
    tint = f'<image {size} href="{data_uri(_tinted(values, most))}"/>'
    edge = edges(area)
    outline = f'<path class="mm-heat-halo" d="{edge}"/><path class="mm-heat-edge" d="{edge}"/>'
    head = f'<p class="mm-heat-which">{"; ".join(words)}</p>' if words else ""
    said = svg.escape(f"{found.modality}: {_places(values, most)}")
    box, plain = f'viewBox="0 0 {width} {height}" role="img"', f"{svg.escape(found.modality)} as it is"
    return (
        f'{head}<div class="mm-heat-pair"><svg {box} aria-label="{plain}">{ground}</svg>'
        f'<svg {box} aria-label="{said}">{ground}{tint}{outline}{_triangles(values, most)}</svg></div>'
    )


def _tinted(values: np.ndarray, most: float) -> np.ndarray:
    """The map as colours over nothing: uint8 [height width 4]."""
    import numpy as np

    drawn = np.empty((*values.shape, 4), dtype=np.uint8)
    drawn[..., :3] = np.where(values[..., None] > 0, RAISED, LOWERED)
    drawn[..., 3] = np.rint(STRONGEST * np.abs(values) / most)
    return drawn


def _peaks(values: np.ndarray, most: float) -> list[tuple[str, int, int]]:
    """Triangle, row and column of the strongest place of each direction, where it is strong at all."""
    import numpy as np

    found = []
    for glyph, sign in ((svg.UP, 1), (svg.DOWN, -1)):
        row, column = np.unravel_index((sign * values).argmax(), values.shape)
        if sign * values[row, column] >= SEEN * most:
            found.append((glyph, int(row), int(column)))
    return found


def _triangles(values: np.ndarray, most: float) -> str:
    height, width = values.shape
    size = max(height, width) / 14
    inside = lambda place, side: min(max(place + 0.5, size / 2), side - size / 2)  # noqa: E731 (whole at the rim)
    return "".join(
        f'<text class="mm-heat-peak" x="{inside(column, width):g}" y="{inside(row, height):g}" '
        f'font-size="{size:.3g}">{glyph}</text>'
        for glyph, row, column in _peaks(values, most)
    )


def _places(values: np.ndarray, most: float) -> str:
    """Where the peaks are, for who does not see them."""
    said = []
    for glyph, row, column in _peaks(values, most):
        down = ("upper", "middle", "lower")[min(2, 3 * row // values.shape[0])]
        across = ("left", "centre", "right")[min(2, 3 * column // values.shape[1])]
        verb = "raised" if glyph == svg.UP else "lowered"
        said.append(f"what {verb} the answer most lies in the {down} {across} of the picture")
    return "; ".join(said) or "nothing stands out in this view"


# ---------------------------------------------------------------------------------------- columns and words


def _bars(found: Saliency) -> str:
    values = found.maps[0]
    order = sorted(range(len(values)), key=lambda place: -abs(values[place]))[:MOST]
    most = max(abs(float(values[order[0]])), 1e-9)
    scale = number_scale([-most, most], "")
    rows = [_row(found.names[place], float(values[place]), scale, found) for place in order]
    rows.append(svg.axis(scale, f"lowered | raised [{found.unit}]"))
    return svg.chart(rows, f"What in the {found.modality} moved the answer", "mm-shares")


def _row(name: str, value: float, scale: Scale, found: Saliency) -> str:
    zero = scale.place(0.0)
    text = f"{svg.signed(value, 2)} {found.unit}"
    marks = [svg.grid([scale.place(tick) for tick in scale.ticks]), svg.line(zero, "mm-zero")]
    marks.append(svg.bar(zero, scale.place(value), svg.way(value), 14))
    cells = [
        svg.cell("mm-label", svg.escape(name)),
        svg.cell("mm-change", f"{svg.arrow(round(value, 2))} {svg.escape(svg.signed(value, 2))}"),
    ]
    return svg.row(cells, svg.plot(marks, f"{name}: {text}."))


def _in_place(found: Saliency) -> str:
    """The words in their order, the stronger the more heavily underlined."""
    values = found.maps[0]
    most = max(float(abs(values).max()), 1e-9)
    spans = []
    for name, value in zip(found.names, values.tolist(), strict=True):
        level = round(3 * abs(value) / most)
        looks = f"mm-heat-{'up' if value > 0 else 'down'}{level}" if level else "mm-heat-none"
        spans.append(f'<span class="{looks}">{svg.escape(name)}</span>')
    return f'<p class="mm-heat-words">{" ".join(spans)}</p>'
