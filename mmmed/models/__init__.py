"""Encoders, fusion, heads and language models put together: built, asked, saved and loaded."""

from mmmed.lazily import lazily

_PLACES = {
    "ConstantReporter": "plain_reporters",
    "NearestReporter": "nearest_reporter",
    "RandomReporter": "plain_reporters",
    "ReadyReporter": "ready_reporter",
    "ReferringSegmenter": "referring_segmenter",
    "ReportGenerator": "report_generator",
    "ReportWithMasks": "pointing",
    "TemplateReporter": "template_reporter",
    "answer_with_masks": "pointing",
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
    "ReferringSegmenter",
    "ReportGenerator",
    "ReportWithMasks",
    "TemplateReporter",
    "answer_with_masks",
    "calibrate",
    "encode_cohort",
    "predict_encoded",
    "predict_proba",
    "prediction_sets",
]
__getattr__ = lazily(__name__, _PLACES)
