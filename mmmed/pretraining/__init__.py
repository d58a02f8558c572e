"""Learning that comes before or beside fine-tuning: from a teacher, or from records without labels."""

from mmmed.lazily import lazily

_PLACES = {
    "distil_encoder": "distil",
    "pretrain_views": "pretrain",
}
__all__ = ["distil_encoder", "pretrain_views"]
__getattr__ = lazily(__name__, _PLACES)
