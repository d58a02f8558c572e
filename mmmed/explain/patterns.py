"""Who has what: the patterns of presence of a cohort, the most frequent first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import check_count
from mmmed.explain.style import quiet
from mmmed.palette import BLUE, DARK, PALE, Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 24  # patterns in one figure
FEW = 4  # there is room for so many at least, so that a single bar stays a bar


def plot_patterns(cohort: Any) -> Figure:
    """A column per pattern (how many records above, which modalities below), a row per modality with its
    share.

    cohort: anything with `present` [records modality] bool, `schema.modalities` and `name`. Drawn like an
    UpSet plot (Lex et al. 2014, doi:10.1109/TVCG.2014.2346248). Beyond 24 patterns the rarest are left out,
    and it says so.
    """
    present, names = np.asarray(cohort.present, dtype=bool), tuple(cohort.schema.modalities)
    check_count(len(present), name="The number of records in the cohort")
    found, counts = np.unique(present, axis=0, return_counts=True)
    order = np.lexsort((-found.sum(axis=1), -counts))[:MOST]
    left_out = len(counts) - len(order)
    found, counts = found[order], counts[order]
    width = max(4.6, 2.6 + 0.42 * max(len(counts), FEW))
    height = 2.7 + 0.33 * len(names)
    figure = Picture(figsize=(width, height))
    left = (0.35 + 0.085 * max(len(name) for name in names)) / width + 0.06
    right = 1 - 0.75 / width
    rows = 0.33 * len(names) / height
    above = figure.add_axes((left, 0.16 / height + rows + 0.08, right - left, 1.45 / height))
    below = figure.add_axes((left, 0.16 / height, right - left, rows))
    _draw_counts(above, counts, len(present))
    _draw_matrix(below, found, names, present.mean(axis=0))
    extra = f"; {left_out} rarer patterns are not shown" if left_out else ""
    figure.text(0.02, 1 - 0.1 / height, f"{cohort.name}: which modalities come together", va="top", size=12)
    subtitle = f"{len(present)} records, {100 * present.all(axis=1).mean():.0f} % complete{extra}"
    figure.text(0.02, 1 - 0.34 / height, subtitle, va="top", size=9, color=DARK)
    return figure


def _draw_counts(axes: Any, counts: np.ndarray, total: int) -> None:
    places = np.arange(len(counts))
    axes.bar(places, counts, color=BLUE, width=0.62)
    for place, count in zip(places, counts, strict=True):
        axes.text(
            place, count + 0.02 * counts.max(), str(count), ha="center", va="bottom", size=8, color=DARK
        )
    axes.set_xlim(-0.6, max(len(counts), FEW) - 0.4)
    axes.set_ylabel("records", size=10)
    axes.locator_params(axis="y", nbins=4, integer=True)
    quiet(axes)
    axes.set_xticks([])


def _draw_matrix(axes: Any, found: np.ndarray, names: tuple[str, ...], shares: np.ndarray) -> None:
    for column, pattern in enumerate(found):
        there = np.flatnonzero(pattern)
        if len(there) > 1:
            axes.plot([column, column], [there.min(), there.max()], color=BLUE, lw=2, zorder=1)
        for row in range(len(names)):
            axes.plot(column, row, "o", ms=9, color=BLUE if pattern[row] else PALE, zorder=2)
    axes.set_xlim(-0.6, max(len(found), FEW) - 0.4)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), names, size=9)
    axes.set_xticks([])
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    for row, share in enumerate(shares):
        axes.annotate(
            f"{100 * share:.0f} %",
            (1, row),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            size=9,
            color=DARK,
            annotation_clip=False,
        )
