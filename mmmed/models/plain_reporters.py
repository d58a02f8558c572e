"""Reporters that look at nothing: the same report for everybody, and a report drawn at random.

A language model that does not beat them has learned how reports sound, and nothing about the patient. On
small cohorts of uniform reports they reach high BLEU and ROUGE, which is why word overlap is no headline.

    report, = ConstantReporter.fit(cohort["train"], "report").generate([record])
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import plain
from mmmed.language.sentences import sentences
from mmmed.types import Record, Report, Sentence, is_missing

if TYPE_CHECKING:
    import torch

    from mmmed.data.cohort import Cohort

TargetFilter = Callable[[str, Collection[str]], str]  # text, modalities that are there -> what may be said
NOTHING_THERE = "Nothing of this record is there, so nothing is said."
ROWS = 256  # reports compared with all others at a time


class ConstantReporter:
    """The most common report of the training records, for every patient.

    Where several are equally common (free text hardly repeats), the one whose words overlap most with all
    training reports is taken: the medoid under Dice overlap of word sets; then the first. target_filter drops
    what cannot be known without the missing modalities. A record without any modality gets no report.
    """

    def __init__(
        self,
        text: str,
        modalities: Sequence[str],
        labeller: Any = None,
        target_filter: TargetFilter | None = None,
    ):
        self.text, self.modalities = text, tuple(modalities)
        self.labeller, self.target_filter = labeller, target_filter

    @classmethod
    def fit(
        cls,
        train: Cohort,
        target: str,
        labeller: Any = None,
        target_filter: TargetFilter | None = None,
    ) -> ConstantReporter:
        """From training records; target: the column of their reports. Raises ValueError if there is none."""
        told = reports_of(train, target)
        return cls(most_common(told.texts), train.schema.modalities, labeller, target_filter)

    def generate(self, records: Sequence[Record]) -> list[Report]:
        """One report per record, in their order."""
        note = "The same report for every patient: no input was read."
        return [
            written(record, self.text, self.modalities, (), self.labeller, self.target_filter, (note,))
            for record in records
        ]


class RandomReporter:
    """The report of a training record drawn at random, for every patient anew.

    generator: a torch.Generator; it moves on with every record. Otherwise as `ConstantReporter`.
    """

    def __init__(
        self,
        texts: Sequence[str],
        modalities: Sequence[str],
        labeller: Any = None,
        target_filter: TargetFilter | None = None,
        *,
        generator: torch.Generator,
    ):
        if not texts:
            raise ValueError("A RandomReporter needs at least one report to draw from, got none.")
        self.texts, self.modalities = tuple(texts), tuple(modalities)
        self.labeller, self.target_filter = labeller, target_filter
        self.generator = generator

    @classmethod
    def fit(
        cls,
        train: Cohort,
        target: str,
        labeller: Any = None,
        target_filter: TargetFilter | None = None,
        *,
        generator: torch.Generator,
    ) -> RandomReporter:
        """From training records; target: the column of their reports. Raises ValueError if there is none."""
        told = reports_of(train, target)
        return cls(told.texts, train.schema.modalities, labeller, target_filter, generator=generator)

    def generate(self, records: Sequence[Record]) -> list[Report]:
        """One report per record, in their order."""
        import torch

        drawn = torch.randint(len(self.texts), (len(records),), generator=self.generator).tolist()
        note = "The report of a training patient drawn at random: no input was read."
        return [
            written(
                record, self.texts[place], self.modalities, (), self.labeller, self.target_filter, (note,)
            )
            for record, place in zip(records, drawn, strict=True)
        ]


# ------------------------------------------------------------------------------------ shared by all reporters


@dataclass(frozen=True)
class ToldReports:
    """The reports of some records: texts, and the row of each in its cohort."""

    texts: tuple[str, ...]
    rows: np.ndarray


def reports_of(cohort: Cohort, target: str) -> ToldReports:
    """The reports that a column holds, without the empty ones. Raises ValueError if all are empty."""
    cells = cohort.column(target)
    rows = [row for row, cell in enumerate(cells) if not is_missing(cell)]
    if not rows:
        raise ValueError(
            f"Column {plain(target)} holds no report in these {len(cells)} records. Name the column of the "
            "reports, and pass the training records."
        )
    return ToldReports(tuple(str(cells[row]).strip() for row in rows), np.array(rows))


def written(
    record: Record,
    text: str,
    modalities: Sequence[str],
    used: Sequence[str],
    labeller: Any = None,
    target_filter: TargetFilter | None = None,
    notes: tuple[str, ...] = (),
) -> Report:
    """A text as the report of a record: sentence by sentence, with what is missing of the schema's
    modalities.

    used: the modalities that the text rests on. target_filter(text, present) drops what nobody can know from
    what is there. labeller.labels(text) says what is found, if there is a labeller. A record without any of
    the modalities gets no sentence and `abstained`.
    """
    present = tuple(name for name in modalities if name in record.inputs)
    missing = tuple(name for name in modalities if name not in record.inputs)
    if not present:
        return Report(record.id, (), (), missing, abstained=True, notes=(*notes, NOTHING_THERE))
    if target_filter is not None:
        text = target_filter(text, present)
    stated = (lambda line: {}) if labeller is None else labeller.labels_of_sentence
    lines = tuple(Sentence(line, findings=stated(line)) for line in sentences(text))
    if not lines:
        notes = (*notes, "Nothing is left to say without what is missing.")
    return Report(
        record.id,
        lines,
        used=tuple(name for name in present if name in used),
        missing=missing,
        findings=dict(labeller.labels(text)) if labeller is not None else {},
        abstained=not lines,
        notes=notes,
    )


def _spread(texts: Sequence[str], most: int = 2000) -> Sequence[str]:
    """At most `most` of the texts, evenly spread."""
    return texts if len(texts) <= most else texts[:: -(-len(texts) // most)]


def most_common(texts: Sequence[str]) -> str:
    """The most common text; among equally common ones the medoid under word overlap, then the first."""
    counts = Counter(texts)
    most = max(counts.values())
    ties = [text for text, count in counts.items() if count == most]
    ties, texts = _spread(ties), _spread(texts)  # overlaps are of all with all
    if len(ties) == 1:
        return ties[0]
    return ties[int(np.argmax(_mean_overlap(ties, texts)))]


def _mean_overlap(some: Sequence[str], others: Sequence[str]) -> np.ndarray:
    """Mean Dice overlap of the word set of each text with those of all others, [some]."""
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(binary=True, token_pattern=r"\S+", dtype=np.float32)
    try:
        words = counter.fit_transform(others)
    except ValueError:  # no word anywhere
        return np.zeros(len(some))
    here, size = counter.transform(some), np.asarray(words.sum(axis=1)).reshape(-1)
    means = []
    for start in range(0, len(some), ROWS):
        part = here[start : start + ROWS]
        shared = (part @ words.T).toarray()  # [rows others]
        means.append(
            (2 * shared / np.maximum(size + np.asarray(part.sum(axis=1)).reshape(-1, 1), 1)).mean(axis=1)
        )
    return np.concatenate(means)
