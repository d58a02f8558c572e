"""Figures that explain: the way to an answer, calibration, patterns of presence, what is left without a
modality.
"""

from importlib import import_module
from typing import Any

_PLACES = {
    "plot_patterns": "patterns",
    "plot_reliability": "calibration_plot",
    "plot_subsets": "subsets",
    "plot_trajectory": "trajectories",
}
__all__ = ["plot_patterns", "plot_reliability", "plot_subsets", "plot_trajectory"]


def __getattr__(name: str) -> Any:
    """Import matplotlib only when a figure is asked for."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
