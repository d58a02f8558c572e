"""The stress test of a model: how well it answers when inputs are missing, as a table for any reader."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmmed.checks import check_known

from .svg import escape, finding, remark

NAMES = {"auroc": "AUROC", "auprc": "AUPRC", "mae": "MAE", "rmse": "RMSE", "r2": "R2", "brier": "Brier score"}
SMALLER_IS_BETTER = ("brier", "ece", "mae", "rmse", "log_loss")
HEADS = {"subset": "Only these inputs are shown", "mechanism": "Inputs are taken away in one of these ways"}
LEAST = 10  # patients without whom a line is not called the worst
WORDS = (  # label of a mechanism -> plain words
    (r"^mcar (.+) % of (.+)$", r"\1 % of \2 hidden at random"),
    (r"^mcar (.+) %$", r"\1 % of the inputs hidden at random"),
    (r"^mar (.+): (.+)$", r"\2 hidden more often for some values of \1"),
    (r"^by value (.+): (.+)$", r"\2 hidden more often for some values of \1, which is hidden too"),
    (r"^by label (.+?): ([^,]+)(, .*)?, flipped$", r"\2 hidden depending on \1 itself, the other way round"),
    (r"^by label (.+?): ([^,]+)(, .*)?$", r"\2 hidden depending on \1 itself"),
)


@dataclass(frozen=True)
class Line:
    """One row: what was seen, by which model, its score with an interval, and the best possible score."""

    kind: str
    seen: str
    model: str
    value: float
    low: float
    high: float
    n: int
    patients: int
    ceiling: float | None
    note: str


def stress(benchmark: Any, task: str) -> str:
    """The missingness benchmark of one task: every subset of inputs first, then the ways to lose them.

    benchmark: what `mmmed.missingness_benchmark` gives. Raises ValueError for a task that it does not have.
    """
    check_known(task, benchmark.tasks, what="task")
    rows = [row for row in benchmark.table if row["task"] == task]
    metric = _metric_of(rows, benchmark.metric)
    lines = [_line(row, metric) for row in rows]
    known = any(line.ceiling is not None for line in lines)
    end = _end(lines, metric)
    name = NAMES.get(metric, metric.replace("_", " "))
    heads = ["What the model was given", *(["Model"] if benchmark.models else []), name, "95 % interval"]
    heads += ["Records", *(["Best possible"] if known else [])]
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    worst = _extreme(lines, metric, best=False)
    parts = [
        _group(kind, lines, worst, end, bool(benchmark.models), known, len(heads))
        for kind in dict.fromkeys(line.kind for line in lines)
    ]
    caption = f"{task}: {name} when inputs are missing, on {benchmark.name}"
    return (
        f'<div class="mm-stress">{finding(_headline(lines, metric, name))}'
        f'<div class="mm-stress-scroll" role="region" tabindex="0" aria-label="{escape(caption)}">'
        f"<table><caption><span>{escape(caption)}</span></caption><thead><tr>{head}</tr></thead>{''.join(parts)}</table></div>"
        f"{''.join(remark(text) for text in _remarks(metric, name, end, known))}</div>"
    )


# -------------------------------------------------------------------------------------------------- the table


def _group(
    kind: str,
    lines: Sequence[Line],
    worst: Line | None,
    end: tuple[float, float],
    named: bool,
    known: bool,
    wide: int,
) -> str:
    head = escape(HEADS.get(kind, kind))
    body = "".join(_row(line, line is worst, end, named, known) for line in lines if line.kind == kind)
    title = f'<tr class="mm-stress-group"><th scope="rowgroup" colspan="{wide}"><span>{head}</span></th></tr>'
    return f"<tbody>{title}{body}</tbody>"


def _row(line: Line, worst: bool, end: tuple[float, float], named: bool, known: bool) -> str:
    mark = ' <span class="mm-stress-worst">worst</span>' if worst else ""
    note = f'<span class="mm-stress-note">{escape(line.note)}</span>' if line.note else ""
    cells = [f'<th scope="row">{escape(_words(line))}{mark}{note}</th>']
    if named:
        cells.append(f"<td>{escape(line.model)}</td>")
    if math.isnan(line.value):
        cells += ["<td>not defined</td>", "<td></td>"]
    else:
        cells.append(f'<td class="mm-stress-score"><span>{line.value:.2f}</span>{_bar(line, end)}</td>')
        cells.append("<td></td>" if math.isnan(line.low) else f"<td>[{line.low:.2f} to {line.high:.2f}]</td>")
    cells.append(f"<td>{line.n}</td>")
    if known:
        cells.append("<td></td>" if line.ceiling is None else f"<td>{line.ceiling:.2f}</td>")
    looks = ' class="mm-stress-lowest"' if worst else ""
    return f"<tr{looks}>{''.join(cells)}</tr>"


def _bar(line: Line, end: tuple[float, float]) -> str:
    """The score as a bar with its interval and a mark at the best possible; the numbers stand beside it."""
    low, high = end
    place = lambda value: f"{100 * min(max((value - low) / (high - low), 0), 1):.1f}%"  # noqa: E731
    marks = [f'<rect class="mm-stress-bar" x="0" y="4" height="10" width="{place(line.value)}"/>']
    if not math.isnan(line.low):
        marks.append(
            f'<line class="mm-stress-interval" x1="{place(line.low)}" x2="{place(line.high)}" y1="9" y2="9"/>'
        )
    if line.ceiling is not None:
        at = place(line.ceiling)
        marks.append(f'<line class="mm-stress-ceiling" x1="{at}" x2="{at}" y1="0" y2="18"/>')
    return f'<svg class="mm-stress-plot" width="120" height="18" aria-hidden="true">{"".join(marks)}</svg>'


# ------------------------------------------------------------------------------------------------------ words


def _headline(lines: Sequence[Line], metric: str, name: str) -> str:
    """HTML: the best and the worst that can happen."""
    subsets = [line for line in lines if line.kind == "subset"]  # a way of hiding is nothing to recommend
    best, worst = _extreme(subsets or lines, metric, best=True), _extreme(lines, metric, best=False)
    if best is None or worst is None:
        return f"There is no {escape(name)} to show: too few patients."
    top = f"<b>{escape(_words(best))}</b> ({escape(name)} {best.value:.2f})"
    if best is worst:
        return f"All that was tested: {top}."
    return f"Best: {top}. Worst: <b>{escape(_words(worst))}</b> ({worst.value:.2f})."


def _words(line: Line) -> str:
    """What was given, without the jargon of the field."""
    if line.kind == "subset":
        return line.seen
    for pattern, plainly in WORDS:
        said, changed = re.subn(pattern, plainly, line.seen)
        if changed:
            return said
    return line.seen


def _remarks(metric: str, name: str, end: tuple[float, float], known: bool) -> list[str]:
    better = "smaller is better" if metric in SMALLER_IS_BETTER else "larger is better"
    chance = ", where 0.50 is guessing" if metric == "auroc" else ""
    texts = [
        f"{escape(name)}: {better}{chance}. Bars run from {end[0]:.2f} to {end[1]:.2f}, the thin line is the "
        "interval."
    ]
    if known:
        texts.append(
            "Best possible (the upright mark): what a perfect reader would reach with the same inputs."
        )
    return [
        *texts,
        "Every line is scored on all records; who has nothing of what is shown gets the average answer.",
    ]


# ---------------------------------------------------------------------------------------------------- numbers


def _metric_of(rows: Sequence[Mapping[str, Any]], metric: str) -> str:
    """The score that is plotted; the first score of a task that does not have it."""
    if any(row.get(metric) is not None for row in rows):
        return metric
    scores = (name for row in rows for name, cell in row.items() if hasattr(cell, "low"))
    return next(scores, metric)


def _line(row: Mapping[str, Any], metric: str) -> Line:
    score, ceiling = row.get(metric), row.get("ceiling")
    value = math.nan if score is None else float(score)
    low = getattr(score, "low", row.get(f"{metric}_low"))
    high = getattr(score, "high", row.get(f"{metric}_high"))
    return Line(
        row["kind"],
        row["seen"],
        row.get("model") or "",
        value,
        math.nan if low is None else float(low),
        math.nan if high is None else float(high),
        int(row["n"]),
        int(row.get("patients") or 0),
        None if ceiling is None or math.isnan(ceiling) else float(ceiling),
        row.get("note") or "",
    )


def _extreme(lines: Sequence[Line], metric: str, best: bool) -> Line | None:
    """The best or the worst line, of those that enough patients stand behind."""
    good = [line for line in lines if line.patients >= LEAST and not math.isnan(line.value)]
    pick = max if best != (metric in SMALLER_IS_BETTER) else min
    return pick(good, key=lambda line: line.value, default=None)


def _end(lines: Sequence[Line], metric: str) -> tuple[float, float]:
    """Where the bars start and end: AUROC from guessing to perfect, other shares 0 to 1, errors from 0."""
    if metric == "auroc":
        return 0.5, 1.0
    if metric not in SMALLER_IS_BETTER:
        return 0.0, 1.0
    tops = [top for line in lines for top in (line.value, line.high) if not math.isnan(top)]
    return 0.0, max(tops, default=1.0) or 1.0
