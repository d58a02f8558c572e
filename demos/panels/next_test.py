"""Which absent modality to record next: how far each would be expected to move the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from . import svg
from .scale import Scale, number_scale, says_yes, share_scale

if TYPE_CHECKING:
    from mmmed.explain.information import Expectation, ValueOfInformation

WHO = {  # by how the records were chosen
    "similar": "the {count} most similar {records} that have it",
    "all": "all {count} {records} that have it and what is known here",
    "any": "{count} {records} that have it, from everywhere, as nothing is known to choose similar ones by",
}


def next_test(value: ValueOfInformation, costs: Mapping[str, float] | None = None, own: bool = True) -> str:
    """Absent modalities, the most informative first; with costs, the one that moves most for its cost.

    costs: modality -> a positive number in any unit, the same for all (minutes, money). One without a cost
    comes after those that have one. own: whether the records that lend a modality are those the model was
    trained on; else they are only called those of this cohort.
    """
    if not value.expected:
        return (
            svg.finding("Nothing is missing: every modality is there.")
            if not value.unknown
            else _unknown(value, own)
        )
    costs = {name: cost for name, cost in (costs or {}).items() if cost and cost > 0}
    items = sorted(value.expected, key=lambda item: _rank(item, costs))
    scale = _axis(value)
    rows = [_row(k, item, value, scale, costs.get(item.modality)) for k, item in enumerate(items)]
    rows.append(svg.axis(scale, _title(value)))
    dashed = (
        f"Dashed: the answer now, {svg.escape(scale.text(value.now))}. Bar: where 90 % of the answers would "
        f"lie, judged by {_donors(items, own)}."
    )
    return (
        svg.finding(_finding(items[0], scale, bool(costs)))
        + svg.chart(rows, "What to record next", "mm-next")
        + svg.remark(dashed)
        + (_unknown(value, own) if value.unknown else "")
    )


def _rank(item: Expectation, costs: Mapping[str, float]) -> tuple[bool, float]:
    cost = costs.get(item.modality)
    return (bool(costs) and cost is None, -item.change / (cost or 1.0))


def _axis(value: ValueOfInformation) -> Scale:
    ends = [value.now, *(end for item in value.expected for end in (item.low, item.high))]
    return number_scale(ends, value.unit) if value.unit else share_scale(ends)


def _donors(items: Sequence[Expectation], own: bool) -> str:
    """Whose modality was lent to this patient, in words; records, as one patient may have several."""
    groups: dict[str, list[Expectation]] = {}
    for item in items:
        groups.setdefault(item.choice, []).append(item)
    told = []
    for choice, members in groups.items():
        counts = sorted({item.donors for item in members})
        count = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        whose = f" ({svg.escape(svg.listed([item.modality for item in members]))})" if len(groups) > 1 else ""
        told.append(WHO[choice].format(count=count, records=_records(own)) + whose)
    return svg.listed(told)


def _records(own: bool) -> str:
    return "training records" if own else "records of this cohort"


def _title(value: ValueOfInformation) -> str:
    if value.unit:
        return f"{value.task} [{value.unit}]"
    is_binary = any(item.crosses is not None for item in value.expected)
    return (
        f"probability of {value.task}: {value.level}"
        if not (is_binary and says_yes(value.level))
        else f"probability of {value.task}"
    )


def _amount(change: float, scale: Scale) -> str:
    """An expected change, which has no direction."""
    if not scale.share:
        return f"± {abs(change):.{max(scale.digits, 1)}f}{f' {scale.unit}' if scale.unit else ''}"
    return f"± {100 * change:.0f} points" if change >= 0.005 else "± < 1 point"


def _row(k: int, item: Expectation, value: ValueOfInformation, scale: Scale, cost: float | None) -> str:
    amount, now = _amount(item.change, scale), scale.place(value.now)
    facts = []
    if item.crosses is not None:
        facts.append(f"{svg.percent(item.crosses)} chance to change the decision")
    if cost is not None:
        facts.append(f"{_gain(item.change / cost, scale)} per unit of cost")
    if _drifts(item, value):
        facts.append("these records are not quite like this one: read with care")
    cells = [
        svg.cell("mm-label mm-wide", f"<em>{k + 1}</em>\u2002{svg.escape(item.modality)}"),
        svg.words("mm-value", amount),
        svg.words("mm-interval", scale.interval((item.low, item.high))),
    ]
    marks = [
        svg.grid([scale.place(tick) for tick in scale.ticks]),
        svg.bar(scale.place(item.low), scale.place(item.high), "mm-fill", 12),
        svg.line(now, "mm-threshold"),
    ]
    between = scale.interval((item.low, item.high)).strip("[]")
    says = f"{k + 1}: {item.modality} would move it by {amount} on average, to {between}"
    says += "".join(f"; {fact}" for fact in facts)
    extra = svg.cell("mm-facts", svg.escape(" · ".join(facts)))
    return svg.row([*cells, extra], svg.plot(marks, f"{says}."), "mm-last" if k == 0 else "")


def _gain(gain: float, scale: Scale) -> str:
    return f"{100 * gain:.2g} points" if scale.share else f"{gain:.2g} {scale.unit}".strip()


def _drifts(item: Expectation, value: ValueOfInformation) -> bool:
    """The mean of what to expect should be the answer now; far from it, the estimate is not to be trusted."""
    return abs(item.mean - value.now) > 0.25 * (item.high - item.low) and abs(item.change) > 0.02 * abs(
        value.now
    )


def _finding(best: Expectation, scale: Scale, has_costs: bool) -> str:
    amount = svg.escape(_amount(best.change, scale).removeprefix("± "))
    most = "most for its cost" if has_costs else "most"
    name = svg.escape(best.modality)
    return f"Next, record <b>{name}</b>: it would move the answer {most}, by {amount} on average."


def _unknown(value: ValueOfInformation, own: bool) -> str:
    return svg.remark(f"Too few {_records(own)} to tell: {svg.escape(svg.listed(value.unknown))}.")
