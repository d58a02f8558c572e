"""Template reporter: a classifier of findings, and for what it finds a sentence of the training reports.

The baseline by which a report generator is measured: it states closed findings as well as its classifier
does, for next to no cost; what a language model adds is severity, wording and free text, and it has to show
that. Source: Pino et al., "Clinically correct report generation from chest X-rays using templates" (MLMI
2021). Differs: the sentences are not written by hand but chosen from the training reports, by a greedy cover
of the label set (Johnson 1974, doi:10.1016/S0022-0000(74)80044-9); the thresholds maximise F1 on validation
records.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import check_shape, plain
from mmmed.language.sentences import sentences
from mmmed.models.plain_reporters import TargetFilter, reports_of, written
from mmmed.types import Record, Report

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort

Probabilities = Callable[[Sequence[Record]], np.ndarray]  # records -> [n labels], P(present)
USUALLY = 0.5  # a finding is denied if this share of the training reports without it deny it


@dataclass(frozen=True)
class Phrase:
    """A sentence of the training reports, and exactly what it states. place: where in a report it stands, 0
    first, 1 last. count: how often its label set is stated in this way."""

    text: str
    present: frozenset[str]
    absent: frozenset[str]
    place: float
    count: int


class TemplateReporter:
    """Findings with a probability above their threshold, each said by a sentence that states it.

    labels: names in the order of the columns of probabilities(records) -> [n labels], NaN where a finding
    cannot be judged. denied: labels that are
    denied in words where they are not found. labeller: knows what a label needs; a label whose modality is
    missing is neither stated nor denied. Sentences are taken greedily: the one that states most of what is
    still to be said, less what it states wrongly. So one sentence states all labels at once if a training
    report has one that does; where none has, two sentences may describe one lesion. A sentence with a
    doubtful finding is never used, since a threshold knows no doubt.
    """

    def __init__(
        self,
        phrases: Sequence[Phrase],
        labels: Sequence[str],
        probabilities: Probabilities,
        modalities: Sequence[str],
        thresholds: np.ndarray | None = None,
        denied: Collection[str] = (),
        labeller: Any = None,
    ):
        self.labels, self.probabilities, self.modalities = tuple(labels), probabilities, tuple(modalities)
        self.stating = tuple(phrase for phrase in phrases if phrase.present)
        self.denying = tuple(phrase for phrase in phrases if phrase.absent and not phrase.present)
        self.thresholds = np.full(len(self.labels), 0.5) if thresholds is None else np.asarray(thresholds)
        check_shape(self.thresholds, "labels", name="thresholds", labels=len(self.labels))
        self.denied, self.labeller = frozenset(denied), labeller
        self.needs = {} if labeller is None else {label: labeller.needs(label) for label in self.labels}

    @classmethod
    def fit(
        cls,
        train: Cohort,
        target: str,
        labeller: Any,
        probabilities: Probabilities,
        validation: Cohort | None = None,
        target_filter: TargetFilter | None = None,
    ) -> TemplateReporter:
        """Learn the sentences from training records, the thresholds from validation records (else 0.5).

        target: the column of the reports. labeller: its table names labels and what they need, its
        labels(text) reads them. target_filter: a sentence that it would change although every modality is
        there (a comparison with an earlier examination) is never used. Raises ValueError if the training
        reports state no finding of the table.
        """
        labels, modalities = tuple(labeller.table.labels), tuple(train.schema.modalities)
        texts = reports_of(train, target).texts
        reports = [[(line, labeller.labels(line)) for line in sentences(text)] for text in texts]
        spoken = [label for label in labels if label != labeller.table.nothing]
        phrases = learn_phrases(reports, spoken, _usable(target_filter, modalities))
        if not phrases:
            raise ValueError(
                f"No sentence of column {plain(target)} states a finding of the table "
                f"{plain(labeller.table.name)}. Choose the table that fits these reports."
            )
        thresholds = None
        if validation is not None and len(validation):
            truth = truth_of(validation, target, labeller)
            thresholds = best_thresholds(_checked(probabilities, list(validation), labels), truth)
        denied = usually_denied(reports, spoken)
        return cls(phrases, labels, probabilities, modalities, thresholds, denied, labeller)

    def generate(self, records: Sequence[Record]) -> list[Report]:
        """One report per record, in their order; a record without any modality gets none."""
        if not records:
            return []
        chance = _checked(self.probabilities, records, self.labels)
        return [self._report(record, row) for record, row in zip(records, chance, strict=True)]

    def _report(self, record: Record, chance: np.ndarray) -> Report:
        judged = zip(self.labels, ~np.isnan(chance), strict=True)
        known = {label for label, could in judged if could and self._knowable(label, record)}
        high = zip(self.labels, chance >= self.thresholds, strict=True)
        above = {label for label, reached in high if reached} & known
        below = known - above
        chosen = cover(above, [p for p in self.stating if p.present | p.absent <= known])
        said = {label for phrase in chosen for label in phrase.absent}
        deniable = [p for p in self.denying if p.absent <= below]
        chosen += cover((below & self.denied) - said, deniable, of="absent")
        text = " ".join(phrase.text for phrase in sorted(chosen, key=lambda phrase: phrase.place))
        unsaid = sorted(above - {label for phrase in chosen for label in phrase.present})
        notes = (f"Found, but no training sentence fits: {', '.join(unsaid)}.",)
        used = {name for label in known for name in self.needs.get(label) or self.modalities}
        used &= set(record.inputs)
        return written(
            record, text, self.modalities, sorted(used), self.labeller, None, notes if unsaid else ()
        )

    def _knowable(self, label: str, record: Record) -> bool:
        """Whether what a label needs is there. That nothing is found follows from the others, and is no
        label of its own."""
        if self.labeller is not None and label == self.labeller.table.nothing:
            return False
        return self.labeller is None or self.labeller.can_show(label, tuple(record.inputs))


# ---------------------------------------------------------------------------------------- choosing sentences


def cover(wanted: Collection[str], phrases: Sequence[Phrase], of: str = "present") -> list[Phrase]:
    """Greedy cover of the wanted labels: at each step the phrase with the greatest gain.

    Gain: wanted labels that were not said yet, less labels that are stated wrongly (stated but not wanted,
    or denied but wanted). Ties go to the phrase with fewer wrong ones, then to the one that repeats less,
    then to the commoner one. Stops when no phrase gains.
    """
    wanted, said, chosen = set(wanted), set(), []
    while said < wanted:
        ranked = max(phrases, key=lambda phrase: _gain(phrase, wanted, said, of), default=None)
        if ranked is None or _gain(ranked, wanted, said, of)[0] <= 0:
            break
        chosen.append(ranked)
        said |= getattr(ranked, of) & wanted
    return chosen


def _gain(phrase: Phrase, wanted: set[str], said: set[str], of: str) -> tuple[int, int, int, int]:
    own = getattr(phrase, of)
    wrong = len(phrase.present - wanted) + len(phrase.absent & wanted) if of == "present" else 0
    return len(own & (wanted - said)) - wrong, -wrong, -len(own & said), phrase.count


# ----------------------------------------------------------------------------- learning from training reports


def learn_phrases(
    reports: Sequence[Sequence[tuple[str, Mapping[str, str]]]],
    labels: Sequence[str],
    usable: Callable[[str], bool] = lambda line: True,
) -> list[Phrase]:
    """For every set of labels that a sentence states, its most common wording (the first of equal ones).

    reports: of each the sentences with their labels -> status. A phrase stands where its labels usually
    stand: the mean of their relative places in the reports.
    """
    known = set(labels)
    wordings: dict[tuple[frozenset[str], frozenset[str]], Counter[str]] = defaultdict(Counter)
    places: dict[tuple[str, str], list[float]] = defaultdict(list)
    for report in reports:
        for index, (line, told) in enumerate(report):
            status = {label: how for label, how in told.items() if label in known}
            if not status:
                continue
            for label, how in status.items():
                places[label, how].append(index / max(len(report) - 1, 1))
            if "uncertain" not in status.values() and usable(line):
                wordings[_states(status, "present"), _states(status, "absent")][line] += 1
    return [
        Phrase(
            words.most_common(1)[0][0], present, absent, _place(present, absent, places), sum(words.values())
        )
        for (present, absent), words in wordings.items()
    ]


def _states(status: Mapping[str, str], how: str) -> frozenset[str]:
    return frozenset(label for label, value in status.items() if value == how)


def _place(present: Iterable[str], absent: Iterable[str], places: Mapping[tuple[str, str], Any]) -> float:
    own = [places[label, "present"] for label in present] + [places[label, "absent"] for label in absent]
    return float(np.mean([np.mean(found) for found in own]))


def usually_denied(
    reports: Sequence[Sequence[tuple[str, Mapping[str, str]]]], labels: Sequence[str]
) -> frozenset[str]:
    """Labels that at least half of the reports which do not state them deny in words."""
    denied, free = Counter(), Counter()
    for report in reports:
        told: dict[str, set[str]] = defaultdict(set)
        for _, status in report:
            for label, how in status.items():
                told[label].add(how)
        for label in labels:
            if not told[label] & {"present", "uncertain"}:
                free[label] += 1
                denied[label] += "absent" in told[label]
    return frozenset(label for label in labels if denied[label] and denied[label] >= USUALLY * free[label])


def _usable(target_filter: TargetFilter | None, modalities: Sequence[str]) -> Callable[[str], bool]:
    if target_filter is None:
        return lambda line: True
    return lambda line: target_filter(line, modalities).strip() == line.strip()


# ------------------------------------------------------------------------------------- labels and thresholds


def truth_of(cohort: Cohort, target: str, labeller: Any) -> np.ndarray:
    """What the reports state, [records labels]: 1 present, 0 absent or not mentioned, NaN where unknown.

    Unknown is what a report doubts, every label of a record without a report, and a label whose needs are
    missing in the record.
    """
    labels, told = tuple(labeller.table.labels), reports_of(cohort, target)
    truth = np.full((len(cohort), len(labels)), np.nan)
    values, known = labeller.targets(told.texts)
    truth[told.rows] = np.where(known, values, np.nan)
    present = dict(zip(cohort.schema.modalities, np.asarray(cohort.present).T, strict=True))
    nowhere = np.zeros(len(cohort), bool)
    for column, label in enumerate(labels):
        for name in labeller.needs(label):
            truth[~present.get(name, nowhere), column] = np.nan
    return truth


def best_thresholds(chance: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Per label the threshold with the greatest F1, midway between two neighbouring probabilities, [labels].

    chance, truth [n labels], truth NaN where unknown; present is what reaches the threshold. Ties go to the
    threshold nearest to 0.5. A label that is present nowhere (or everywhere it is known) keeps 0.5.
    """
    return np.array([_best_threshold(chance[:, k], truth[:, k]) for k in range(truth.shape[1])])


