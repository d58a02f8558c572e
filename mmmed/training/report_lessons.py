"""What each record is taught in an epoch: its report, without what the hidden inputs would be needed for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmmed.data.targets import rows_with_text
from mmmed.language.questions import (
    ANSWERS,
    ASK_REPORT,
    Closed,
    answer_of,
    ask_of_question,
    ask_of_topic,
    closed_questions,
)
from mmmed.language.sentences import sentences
from mmmed.models.report_room import LONGEST

if TYPE_CHECKING:
    from mmmed.models.report_generator import ReportGenerator


@dataclass(frozen=True)
class Lesson:
    """A prompt and the ids that should follow it, with their end unless they were cut."""

    ask: str
    ids: tuple[int, ...]


@dataclass
class Lessons:
    """The lessons of the records of a cohort part, made when they are first needed and kept.

    texts: the reports, None or blank where a record has none. asked: row -> its own (question, answer) pairs.
    longest: pieces of an answer that are learned. cut: how many of both are longer than what is learned.
    """

    reporter: ReportGenerator
    texts: Sequence[str | None]
    asked: Mapping[int, Sequence[tuple[str, str]]] = field(default_factory=dict)
    longest: int = LONGEST
    cut: int = field(default=0, init=False)
    _kept: dict[tuple, Lesson] = field(default_factory=dict)
    _closed: tuple[Closed, ...] = ()

    def __post_init__(self) -> None:
        if self.reporter.labeller is not None:
            self._closed = closed_questions(self.reporter.labeller)
        told = [str(self.texts[row]).strip() for row in self.rows().tolist()]
        told += [answer for pairs in self.asked.values() for _, answer in pairs]
        self.cut = sum(self.reporter.tokenizer.fit(text, self.longest)[1] for text in told)

    def asks(self) -> list[str]:
        """Every prompt that a lesson may have."""
        labeller = self.reporter.labeller
        topics = [] if labeller is None else [ask_of_topic(name) for name in labeller.topics]
        questions = [question.text for question in self._closed]
        questions += [question for pairs in self.asked.values() for question, _ in pairs]
        return [ASK_REPORT, *topics, *dict.fromkeys(map(ask_of_question, questions))]

    def rows(self) -> Tensor:
        """Which records have a report: [n] long."""
        return torch.tensor(rows_with_text(self.texts), dtype=torch.long)

    def report(self, row: int, present: Sequence[str]) -> Lesson:
        """The whole report of a record of which these modalities are there."""
        return self._lesson((row, tuple(present)), ASK_REPORT, lambda: self.target(row, present))

    def target(self, row: int, present: Sequence[str]) -> str:
        """The report without what needs a missing input. A blind model has no inputs to lack."""
        text = str(self.texts[row]).strip()
        if self.reporter.blind or self.reporter.filter is None:
            return text
        return self.reporter.filter(text, present).strip()

    def aside(self, row: int, present: Sequence[str], draw: float) -> Lesson | None:
        """One topic or one question about a record, chosen by a number in 0..1; None where there is none.

        First the sort is chosen (a topic, a question of the record's own, one that is answered by yes, by no,
        by uncertain), then one of it: answered as reports answer them, most questions would be a no, which
        the model would learn without looking.
        """
        sorts = self._asides(row, tuple(present))
        if not sorts:
            return None
        place = min(int(draw * len(sorts)), len(sorts) - 1)
        choices, rest = sorts[place], draw * len(sorts) - place
        ask, answer = choices[min(int(rest * len(choices)), len(choices) - 1)]
        return self._lesson((ask, answer), ask, lambda: answer)

    def _asides(self, row: int, present: tuple[str, ...]) -> list[list[tuple[str, str]]]:
        """(prompt, answer) pairs of a record, sort by sort."""
        labeller = self.reporter.labeller
        found = [[(ask_of_question(question), answer) for question, answer in self.asked.get(row, ())]]
        if labeller is None or (text := self.target(row, present)) == "":
            return [some for some in found if some]
        stated = labeller.labels(text)
        told: dict[str, list[str]] = {}
        for sentence in sentences(text):
            for name in dict.fromkeys(mention.finding for mention in labeller.mentions(sentence)):
                if name in labeller.topics:
                    told.setdefault(name, []).append(sentence)
        found.append([(ask_of_topic(name), " ".join(said)) for name, said in told.items()])
        closed = [(ask_of_question(q.text), answer_of(q, stated)) for q in self._closed]
        found += [[pair for pair in closed if pair[1] == answer] for answer in ANSWERS.values()]
        return [some for some in found if some]

    def _lesson(self, key: tuple, ask: str, text: Callable[[], str]) -> Lesson:
        if key not in self._kept:
            ids, cut = self.reporter.tokenizer.fit(text(), self.longest)
            self._kept[key] = Lesson(ask, tuple(ids) if cut else (*ids, self.reporter.tokenizer.eos))
        return self._kept[key]
