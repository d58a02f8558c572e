"""Prediction: what a model says about one record, with the way to it, and what was missing."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmmed.checks import check_known, listing
from mmmed.types.carried import CarriedState

NOTICE = "Research use only. Not a medical device."


@dataclass(frozen=True)
class Partial:
    """The answer as it would be if only some of the modalities had been recorded.

    values, interval: as in `Answer`, calibrated for what these modalities are.
    """

    values: Mapping[str, float]
    interval: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def leading(self) -> str:
        """The level with the largest probability (binary: the positive one; regression: the column)."""
        return max(self.values, key=lambda level: self.values[level])


@dataclass(frozen=True)
class Answer:
    """The answer to one task.

    values: level -> calibrated probability (binary: the positive level only; multilabel: one per label), or
    {column: number} in `unit` for a regression. interval: the same keys -> (low, high), 95 %, empty if the
    model was never calibrated. prior: the values when nothing is known. trajectory: ((modality, values), ...)
    in the order of fusion, the values after that modality was added to the ones before; it ends at `values`.
    contributions: modality -> exact Shapley share of `values - prior` for the leading level, in log-odds
    (regression: in `unit`); they add up to the whole difference. set: the levels that cannot be excluded at
    90 % (multilabel: the labels whose presence cannot be); None for a regression or a model that was never
    calibrated. An empty set of levels stays empty and is shown as "none of the levels": each is less likely
    than the true one usually is, so the record is unlike those of the validation. Filling it with the leading
    level would make the most doubtful records look the most certain.
    """

    kind: str
    values: Mapping[str, float]
    prior: Mapping[str, float]
    trajectory: tuple[tuple[str, Mapping[str, float]], ...] = ()
    contributions: Mapping[str, float] = field(default_factory=dict)
    interval: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    unit: str | None = None
    set: tuple[str, ...] | None = None
    subsets: Mapping[tuple[str, ...], Partial] = field(default_factory=dict)

    def given(self, *names: str) -> Partial:
        """The answer if only these modalities had been recorded; their order does not matter.

        Raises ValueError for a modality that was not used, or a subset that was not computed.
        """
        used = max(self.subsets, key=len, default=())
        for name in names:
            check_known(name, used, what="modality that was used")
        seen = tuple(name for name in used if name in names)
        if seen not in self.subsets:
            raise ValueError(
                f"The answer was not computed for {listing(seen)} alone: there are too many subsets."
            )
        return self.subsets[seen]

    def along(self, order: Sequence[str]) -> tuple[tuple[str, Partial], ...]:
        """The way to the answer as one modality after the other is added, in any order.

        The trajectory is `along` in the order of fusion. Each step is the answer for what is known by then,
        fused as the model was trained to, so no order leads out of what it has learned, and all end alike.
        """
        return tuple((name, self.given(*order[: k + 1])) for k, name in enumerate(order))

    @property
    def leading(self) -> str:
        """The level with the largest probability (binary: the positive one; regression: the column)."""
        return Partial(self.values).leading

    @property
    def value(self) -> float:
        """The value of the leading level."""
        return self.values[self.leading]


@dataclass(frozen=True)
class Prediction:
    """Answers to all tasks for one record, the modalities used and missing, and remarks in words.

    used, missing: modality names. missing_cells: modality -> columns that were not recorded although the
    modality is there. notes: what else the reader must know (nothing present, unknown category, unreadable
    file). state: from which `predict_partial` goes on when more is recorded later; None where the fusion
    carries none.
    """

    id: str
    answers: Mapping[str, Answer]
    used: tuple[str, ...]
    missing: tuple[str, ...]
    missing_cells: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    state: CarriedState | None = field(default=None, repr=False, compare=False)

    def __getitem__(self, task: str) -> Answer:
        return self.answers[task]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready form."""
        return {
            "id": self.id,
            "answers": {
                task: {
                    "kind": a.kind,
                    "values": dict(a.values),
                    "interval": {k: list(v) for k, v in a.interval.items()},
                    "prior": dict(a.prior),
                    "trajectory": [{"after": name, "values": dict(values)} for name, values in a.trajectory],
                    "contributions": dict(a.contributions),
                    "unit": a.unit,
                    "set": None if a.set is None else list(a.set),
                    "subsets": [
                        {
                            "seen": list(seen),
                            "values": dict(part.values),
                            "interval": {k: list(v) for k, v in part.interval.items()},
                        }
                        for seen, part in a.subsets.items()
                    ],
                }
                for task, a in self.answers.items()
            },
            "used": list(self.used),
            "missing": list(self.missing),
            "missing_cells": {k: list(v) for k, v in self.missing_cells.items()},
            "notes": list(self.notes),
            "notice": NOTICE,
        }

    def __str__(self) -> str:
        lines = [f"record {self.id}"]
        for task, answer in self.answers.items():
            lines.append(f"  {task}: {_say(answer, answer.values)}{_range(answer)}")
            way = [f"nothing known {_say(answer, answer.prior)}"]
            way += [f"+ {name} {_say(answer, values)}" for name, values in answer.trajectory]
            lines.append("    " + "  ->  ".join(way))
            if answer.set is not None:
                lines.append(f"    {_left(answer)}")
        lines.append(
            f"  used: {', '.join(self.used) or 'nothing'}; missing: {', '.join(self.missing) or 'nothing'}"
        )
        lines += [
            f"  not recorded in {name}: {', '.join(cells)}" for name, cells in self.missing_cells.items()
        ]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join([*lines, f"  {NOTICE}"])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """A card for the notebook; every text from data is escaped."""
        parts = [_card(task, answer) for task, answer in self.answers.items()]
        facts = [f"<b>Used</b> {_names(self.used)}", f"<b>Missing</b> {_names(self.missing)}"]
        facts += [
            f"<b>Not recorded in {html.escape(name)}</b> {_names(cells)}"
            for name, cells in self.missing_cells.items()
        ]
        facts += [f"&#9432; {html.escape(note)}" for note in self.notes]
        return (
            '<div style="font:14px/1.45 system-ui,sans-serif;max-width:620px;border:1px solid '
            "#8886;border-radius:8px;"
            f'padding:12px 16px"><div style="opacity:.7">Record {html.escape(self.id)}</div>{"".join(parts)}'
            f'<div style="margin-top:8px">{"<br>".join(facts)}</div>'
            f'<div style="margin-top:8px;font-size:12px;opacity:.7">{NOTICE}</div></div>'
        )