def _best_threshold(chance: np.ndarray, truth: np.ndarray) -> float:
    known = ~np.isnan(truth) & ~np.isnan(chance)
    chance, truth = chance[known], truth[known]
    if not 0 < truth.sum() < len(truth):
        return 0.5
    levels, place = np.unique(chance, return_inverse=True)
    positive = np.bincount(place.reshape(-1), weights=truth, minlength=len(levels))
    every = np.bincount(place.reshape(-1), minlength=len(levels))
    found = positive[::-1].cumsum()[::-1]  # at or above each level
    stated = every[::-1].cumsum()[::-1]
    f1 = 2 * found / (stated + truth.sum())
    cuts = np.concatenate([levels[:1], (levels[1:] + levels[:-1]) / 2])
    best = np.flatnonzero(np.isclose(f1, f1.max()))
    return float(cuts[best[np.argmin(np.abs(cuts[best] - 0.5))]])


def _checked(probabilities: Probabilities, records: Sequence[Record], labels: Sequence[str]) -> np.ndarray:
    chance = np.asarray(probabilities(records), dtype=float)
    check_shape(
        chance,
        "records labels",
        name="probabilities(records)",
        records=len(records),
        labels=len(labels),
        hint="Give one column per label of the labeller's table, in its order.",
    )
    if not (np.isnan(chance) | ((chance >= 0) & (chance <= 1))).all():
        raise ValueError(
            "probabilities(records) should be between 0 and 1, got values outside. Apply the sigmoid."
        )
    return chance
