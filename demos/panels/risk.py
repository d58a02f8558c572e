"""The headline: what the model says now, how sure it is, what the last switch changed, what was missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mmmed.types.prediction import NOTICE

from . import svg
from .scale import Scale, axis_title, says_no, says_yes, scale_of, share_scale, subject

if TYPE_CHECKING:
    from mmmed.types import Answer, Prediction

MOST = 8  # levels or cells that are shown at once


def risk(
    prediction: Prediction,
    before: Prediction | None = None,
    level_thresholds: Mapping[str, float] | None = None,
    modalities: Sequence[str] = (),
) -> str:
    """One block per task, then what was used, what was absent, and the notes.

    before: the prediction before the last switch. level_thresholds: task -> probability at which the model
    decides (binary tasks; `model.thresholds`). modalities: all names in the order that gives them their
    colours.
    """
    names = tuple(modalities) or (*prediction.used, *prediction.missing)
    thresholds = level_thresholds or {}
    blocks = [
        _block(task, answer, before.answers.get(task) if before else None, thresholds.get(task))
        for task, answer in prediction.answers.items()
    ]
    said = "".join([*blocks, _brackets(prediction), _inputs(prediction, names)])
    return f'{said}<p class="mm-notice">{NOTICE}</p>'


def _block(task: str, answer: Answer, before: Answer | None, threshold: float | None) -> str:
    level, scale = answer.leading, _scale(answer, threshold)
    several = answer.kind in ("multiclass", "multilabel")
    bounds = answer.interval.get(level)
    what = f"{task}: {level}" if answer.kind == "multilabel" else subject(answer, task, level)
    interval = f'<span class="mm-interval">{svg.escape(scale.interval(bounds))}</span>' if bounds else ""
    head = (
        f'<div class="mm-head"><span class="mm-task">{svg.escape(what)}</span>'
        f'<span class="mm-number"><b class="mm-big">{svg.escape(scale.text(answer.value))}</b>'
        f"{interval}</span></div>"
    )
    drawn = _levels(answer, task) if several else _gauge(answer, task, scale, threshold)
    lines = [_changed(answer, before, level, scale), _decided(answer, threshold, scale), _left(answer, task)]
    said = "".join(f"<p>{text}</p>" for text in lines if text)
    return f'<div class="mm-risk">{head}{drawn}<div class="mm-said">{said}</div></div>'


def _scale(answer: Answer, threshold: float | None) -> Scale:
    scale = scale_of(answer, answer.leading)
    if threshold is None or answer.kind == "regression" or threshold <= scale.high:
        return scale
    return share_scale([scale.high, threshold])


def _gauge(answer: Answer, task: str, scale: Scale, threshold: float | None) -> str:
    """One bar with its interval; a line where the model decides."""
    place, bounds = scale.place(answer.value), answer.interval.get(answer.leading)
    marks = [svg.grid([scale.place(tick) for tick in scale.ticks])]
    if bounds:
        marks.append(svg.band(scale.place(bounds[0]), scale.place(bounds[1])))
    if scale.share:
        marks.append(svg.bar(0, place, "mm-fill", 8))
        if threshold is not None:
            marks.append(svg.line(scale.place(threshold), "mm-threshold"))
    marks.append(svg.dot(place, radius=6))
    says = f"{subject(answer, task, answer.leading)}: {scale.said(answer.value, bounds)}."
    rows = [svg.row([], svg.plot(marks, says)), svg.axis(scale, axis_title(answer, task, answer.leading))]
    return svg.chart(rows, subject(answer, task, answer.leading), "mm-gauge")


def _levels(answer: Answer, task: str) -> str:
    """A row for every level, in their own order; of many, the likeliest."""
    bounds = [bound for pair in answer.interval.values() for bound in pair]
    scale = share_scale([*answer.values.values(), *bounds])
    names = list(answer.values)
    if len(names) > MOST:
        names = sorted(names, key=lambda name: -answer.values[name])[:MOST]
    rows = [_level_row(answer, name, scale) for name in names]
    more = len(answer.values) - len(names)
    rest = svg.remark(f"The {more} others are less likely than these.") if more else ""
    title = f"probability of each {'level of ' + task if answer.kind == 'multiclass' else 'label'}"
    return svg.chart([*rows, svg.axis(scale, title)], title, "mm-levels mm-slim") + rest


def _level_row(answer: Answer, name: str, scale: Scale) -> str:
    value, bounds = answer.values[name], answer.interval.get(name)
    cells = [svg.words("mm-label mm-wide", name), *svg.numbers(scale, value, bounds)]
    marks = [svg.grid([scale.place(tick) for tick in scale.ticks])]
    if bounds:
        marks.append(svg.band(scale.place(bounds[0]), scale.place(bounds[1])))
    marks += [svg.bar(0, scale.place(value), "mm-fill", 8), svg.dot(scale.place(value))]
    drawn = svg.plot(marks, f"{name}: {scale.said(value, bounds)}.")
    return svg.row(cells, drawn, "mm-last" if name == answer.leading else "")


def _changed(answer: Answer, before: Answer | None, level: str, scale: Scale) -> str:
    """What the last switch did."""
    if before is None or level not in before.values:
        return ""
    was, now = before.values[level], answer.values[level]
    moved = scale.moved(was, now)
    if not moved:
        return "The last switch changed nothing that would show."
    led = ""
    if answer.kind in ("multiclass", "multilabel") and before.leading != level:
        led = f"; {svg.escape(before.leading)} led before"
    change, old = svg.escape(scale.change(was, now)), svg.escape(scale.text(was))
    return f"{svg.arrow(moved)} <b>{change}</b> by the last switch (was {old}{led})"


def _decided(answer: Answer, threshold: float | None, scale: Scale) -> str:
    if threshold is None or answer.kind != "binary":
        return ""
    side = "At or above" if answer.value >= threshold else "Below"
    return f"{side} the threshold of {svg.escape(scale.text(threshold))} (dashed) at which the model decides."


def _left(answer: Answer, task: str) -> str:
    """The 90 % prediction set in words."""
    if answer.set is None:
        return ""
    words = [svg.escape(_word(answer, task, level)) for level in answer.set]
    if answer.kind == "multilabel":
        if not words:
            return "At 90 % confidence, every label can be excluded."
        return f"At 90 % confidence, these cannot be excluded: <b>{svg.listed(words)}</b>."
    if not words:
        return (
            "<b>None of the levels fits</b> at 90 % confidence: this record is unlike those that the model "
            "was checked on."
        )
    if len(words) == 1:
        return f"At 90 % confidence, only <b>{words[0]}</b> remains possible."
    both = "both remain" if len(words) == 2 else "all remain"
    return f"<b>Not decided</b> at 90 % confidence: {svg.listed(words)} {both} possible."


def _word(answer: Answer, task: str, level: str) -> str:
    """A level as it is said outside its column: "sepsis" for 1, "no sepsis" for 0."""
    if answer.kind == "binary" and says_yes(level):
        return task
    return f"no {task}" if answer.kind == "binary" and says_no(level) else level


def _brackets(prediction: Prediction) -> str:
    """What the interval is: of a number it is about this patient, of a probability about the scale."""
    having = {task: answer for task, answer in prediction.answers.items() if answer.interval}
    numbers = [task for task, answer in having.items() if answer.kind == "regression"]
    shares = [task for task, answer in having.items() if answer.kind != "regression"]
    several = bool(numbers and shares)
    lines = []
    for tasks, meaning in (
        (shares, "how well the scale is known (95 %), not how far one patient may differ."),
        (numbers, "where the value of a patient with these inputs lies in 95 of 100 cases."),
    ):
        if tasks:
            whose = f", for {svg.escape(svg.listed(tasks))}" if several else ""
            lines.append(svg.remark(f"In brackets{whose}: {meaning}"))
    return "".join(lines)


def _inputs(prediction: Prediction, names: Sequence[str]) -> str:
    """Chips of what was used and what was absent, cells that are empty, and notes."""
    every = list(dict.fromkeys([*names, *prediction.used, *prediction.missing]))
    chips = [
        f'<span class="mm-chip">{svg.key(name, every)}<small>used</small></span>'
        if name in prediction.used
        else f'<span class="mm-chip mm-chip-absent">{svg.escape(name)}<small>absent</small></span>'
        for name in every
    ]
    lines = [
        f"Not recorded in {svg.escape(name)}: {svg.escape(_some(cells))}."
        for name, cells in prediction.missing_cells.items()
        if cells
    ]
    lines += [f'<span class="mm-note-mark">Note</span> {svg.escape(note)}' for note in prediction.notes]
    said = "".join(f"<p>{text}</p>" for text in lines)
    return f'<div class="mm-chips">{"".join(chips)}</div><div class="mm-said">{said}</div>'


def _some(cells: Sequence[str]) -> str:
    if len(cells) <= MOST:
        return svg.listed(cells)
    return f"{', '.join(cells[:MOST])} and {len(cells) - MOST} more"
