"""The six errors of a generated report, counted by rules from what a labeller finds in two texts.

false finding, omission, wrong place (side or zone), wrong severity, comparison that the reference does not
make, comparison that it makes and the hypothesis omits: the six kinds of CheXprompt
(github.com/microsoft/chexprompt; Zambrano Chaves et al. 2025, Nat. Commun. 16:3108) after Yu et al. 2023,
doi:10.1016/j.patter.2023.100802. There a language model counts them, and also says which are significant;
here word rules do, so the counts exist offline and say nothing about significance. `report_judge` asks a
language model.

How two texts are matched. Of one finding, mentions that repeat or coarsen another ("the nodule") are one
claim with it. "Bilateral" is two claims, but one error where both are wrong. Claims of the same finding are
matched one to one so that the errors are fewest (the assignment problem), whatever the order of the
sentences. What one side leaves unsaid (no side, no severity) is no wrong place or severity: the labels
"effusion, right" of the finding F1 punish vagueness.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from mmmed.checks import check_known
from mmmed.evaluation.report_findings import UNCERTAIN
from mmmed.evaluation.report_overlap import check_pairs

if TYPE_CHECKING:
    from mmmed.language.labeller import Mention

KINDS = (
    "false_findings",
    "omissions",
    "wrong_places",
    "wrong_severities",
    "new_comparisons",
    "omitted_comparisons",
)
BOTH_SIDES = ("bilateral", "both")
# Words for the same place or degree count as one; "" says that the word names no zone that could be wrong.
ZONES = {
    "apical": "upper",
    "basal": "lower",
    "retrocardiac": "lower",
    "hilar": "middle",
    "lingula": "",
    "diffuse": "",
}
TOLERANCE = 1.2  # of diameters: the least change that counts in RECIST 1.1
SEVERITIES = {"mild": "small", "medium": "moderate", "severe": "large"}


@dataclass(frozen=True)
class Errors:
    """The errors of one report, each with the mentions or sentences that make it.

    wrong_places, wrong_severities: (mention of the reference, mention of the hypothesis). Comparisons are the
    sentences that make them.
    """

    false_findings: tuple[Mention, ...] = ()
    omissions: tuple[Mention, ...] = ()
    wrong_places: tuple[tuple[Mention, Mention], ...] = ()
    wrong_severities: tuple[tuple[Mention, Mention], ...] = ()
    new_comparisons: tuple[str, ...] = ()
    omitted_comparisons: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Kind -> how many."""
        return {kind: len(getattr(self, kind)) for kind in KINDS}

    @property
    def total(self) -> int:
        """How many of all kinds together."""
        return sum(self.counts.values())

    def lines(self) -> tuple[str, ...]:
        """A line per error, in words."""
        return tuple(
            f"{kind.replace('_', ' ').removesuffix('s').replace('severitie', 'severity')}: {_words(item)}"
            for kind in KINDS
            for item in getattr(self, kind)
        )

    def __str__(self) -> str:
        return "\n".join(self.lines()) or "no error"


def count_errors(
    reference: str,
    hypothesis: str,
    labeller: Any,
    uncertain: str = "negative",
    compares: Callable[[str], bool] | None = None,
) -> Errors:
    """The errors of one generated report against its reference.

    labeller: see `mmmed.language.labeller`. uncertain: whether a doubtful finding counts as stated
    ("positive") or not. compares: does a sentence compare with an earlier examination? None = the word list
    of `mmmed.language.target_filter`.
    """
    check_pairs([reference], [hypothesis])
    read = _reader(labeller, uncertain, compares)
    return _difference(read(reference), read(hypothesis))


def error_counts(
    references: Sequence[str],
    hypotheses: Sequence[str],
    labeller: Any,
    uncertain: str = "negative",
    compares: Callable[[str], bool] | None = None,
) -> np.ndarray:
    """How many errors of each kind each report has, [reports kinds=6], in the order of `KINDS`."""
    check_pairs(references, hypotheses)
    read = _reader(labeller, uncertain, compares)
    seen = {text: read(text) for text in dict.fromkeys([*references, *hypotheses])}
    rows: dict[tuple[str, str], list[int]] = {}
    for pair in zip(references, hypotheses, strict=True):
        if pair not in rows:
            rows[pair] = list(_difference(seen[pair[0]], seen[pair[1]]).counts.values())
    return np.array([rows[pair] for pair in zip(references, hypotheses, strict=True)], dtype=float)


