"""The reliability diagram: does what was called 70 % happen in 70 % of the records?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import check_count
from mmmed.explain.style import quiet
from mmmed.palette import BLUE, DARK, GREY, Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike


def plot_reliability(
    labels: ArrayLike,
    probabilities: ArrayLike,
    groups: ArrayLike | None = None,
    bins: int = 10,
    name: str = "",
) -> Figure:
    """Share of positives against mean probability in bins of equal width, and how the probabilities are
    spread.

    labels [rows] 0, 1 or NaN (unknown, left out); probabilities [rows] of the positive level; groups [rows]:
    the patient. Bars: 95 % interval (Wilson 1927, doi:10.1080/01621459.1927.10502953), in which the rows of
    one patient count as one. The expected calibration error is the distance to the diagonal, weighted by rows
    (Guo et al., arXiv:1706.04599).
    """
    y, p, patients = _known(labels, probabilities, groups)
    said, happened, count, independent = reliability(y, p, patients, bins)
    error = float((count * np.abs(said - happened)).sum() / count.sum())
    figure = Picture(figsize=(4.8, 5.2))
    above = figure.add_axes((0.15, 0.34, 0.72, 0.53))
    below = figure.add_axes((0.15, 0.115, 0.72, 0.17), sharex=above)
    _draw_shares(above, said, happened, independent)
    _draw_spread(below, p, bins)
    figure.text(0.02, 0.985, f"{name or 'Calibration'}: what was said, what happened", va="top", size=12)
    subtitle = f"{len(y)} records, {int(y.sum())} positive; expected calibration error {error:.3f}"
    figure.text(0.02, 0.935, subtitle, va="top", size=9, color=DARK)
    return figure


def _known(labels: ArrayLike, probabilities: ArrayLike, groups: ArrayLike | None) -> tuple[np.ndarray, ...]:
    y, p = np.asarray(labels, dtype=float).ravel(), np.asarray(probabilities, dtype=float).ravel()
    patients = np.arange(len(y)) if groups is None else np.asarray(groups)
    if not len(y) == len(p) == len(patients):
        raise ValueError(
            f"labels, probabilities and groups should be equally long, "
            f"got {len(y)}, {len(p)} and {len(patients)}."
        )
    known = ~np.isnan(y)
    y, p, patients = y[known], p[known], patients[known]
    if not len(y):
        raise ValueError("No row has a known label, so there is nothing to compare.")
    if not (np.isin(y, (0, 1)).all() and np.isfinite(p).all() and p.min() >= 0 and p.max() <= 1):
        raise ValueError("labels should be 0, 1 or NaN and probabilities between 0 and 1.")
    return y, p, patients


def reliability(
    labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray, bins: int = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean probability, share of positives, rows and patients of every bin of equal width that holds any."""
    check_count(bins, name="bins")
    index = np.minimum((probabilities * bins).astype(int), bins - 1)
    count = np.bincount(index, minlength=bins)
    some = np.flatnonzero(count)
    said = np.bincount(index, probabilities, bins)[some] / count[some]
    happened = np.bincount(index, labels, bins)[some] / count[some]
    return said, happened, count[some], np.array([len(np.unique(groups[index == k])) for k in some])


def wilson(share: np.ndarray, count: np.ndarray, z: float = 1.959964) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of a share of `count` independent rows."""
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return centre - half, centre + half


def _draw_shares(axes: Any, said: np.ndarray, happened: np.ndarray, independent: np.ndarray) -> None:
    low, high = wilson(happened, independent)
    axes.plot([0, 100], [0, 100], color=GREY, lw=1, ls=(0, (4, 3)), zorder=1)
    axes.annotate(
        "perfect",
        (1, 1),
        xycoords="axes fraction",
        xytext=(3, -3),
        textcoords="offset points",
        va="center",
        size=9,
        color=DARK,
        annotation_clip=False,
    )
    axes.vlines(100 * said, 100 * low, 100 * high, color=BLUE, lw=2, zorder=2)
    axes.plot(100 * said, 100 * happened, "o", color=BLUE, ms=6.5, mec="white", mew=0.8, zorder=3)
    axes.set_xlim(-2, 102)
    axes.set_ylim(-2, 102)
    axes.set_yticks(range(0, 101, 25))
    axes.set_ylabel("share of positives [%]", size=10)
    quiet(axes)
    axes.tick_params(axis="x", labelbottom=False)


def _draw_spread(axes: Any, p: np.ndarray, bins: int) -> None:
    axes.hist(100 * p, bins=2 * bins, range=(0, 100), color=BLUE, alpha=0.55, rwidth=0.9)
    axes.set_xticks(range(0, 101, 25))
    axes.set_xlabel("predicted probability [%]", size=10)
    axes.set_ylabel("records", size=10)
    axes.locator_params(axis="y", nbins=3, integer=True)
    quiet(axes)
