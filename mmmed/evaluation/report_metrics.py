"""All offline scores of generated reports at once, with intervals by patient and paired differences.

    score_reports(references, reporter.generate(records), labeller, groups=patients)

Every score is made of numbers that only need adding up over reports (n-grams, hits, errors, words), so a
draw of patients is a weighted sum, and a thousand draws cost no more than the reading of the texts. Two
systems are compared on the same draws. The headline is the finding F1 with the errors per report: BLEU and
ROUGE-L measure wording, and a share of distinct reports near 1 / n says that the model writes one report for
everybody. Errors per report alone are no headline either: who says little makes few.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import check_known
from mmmed.evaluation import report_findings as findings
from mmmed.evaluation.bootstrap import Draws, Estimate
from mmmed.evaluation.report_errors import KINDS, error_counts
from mmmed.evaluation.report_overlap import COUNTS, bleu_counts, bleu_from_counts, check_pairs, rouge_l_pairs
from mmmed.evaluation.scores import Table
from mmmed.types.report import Report

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

HEADLINE = ("finding_f1_micro", "finding_f1_macro", "errors", "bleu4", "rouge_l", "distinct_share")
LOWER_IS_BETTER = ("errors", *KINDS, "empty_share", "abstained_share")


def score_reports(
    references: Sequence[str],
    hypotheses: Sequence[str | Report],
    labeller: Any,
    groups: ArrayLike | None = None,
    draws: int = 1000,
    seed: int = 0,
    uncertain: str = "negative",
) -> dict[str, Estimate]:
    """Every score of one system, name -> Estimate.

    references: what was written by a person; hypotheses: what was generated, texts or `Report`s. labeller:
    see `mmmed.language.labeller`. groups [reports]: the patient of each; None = every report is of a patient
    of its own. uncertain: whether a doubtful finding counts as stated ("positive") or not ("negative").

    finding_f1_micro, finding_f1_macro, finding_precision, finding_recall, bleu4, rouge_l: 0 to 1. errors and
    its six kinds (`report_errors`): mean per report. words, reference_words: mean number. empty_share:
    without a word. abstained_share: of `Report.abstained`; a text cannot abstain. distinct_share: different
    texts among all, a property of the set, so it has no interval.
    """
    sums = _sums_of(references, hypotheses, labeller, uncertain)
    drawn = Draws(np.zeros(len(sums.values)), groups, draws, seed)
    scores = drawn.scores(sums.metrics, sums.values)
    estimates = {name: drawn.estimate(scores[name]) for name in sums.metrics}
    note = f"mean over {sums.told} of {sums.labels} labels, those that the references state"
    first = estimates["finding_f1_macro"]
    estimates["finding_f1_macro"] = replace(first, note="; ".join(filter(None, [note, first.note])))
    return {**estimates, "distinct_share": _without_interval(sums.distinct, drawn)}


def compare_reports(
    references: Sequence[str],
    first: Sequence[str | Report],
    second: Sequence[str | Report],
    labeller: Any,
    groups: ArrayLike | None = None,
    draws: int = 1000,
    seed: int = 0,
    uncertain: str = "negative",
) -> dict[str, Estimate]:
    """Score of `first` minus score of `second`, name -> Estimate, paired: both are scored on every draw.

    For errors and their kinds, less is better: there a negative difference speaks for `first`.
    """
    one, other = (_sums_of(references, said, labeller, uncertain) for said in (first, second))
    drawn = Draws(np.zeros(len(one.values)), groups, draws, seed)
    ours, theirs = (drawn.scores(sums.metrics, sums.values) for sums in (one, other))
    differences = {name: drawn.estimate(ours[name] - theirs[name]) for name in one.metrics}
    return {**differences, "distinct_share": _without_interval(one.distinct - other.distinct, drawn)}


def report_table(
    systems: Mapping[str, Sequence[str | Report]],
    references: Sequence[str],
    labeller: Any,
    groups: ArrayLike | None = None,
    draws: int = 1000,
    seed: int = 0,
    scores: Sequence[str] = HEADLINE,
) -> Table:
    """A line per system: system -> its reports. Put the blind model, the nearest neighbour and the most
    common report beside yours. scores: names of `score_reports`.
    """
    rows = []
    for system, said in systems.items():
        found = score_reports(references, said, labeller, groups, draws, seed)
        for name in scores:
            check_known(name, found, what="score")
        rows.append({"system": system, **{name: found[name] for name in scores}})
    return Table(tuple(rows), f"{len(references)} generated reports", NOTES)


def difference_table(
    systems: Mapping[str, Sequence[str | Report]],
    references: Sequence[str],
    labeller: Any,
    baseline: str,
    groups: ArrayLike | None = None,
    draws: int = 1000,
    seed: int = 0,
    scores: Sequence[str] = HEADLINE,
) -> Table:
    """A line per system other than `baseline`: its scores minus those of the baseline, on the same draws."""
    check_known(baseline, systems, what="system")
    rows = []
    for system, said in systems.items():
        if system == baseline:
            continue
        found = compare_reports(references, said, systems[baseline], labeller, groups, draws, seed)
        for name in scores:
            check_known(name, found, what="score")
        rows.append({"system": system, **{name: found[name] for name in scores}})
    return Table(tuple(rows), f"Difference to {baseline}", NOTES)


def texts_of(hypotheses: Sequence[str | Report]) -> list[str]:
    """The texts of reports: what is said about missing inputs is left out, an abstention is empty."""
    return [said.text if isinstance(said, Report) else said for said in hypotheses]


# ----------------------------------------------------------------------------- numbers that only need adding


@dataclass(frozen=True)
class _Sums:
    """values [reports columns]; metrics: name -> function of (labels, values, weights [draws reports])."""

    values: np.ndarray
    metrics: Mapping[str, Callable[..., np.ndarray]]
    distinct: float
    told: int
    labels: int


def _sums_of(
    references: Sequence[str], hypotheses: Sequence[str | Report], labeller: Any, uncertain: str
) -> _Sums:
    texts = texts_of(hypotheses)
    check_pairs(references, texts)
    counts = findings.finding_counts(references, texts, labeller, uncertain)  # [reports 3 labels]
    means = _means_of(references, hypotheses, texts, labeller, uncertain)
    parts = [bleu_counts(references, texts), *(column[:, None] for column in means.values())]
    values = np.concatenate([*parts, counts.reshape(len(texts), -1)], axis=1)
    start = COUNTS + len(means)
    metrics: dict[str, Callable[..., np.ndarray]] = {
        name: _of_findings(metric, start, counts.shape[2]) for name, metric in FINDING_SCORES.items()
    }
    metrics["bleu4"] = lambda y, p, weights: bleu_from_counts(weights @ p[:, :COUNTS])
    metrics |= {name: _mean(column) for column, name in enumerate(means, start=COUNTS)}
    told = int((counts[:, findings.HITS] + counts[:, findings.MISSED]).any(axis=0).sum())
    return _Sums(values, metrics, len(set(texts)) / len(texts), told, counts.shape[2])


def _means_of(
    references: Sequence[str],
    hypotheses: Sequence[str | Report],
    texts: Sequence[str],
    labeller: Any,
    uncertain: str,
) -> dict[str, np.ndarray]:
    """The scores that are a mean over reports, name -> [reports]."""
    errors = error_counts(references, texts, labeller, uncertain)
    words = np.array([len(text.split()) for text in texts], dtype=float)
    return {
        "rouge_l": rouge_l_pairs(references, texts),
        "errors": errors.sum(axis=1),
        **{kind: errors[:, k] for k, kind in enumerate(KINDS)},
        "words": words,
        "reference_words": np.array([len(text.split()) for text in references], dtype=float),
        "empty_share": (words == 0).astype(float),
        "abstained_share": np.array([float(getattr(said, "abstained", False)) for said in hypotheses]),
    }


def _of_findings(metric: Callable[..., np.ndarray], start: int, labels: int) -> Callable[..., np.ndarray]:
    return lambda y, p, weights: metric((weights @ p[:, start:]).reshape(len(weights), 3, labels))


def _mean(column: int) -> Callable[..., np.ndarray]:
    return lambda y, p, weights: weights @ p[:, column] / weights.sum(axis=1)


def _without_interval(value: float, drawn: Draws) -> Estimate:
    note = "a property of the whole set: drawing patients twice would lower it"
    patients = int(drawn.patients.max()) + 1
    return Estimate(value, float("nan"), float("nan"), len(drawn.patients), patients, note)


FINDING_SCORES = {
    "finding_f1_micro": findings.micro_f1,
    "finding_f1_macro": findings.macro_f1,
    "finding_precision": findings.precision,
    "finding_recall": findings.recall,
}
NOTES = (
    "Intervals: 95 %, by patient. Finding F1, BLEU-4, ROUGE-L: 0 to 1. Errors: per report, less is better.",
    "BLEU-4: sacrebleu, tokens 13a, lower case, whole set. ROUGE-L: rouge_score, F1, no stemming.",
)
