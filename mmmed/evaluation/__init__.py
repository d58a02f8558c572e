"""Scores with intervals by patient, audits before training, and benchmarks of what is missing."""

from mmmed.lazily import lazily

_PLACES = {
    "compare_with_baselines": "compare",
    "decision_curve": "decision_curves",
    "score_frame": "evaluate",
    "score_predictions": "evaluate",
}
__all__ = ["compare_with_baselines", "decision_curve", "score_frame", "score_predictions"]
__getattr__ = lazily(__name__, _PLACES)
