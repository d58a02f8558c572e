"""Pictures, volumes and phrases -> masks: word-pixel fusions, decoders, heads and what they ask for."""

from mmmed.lazily import lazily

_PLACES = {
    "FiLMFusion": "film_fusion",
    "PWAMFusion": "pwam_fusion",
    "PlainFusion": "plain_fusion",
    "SVLAFusion": "svla_fusion",
}
__all__ = [
    "FiLMFusion",
    "PWAMFusion",
    "PlainFusion",
    "SVLAFusion",
]
__getattr__ = lazily(__name__, _PLACES)
