"""Does a metric notice "no"? One finding of each report is flipped, and a good metric must fall.

"No pleural effusion." becomes "Pleural effusion.", "There is a nodule." becomes "There is no nodule.". The
new text says the opposite of the old in almost the same words, so a metric that stays where it was measures
wording. BERTScore gives such a pair 0.893 and RadGraph 0.50 in the documentation of RadEval
(github.com/jbdel/RadEval).

The rules are our own and for English; each flip is checked with the labeller on the whole text: it counts
only if a finding went from present to absent or back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmmed.evaluation.report_errors import error_counts
from mmmed.evaluation.report_findings import finding_f1
from mmmed.evaluation.report_overlap import bleu, check_pairs, rouge_l
from mmmed.evaluation.scores import Table

Metric = Callable[[Sequence[str], Sequence[str]], float]  # references, hypotheses -> higher is better

# pattern -> what takes its place; the first that makes the labeller say the opposite is taken
DENIED = (
    (r"\bno\b(.+?)(?:,? or|,) ", r"\1 but no "),  # "no effusion or pneumothorax": only one of the two
    (r"\bwithout\b(.+?)(?:,? or|,) ", r"with\1 but no "),
    (r",? or (?:no )?", " but "),
    (r"\b(?:no|without) (?:evidence|sign|signs) of\b", ""),
    (r"\bwithout\b", "with"),
    (r"\bfree of\b", "showing"),
    (r"\bnegative for\b", "positive for"),
    (r"\b(is|are|was|were) not\b", r"\1"),
    (r"\b(?:no|not|neg)\b", ""),
    (r"\bwithin normal limits\b", "enlarged"),
    (r"\bnormal\b", "enlarged"),
    (r"\bnormal\b", "raised"),
    (r"\bnormal\b", "low"),
)
STATED = (
    (r"\b(there (?:is|are)|shows?|showing|with|has|have) (?!been)(?:an? |the |some )?", r"\1 no "),
    (r"\b(is|are|was|were)\b", r"\1 not"),
    (r"\b(?:raised|low)\b", "normal"),
    (r"^(?:an? |the )?", "no "),
    (r"\b(of) ", r"\1 no "),
    (r"([:,;] )(?:an? )?", r"\1no "),
)


@dataclass(frozen=True)
class NegationFlip:
    """own: the metric of the reports against themselves. flipped: against the same with one finding flipped.
    reports: how many could be flipped; only these are scored.
    """

    own: float
    flipped: float
    reports: int

    @property
    def fall(self) -> float:
        """By how much the metric falls; a metric of facts falls by more than one of wording."""
        return self.own - self.flipped

    @property
    def notices(self) -> bool:
        """Whether it falls at all. False is an error of the metric."""
        return self.fall > 1e-9


def negation_flip(references: Sequence[str], metric: Metric, labeller: Any) -> NegationFlip:
    """Score reports whose findings were flipped, one in each, against the true ones.

    metric(references, hypotheses) -> float, higher is better (count errors with a minus sign).
    """
    kept, flipped = _flips(references, labeller)
    return NegationFlip(float(metric(kept, kept)), float(metric(kept, flipped)), len(kept))


def negation_table(
    references: Sequence[str], labeller: Any, metrics: Mapping[str, Metric] | None = None
) -> Table:
    """A line per metric: its value on the truth, on flipped reports, and its fall. None = the built-in
    ones.
    """
    kept, flipped = _flips(references, labeller)
    rows = []
    for name, metric in (metrics or _built_in(labeller)).items():
        flip = NegationFlip(float(metric(kept, kept)), float(metric(kept, flipped)), len(kept))
        rows.append(
            {
                "metric": name,
                "true": flip.own,
                "flipped": flip.flipped,
                "fall": flip.fall,
                "notices": flip.notices,
            }
        )
    blind = [row["metric"] for row in rows if not row["notices"]]
    notes = [f"One finding flipped in {len(kept)} of {len(references)} reports."]
    notes += [f"Blind to negation, an error of the metric: {', '.join(blind)}."] if blind else []
    return Table(tuple(rows), "Negation flip", tuple(notes))


def flip_negation(text: str, labeller: Any, which: int = 0) -> str | None:
    """The text with one finding stated the other way round, None if no rule can.

    which: the finding to begin with, by its place in the text; later ones are tried if it cannot be flipped.
    """
    before, nothing = labeller.labels(text), getattr(labeller.table, "nothing", "")
    stated = [(m.finding, m.status) for m in labeller.mentions(text) if m.finding != nothing]
    stated = [item for item in dict.fromkeys(stated) if item[1] != "uncertain"]
    for turn in range(len(stated)):
        finding, status = stated[(which + turn) % len(stated)]
        new = _flipped(text, finding, status, labeller)
        after = labeller.labels(new) if new else before
        if any({before.get(name), after.get(name)} == {"present", "absent"} for name in {*before, *after}):
            return new
    return None


def _flips(references: Sequence[str], labeller: Any) -> tuple[list[str], list[str]]:
    check_pairs(references, references)
    flips = [flip_negation(text, labeller, which) for which, text in enumerate(references)]
    pairs = [(text, flip) for text, flip in zip(references, flips, strict=True) if flip is not None]
    if not pairs:
        raise ValueError(
            "The reports should state at least one finding that can be flipped, got none. "
            "Check that the labeller's table fits them."
        )
    return [text for text, _ in pairs], [flip for _, flip in pairs]


def _flipped(text: str, finding: str, status: str, labeller: Any) -> str | None:
    """The text with every sentence that states the finding turned round, None if one of them cannot be."""
    from mmmed.language.sentences import sentences

    start = 0
    for sentence in sentences(text):
        place = text.find(sentence, start)
        if place < 0:
            continue
        start = place + len(sentence)
        if not any(m.finding == finding and m.status == status for m in labeller.mentions(sentence)):
            continue
        turned = _turned(sentence, finding, status, labeller)
        if turned is None:
            return None
        text, start = text[:place] + turned + text[start:], place + len(turned)
    return text


def _turned(sentence: str, finding: str, status: str, labeller: Any) -> str | None:
    wanted, before = "absent" if status == "present" else "present", _statuses(sentence, labeller)
    for pattern, new in STATED if status == "present" else DENIED:
        for found in re.finditer(pattern, sentence, flags=re.IGNORECASE):
            turned = sentence[: found.start()] + found.expand(new) + _tail(sentence, found)
            turned = re.sub(r"\s+", " ", turned).strip()
            turned = turned[:1].upper() + turned[1:]
            if _statuses(turned, labeller) == {**before, finding: {wanted}}:
                return turned
    return None


def _statuses(sentence: str, labeller: Any) -> dict[str, set[str]]:
    """Finding -> how the sentence states it."""
    found: dict[str, set[str]] = {}
    for mention in labeller.mentions(sentence):
        found.setdefault(mention.finding, set()).add(mention.status)
    return found


def _tail(sentence: str, found: re.Match[str]) -> str:
    """What follows; a capital that began the sentence becomes small, "CT" and "LDH" stay."""
    tail = sentence[found.end() :]
    return tail[:1].lower() + tail[1:] if not found.start() and tail[1:2].islower() else tail


def _built_in(labeller: Any) -> dict[str, Metric]:
    return {
        "finding_f1_micro": lambda told, said: finding_f1(told, said, labeller, "micro"),
        "finding_f1_macro": lambda told, said: finding_f1(told, said, labeller, "macro"),
        "errors (negative)": lambda told, said: 0.0 - float(error_counts(told, said, labeller).sum(1).mean()),
        "bleu4": bleu,
        "rouge_l": rouge_l,
    }
