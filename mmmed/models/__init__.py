"""Encoders, fusion, heads and language models put together: built, asked, saved and loaded."""

from mmmed.lazily import lazily

_PLACES = {
    "ConstantReporter": "plain_reporters",
    "NearestReporter": "nearest_reporter",
    "RandomReporter": "plain_reporters",
    "ReadyReporter": "ready_reporter",
    "ReportGenerator": "report_generator",
    "TemplateReporter": "template_reporter",
    "calibrate": "inference",
    "encode_cohort": "inference",
    "predict_encoded": "inference",
    "predict_proba": "inference",
    "prediction_sets": "inference",
}
__all__ = [
    "ConstantReporter",
    "NearestReporter",
    "RandomReporter",
    "ReadyReporter",
    "ReportGenerator",
    "TemplateReporter",
    "calibrate",
    "encode_cohort",
    "predict_encoded",
    "predict_proba",
    "prediction_sets",
]
__getattr__ = lazily(__name__, _PLACES)
