"""Colours and canvas of every figure: told apart with any kind of colour vision, drawn without a screen."""

from __future__ import annotations

import io

from matplotlib.figure import Figure

# Okabe and Ito 2008, "Color universal design", the light yellow left out: it is too pale for lines on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
BLUE = PALETTE[0]
GREY, PALE, DARK, BLACK = "#8C8C8C", "#E6E6E6", "#555555", "#000000"


class Picture(Figure):
    """A figure that shows itself in a notebook, made without pyplot and its global state."""

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="png", dpi=110, bbox_inches="tight")
        return content.getvalue()
