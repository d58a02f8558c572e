"""The figure of a missingness benchmark: one line per pattern, the score with its interval, and the best
possible.

Up to four models share one panel, each with its colour and marker; more get a panel each, in which the first
model is repeated in grey, so that every panel is read as "better or worse than that one".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmmed.evaluation.scores import Table
from mmmed.evaluation.tasks import NAMES
from mmmed.palette import BLACK, DARK, GREY, PALE, PALETTE, Picture

TOGETHER, ACROSS = 4, 5  # models in one panel; panels side by side
MARKERS = ("o", "s", "^", "D")
TITLES = {"subset": "shown to the model", "mechanism": "hidden from the model"}
CHANCE = {"auroc": 0.5, "balanced_accuracy": 0.5, "r2": 0.0}
HEAD, FOOT, LETTER = 1.0, 0.6, 0.078  # inches: above and below the panels, and per letter of a label
BEST, NONE = "best possible on the same records", "no skill"


@dataclass(frozen=True)
class _Plan:
    """What is drawn where. lines: (kind, seen) -> height, top to bottom; titles: kind -> its height; panels:
    the models of each; limits: of the score.
    """

    rows: Sequence[Mapping[str, Any]]
    metric: str
    models: tuple[str | None, ...]
    lines: Mapping[tuple[str, str], float]
    titles: Mapping[str, float]
    panels: Sequence[tuple[str | None, ...]]
    limits: tuple[float, float]

    @property
    def height(self) -> float:
        return max(self.lines.values()) + 1

    @property
    def line(self) -> float:
        """Inches of a line."""
        if len(self.panels) > 1:
            return 0.21
        return 0.27 if len(self.models) == 1 else 0.12 + 0.125 * len(self.models)

    def cell(self, model: str | None, line: tuple[str, str]) -> Mapping[str, Any] | None:
        """The row of a model at a line."""
        kind, seen = line
        return next(
            (r for r in self.rows if (r["kind"], r["seen"], r.get("model")) == (kind, seen, model)), None
        )

    def look(self, model: str | None) -> dict[str, Any]:
        """Colour and marker of a model; in a panel of its own it needs no marker of its own."""
        place = self.models.index(model)
        marker = MARKERS[place] if len(self.panels) == 1 else MARKERS[0]
        return {"color": PALETTE[place % len(PALETTE)], "marker": marker}


def plot_subsets(table: Table, task: str, metric: str = "auroc") -> Figure:
    """Scores of one task for every pattern of what is seen, against the best possible where it is known.

    table: of `missingness_benchmark`, rows with `task`, `kind` ("subset" or "mechanism"), `seen`, the metric
    as an Estimate, perhaps `model` and `ceiling`. Subsets stand above, from one modality to all; mechanisms
    below.
    """
    rows = [row for row in table if row["task"] == task and row.get(metric) is not None]
    if not rows:
        raise ValueError(f"The table has no row of task {task!r} with the score {metric!r}.")
    plan = _plan(rows, metric)
    levels = math.ceil(len(plan.panels) / ACROSS)
    columns = math.ceil(len(plan.panels) / levels)  # eleven stand as 4, 4 and 3
    many = len(plan.panels) > 1
    tall, left = plan.line * plan.height, 0.25 + LETTER * max(len(seen) for _, seen in plan.lines)
    wide, gap = (1.5, 0.16) if many else (max(3.5, 7.0 - left), 0.0)
    above = 0.3 if many else 0.0  # the name of a panel
    width = left + columns * wide + (columns - 1) * gap + 0.2
    height = HEAD + levels * (above + tall + FOOT)
    figure, handles = Picture(figsize=(width, height)), {}
    for k, models in enumerate(plan.panels):
        level, column = divmod(k, columns)
        bottom = height - HEAD - level * (above + tall + FOOT) - above - tall
        place = ((left + column * (wide + gap)) / width, bottom / height, wide / width, tall / height)
        axes = figure.add_axes(place)
        handles.update(_draw(axes, plan, models))
        _dress(axes, plan, labelled=column == 0)
        if many:
            axes.set_title(str(models[0]), size=9, color=plan.look(models[0])["color"], weight="bold", pad=5)
    _write(figure, plan, task, handles, height)
    return figure


def _plan(rows: Sequence[Mapping[str, Any]], metric: str) -> _Plan:
    models = tuple(dict.fromkeys(row.get("model") for row in rows))
    lines, titles, here = {}, {}, 0.0
    for kind in TITLES:
        names = dict.fromkeys(row["seen"] for row in rows if row["kind"] == kind)
        if names:
            titles[kind] = here
            lines.update({(kind, seen): here + 1 + k for k, seen in enumerate(names)})
            here += len(names) + 1.4
    panels = [models] if len(models) <= TOGETHER else [(model,) for model in models]
    ends = [
        end
        for row in rows
        for end in (row[metric].value, row[metric].low, row[metric].high, row.get("ceiling"))
    ]
    ends = [end for end in [*ends, CHANCE.get(metric)] if end is not None and math.isfinite(end)] or [
        0.0,
        1.0,
    ]
    margin = 0.04 * (max(ends) - min(ends)) or 0.05
    return _Plan(rows, metric, models, lines, titles, panels, (min(ends) - margin, max(ends) + margin))


def _draw(axes: Any, plan: _Plan, models: Sequence[str | None]) -> dict[str, Any]:
    """Points and bars of some models. -> legend: word -> handle."""
    handles: dict[str, Any] = {}
    first = plan.models[0]
    alone = len(plan.panels) > 1
    step = min(0.36, 0.62 / max(len(models) - 1, 1))  # between the models of a line
    for line, height in plan.lines.items():
        for k, model in enumerate(models):
            row = plan.cell(model, line)
            if row is None:
                continue
            y = height + step * (k - (len(models) - 1) / 2)
            name = "this model" if model is None else model
            point = _point(axes, row[plan.metric], y, plan.look(model), small=len(plan.models) > 1)
            if point is not None and not alone:
                handles.setdefault(name, point)
        reference = plan.cell(first, line)
        if reference is None:
            continue
        if alone and first not in models and math.isfinite(reference[plan.metric].value):
            x = reference[plan.metric].value
            (point,) = axes.plot(x, height, "|", color=DARK, ms=9, mew=1.3, zorder=4)
            handles.setdefault(f"{first}, for comparison", point)
        best = reference.get("ceiling")
        if best is not None and math.isfinite(best):
            mark = _best(axes, best, height, 50 * plan.line if len(models) > 1 else None)
            handles.setdefault(BEST, mark)
    if plan.metric in CHANCE:
        handles[NONE] = axes.axvline(CHANCE[plan.metric], color=GREY, lw=1, ls=(0, (4, 3)), zorder=1)
    return handles


def _best(axes: Any, value: float, y: float, tall: float | None) -> Any:
    """The best possible: a diamond, or a stroke of `tall` points through the points of several models."""
    if tall is None:
        (mark,) = axes.plot(value, y, "d", mfc="white", mec=BLACK, ms=5, mew=1.1, zorder=2.5)
    else:
        axes.plot(value, y, "|", color=BLACK, ms=tall, mew=1.2, zorder=1.5)
        mark = Line2D([], [], ls="", marker="|", color=BLACK, ms=10, mew=1.2)  # a shorter one for the legend
    return mark


def _point(axes: Any, score: Any, y: float, look: Mapping[str, Any], small: bool) -> Any:
    """A score with its bar; None where it is undefined."""
    if math.isfinite(score.low):
        width = 1.3 if small else 2
        axes.plot(
            [score.low, score.high], [y, y], color=look["color"], lw=width, solid_capstyle="round", zorder=2
        )
    if not math.isfinite(score.value):
        return None
    size = 5.2 if small else 6.5
    (point,) = axes.plot(score.value, y, ls="", **look, ms=size, mec="white", mew=0.7, zorder=3)
    return point


def _dress(axes: Any, plan: _Plan, labelled: bool) -> None:
    """Names of the lines at the left panels, bands that lead the eye where there are several models."""
    axes.set_ylim(plan.height - 0.5, -0.5)
    axes.set_xlim(*plan.limits)
    axes.set_yticks(list(plan.lines.values()), [seen for _, seen in plan.lines] if labelled else [], size=9)
    if len(plan.models) > 1:
        for height in list(plan.lines.values())[::2]:
            axes.axhspan(height - 0.5, height + 0.5, color="#F5F5F5", lw=0, zorder=0)
    beside = axes.get_yaxis_transform()  # x as a share of the axes, y as a line
    for kind, height in plan.titles.items() if labelled else ():
        place = {"transform": beside, "ha": "right", "va": "center"}
        axes.text(-0.02, height, TITLES[kind], **place, size=9, color=DARK, style="italic")
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=9, color=GREY)
    if len(plan.panels) > 1:
        axes.locator_params(axis="x", nbins=6)
        axes.tick_params(axis="x", labelsize=8)
    if labelled:
        axes.set_xlabel(NAMES.get(plan.metric, plan.metric), size=10)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.grid(axis="x", color=PALE, lw=0.8)
    axes.set_axisbelow(True)


def _write(figure: Figure, plan: _Plan, task: str, handles: Mapping[str, Any], height: float) -> None:
    """Title, what it rests on, and the legend."""
    n, patients = plan.rows[0]["n"], plan.rows[0]["patients"]
    sizes = f"{n} records" if n == patients else f"{n} records of {patients} patients"
    title = f"{task}: what is left when modalities are hidden"
    figure.text(0.02, 1 - 0.12 / height, title, va="top", size=12)
    subtitle = f"{sizes}; bars: 95 % interval by patient"
    figure.text(0.02, 1 - 0.36 / height, subtitle, va="top", size=9, color=DARK)
    order = sorted(handles, key=lambda word: word in (BEST, NONE))  # models first
    figure.legend(
        handles=[handles[word] for word in order],
        labels=order,
        loc="upper left",
        bbox_to_anchor=(0.012, 1 - 0.54 / height),
        ncols=len(order),
        frameon=False,
        fontsize=9,
        handletextpad=0.4,
        columnspacing=1.4,
    )
