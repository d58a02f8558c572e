"""How figures look: no frame, no global state of matplotlib."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from mmmed.palette import GREY, PALE


def quiet(axes: Any, grid: str = "y") -> None:
    """Bottom line only, thin grey grid behind the data."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.tick_params(labelsize=9, color=GREY)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis=grid, color=PALE, lw=0.8)
    axes.set_axisbelow(True)


def spread(heights: list[float], least: float) -> list[float]:
    """Move heights apart, as little as possible, so that labels at them do not overlap; order is kept."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    placed = list(heights)
    for before, here in pairwise(order):
        placed[here] = max(placed[here], placed[before] + least)
    shift = sum(h - p for h, p in zip(heights, placed, strict=True)) / max(len(heights), 1)
    return [place + shift for place in placed]
