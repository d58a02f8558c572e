"""The nouns: schema, record, batch, tokens, fused state, prediction."""

from mmmed.types.batch import Batch, Fused, Outputs, Tokens
from mmmed.types.mask import Mask
from mmmed.types.modalities import Category, Image, Modality, Number, Series, Tabular, Text, Volume
from mmmed.types.phrase import Phrase
from mmmed.types.prediction import Answer, Partial, Prediction
from mmmed.types.record import Record, is_missing, spell
from mmmed.types.report import Reply, Report, Sentence
from mmmed.types.schema import Schema
from mmmed.types.tasks import Binary, Multiclass, Multilabel, Regression, Task

__all__ = [
    "Answer",
    "Batch",
    "Binary",
    "Category",
    "Fused",
    "Image",
    "Mask",
    "Modality",
    "Multiclass",
    "Multilabel",
    "Number",
    "Outputs",
    "Partial",
    "Phrase",
    "Prediction",
    "Record",
    "Regression",
    "Reply",
    "Report",
    "Schema",
    "Sentence",
    "Series",
    "Tabular",
    "Task",
    "Text",
    "Tokens",
    "Volume",
    "is_missing",
    "spell",
]
