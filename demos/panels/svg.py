"""What all charts are drawn with: numbers in words, rows of a chart, and the marks in them.

A chart is a list of rows: words at the left, numbers at the right, a plot between them (on a phone: below).
Every plot is an SVG as wide as its place; positions are percent and text is HTML, so that nothing is ever
stretched or too small to read. Screen readers get one sentence per row, the label of its SVG; the words and
numbers that eyes read are hidden from them, because "triangle minus fourteen" is no sentence.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

MINUS = "\u2212"
UP, DOWN = "\u25b2", "\u25bc"
TALL = 30  # pixels, height of a plot; panels.css knows it, too


# ------------------------------------------------------------------------------------------ numbers in words


def escape(text: object) -> str:
    """Any text from data, safe inside HTML and inside attributes."""
    return html.escape(str(text))


def whole(probability: float) -> int:
    """Whole percent as shown: 0 stands for "< 1 %", 100 for "> 99 %"."""
    if probability < 0.01:
        return 0
    return 100 if probability > 0.99 else round(100 * probability)


def percent(probability: float) -> str:
    """34 %; never "0 %" or "100 %", because no model is that sure."""
    shown = whole(probability)
    return {0: "< 1 %", 100: "> 99 %"}.get(shown, f"{shown} %")


def signed(number: float, digits: int = 0) -> str:
    """+2.5 or \u22122.5, with a true minus sign; a zero has no sign."""
    text = f"{abs(number):.{digits}f}"
    if not float(text):
        return text
    return f"{'+' if number > 0 else MINUS}{text}"


def points(change: float) -> str:
    """A change of a probability (0.26): +26 points; "no change" below half a point."""
    shown = round(100 * change)
    if not shown:
        return "no change"
    return f"{signed(shown)} point{'' if abs(shown) == 1 else 's'}"


def interval_text(low: float, high: float) -> str:
    """[23 to 43 %]"""
    return f"[{percent(low).removesuffix(' %')} to {percent(high)}]"


def listed(names: Sequence[object], last: str = "and") -> str:
    """image, table and text (not escaped)."""
    words = [str(name) for name in names]
    return f" {last} ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def way(change: float) -> str:
    """The class of a direction."""
    return "mm-up" if change > 0 else "mm-down" if change < 0 else "mm-level"


def arrow(change: float) -> str:
    """A glyph for the direction; the sign beside it says the same."""
    glyph = UP if change > 0 else DOWN if change < 0 else ""
    return f'<span class="mm-arrow {way(change)}">{glyph}</span>' if glyph else ""


# ------------------------------------------------------------------------------------------------- the marks


def x(place: float) -> str:
    """A place in percent of the width, as an attribute value."""
    return f"{min(max(place, 0.0), 100.0):.2f}%"


def bar(start: float, end: float, looks: str, high: int = 12) -> str:
    """A bar between two places, centred in the row; thin ones stay visible."""
    left, wide = min(start, end), abs(end - start)
    top = (TALL - high) / 2
    return (
        f'<rect class="{looks}" x="{x(left)}" y="{top:g}" width="{x(wide)}" height="{high}" rx="2"/>'
        if wide
        else ""
    )


def band(low: float, high: float) -> str:
    """The pale band of an interval."""
    return bar(low, high, "mm-band", 22)


def line(place: float, looks: str, top: float = 0, bottom: float = TALL) -> str:
    """A vertical line."""
    return f'<line class="{looks}" x1="{x(place)}" x2="{x(place)}" y1="{top:g}" y2="{bottom:g}"/>'


def whisker(low: float, high: float) -> str:
    """A thin line with ends, for an interval on top of a bar."""
    middle = TALL / 2
    across = f'<line class="mm-whisker" x1="{x(low)}" x2="{x(high)}" y1="{middle:g}" y2="{middle:g}"/>'
    return (
        across
        + line(low, "mm-whisker", middle - 4, middle + 4)
        + line(high, "mm-whisker", middle - 4, middle + 4)
    )


def dot(place: float, looks: str = "mm-point", radius: float = 4.5) -> str:
    """A value."""
    return f'<circle class="{looks}" cx="{x(place)}" cy="{TALL / 2:g}" r="{radius:g}"/>'


def glyph(place: float, path: str, looks: str) -> str:
    """A small drawing in pixels around a place; (0, 0) is the middle of the row there."""
    return (
        f'<svg x="{x(place)}" y="{TALL / 2:g}" overflow="visible" width="1" height="1" aria-hidden="true">'
        f'<path class="{looks}" d="{path}"/></svg>'
    )


def plot(marks: Sequence[str], says: str) -> str:
    """The drawing of one row. says: the row in one sentence, for who hears it (escaped in here)."""
    return (
        f'<svg class="mm-plot" role="img" aria-label="{escape(says)}" width="100%" height="{TALL}">'
        f"{''.join(marks)}</svg>"
    )


# -------------------------------------------------------------------------------------------------- the rows


def grid(ticks: Sequence[float]) -> str:
    """Hairlines at the ticks (in percent of the width) behind everything else."""
    return "".join(line(tick, "mm-grid") for tick in ticks)


def cell(looks: str, content: str) -> str:
    """Words or numbers of a row, for eyes only. content: HTML, escaped already."""
    return f'<span class="mm-cell {looks}" aria-hidden="true">{content}</span>'


def words(looks: str, text: str) -> str:
    """A cell of plain text, escaped in here."""
    return cell(looks, escape(text))


def numbers(scale: Any, value: float, bounds: tuple[float, float] | None) -> list[str]:
    """The two cells of a value: itself, and its interval."""
    return [
        words("mm-value", scale.text(value)),
        words("mm-interval", scale.interval(bounds) if bounds else ""),
    ]


def moved(scale: Any, before: float, after: float) -> str:
    """The cell of a change: arrow, sign, number."""
    return cell("mm-change", f"{arrow(scale.moved(before, after))} {escape(scale.change(before, after))}")


def row(cells: Sequence[str], drawn: str, looks: str = "") -> str:
    """One row of a chart: its cells in reading order, then its plot."""
    return f'<div class="mm-row {looks}" role="listitem">{"".join(cells)}{drawn}</div>'


def axis(scale: Any, title: str) -> str:
    """The last row of a chart: ticks with their numbers, and below them what they mean."""
    labels = []
    for tick in scale.ticks:
        place = scale.place(tick)
        anchor = "start" if place < 2 else "end" if place > 98 else "middle"
        labels.append(f'<text x="{x(place)}" y="14" text-anchor="{anchor}">{escape(scale.tick(tick))}</text>')
    return (
        '<div class="mm-row mm-axis" aria-hidden="true">'
        f'<svg class="mm-plot" width="100%" height="18">{"".join(labels)}</svg>'
        f'<span class="mm-axis-title">{escape(title)}</span></div>'
    )


def long(name: str) -> str:
    """The class of a row whose name needs a line of its own on a phone."""
    return "mm-long" if len(name) > 10 else ""


def chart(rows: Sequence[str], name: str, looks: str) -> str:
    """Rows put together. name: what the list is, for screen readers."""
    return (
        f'<div class="mm-chart {looks}"><div class="mm-rows" role="list" aria-label="{escape(name)}">'
        f"{''.join(rows)}</div></div>"
    )


def finding(sentence: str, looks: str = "") -> str:
    """The title line: what this panel found. sentence: HTML, escaped already."""
    return f'<p class="{f"mm-finding {looks}".strip()}">{_together(sentence)}</p>'


def remark(sentence: str) -> str:
    """A quiet line below a chart. sentence: HTML, escaped already."""
    return f'<p class="mm-remark">{_together(sentence)}</p>'


def key(name: str, modalities: Sequence[str]) -> str:
    """A modality with the dot of its colour; the name is always there, the colour only helps."""
    place = modalities.index(name) % 7 if name in modalities else 6
    return f'<span class="mm-key"><i class="mm-dot mm-m{place}"></i>{escape(name)}</span>'


def _together(sentence: str) -> str:
    """No line ends between a number and its unit."""
    return re.sub(r"(?<=\d) (?=\w|%)", "\u00a0", sentence)
