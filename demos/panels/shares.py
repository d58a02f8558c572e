"""How much each modality moved the answer: exact Shapley shares, which add up to the whole difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from . import svg
from .scale import Scale, noun, number_scale, scale_of, subject

if TYPE_CHECKING:
    from mmmed.types import Answer


def shares(answer: Answer, modalities: Sequence[str], task: str) -> str:
    """Diverging bars, one per modality, in the order of the model; absent ones are dashed.

    Probabilities: in log-odds, with the factor of the odds beside it, which is how likelihood ratios are
    read. Regression: in its unit.
    """
    given = answer.contributions
    if not given and answer.trajectory:
        return svg.remark(
            f"With {len(answer.trajectory)} modalities there are too many orders for exact shares. Switch "
            "some off to see them."
        )
    if not given:
        return svg.remark("Nothing is known of this patient, so no modality has a share.")
    names = list(dict.fromkeys([*modalities, *given]))
    scale = _axis(answer)
    rows = [_row(name, given.get(name), names, scale, answer) for name in names]
    unit = answer.unit or "" if answer.kind == "regression" else "log-odds"
    rows.append(svg.axis(scale, f"share of each modality{f' [{unit}]' if unit else ''}"))
    name = f"What moved {subject(answer, task, answer.leading)}"
    return (
        svg.finding(_finding(answer, task, scale))
        + svg.chart(rows, name, "mm-shares")
        + svg.remark(_sum(answer, scale))
    )


def _axis(answer: Answer) -> Scale:
    """As far to the left as to the right, so that equal lengths are equal shares."""
    most = max(
        [abs(share) for share in answer.contributions.values()] + [0.5 if answer.kind != "regression" else 0]
    )
    most = most or 1.0
    scale = number_scale([-most, most], answer.unit or "" if answer.kind == "regression" else "")
    return scale if answer.kind == "regression" else replace(scale, digits=2)


def _row(name: str, share: float | None, names: Sequence[str], scale: Scale, answer: Answer) -> str:
    zero = scale.place(0.0)
    marks = [svg.grid([scale.place(tick) for tick in scale.ticks]), svg.line(zero, "mm-zero")]
    if share is None:
        cells = [
            svg.words("mm-label", name),
            svg.cell("mm-change", '<span class="mm-absent-word">absent</span>'),
        ]
        marks.append(svg.glyph(zero, "M-14 -6h28v12h-28z", "mm-hollow"))
        return svg.row(
            cells, svg.plot(marks, f"{name} is absent and has no share."), f"mm-absent {svg.long(name)}"
        )
    text = f"{svg.signed(share, scale.digits)}{f' {scale.unit}' if scale.unit else ''}"
    odds = "" if answer.kind == "regression" else f"odds × {_factor(share)}"
    cells = [
        svg.cell("mm-label", svg.key(name, names)),
        svg.cell("mm-change", f"{svg.arrow(share)} {svg.escape(text)}"),
        svg.words("mm-interval", odds),
    ]
    marks.append(svg.bar(zero, scale.place(share), svg.way(share), 14))
    said = f"{name}: {text}{f', {odds}' if odds else ' '}".rstrip()
    return svg.row(cells, svg.plot(marks, f"{said}."), svg.long(name))


def _factor(share: float) -> str:
    """By what the odds are multiplied."""
    if abs(share) > math.log(100):
        return "more than 100" if share > 0 else "less than 0.01"
    return f"{math.exp(share):.2g}" if share < 0 else f"{math.exp(share):.3g}"


def _finding(answer: Answer, task: str, scale: Scale) -> str:
    what = f"the {noun(answer)} of {svg.escape(subject(answer, task, answer.leading))}"
    name = max(answer.contributions, key=lambda name: abs(answer.contributions[name]))
    share = answer.contributions[name]
    if not round(share, scale.digits):
        return f"No modality moved {what}."
    verb = "raised" if share > 0 else "lowered"
    only = "" if len(answer.contributions) == 1 else " most"
    return f"<b>{svg.escape(name)}</b> {verb} {what}{only}."


def _sum(answer: Answer, scale: Scale) -> str:
    """The shares add up; from where to where that is; what log-odds are."""
    level, total = answer.leading, sum(answer.contributions.values())
    shown = scale_of(answer, level)
    unit = f" {scale.unit}" if scale.unit else "" if answer.kind == "regression" else " log-odds"
    start, end = svg.escape(shown.text(answer.prior[level])), svg.escape(shown.text(answer.value))
    text = (
        f"Together {svg.signed(total, scale.digits)}{svg.escape(unit)}: from {start} with nothing "
        f"known to {end}. A share is the mean over all orders of adding."
    )
    return (
        text
        if answer.kind == "regression"
        else f"{text} +0.69 doubles the odds, {svg.MINUS}0.69 halves them."
    )
