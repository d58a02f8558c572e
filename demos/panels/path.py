"""The way to an answer: nothing known, then one modality after the other, and what each step changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from mmmed.types import Partial

from . import svg
from .scale import Scale, axis_title, scale_of, subject

if TYPE_CHECKING:
    from mmmed.types import Answer

START = "nothing known"
READING = "Each row adds one modality to those above it. A bar to the right raises, one to the left lowers."


@dataclass(frozen=True)
class Step:
    """One row. name: "" for the start; values None: absent, so nothing changes."""

    name: str
    values: Mapping[str, float] | None
    interval: Mapping[str, tuple[float, float]]


def path(answer: Answer, task: str, order: Sequence[str], absent: Sequence[str] = ()) -> str:
    """Step chart of one record, in any order of its modalities.

    order: names in the order in which they are added. absent: those that are switched off or were never
    recorded; they stand where the order puts them, dashed, and change nothing. The level shown is the one
    that leads at the end.
    """
    steps = steps_of(answer, order, absent)
    if steps is None:
        return svg.remark(
            "The model was not asked about this order: there are too many modalities for all orders."
        )
    known = [step for step in steps if step.values is not None]
    level = Partial(known[-1].values).leading
    scale = scale_of(answer, level)
    rows = _rows(steps, level, scale)
    name = f"{subject(answer, task, level)}, step by step"
    rows.append(svg.axis(scale, axis_title(answer, task, level)))
    reading = _reading(known, level, answer)
    return (
        svg.finding(_finding(known, level, scale, subject(answer, task, level)))
        + svg.chart(rows, name, "mm-path")
        + (svg.remark(reading) if reading else "")
    )


def steps_of(answer: Answer, order: Sequence[str], absent: Sequence[str]) -> list[Step] | None:
    """The start and a step for every name, or None where the model did not compute this order."""
    used = [name for name, _ in answer.trajectory]
    names = list(dict.fromkeys([*order, *used, *absent]))
    present = [name for name in names if name in used and name not in absent]
    parts = _along(answer, present)
    if parts is None:
        return None
    start, *_ = parts
    steps, rest = [Step("", *start)], iter(parts[1:])
    for name in names:
        steps.append(Step(name, *next(rest)) if name in present else Step(name, None, {}))
    return steps


def _along(answer: Answer, present: Sequence[str]) -> list[tuple[Mapping, Mapping]] | None:
    """(values, interval) with nothing known and after every modality."""
    asked = [tuple(present[:k]) for k in range(len(present) + 1)]
    if answer.subsets:
        try:
            parts = [answer.given(*names) for names in asked]
        except ValueError:
            parts = None
        if parts is not None:
            return [(part.values, part.interval) for part in parts]
    if tuple(present) != tuple(name for name, _ in answer.trajectory):
        return None
    ways = [(answer.prior, {}), *((values, {}) for _, values in answer.trajectory)]
    return [*ways[:-1], (ways[-1][0], answer.interval)]


def _rows(steps: Sequence[Step], level: str, scale: Scale) -> list[str]:
    last = max(k for k, step in enumerate(steps) if step.values is not None)
    rows, here = [], steps[0].values[level]
    for k, step in enumerate(steps):
        if step.values is None:
            rows.append(_absent_row(step.name, here, scale, is_inside=k < last))
            continue
        value = step.values[level]
        rows.append(_row(step, level, scale, here, is_last=k == last, is_end=k == len(steps) - 1))
        here = value
    return rows


def _row(step: Step, level: str, scale: Scale, before: float, is_last: bool, is_end: bool) -> str:
    value, bounds = step.values[level], step.interval.get(level)
    if step.name:
        cells = [svg.cell("mm-label", _added(step.name)), svg.moved(scale, before, value)]
    else:
        cells = [svg.words("mm-label mm-wide", START)]
    cells += svg.numbers(scale, value, bounds)
    marks = [svg.grid([scale.place(tick) for tick in scale.ticks])]
    if bounds:
        marks.append(svg.band(scale.place(bounds[0]), scale.place(bounds[1])))
    if step.name:
        marks.append(svg.line(scale.place(before), "mm-link", 0, svg.TALL / 2))
        marks.append(svg.bar(scale.place(before), scale.place(value), svg.way(value - before)))
    if not is_end:
        marks.append(svg.line(scale.place(value), "mm-link", svg.TALL / 2))
    marks.append(svg.dot(scale.place(value), radius=6 if is_last else 4.5))
    looks = f"{'mm-last' if is_last else ''} {svg.long(step.name)}"
    return svg.row(cells, svg.plot(marks, _said(step, scale, before, value, bounds)), looks)


def _added(name: str) -> str:
    return f"<em>+</em>\u2009{svg.escape(name)}"


def _absent_row(name: str, here: float, scale: Scale, is_inside: bool) -> str:
    cells = [
        svg.cell("mm-label", _added(name)),
        svg.cell("mm-change", '<span class="mm-absent-word">absent</span>'),
    ]
    place = scale.place(here)
    marks = [
        svg.grid([scale.place(tick) for tick in scale.ticks]),
        svg.line(place, "mm-link", 0, svg.TALL if is_inside else svg.TALL / 2),
        svg.glyph(place, "M-14 -6h28v12h-28z", "mm-hollow"),
    ]
    return svg.row(
        cells, svg.plot(marks, f"{name} is absent: nothing changes."), f"mm-absent {svg.long(name)}"
    )


def _said(step: Step, scale: Scale, before: float, value: float, bounds: tuple | None) -> str:
    if not step.name:
        return f"Nothing known: {scale.said(value, bounds)}."
    return f"{step.name} added: {scale.change(before, value)}, to {scale.said(value, bounds)}."


def _finding(known: Sequence[Step], level: str, scale: Scale, what: str) -> str:
    """From where to where, and which step mattered most."""
    values = [step.values[level] for step in known]
    start, end = svg.escape(scale.text(values[0])), svg.escape(scale.text(values[-1]))
    if len(known) == 1:
        return (
            f"Nothing is known of this patient, so {svg.escape(what)} is what it is "
            f"for the patients of the training on the whole: <b>{start}</b>."
        )
    moves = [scale.moved(a, b) for a, b in pairwise(values)]
    k = max(range(len(moves)), key=lambda k: abs(moves[k]))
    head = f"{svg.escape(what)}: <b>{end}</b>, from {start} with nothing known."
    if not moves[k]:
        return f"{head} No step changed it."
    said = svg.escape(scale.change(values[k], values[k + 1]))
    verb = "raised" if moves[k] > 0 else "lowered"
    only = "" if len(moves) == 1 else " most"
    return f"{head} Adding <b>{svg.escape(known[k + 1].name)}</b> {verb} it{only} ({said})."


def _reading(known: Sequence[Step], level: str, answer: Answer) -> str:
    """How to read the chart; where there are other levels, how likely these are at the end."""
    text = "" if len(known) == 1 else READING
    if any(step.interval for step in known):
        text += " Pale band: 95 % interval."
    others = {name: value for name, value in known[-1].values.items() if name != level}
    if answer.kind in ("multiclass", "multilabel") and others:
        ranked = sorted(others, key=lambda name: -others[name])
        told = [f"{svg.escape(name)} {svg.escape(svg.percent(others[name]))}" for name in ranked[:4]]
        rest = f", {len(ranked) - 4} more" if len(ranked) > 4 else ""
        text += f" At the end, the other {'levels' if answer.kind == 'multiclass' else 'labels'}: "
        text += f"{', '.join(told)}{rest}."
    return text.strip()
