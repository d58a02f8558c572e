"""The synthetic cohort with a known answer: generator, truth, mechanisms of missingness."""

from mmmed.data.synthetic.expressions import Expression, Question
from mmmed.data.synthetic.generate import generate
from mmmed.data.synthetic.missingness import MECHANISMS, Facts, Mechanism, best_with_gaps, facts, mechanism
from mmmed.data.synthetic.synthetic import Settings, Synthetic
from mmmed.data.synthetic.text import parse
from mmmed.data.synthetic.truth import FACTORS, MODALITIES, MODALITY_FACTORS, Ceiling, Truth
from mmmed.data.synthetic.words import Statement

__all__ = [
    "FACTORS",
    "MECHANISMS",
    "MODALITIES",
    "MODALITY_FACTORS",
    "Ceiling",
    "Expression",
    "Facts",
    "Mechanism",
    "Question",
    "Settings",
    "Statement",
    "Synthetic",
    "Truth",
    "best_with_gaps",
    "facts",
    "generate",
    "mechanism",
    "parse",
]
