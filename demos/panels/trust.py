"""May this answer be trusted: how well the model did on patients of whom exactly this much was known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import svg
from .scale import Scale, number_scale

MARKS = {"tested": "\u2713", "partly": "~", "untested": "!"}
NAMES = {"auroc": "AUROC", "mae": "mean error"}
GUESSING = 0.5  # AUROC of who draws lots
FEW_CELLS = 3  # up to which the columns that are not recorded are named


@dataclass(frozen=True)
class Score:
    """A score of the benchmark; low and high are NaN where there is no interval."""

    name: str
    value: float
    low: float
    high: float
    records: int

    @property
    def has_interval(self) -> bool:
        return not math.isnan(self.low + self.high)

    @property
    def is_guessing(self) -> bool:
        """Whether the order of two patients may as well be drawn by lot, as far as the interval tells."""
        return self.name == "auroc" and (self.low if self.has_interval else self.value) <= GUESSING


def trust(
    row: Mapping[str, Any] | None,
    pattern: Sequence[str],
    records: int,
    least: int,
    task: str,
    could: int | None = None,
    cells: Mapping[str, Sequence[str]] | None = None,
    own: bool = True,
    kind: str = "binary",
    unit: str = "",
    had: int | None = None,
) -> str:
    """The score for this pattern of presence, and how many training records had it.

    row: the line of the benchmark (`Benchmark.table`, kind "subset", or `Benchmark.patterns`), None where
    there is none: "n" and a score ("auroc", or "mae" for a regression) as an `Estimate` or as three numbers
    with "_low" and "_high". pattern: the modalities that are there. records: training records with exactly
    this pattern. could: those that had at least these modalities, from which the training hid the rest now
    and then (None: nothing was hidden). With fewer than `least` it says plainly that nobody knows. cells:
    modality -> columns that this patient lacks (`Prediction.missing_cells`). own: whether `records` and
    `could` count what the model was trained on. kind, unit: of the task (`Answer.kind`, `Answer.unit`). had:
    how many of the n records had all of the pattern ("had" of the row by default).

    A tick stands only where the model was tested on enough such records, does better than guessing, has met
    such records in its training as they came, and no cell of this patient is empty.
    """
    if not pattern:
        return _verdict(
            "untested", "Nothing is known of this patient: the answer is that of the average one."
        )
    seen, score = svg.escape(svg.listed(pattern)), _score(row)
    met = _met(seen, records, could, own)
    if score is None:
        head = f"The model has <b>not been tested</b> on patients of whom only {seen} is known."
        return _verdict("untested", head) + svg.remark(f"{met} Do not rely on this answer.")
    had = row.get("had") if had is None else had
    whole = score.records if had is None else had
    learned = max(records, could or 0) if own else least
    scale, meaning = _scale(score, unit), _meaning(score, task, kind, unit)
    caution = "Patients who truly lack the rest may differ." if _is_hidden(row) else ""
    if min(learned, whole) < least:
        few = met if learned < least else f"{whole} test records are too few to tell."
        head = f"The model has <b>not been tested</b> enough on patients of whom only {seen} is known."
        said = [few, f"At least {least} are needed.", meaning, caution]
        return _verdict("untested", head) + _chart(score, scale) + _remark(said)
    empty = _empty(cells or {}, pattern)
    state = "untested" if score.is_guessing else "partly" if empty or (own and records < least) else "tested"
    rest = "" if whole == score.records else "The others of these were scored on what they had of it."
    head = _head(score, _who(row, score, seen, had), scale, empty)
    return _verdict(state, head) + _chart(score, scale) + _remark([meaning, rest, met, caution])


def _head(score: Score, who: str, scale: Scale, empty: str) -> str:
    number = f"{NAMES[score.name]} <b>{svg.escape(scale.text(score.value))}</b>{empty}."
    if not score.is_guessing:
        return f"Tested on {who}: {number}"
    if score.has_interval and score.high < GUESSING:
        return f"<b>Worse than guessing</b> on {who}: {number}"
    return f"<b>Not shown to be better than guessing</b> on {who}: {number}"


def _who(row: Mapping[str, Any], score: Score, seen: str, had: int | None) -> str:
    """The records it was tested on. A subset hides the rest from every record; a pattern takes the records as
    they came."""
    all_had = had is None or had == score.records
    if row.get("kind") != "subset":
        return f"{score.records} records with exactly {seen}"
    if not _is_hidden(row):
        return f"{score.records} records " + (
            f"with {seen}" if all_had else f"as they came, of which {had} had {seen}"
        )
    told = f"{score.records} records that were shown with only {seen}"
    return told if all_had else f"{told}, of which {had} had all of it"


def _is_hidden(row: Mapping[str, Any]) -> bool:
    """Whether something was taken away from the records for the test."""
    return row.get("kind") == "subset" and row.get("changed") != 0


def _met(seen: str, records: int, could: int | None, own: bool) -> str:
    """What the training knew of such records."""
    if not own:
        return (
            f"How many records with exactly {seen} the model has learned from is not known: this cohort may "
            "not be the one of its training."
        )
    had = f"{records} training record{'' if records == 1 else 's'} had exactly {seen}"
    if (could or 0) > records:
        had += f"; from {could - records} others the rest was hidden now and then, to learn this"
    return f"{had}."


def _empty(cells: Mapping[str, Sequence[str]], pattern: Sequence[str]) -> str:
    """What the score does not know of: cells that this patient lacks (escaped)."""
    told = []
    for name in pattern:
        lacking = cells.get(name) or ()
        if lacking:
            which = svg.listed(lacking) if len(lacking) <= FEW_CELLS else f"{len(lacking)} columns"
            told.append(f"{which} in {name}")
    return f", but this patient lacks {svg.escape(svg.listed(told))}" if told else ""


def _remark(sentences: Sequence[str]) -> str:
    return svg.remark(" ".join(sentence for sentence in sentences if sentence))


def _verdict(state: str, sentence: str) -> str:
    mark = f'<i class="mm-mark" aria-hidden="true">{MARKS[state]}</i>'
    return svg.finding(f"{mark}<span>{sentence}</span>", f"mm-verdict mm-{state}")


def _score(row: Mapping[str, Any] | None) -> Score | None:
    """None where no score is defined."""
    for name in NAMES:
        cell = (row or {}).get(name)
        if cell is None:
            continue
        numbers = [
            cell if not hasattr(cell, "value") else cell.value,
            getattr(cell, "low", row.get(f"{name}_low")),
            getattr(cell, "high", row.get(f"{name}_high")),
        ]
        value, low, high = (math.nan if number is None else float(number) for number in numbers)
        if not math.isnan(value):
            return Score(name, value, low, high, int(row.get("n") or getattr(cell, "n", 0)))
    return None


def _scale(score: Score, unit: str) -> Scale:
    """From guessing to perfect, further down where the score is; an error starts at 0, in its unit."""
    ends = [end for end in (score.value, score.low, score.high) if not math.isnan(end)]
    if score.name != "auroc":
        return number_scale([0.0, *ends], unit, start=0.0)
    first = min(math.floor(10 * min(ends) + 1e-9), 5)
    ticks = tuple(k / 10 for k in range(first, 11)) if first >= 3 else (0.0, 0.25, 0.5, 0.75, 1.0)
    return Scale(ticks[0], 1.0, ticks, share=False, digits=2, tick_digits=1 if first >= 3 else 2)


def _chart(score: Score, scale: Scale) -> str:
    marks = [svg.grid([scale.place(tick) for tick in scale.ticks])]
    if score.name == "auroc" and scale.low < GUESSING:
        marks.append(svg.line(scale.place(GUESSING), "mm-zero"))
    bounds = (score.low, score.high) if score.has_interval else None
    if bounds:
        marks.append(svg.band(scale.place(score.low), scale.place(score.high)))
    marks.append(svg.dot(scale.place(score.value), radius=6))
    cells = [svg.cell("mm-label", NAMES[score.name]), *svg.numbers(scale, score.value, bounds)]
    below = "; below: worse" if scale.low < GUESSING else ""
    title = f"0.5: no better than a coin{below}; 1: never wrong"
    if score.name != "auroc":
        title = f"mean absolute error{f' [{scale.unit}]' if scale.unit else ''}"
    drawn = svg.plot(marks, f"{NAMES[score.name]} {scale.said(score.value, bounds)}.")
    return svg.chart(
        [svg.row(cells, drawn, "mm-last"), svg.axis(scale, title)], "How well it did", "mm-trust mm-slim"
    )


def _meaning(score: Score, task: str, kind: str, unit: str) -> str:
    """The score in words."""
    name, pairs = svg.escape(task), f"{100 * score.value:.0f} of 100 pairs"
    if score.name == "mae":
        missed = f"{score.value:.2g}{f' {svg.escape(unit)}' if unit else ''}"
        return f"On average, {name} was missed by {missed}."
    if kind == "multiclass":
        return (
            f"Given a patient with a level of {name} and one without it, the model thinks it likelier of the "
            f"first in {pairs} (mean over the levels)."
        )
    if kind == "multilabel":
        return (
            f"Given a patient with a label of {name} and one without it, the model thinks it likelier of the "
            f"first in {pairs} (mean over the labels)."
        )
    return f"Given two patients who differ in {name}, the model puts them in the right order in {pairs}."