def _names(names: Any) -> str:
    return html.escape(", ".join(names)) or "nothing"


def _number(answer: Answer, value: float) -> str:
    if answer.kind == "regression":
        return f"{value:.4g}{f' {answer.unit}' if answer.unit else ''}"
    if not 0.001 <= value <= 0.999:  # never "0 %" or "100 %": no model is that sure
        return "< 0.1 %" if value < 0.5 else "> 99.9 %"
    return f"{100 * value:.0f} %" if 0.01 <= value <= 0.99 else f"{100 * value:.1f} %"


def _say(answer: Answer, values: Mapping[str, float]) -> str:
    if answer.kind in ("binary", "regression"):
        return _number(answer, values[answer.leading])
    if answer.kind == "multiclass":
        best = max(values, key=lambda level: values[level])
        return f"{best} {_number(answer, values[best])}"
    return ", ".join(f"{level} {_number(answer, value)}" for level, value in values.items())


def _left(answer: Answer) -> str:
    """The prediction set in words."""
    if answer.kind == "multilabel":
        return f"90 % prediction set: {', '.join(answer.set or ()) or 'no label'}"
    return f"90 % prediction set: {' or '.join(answer.set or ()) or 'none of the levels'}"


def _range(answer: Answer, level: str | None = None) -> str:
    bounds = answer.interval.get(level or answer.leading)
    return f" [{_number(answer, bounds[0])} to {_number(answer, bounds[1])}]" if bounds else ""


def _card(task: str, answer: Answer) -> str:
    """Headline, one line per step with a bar, and the contributions."""
    rows = [("nothing known", answer.prior), *(("+ " + name, values) for name, values in answer.trajectory)]
    numbers = [values[answer.leading] for _, values in rows]
    if answer.kind == "regression":
        low, high = min(numbers), max(numbers)
        shares = [(n - low) / (high - low) if high > low else 0.5 for n in numbers]
    else:
        shares = numbers
    lines = []
    for (name, values), share in zip(rows, shares, strict=True):
        added = name.removeprefix("+ ")
        gain = answer.contributions.get(added)
        unit = answer.unit or "" if answer.kind == "regression" else "log-odds"
        title = f"{gain:+.2f} {unit}".strip() if gain is not None and name != added else ""
        width = 100 * min(max(share, 0.0), 1.0)
        # One level per card: the number beside a bar is the number of the bar.
        said = (
            _say(answer, values) if answer.kind == "multilabel" else _number(answer, values[answer.leading])
        )
        lines.append(
            f'<tr><td style="padding:1px 10px 1px 0;text-align:left">{html.escape(name)}</td>'
            '<td style="width:220px"><div style="background:#8883;border-radius:3px">'
            f'<div style="width:{width:.1f}%;height:12px;border-radius:3px;background:#0072b2"></div>'
            "</div></td>"
            f'<td style="padding:1px 0 1px 10px;text-align:right">{html.escape(said)}</td>'
            f'<td style="padding:1px 0 1px 10px;text-align:right;opacity:.7">{html.escape(title)}</td></tr>'
        )
    which = "" if answer.kind in ("binary", "regression") else f": {answer.leading}"
    head = html.escape(task + which)
    headline = html.escape(_number(answer, answer.value))
    left = "" if answer.set is None else f'<div style="opacity:.7">{html.escape(_left(answer))}</div>'
    return (
        f'<div style="margin:6px 0 2px"><b>{head}</b> <span style="font-size:20px">{headline}</span>'
        f'<span style="opacity:.7">{html.escape(_range(answer))}</span></div>'
        '<table style="border-collapse:collapse;font-variant-numeric:tabular-nums;margin:0">'
        f"{''.join(lines)}</table>{left}"
    )
