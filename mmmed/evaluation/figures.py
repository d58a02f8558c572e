"""The figure of a missingness benchmark: one line per pattern, the score with its interval, and the best
possible.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from mmmed.evaluation.scores import Table
from mmmed.evaluation.tasks import NAMES

# Okabe and Ito 2008, "Color universal design": told apart with any kind of colour vision.
BLUE, VERMILION, BLACK, GREY = "#0072B2", "#D55E00", "#000000", "#8C8C8C"
INCHES = {"line": 0.27, "head": 0.95, "foot": 0.6, "gap": 0.25, "width": 7.0}
TITLES = {"subset": "shown to the model", "mechanism": "hidden from the model"}
CHANCE = {"auroc": 0.5, "balanced_accuracy": 0.5, "r2": 0.0}


class Picture(Figure):
    """A figure that shows itself in a notebook without pyplot's global state."""

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="png", dpi=110, bbox_inches="tight")
        return content.getvalue()


def plot_subsets(table: Table, task: str, metric: str = "auroc") -> Figure:
    """Scores of one task for every pattern of what is seen, against the best possible where it is known.

    table: of `missingness_benchmark`, rows with `task`, `kind` ("subset" or "mechanism"), `seen`, the metric
    as an Estimate, and perhaps `ceiling`. Subsets stand above, from one modality to all; mechanisms below.
    """
    rows = [row for row in table if row["task"] == task and row.get(metric) is not None]
    groups = [part for name in ("subset", "mechanism") if (part := [r for r in rows if r["kind"] == name])]
    if not groups:
        raise ValueError(f"The table has no row of task {task!r} with the score {metric!r}.")
    places, lines = _places(groups)
    height = INCHES["head"] + INCHES["foot"] + INCHES["line"] * lines
    figure = Picture(figsize=(INCHES["width"], height))
    longest = max(len(str(row["seen"])) for row in rows)
    left = min(0.5, 0.04 + 0.0115 * longest)
    bottom, top = INCHES["foot"] / height, 1 - INCHES["head"] / height
    axes = figure.add_axes((left, bottom, 0.97 - left, top - bottom))
    handles = _draw_rows(axes, groups, places, metric)
    _dress(axes, groups, places, metric, lines)
    n, patients = rows[0]["n"], rows[0]["patients"]
    sizes = f"{n} records" if n == patients else f"{n} records of {patients} patients"
    figure.text(
        0.02, 1 - 0.12 / height, f"{task}: what is left when modalities are hidden", va="top", size=12
    )
    figure.text(
        0.02, 1 - 0.36 / height, f"{sizes}; bars: 95 % interval by patient", va="top", size=9, color="#555555"
    )
    figure.legend(
        handles=list(handles.values()),
        labels=list(handles),
        loc="upper left",
        bbox_to_anchor=(0.012, 1 - 0.54 / height),
        ncols=len(handles),
        frameon=False,
        fontsize=9,
        handletextpad=0.4,
        columnspacing=1.6,
    )
    return figure


def _places(groups: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[list[list[float]], float]:
    """The height of every row, top to bottom, with a line for the title of its group."""
    places, here = [], 0.0
    for group in groups:
        places.append([here + 1 + k for k in range(len(group))])  # one line above for the group's title
        here += len(group) + 1.4
    return places, here - 0.4


def _draw_rows(
    axes: Any, groups: Sequence[Sequence[Mapping[str, Any]]], places: list[list[float]], metric: str
) -> dict[str, Any]:
    handles: dict[str, Any] = {}
    for group, heights in zip(groups, places, strict=True):
        for row, y in zip(group, heights, strict=True):
            score, best = row[metric], row.get("ceiling")
            if math.isfinite(score.low):
                axes.plot([score.low, score.high], [y, y], color=BLUE, lw=2, solid_capstyle="round", zorder=2)
            if math.isfinite(score.value):
                (point,) = axes.plot(score.value, y, "o", color=BLUE, ms=6.5, mec="white", mew=0.8, zorder=3)
                handles.setdefault("this model", point)
            if best is not None and math.isfinite(best):
                (mark,) = axes.plot(best, y, "d", mfc="white", mec=BLACK, ms=6, mew=1.2, zorder=4)
                handles.setdefault("best possible on the same records", mark)
    if metric in CHANCE:
        line = axes.axvline(CHANCE[metric], color=GREY, lw=1, ls=(0, (4, 3)), zorder=1)
        handles["no skill"] = line
    return handles


def _dress(
    axes: Any,
    groups: Sequence[Sequence[Mapping[str, Any]]],
    places: list[list[float]],
    metric: str,
    lines: float,
) -> None:
    axes.set_ylim(lines - 0.5, -0.5)
    ticks = [y for heights in places for y in heights]
    axes.set_yticks(ticks, [str(row["seen"]) for group in groups for row in group], size=9)
    for group, heights in zip(groups, places, strict=True):
        title = TITLES[group[0]["kind"]]
        beside = axes.get_yaxis_transform()  # x as a share of the axes, y as a line
        axes.text(
            -0.02,
            heights[0] - 1,
            title,
            transform=beside,
            ha="right",
            va="center",
            size=9,
            color="#555555",
            style="italic",
        )
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=9, color=GREY)
    axes.set_xlabel(NAMES.get(metric, metric), size=10)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.grid(axis="x", color="#E6E6E6", lw=0.8)
    axes.set_axisbelow(True)
