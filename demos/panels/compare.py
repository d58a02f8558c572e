"""With and without: everything that was recorded, against the switches as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from . import svg
from .scale import Scale, axis_title, scale_of, subject

if TYPE_CHECKING:
    from mmmed.types import Answer


def compare(whole: Answer, now: Answer, task: str) -> str:
    """Two rows and the difference between them, for the level that leads now.

    whole: the answer to everything recorded; now: the answer to what is switched on.
    """
    names, left = _names(whole), _names(now)
    level = now.leading
    scale, what = scale_of(whole, level), subject(now, task, level)
    off = [name for name in names if name not in left]
    rows = [
        _row("everything", names, whole, level, scale, None),
        _row("now", left, now, level, scale, whole.values[level]),
        svg.axis(scale, axis_title(now, task, level)),
    ]
    return svg.finding(_finding(whole, now, level, scale, what, off)) + svg.chart(
        rows, f"{what}, with and without", "mm-compare"
    )


def _names(answer: Answer) -> list[str]:
    return [name for name, _ in answer.trajectory] or list(max(answer.subsets, key=len, default=()))


def _row(title: str, names: list[str], answer: Answer, level: str, scale: Scale, before: float | None) -> str:
    value, bounds = answer.values[level], answer.interval.get(level)
    label = f"{title}<small>{svg.escape(svg.listed(names)) or 'nothing'}</small>"
    if before is None:
        cells = [svg.cell("mm-label mm-wide", label)]
    else:
        cells = [svg.cell("mm-label", label), svg.moved(scale, before, value)]
    cells += svg.numbers(scale, value, bounds)
    marks = [svg.grid([scale.place(tick) for tick in scale.ticks])]
    if bounds:
        marks.append(svg.band(scale.place(bounds[0]), scale.place(bounds[1])))
    if before is not None:
        marks.append(svg.line(scale.place(before), "mm-link", 0, svg.TALL / 2))
        marks.append(svg.bar(scale.place(before), scale.place(value), svg.way(value - before)))
    else:
        marks.append(svg.line(scale.place(value), "mm-link", svg.TALL / 2))
    marks.append(svg.dot(scale.place(value), radius=4.5 if before is None else 6))
    says = f"{title} ({svg.listed(names) or 'nothing'}): {scale.said(value, bounds)}"
    says += "" if before is None else f"; {scale.change(before, value)}"
    return svg.row(
        cells, svg.plot(marks, f"{says}."), "" if before is None else f"mm-last {svg.long(svg.listed(names))}"
    )


def _finding(whole: Answer, now: Answer, level: str, scale: Scale, what: str, off: list[str]) -> str:
    said = f"{svg.escape(what)} {_at(now.values, level, scale)}"
    if not off:
        return f"Everything that was recorded is on: {said}. Switch something off to compare."
    change = svg.escape(scale.change(whole.values[level], now.values[level]))
    without = svg.escape(svg.listed(off))
    led = ""
    if now.kind == "multiclass" and whole.leading != level:
        led = f" With everything, {svg.escape(whole.leading)} leads."
    return f"Without {without}: {said} instead of {_at(whole.values, level, scale)} (<b>{change}</b>).{led}"


def _at(values: Mapping[str, float], level: str, scale: Scale) -> str:
    return f"<b>{svg.escape(scale.text(values[level]))}</b>"