# --------------------------------------------------------------------------------------- what one text claims


@dataclass(frozen=True)
class _Claim:
    """One finding at one place, with the mention that states it; "" where not said."""

    mention: Mention
    side: str
    zone: str
    severity: str
    millimetres: float

    @property
    def told(self) -> tuple[Any, ...]:
        """What it says beside the finding."""
        return (self.side, self.zone, self.severity, self.millimetres)

    def coarsens(self, other: _Claim) -> bool:
        """Whether it says the same as the other or less."""
        return all(not mine or mine == theirs for mine, theirs in zip(self.told, other.told, strict=True))

    def may_mean(self, other: _Claim) -> bool:
        """Whether it names the other's place or a coarser one, and no other degree."""
        place = replace(self, severity="", millimetres=0.0).coarsens(other)
        return place and not _another_degree(self, other)


@dataclass(frozen=True)
class _Reading:
    claims: dict[str, tuple[_Claim, ...]]  # finding -> its claims
    comparisons: tuple[tuple[str, frozenset[str]], ...]  # sentence, the findings it speaks of


def _reader(
    labeller: Any, uncertain: str, compares: Callable[[str], bool] | None
) -> Callable[[str], _Reading]:
    """A function from text to what it claims."""
    from mmmed.language.sentences import sentences

    check_known(uncertain, UNCERTAIN, what="way to count uncertain findings")
    if compares is None:
        from mmmed.language.target_filter import has_comparison as compares
    positive, nothing = UNCERTAIN[uncertain], getattr(labeller.table, "nothing", "")

    def found(text: str) -> list[Mention]:
        return [one for one in labeller.mentions(text) if one.finding != nothing]  # "normal" is no finding

    def read(text: str) -> _Reading:
        claims: dict[str, list[_Claim]] = {}
        for mention in found(text):
            if mention.status in positive:
                claims.setdefault(mention.finding, []).extend(_claims_of(mention))
        comparing: dict[frozenset[str], str] = {}  # findings and impression repeat each other
        for sentence in filter(compares, sentences(text)):
            comparing.setdefault(frozenset(one.finding for one in found(sentence)), sentence)
        return _Reading(
            {finding: _merged(items) for finding, items in claims.items()},
            tuple(
                (told, about) for about, told in comparing.items() if not any(about < o for o in comparing)
            ),
        )

    return read


def _claims_of(mention: Mention) -> list[_Claim]:
    side, zone, severity = mention.side or "", mention.zone or "", mention.severity or ""
    zone, severity = ZONES.get(zone, zone), SEVERITIES.get(severity, severity)
    size = float(getattr(mention, "millimetres", 0.0))
    sides = ("left", "right") if side in BOTH_SIDES else (side,)
    return [_Claim(mention, one, zone, severity, size) for one in sides]


def _merged(claims: list[_Claim]) -> tuple[_Claim, ...]:
    """Claims without those that repeat or coarsen another; "the nodule is small" gives its severity to the
    one nodule it can mean. In an order of their own, so that the order of sentences changes nothing.
    """
    kept = sorted(claims, key=lambda claim: (claim.told, claim.mention.side in BOTH_SIDES))
    for claim in list(kept):
        others = [other for other in kept if other is not claim]
        finer = [other for other in others if claim.may_mean(other)]
        if any(claim.coarsens(other) for other in others):
            kept = others
        elif finer and not (claim.side and claim.zone):
            kept = others
            if len(finer) == 1:
                one = finer[0]
                severity, size = one.severity or claim.severity, one.millimetres or claim.millimetres
                kept[kept.index(one)] = replace(one, severity=severity, millimetres=size)
    return tuple(kept)


# ------------------------------------------------------------------------------- the difference of two texts


