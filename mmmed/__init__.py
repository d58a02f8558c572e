"""mmmed: multimodal medical reasoning for records that are rarely complete.

Whatever subset of image, volume, table, text and series is there goes in; out come calibrated predictions,
the path by which each modality moved them, and a plain statement of what was missing. Importing loads nothing
but this file; a name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_PLACES = {
    "load_cohort": "mmmed.data.folders",
    "Cohort": "mmmed.data.cohort",
    "Schema": "mmmed.types",
    "Record": "mmmed.types",
    "Prediction": "mmmed.types",
    "audit": "mmmed.evaluation.audit",
    "create_model": "mmmed.models.create",
    "ReportGenerator": "mmmed.models.report_generator",
    "ReferringSegmenter": "mmmed.models.referring_segmenter",
    "add_modality": "mmmed.models.create",
    "load_model": "mmmed.models.files",
    "finetune": "mmmed.training.finetune",
    "evaluate": "mmmed.evaluation.evaluate",
    "missingness_benchmark": "mmmed.evaluation.benchmark",
    "missingness_study": "mmmed.training.study",
    "predict": "mmmed.models.predict",
    "predict_partial": "mmmed.models.predict",
    "MultimodalClassifier": "mmmed.training.estimators",
    "MultimodalRegressor": "mmmed.training.estimators",
    "list_components": "mmmed.catalogue",
}

__all__ = [
    "__version__",
    "load_cohort",
    "Cohort",
    "Schema",
    "Record",
    "Prediction",
    "audit",
    "create_model",
    "ReportGenerator",
    "ReferringSegmenter",
    "add_modality",
    "load_model",
    "finetune",
    "evaluate",
    "missingness_benchmark",
    "missingness_study",
    "predict",
    "predict_partial",
    "MultimodalClassifier",
    "MultimodalRegressor",
    "list_components",
]

if TYPE_CHECKING:
    from mmmed.catalogue import list_components
    from mmmed.data.cohort import Cohort
    from mmmed.data.folders import load_cohort
    from mmmed.evaluation.audit import audit
    from mmmed.evaluation.benchmark import missingness_benchmark
    from mmmed.evaluation.evaluate import evaluate
    from mmmed.models.create import add_modality, create_model
    from mmmed.models.files import load_model
    from mmmed.models.predict import predict, predict_partial
    from mmmed.models.referring_segmenter import ReferringSegmenter
    from mmmed.models.report_generator import ReportGenerator
    from mmmed.training.estimators import MultimodalClassifier, MultimodalRegressor
    from mmmed.training.finetune import finetune
    from mmmed.training.study import missingness_study
    from mmmed.types import Prediction, Record, Schema


def __getattr__(name: str):
    if name not in _PLACES:
        from mmmed.checks import suggestion

        raise AttributeError(f"mmmed has no {name!r}.{suggestion(name, _PLACES)}")
    value = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
