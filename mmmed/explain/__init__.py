"""Figures that explain: the way to an answer, calibration, patterns of presence, what is left without a
modality, and which one to record next.
"""

from mmmed.lazily import lazily

_PLACES = {
    "plot_patterns": "patterns",
    "plot_reliability": "calibration_plot",
    "plot_subsets": "subsets",
    "plot_trajectory": "trajectories",
    "value_of_information": "information",
}
__all__ = ["plot_patterns", "plot_reliability", "plot_subsets", "plot_trajectory", "value_of_information"]
__getattr__ = lazily(__name__, _PLACES)