def _difference(told: _Reading, said: _Reading) -> Errors:
    false, missed, places, severities = [], [], [], []
    for finding in dict.fromkeys([*told.claims, *said.claims]):
        ours, theirs = told.claims.get(finding, ()), said.claims.get(finding, ())
        pairs, lone, extra = _matched(ours, theirs, _cost)
        missed += [claim.mention for claim in lone if not _is_half(claim, pairs)]
        false += [claim.mention for claim in extra if not _is_half(claim, [pair[::-1] for pair in pairs])]
        for one, other in pairs:
            both = (one.mention, other.mention)
            places += [both] * _elsewhere(one, other)
            severities += [both] * _another_degree(one, other)
    _, omitted, new = _matched(told.comparisons, said.comparisons, _apart)
    return Errors(
        _once(false),
        _once(missed),
        _once(places),
        _once(severities),
        tuple(sentence for sentence, _ in new),
        tuple(sentence for sentence, _ in omitted),
    )


def _matched(
    rows: Sequence[Any], columns: Sequence[Any], cost: Callable[[Any, Any], float]
) -> tuple[list[tuple[Any, Any]], list[Any], list[Any]]:
    """The cheapest one-to-one matching: pairs, lone rows, lone columns. A pair of infinite cost is none."""
    if not rows or not columns:
        return [], list(rows), list(columns)
    costs = np.array([[cost(row, column) for column in columns] for row in rows])
    # a forbidden pair costs more than all allowed ones together, so as many as possible are allowed ones
    finite = np.where(np.isfinite(costs), costs, 1e6 * (len(rows) + len(columns)))
    found = zip(*linear_sum_assignment(finite), strict=True)
    places = [(int(i), int(j)) for i, j in found if np.isfinite(costs[i, j])]
    taken, given = {i for i, _ in places}, {j for _, j in places}
    return (
        [(rows[i], columns[j]) for i, j in places],
        [row for i, row in enumerate(rows) if i not in taken],
        [column for j, column in enumerate(columns) if j not in given],
    )


def _cost(told: _Claim, said: _Claim) -> float:
    """Errors first; of equally many rather a wrong severity than a wrong place; then what is left unsaid."""
    place, severity = _elsewhere(told, said), _another_degree(told, said)
    unsaid = sum(ours != theirs for ours, theirs in zip(told.told, said.told, strict=True))
    return 10_000.0 * (place + severity) + 100.0 * place + unsaid


def _once(items: Sequence[Any]) -> tuple[Any, ...]:
    """Every mention or pair of mentions once: what is wrong on both sides is one error, as it is one
    phrase.
    """
    seen = {tuple(map(id, item)) if isinstance(item, tuple) else id(item): item for item in items}
    return tuple(seen.values())


def _is_half(claim: _Claim, pairs: Sequence[tuple[_Claim, _Claim]]) -> bool:
    """Whether it is one half of a "bilateral" whose other half was matched with a claim without a side."""
    return any(claim.mention is one.mention and not other.side for one, other in pairs)


def _elsewhere(told: _Claim, said: _Claim) -> bool:
    return _differ(told.side, said.side) or _differ(told.zone, said.zone)


def _another_degree(told: _Claim, said: _Claim) -> bool:
    """Another severity; where a word for it is missing, a diameter that differs by more than the
    tolerance.
    """
    if told.severity and said.severity:
        return told.severity != said.severity
    small, large = sorted((told.millimetres, said.millimetres))
    return small > 0 and large > TOLERANCE * small


def _differ(one: str, other: str) -> bool:
    """Whether both are said and not the same."""
    return bool(one and other and one != other)


def _apart(told: tuple[str, frozenset[str]], said: tuple[str, frozenset[str]]) -> float:
    """How far two comparisons are apart: the findings only one names; infinite if both name others.

    A comparison that names no finding ("unchanged since the prior") may mean any.
    """
    (_, ours), (_, theirs) = told, said
    return float("inf") if ours and theirs and not ours & theirs else float(len(ours ^ theirs))


def _words(item: Any) -> str:
    """A mention, a pair of them or a sentence, in words."""
    if isinstance(item, str):
        return item
    if isinstance(item, tuple):
        told, said = item
        return f"{_words(said)} (reference: {_words(told)})"
    parts = [item.severity, item.side, item.zone, item.finding]
    return " ".join(part for part in parts if part)
