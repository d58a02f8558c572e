"""What the tests of the baseline reporters share: one synthetic cohort, its labeller, and F1 of findings."""

from functools import lru_cache

import numpy as np

from mmmed.data.folders import load_cohort
from mmmed.language.labeller import Labeller
from mmmed.language.target_filter import TargetFilter


@lru_cache(maxsize=1)
def reports():
    """The synthetic cohort of 400 patients."""
    return load_cohort("synthetic", patients=400, seed=0)


@lru_cache(maxsize=1)
def labeller():
    return Labeller("synthetic")


def found(said, cohort, target="report"):
    """Micro F1 of the findings that reports state as present; what the truth doubts does not count."""
    values, known = labeller().targets(cohort.column(target))
    labels = labeller().table.labels
    stated = np.array([[report.findings.get(label) == "present" for label in labels] for report in said])
    true = (values == 1) & known
    stated &= known
    return 2 * (true & stated).sum() / (true.sum() + stated.sum())


@lru_cache(maxsize=1)
def target_filter():
    return TargetFilter(labeller(), reports().schema.modalities)
