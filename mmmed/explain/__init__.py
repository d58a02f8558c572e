"""Figures that explain: the way to an answer, what in a picture moved it, calibration, patterns of presence,
what is left without a modality, and which one to record next.
"""

from mmmed.lazily import lazily

_PLACES = {
    "Saliency": "attribution_map",
    "plot_patterns": "patterns",
    "plot_reliability": "calibration_plot",
    "plot_subsets": "subsets",
    "plot_trajectory": "trajectories",
    "saliency": "attribution_map",
    "value_of_information": "information",
}
__all__ = [
    "Saliency",
    "plot_patterns",
    "plot_reliability",
    "plot_subsets",
    "plot_trajectory",
    "saliency",
    "value_of_information",
]
__getattr__ = lazily(__name__, _PLACES)
