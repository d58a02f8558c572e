"""Encoders, fusion and heads put together: built, asked, saved and loaded."""

from mmmed.lazily import lazily

_PLACES = {
    "calibrate": "inference",
    "encode_cohort": "inference",
    "predict_encoded": "inference",
    "predict_proba": "inference",
    "prediction_sets": "inference",
}
__all__ = ["calibrate", "encode_cohort", "predict_encoded", "predict_proba", "prediction_sets"]
__getattr__ = lazily(__name__, _PLACES)
