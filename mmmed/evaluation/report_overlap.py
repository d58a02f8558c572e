"""BLEU-4 and ROUGE-L of reports: how many words they share with the reference. They measure wording, not
truth.

Scale: 0 to 1, 1 is best. BLEU: sacrebleu, tokens "13a" in lower case, one reference, brevity penalty,
smoothing "exp"; orders for which the generated texts have no n-gram at all are left out ("effective order"),
so that "Normal." said rightly scores 1. ROUGE-L: rouge_score, tokens [a-z0-9]+ in lower case, no stemming,
F1 per report.

Empty texts: nothing said where nothing was to say scores 1, nothing said or nothing to say alone scores 0.
In the corpus BLEU an empty text brings its counts (none) and its length (0), as any other text does.

Sources: Papineni et al. 2002, doi:10.3115/1073083.1073135; Post 2018, arXiv:1804.08771 (why to name the
tokens); Lin 2004, ACL W04-1013. A constant report can beat every model on both, and a truthful paraphrase
loses half of its BLEU: read them beside the finding F1, never alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmmed.checks import needs, plain

ORDERS = 4
COUNTS = 2 + 2 * ORDERS  # words generated, words of the reference, n-grams matched, n-grams generated


def bleu(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """BLEU-4 of the whole set, from the summed counts."""
    check_pairs(references, hypotheses)
    return float(bleu_from_counts(bleu_counts(references, hypotheses).sum(axis=0)[None])[0])


def bleu_pairs(references: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
    """BLEU-4 of each report on its own, [reports]. Their mean is not the BLEU of the set."""
    check_pairs(references, hypotheses)
    return bleu_from_counts(bleu_counts(references, hypotheses))


def rouge_l(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Mean ROUGE-L F1 of the reports."""
    return float(rouge_l_pairs(references, hypotheses).mean())


def rouge_l_pairs(references: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
    """ROUGE-L F1 of each report, [reports]."""
    check_pairs(references, hypotheses)
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise needs("rouge-score", "language") from error
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    scores: dict[tuple[str, str], float] = {}
    for pair in zip(references, hypotheses, strict=True):
        if pair not in scores:
            scores[pair] = 1.0 if pair[0] == pair[1] else scorer.score(*pair)["rougeL"].fmeasure
            if not pair[0].strip() and not pair[1].strip():
                scores[pair] = 1.0
    return np.array([scores[pair] for pair in zip(references, hypotheses, strict=True)])


def bleu_counts(references: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
    """What the BLEU of any set of these reports is made of, [reports counts=10]: they only need adding up."""
    scorer = _bleu()(lowercase=True, tokenize="13a", effective_order=True)
    rows = []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        score = scorer.sentence_score(hypothesis, [reference])
        rows.append([score.sys_len, score.ref_len, *score.counts, *score.totals])
    return np.array(rows, dtype=float).reshape(-1, COUNTS)


def bleu_from_counts(counts: np.ndarray) -> np.ndarray:
    """BLEU-4 from summed counts, [draws counts=10] -> [draws]."""
    return np.array([_bleu_of(row) for row in np.atleast_2d(counts)])


def check_pairs(references: Sequence[str], hypotheses: Sequence[str]) -> None:
    """Two equally long lists of texts, at least one."""
    if isinstance(references, str) or isinstance(hypotheses, str):
        raise ValueError("references and hypotheses should be lists of texts, got a text. Put it in a list.")
    if len(references) != len(hypotheses) or not len(references):
        raise ValueError(
            "references and hypotheses should be equally long and not empty, "
            f"got {len(references)} and {len(hypotheses)}. Leave out records without a reference report."
        )
    for name, texts in (("references", references), ("hypotheses", hypotheses)):
        strange = next((k for k, text in enumerate(texts) if not isinstance(text, str)), None)
        if strange is not None:
            raise ValueError(
                f"{name} should hold texts, got {plain(texts[strange])} in row {strange}. "
                "Leave out records without a reference report; a report that says nothing is an empty text."
            )


def _bleu_of(counts: np.ndarray) -> float:
    said, told = int(counts[0]), int(counts[1])
    if not said and not told:
        return 1.0
    matched, generated = counts[2 : 2 + ORDERS].tolist(), counts[2 + ORDERS :].tolist()
    score = _bleu().compute_bleu(matched, generated, said, told, smooth_method="exp", effective_order=True)
    return score.score / 100


def _bleu() -> Any:
    try:
        from sacrebleu.metrics import BLEU
    except ImportError as error:
        raise needs("sacrebleu", "language") from error
    return BLEU
