"""Scores with intervals by patient, audits before training, and benchmarks of what is missing."""

from mmmed.lazily import lazily

_PLACES = {
    "FixedShape": "mask_baselines",
    "compare_masks": "masks",
    "compare_reporters": "reports",
    "compare_with_baselines": "compare",
    "count_errors": "report_errors",
    "decision_curve": "decision_curves",
    "evaluate_masks": "masks",
    "evaluate_reports": "reports",
    "judge_reports": "report_judge",
    "negation_flip": "report_negation",
    "recall_at_k": "retrieval",
    "score_frame": "evaluate",
    "score_predictions": "evaluate",
    "score_reports": "report_metrics",
    "stress_reports": "reports",
}
__all__ = [
    "FixedShape",
    "compare_masks",
    "compare_reporters",
    "compare_with_baselines",
    "count_errors",
    "decision_curve",
    "evaluate_masks",
    "evaluate_reports",
    "judge_reports",
    "negation_flip",
    "recall_at_k",
    "score_frame",
    "score_predictions",
    "score_reports",
    "stress_reports",
]
__getattr__ = lazily(__name__, _PLACES)
