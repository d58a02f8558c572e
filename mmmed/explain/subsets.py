"""What is left when modalities are hidden: the figure of a missingness benchmark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_subsets(benchmark: Any, task: str | None = None) -> Figure:
    """AUROC of every subset of modalities with its interval, against the best possible where it is known.

    benchmark: what `missingness_benchmark` gave; it knows how to draw itself. task: the first by default.
    """
    return benchmark.plot(task)
