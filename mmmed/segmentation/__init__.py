"""Pictures, volumes and phrases -> masks: word-pixel fusions, decoders, heads and what they ask for."""

from mmmed.lazily import lazily

_PLACES = {
    "ClassTable": "class_table",
    "DynamicHead": "dynamic_head",
    "FeaturePyramid": "feature_pyramid",
    "FiLMFusion": "film_fusion",
    "MaskDecoder": "mask_decoder",
    "PWAMFusion": "pwam_fusion",
    "PlainFusion": "plain_fusion",
    "RegionMatch": "matching",
    "SVLAFusion": "svla_fusion",
    "SequencePyramid": "sequences",
    "StateQuery": "state_query",
    "hashed_rows": "class_table",
    "heat_map_mask": "heat_maps",
    "text_rows": "class_table",
}
__all__ = [
    "ClassTable",
    "DynamicHead",
    "FeaturePyramid",
    "FiLMFusion",
    "MaskDecoder",
    "PWAMFusion",
    "PlainFusion",
    "RegionMatch",
    "SVLAFusion",
    "SequencePyramid",
    "StateQuery",
    "hashed_rows",
    "heat_map_mask",
    "text_rows",
]
__getattr__ = lazily(__name__, _PLACES)
