"""When to keep silent: the score below which a sentence of a report is withheld.

A sentence is false if it states a finding as present that the reference does not, or as absent one that the
reference does. The threshold is the lowest score above which at most one in ten validation sentences is
false, counting one false sentence more than was seen. It is a plain estimate and no guarantee: sentences of
one report are alike, and the same records chose the epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmmed.data.targets import rows_with_text
from mmmed.types import Sentence

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort
    from mmmed.models.report_generator import ReportGenerator

RISK = 0.1  # share of false sentences that is tolerated
ENOUGH = 20  # sentences on which a threshold may rest
MOST = 200  # validation records that are written


def fit_threshold(reporter: ReportGenerator, cohort: Cohort, risk: float = RISK) -> tuple[float | None, str]:
    """-> threshold (None: nothing needs to be withheld), and what the reader must know, "" if nothing."""
    if reporter.labeller is None:
        return None, ""
    texts = cohort.column(reporter.target)
    rows = rows_with_text(texts)
    rows = rows[:: max(1, -(-len(rows) // MOST))]  # spread evenly
    reports = reporter.generate(cohort.where(np.array(rows, dtype=int)), evidence=False)
    scores, false = [], []
    for row, report in zip(rows, reports, strict=True):
        stated = reporter.labeller.labels(str(texts[row]))
        for sentence in report.sentences:
            if sentence.findings and sentence.score is not None:
                scores.append(sentence.score)
                false.append(is_false(sentence, stated))
    return threshold_for(np.array(scores), np.array(false, dtype=bool), risk)


def is_false(sentence: Sentence, stated: dict[str, str]) -> bool:
    """Whether a sentence says what the reference denies or does not say."""
    return any(
        (status == "present" and stated.get(label, "absent") == "absent")
        or (status == "absent" and stated.get(label) == "present")
        for label, status in sentence.findings.items()
    )


def threshold_for(scores: np.ndarray, false: np.ndarray, risk: float = RISK) -> tuple[float | None, str]:
    """The lowest threshold that keeps the risk: scores [sentences], false [sentences] bool."""
    if len(scores) < ENOUGH:
        return None, f"Only {len(scores)} validation sentences state a finding: no threshold was fixed."
    order = np.argsort(-scores, kind="stable")
    ranked, wrong = scores[order], false[order].cumsum()
    kept = np.arange(1, len(scores) + 1)
    last = np.append(ranked[1:] != ranked[:-1], True)  # equal scores are kept or withheld together
    fine = last & ((wrong + 1) / (kept + 1) <= risk)
    if fine[-1]:
        return None, ""
    if not fine.any():
        return float(ranked[0]) + 1e-6, (
            f"No score separates true from false sentences (at most {risk:.0%} false): every sentence that "
            "is written will be withheld."
        )
    return float(ranked[np.flatnonzero(fine)[-1]]), ""
