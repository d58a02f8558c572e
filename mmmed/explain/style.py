"""How figures look: colours that everybody can tell apart, no frame, no global state of matplotlib."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

from matplotlib.figure import Figure

# Okabe and Ito 2008, "Color universal design", the light yellow left out: it is too pale for lines on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
BLUE = PALETTE[0]
GREY, PALE, DARK = "#8C8C8C", "#E6E6E6", "#555555"


class Picture(Figure):
    """A figure that shows itself in a notebook, made without pyplot and therefore without a screen."""

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="png", dpi=110, bbox_inches="tight")
        return content.getvalue()


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
