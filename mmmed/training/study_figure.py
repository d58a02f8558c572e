"""The figure of a study: recipes by test mask, one panel per training mask."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from mmmed.evaluation.figures import CHANCE
from mmmed.evaluation.scores import Table
from mmmed.evaluation.tasks import NAMES
from mmmed.palette import DARK, GREY, PALE, PALETTE, Picture

INCHES = {"dot": 0.135, "gap": 0.14, "head": 0.85, "foot": 0.55, "panel": 3.1, "letter": 0.072}


def plot_study(table: Table, task: str, metric: str, what: str) -> Picture:
    """Every recipe's score under every test mask, with its interval; a panel for each training mask.

    table: rows with task, recipe, trained_on, tested_on and the metric as an Estimate. what: a line of facts
    under the title. Raises ValueError if no row has the score.
    """
    rows = [row for row in table if row["task"] == task and row.get(metric) is not None]
    if not rows:
        raise ValueError(f"No row of task {task!r} has the score {metric!r}.")
    recipes, tests, trains = (_seen(rows, name) for name in ("recipe", "tested_on", "trained_on"))
    step = INCHES["dot"] * len(recipes) + INCHES["gap"]
    legend = math.ceil(len(recipes) / (2 + len(trains)))  # lines of it
    titles = {train: textwrap.fill(f"trained {train}", 42) for train in trains}
    head = INCHES["head"] + 0.2 * legend + 0.15 * max(title.count("\n") for title in titles.values())
    height = head + INCHES["foot"] + step * len(tests)
    left = 0.25 + INCHES["letter"] * max(map(len, tests))
    width = max(left + INCHES["panel"] * len(trains) + 0.2, 7.0)
    figure = Picture(figsize=(width, height))
    panel = (width - left - 0.2) / len(trains)
    axes = [
        figure.add_axes(
            (
                (left + k * panel) / width,
                INCHES["foot"] / height,
                (panel - 0.25) / width,
                step * len(tests) / height,
            )
        )
        for k in range(len(trains))
    ]
    handles: dict[str, Any] = {}
    for one, train in zip(axes, trains, strict=True):
        _draw(one, [row for row in rows if row["trained_on"] == train], recipes, tests, metric, handles)
    _dress(axes, list(titles.values()), tests, rows, metric)
    figure.text(0.12 / width, 1 - 0.1 / height, f"{task}: {NAMES.get(metric, metric)}", va="top", size=12)
    figure.text(0.12 / width, 1 - 0.33 / height, what, va="top", size=9, color=DARK)
    figure.legend(
        handles=list(handles.values()),
        labels=list(handles),
        loc="upper left",
        bbox_to_anchor=(0.06 / width, 1 - 0.44 / height),
        ncols=2 + len(trains),
        frameon=False,
        fontsize=9,
        handletextpad=0.3,
        columnspacing=1.4,
    )
    return figure


def _seen(rows: Sequence[Any], name: str) -> list[str]:
    return list(dict.fromkeys(row[name] for row in rows))


def _draw(
    axes: Any,
    rows: Sequence[Any],
    recipes: Sequence[str],
    tests: Sequence[str],
    metric: str,
    handles: dict[str, Any],
) -> None:
    share = INCHES["dot"] / (INCHES["dot"] * len(recipes) + INCHES["gap"])  # of a line, for one recipe
    for row in rows:
        score, k = row[metric], recipes.index(row["recipe"])
        if not math.isfinite(score.value):
            continue
        y = tests.index(row["tested_on"]) + (k - (len(recipes) - 1) / 2) * share
        colour = PALETTE[k % len(PALETTE)]
        if math.isfinite(score.low):
            axes.plot([score.low, score.high], [y, y], color=colour, lw=1.6, alpha=0.55, zorder=2)
        marker = "os^Dv"[k // len(PALETTE) % 5]
        (point,) = axes.plot(score.value, y, marker, color=colour, ms=5, mec="white", mew=0.6, zorder=3)
        handles.setdefault(row["recipe"], point)


def _dress(axes: Sequence[Any], titles: Sequence[str], tests: Sequence[str], rows: Any, metric: str) -> None:
    ends = [
        v for row in rows for v in (row[metric].low, row[metric].high, row[metric].value) if math.isfinite(v)
    ]
    ends += [CHANCE[metric]] if metric in CHANCE else []
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    margin = 0.04 * (high - low or 1.0)
    for k, (one, title) in enumerate(zip(axes, titles, strict=True)):
        one.set(ylim=(len(tests) - 0.5, -0.5), xlim=(low - margin, high + margin))
        one.set_title(title, size=9, loc="left", color=DARK)
        one.set_yticks(range(len(tests)), tests if k == 0 else [""] * len(tests), size=9)
        one.tick_params(axis="y", length=0)
        one.tick_params(axis="x", labelsize=9, color=GREY)
        one.set_xlabel(NAMES.get(metric, metric), size=9)
        if metric in CHANCE:
            one.axvline(CHANCE[metric], color=GREY, lw=1, ls=(0, (4, 3)), zorder=1)
        for line in range(1, len(tests)):
            one.axhline(line - 0.5, color=PALE, lw=0.6, zorder=0)
        for side in ("top", "right", "left"):
            one.spines[side].set_visible(False)
        one.spines["bottom"].set_color(GREY)
        one.grid(axis="x", color=PALE, lw=0.8)
        one.set_axisbelow(True)
