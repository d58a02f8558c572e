"""Do two reports state the same findings? F1 over the labels of a finding table, read by a rule labeller.

Positives are labels that a text states as "present"; "uncertain" counts as not stated, or
(uncertain="positive") as stated. Micro: hits and errors of all labels are added up first. Macro: the mean F1
of the labels that occur in the references of the rows scored; a label that only the hypotheses state lowers
micro, not macro. A score is NaN where neither side states anything.

Source: the F1 scores over CheXpert labels in use since Smit et al. 2020 (CheXbert, arXiv:2004.09167, sec.
4.4); the labeller is a table of rules here, so a score depends on that table and is comparable only with
scores of the same table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import check_known
from mmmed.evaluation.bootstrap import Draws
from mmmed.evaluation.report_overlap import check_pairs
from mmmed.evaluation.scores import Table
from mmmed.evaluation.weighted import mean_of_defined, share

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

UNCERTAIN = {"negative": ("present",), "positive": ("present", "uncertain")}
HITS, FALSE, MISSED = range(3)  # of a label in a report: stated by both, by the hypothesis, by the reference


def finding_f1(
    references: Sequence[str],
    hypotheses: Sequence[str],
    labeller: Any,
    average: str = "micro",
    uncertain: str = "negative",
) -> float:
    """Finding F1, "micro" or "macro"; 0 to 1, NaN where neither side states a finding."""
    check_known(average, AVERAGES, what="average")
    counts = finding_counts(references, hypotheses, labeller, uncertain)
    return float(AVERAGES[average](counts.sum(axis=0)[None])[0])


def label_matrix(texts: Sequence[str], labeller: Any, uncertain: str = "negative") -> np.ndarray:
    """Which labels each text states as present: bool [reports labels], in the order of the table's labels."""
    check_known(uncertain, UNCERTAIN, what="way to count uncertain findings")
    positive, labels = UNCERTAIN[uncertain], tuple(labeller.table.labels)
    rows = {}
    for text in dict.fromkeys(texts):  # a collapsed model says the same thing a thousand times
        statuses = labeller.labels(text)
        rows[text] = [statuses.get(label) in positive for label in labels]
    return np.array([rows[text] for text in texts], dtype=bool).reshape(len(texts), len(labels))


def finding_counts(
    references: Sequence[str], hypotheses: Sequence[str], labeller: Any, uncertain: str = "negative"
) -> np.ndarray:
    """Hits, false and missed labels of each report, [reports 3 labels]: they only need adding up."""
    check_pairs(references, hypotheses)
    told = label_matrix(references, labeller, uncertain)
    said = label_matrix(hypotheses, labeller, uncertain)
    return np.stack([told & said, said & ~told, told & ~said], axis=1).astype(float)


def micro_f1(counts: np.ndarray) -> np.ndarray:
    """Counts [draws 3 labels] -> F1 over all labels together, [draws]."""
    return _f1(counts.sum(axis=-1))


def macro_f1(counts: np.ndarray) -> np.ndarray:
    """Counts [draws 3 labels] -> mean F1 of the labels that the references of that draw have, [draws]."""
    told = counts[:, HITS] + counts[:, MISSED] > 0
    return mean_of_defined(np.where(told, _f1(counts), np.nan).T)


def precision(counts: np.ndarray) -> np.ndarray:
    """Counts [draws 3 labels] -> share of the stated labels that are true, [draws]."""
    total = counts.sum(axis=-1)
    return share(total[:, HITS], total[:, HITS] + total[:, FALSE])


def recall(counts: np.ndarray) -> np.ndarray:
    """Counts [draws 3 labels] -> share of the true labels that are stated, [draws]."""
    total = counts.sum(axis=-1)
    return share(total[:, HITS], total[:, HITS] + total[:, MISSED])


AVERAGES = {"micro": micro_f1, "macro": macro_f1}


def findings_table(
    references: Sequence[str],
    hypotheses: Sequence[str],
    labeller: Any,
    groups: ArrayLike | None = None,
    draws: int = 1000,
    seed: int = 0,
    uncertain: str = "negative",
) -> Table:
    """A line per label that either side states: how often, precision, recall and F1 with intervals by
    patient.

    groups [reports]: the patient of each report; None = every report is of a patient of its own.
    """
    counts = finding_counts(references, hypotheses, labeller, uncertain)
    drawn, rows = Draws(np.zeros(len(counts)), groups, draws, seed), []
    for k, label in enumerate(labeller.table.labels):
        hits, false, missed = counts[:, :, k].sum(axis=0).astype(int)
        if hits + false + missed == 0:
            continue
        metrics = {name: _of_sums(metric) for name, metric in PER_LABEL.items()}
        scores = drawn.scores(metrics, counts[:, :, k])
        rows.append(
            {
                "label": label,
                "in_references": int(hits + missed),
                "in_hypotheses": int(hits + false),
                **{name: drawn.estimate(scores[name]) for name in metrics},
            }
        )
    return Table(tuple(rows), "Findings of the reports", (_note(uncertain),))


def _of_sums(metric: Any) -> Any:
    """A metric of summed counts of one label as one that `Draws` can weigh."""
    return lambda y, p, weights: metric((weights @ p)[:, :, None])


def _f1(counts: np.ndarray) -> np.ndarray:
    """Counts [draws 3 ...] -> F1 [draws ...], NaN where nothing was stated by anybody."""
    hits = 2 * counts[:, HITS]
    return share(hits, hits + counts[:, FALSE] + counts[:, MISSED])


def _note(uncertain: str) -> str:
    return f"Uncertain findings count as {'stated' if uncertain == 'positive' else 'not stated'}."


PER_LABEL = {"precision": precision, "recall": recall, "f1": micro_f1}
