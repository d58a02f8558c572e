"""What a text states: findings with their status, side, zone and severity, by rules and a table.

A text is cut into sentences and clauses, and each clause read on its own (`mentions`). A doubt about the
cause leaves the finding: in "opacity, may reflect atelectasis" the opacity is present, the atelectasis
uncertain. Over a text, present > uncertain > absent, as in CheXpert (Irvin et al., arXiv:1901.07031, sec. 3).
Nothing is learned or downloaded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmmed.checks import check_known, plain
from mmmed.language.finding_cues import Cues
from mmmed.language.finding_tables import BILATERAL, Finding, FindingTable, finding_table
from mmmed.language.mentions import ABSENT, PRESENT, UNCERTAIN, ClauseReader, Mention
from mmmed.language.sentences import clauses, sentences

__all__ = ["Cues", "Finding", "FindingTable", "Labeller", "Mention", "finding_table"]

STATUSES = (PRESENT, UNCERTAIN, ABSENT)  # the first of those told wins
SAMPLED = 2000  # texts that tell how much of a cohort a table covers
KEPT = 16384  # sentences whose reading is remembered: reports repeat themselves


class Labeller:
    """Reads texts with a finding table: a `FindingTable`, a name, a dict, or the path of a JSON file.

    It never raises on a text, whatever is in it; what it does not understand it does not mention.
    """

    def __init__(self, table: FindingTable | str | Path | Mapping[str, Any]):
        self.table = finding_table(table)
        self._reader = ClauseReader(self.table)
        self._splits = {one.name: self.table.split(one) for one in self.table.findings}
        self._labels = self.table.labels
        self._remembered: dict[str, tuple[Mention, ...]] = {}

    def mentions(self, text: str) -> tuple[Mention, ...]:
        """Every finding that the text names, in the order of its sentences."""
        found = []
        for place, sentence in enumerate(sentences(_text(text))):
            for one in self.read(sentence):
                found.append(Mention(**{**vars(one), "sentence": place}) if place else one)
        return tuple(found)

    def labels(self, text: str) -> dict[str, str]:
        """Label -> status, in the order of `table.labels`; only what the text mentions.

        A finding that splits by side counts "bilateral" as both; present without a side, it is uncertain on
        both, since one of them is meant. "No finding" follows from the others, for every text with words.
        """
        told = self._by_finding(text)
        found: dict[str, str] = {}
        for finding in self.table.findings:
            if not finding.label or finding.name == self.table.nothing:
                continue
            source = told.get(finding.of or finding.name)
            if source and finding.of:
                source = [one for one in source if _described(one, finding)]
            if source:
                found.update(_split(self._splits[finding.name], source))
        if self.table.nothing and any(character.isalnum() for character in text):
            others = {status for name, status in found.items() if name not in self.table.nothing_but}
            found[self.table.nothing] = ABSENT if others & {PRESENT, UNCERTAIN} else PRESENT
        return {label: found[label] for label in self._labels if label in found}

    def labels_of_sentence(self, text: str) -> dict[str, str]:
        """The labels of one sentence of a report, without `table.nothing`: a sentence without a finding does
        not say that the report has none."""
        return {label: status for label, status in self.labels(text).items() if label != self.table.nothing}

    def targets(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """values [n labels] float32, 1 for present, 0 for absent or not mentioned; known [n labels] bool,
        False for uncertain. Labels in the order of `table.labels`."""
        columns = {label: column for column, label in enumerate(self._labels)}
        values = np.zeros((len(texts), len(columns)), dtype=np.float32)
        known = np.ones_like(values, dtype=bool)
        for row, text in enumerate(texts):
            for label, status in self.labels(text).items():
                values[row, columns[label]] = status == PRESENT
                known[row, columns[label]] = status != UNCERTAIN
        return values, known

    def needs(self, label: str) -> tuple[str, ...]:
        """The modalities any one of which can show a label, or a finding of the table; () if all can."""
        needed = {finding.name: finding.needs for finding in self.table.findings}
        for finding in self.table.findings:
            needed.update(dict.fromkeys(self._splits[finding.name], finding.needs))
        return needed[check_known(label, needed, what=f"label of {self.table.name!r}")]

    def can_show(self, label: str, present: Collection[str]) -> bool:
        """Whether what is present can show a label, or a finding of the table: any of those it needs, or
        anything at all if it needs none in particular."""
        return _enough(self.needs(label), present)

    def can_show_sentence(self, sentence: str, present: Collection[str]) -> bool:
        """Whether what is present can show all that a sentence states; one that names no finding needs
        `table.otherwise`, or nothing where a table does not say."""
        named = {one.finding for one in self.mentions(sentence)}
        if not named:
            return not self.table.otherwise or _enough(self.table.otherwise, present)
        return all(self.can_show(finding, present) for finding in named)

    @property
    def topics(self) -> tuple[str, ...]:
        """The findings that a sentence can be about: those that are labels and stand for themselves."""
        return tuple(
            finding.name
            for finding in self.table.findings
            if finding.label and not finding.of and finding.name != self.table.nothing
        )

    def coverage(self, texts: Sequence[str]) -> float:
        """The share of the texts that mention any finding but `table.nothing`, of at most `SAMPLED` of them,
        evenly spread: near 0 where the texts are in another language than the table. No texts: 0."""
        count = min(len(texts), SAMPLED)
        chosen = [texts[place * len(texts) // count] for place in range(count)]
        return sum(map(self._names_any, chosen)) / max(count, 1)

    def _names_any(self, text: str) -> bool:
        return any(
            one.finding != self.table.nothing for told in sentences(_text(text)) for one in self.read(told)
        )

    def read(self, sentence: str) -> tuple[Mention, ...]:
        """The mentions of one sentence, as sentence 0."""
        known = self._remembered.get(sentence)
        if known is None:
            if len(self._remembered) >= KEPT:
                self._remembered.clear()
            known = self._remembered[sentence] = tuple(self._read(sentence))
        return known

    def _read(self, sentence: str) -> Iterator[Mention]:
        last: tuple[Mention, ...] = ()
        for clause in clauses(sentence):
            clause = clause.lower()
            here = tuple(self._reader.read(clause))
            if not here and last:
                here = tuple(self._reader.continued(clause, last[-1]))
            yield from here
            last = here

    def _by_finding(self, text: str) -> dict[str, list[Mention]]:
        told: dict[str, list[Mention]] = {}
        for sentence in sentences(_text(text)):
            for one in self.read(sentence):
                told.setdefault(one.finding, []).append(one)
        return told


def _enough(needs: Collection[str], present: Collection[str]) -> bool:
    return any(name in present for name in needs) if needs else len(present) > 0


def _described(mention: Mention, finding: Finding) -> bool:
    told = dict(mention.attributes)
    return all(told.get(name) == value for name, value in finding.where.items()) and not any(
        told.get(name) == value for name, value in finding.unless.items()
    )


def _split(labels: Mapping[str, Mapping[str, str]], mentions: Sequence[Mention]) -> dict[str, str]:
    """The labels of one finding with their statuses. labels: label -> the attribute values it stands for."""
    found: dict[str, list[str]] = {}
    vague = []
    for one in mentions:
        fits = [label for label, values in labels.items() if _compatible(one, values)]
        if len(fits) <= 1 or one.status == ABSENT or one.side == BILATERAL:
            for label in fits:
                found.setdefault(label, []).append(one.status)
        else:
            vague.append(fits)
    for fits in vague:  # one of these is meant, and none of them was named
        if not any(PRESENT in found.get(label, ()) for label in fits):
            for label in fits:
                found.setdefault(label, []).append(UNCERTAIN)
    return {label: min(statuses, key=STATUSES.index) for label, statuses in found.items()}


def _compatible(mention: Mention, values: Mapping[str, str]) -> bool:
    told = dict(mention.attributes)
    return all(told.get(name, "") in ("", BILATERAL, value) for name, value in values.items())


def _text(text: Any) -> str:
    if not isinstance(text, str):
        raise ValueError(f"The labeller reads text, got {plain(text)}.")
    return text
