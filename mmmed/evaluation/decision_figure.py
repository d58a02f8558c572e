"""The figure of a decision curve: model, treat all, treat none, one panel for each pattern of presence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from mmmed.palette import BLACK, BLUE, DARK, GREY, PALE, Picture

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from mmmed.evaluation.decision_curves import DecisionCurve

COLUMNS, WIDTH, HEIGHT, TOP, BOTTOM = 3, 3.1, 2.5, 0.85, 0.6  # inches: a panel, and what is above and below


def plot_decision_curve(curve: DecisionCurve) -> Figure:
    """Net benefit per 100 patients against the threshold, with the 95 % interval of the model."""
    names = list(dict.fromkeys(row["rows"] for row in curve.table))
    across = min(len(names), COLUMNS)
    down = math.ceil(len(names) / across)
    size = (max(across * WIDTH, 5.0), TOP + BOTTOM + down * HEIGHT)
    figure = Picture(figsize=size)
    grid = figure.add_gridspec(
        down,
        across,
        left=0.7 / size[0],
        right=1 - 0.15 / size[0],
        bottom=BOTTOM / size[1],
        top=1 - (TOP + 0.1) / size[1],
        hspace=0.45,
        wspace=0.12,
    )
    best = max((row["treat_all"].value for row in curve.table), default=0.0)
    best = max([best, *(row["model"].high for row in curve.table if math.isfinite(row["model"].high)), 0.01])
    for place, name in enumerate(names):
        axes = figure.add_subplot(grid[place // across, place % across])
        rows = [row for row in curve.table if row["rows"] == name]
        handles = _draw(axes, rows)
        axes.set_ylim(-25 * best, 105 * best)
        axes.set_xlim(0, 100)
        if len(names) > 1:
            axes.set_title(f"{name} (n = {rows[0]['n']})", size=9, color=DARK, loc="left")
        _quiet(axes, first=place % across == 0, last=place + across >= len(names))
    figure.text(0.1 / size[0], 1 - 0.1 / size[1], f"Net benefit: {curve.question}", va="top", size=12)
    figure.legend(
        handles=list(handles.values()),
        labels=list(handles),
        loc="upper left",
        bbox_to_anchor=(0.02 / size[0], 1 - 0.38 / size[1]),
        ncols=3,
        frameon=False,
        fontsize=9,
    )
    return figure


def _draw(axes: Any, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    x = [100 * row["threshold"] for row in rows]
    value, low, high = (
        [100 * getattr(row["model"], part) for row in rows] for part in ("value", "low", "high")
    )
    axes.fill_between(x, low, high, color=BLUE, alpha=0.18, lw=0, zorder=1)
    (model,) = axes.plot(x, value, color=BLUE, lw=2, zorder=3)
    everybody = [100 * row["treat_all"].value for row in rows]
    (all_treated,) = axes.plot(x, everybody, color=GREY, lw=1.5, ls=(0, (4, 3)), zorder=2)
    nobody = axes.axhline(0, color=BLACK, lw=1, zorder=2)
    return {"by the model (95 % interval)": model, "treat all": all_treated, "treat none": nobody}


def _quiet(axes: Any, first: bool, last: bool) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.tick_params(labelsize=9, color=GREY)
    axes.tick_params(axis="y", length=0, labelleft=first)
    axes.grid(axis="y", color=PALE, lw=0.8)
    axes.set_axisbelow(True)
    if first:
        axes.set_ylabel("per 100 patients", size=9)
    if last:
        axes.set_xlabel("treat from this probability on [%]", size=9)
