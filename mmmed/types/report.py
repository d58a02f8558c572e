"""Report, Reply: what a language model says about one record, and what each sentence rests on."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmmed.types.prediction import NOTICE

PRIOR = 0.05  # nats per token: a sentence that no input makes likelier by more is the language's own habit
STATUSES = ("present", "uncertain", "absent")


@dataclass(frozen=True)
class Sentence:
    """One sentence of a report.

    score: mean log-probability of its tokens, in nats (0 is certain). evidence: modality -> by how many nats
    per token the sentence becomes less likely when that modality alone is taken away. grounding: the same
    when everything is taken away, which also shows what two modalities tell alike. Both are empty, None, if
    they were not measured.
    findings: what the sentence states, finding -> "present", "uncertain" or "absent". topic: what it was
    asked to speak of, "" if nothing. reason: why it was withheld, "" if it was not.
    """

    text: str
    score: float | None = None
    evidence: Mapping[str, float] = field(default_factory=dict)
    grounding: float | None = None
    findings: Mapping[str, str] = field(default_factory=dict)
    topic: str = ""
    reason: str = ""

    @property
    def from_habit(self) -> bool:
        """Whether nothing of the patient makes this sentence likelier, alone or together: the language
        model's habit. False where it was not measured."""
        return self.grounding is not None and max((self.grounding, *self.evidence.values())) <= PRIOR

    @property
    def rests_on(self) -> str:
        """The modality with the most evidence of its own, "" where none has any."""
        best = max(self.evidence, key=lambda name: self.evidence[name], default="")
        return best if best and self.evidence[best] > PRIOR else ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready form."""
        return {
            "text": self.text,
            "score": self.score,
            "evidence": dict(self.evidence),
            "grounding": self.grounding,
            "findings": dict(self.findings),
            "topic": self.topic,
            "reason": self.reason,
            "from_habit": self.from_habit,
        }


@dataclass(frozen=True)
class Report:
    """What a generator writes about one record.

    sentences: what it says. withheld: what it would have said, but for too little certainty or a
    missing input (see `Sentence.reason`). findings: what
    the kept sentences state together, finding -> "present", "uncertain" or "absent". used, missing:
    modalities. abstained: True if nothing could be said at all. notes: what else the reader must know.
    """

    id: str
    sentences: tuple[Sentence, ...]
    used: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    findings: Mapping[str, str] = field(default_factory=dict)
    withheld: tuple[Sentence, ...] = ()
    abstained: bool = False
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The sentences in one line, without what is said about missing inputs."""
        return " ".join(sentence.text for sentence in self.sentences)

    @property
    def statement(self) -> str:
        """What was missing, in words; "" if nothing was."""
        if not self.missing:
            return ""
        *others, last = self.missing
        return f"Not available: {', '.join(others)} and {last}." if others else f"Not available: {last}."

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready form."""
        return {
            "id": self.id,
            "text": self.text,
            "sentences": [sentence.to_dict() for sentence in self.sentences],
            "withheld": [sentence.to_dict() for sentence in self.withheld],
            "findings": dict(self.findings),
            "used": list(self.used),
            "missing": list(self.missing),
            "abstained": self.abstained,
            "notes": list(self.notes),
            "notice": NOTICE,
        }

    def __str__(self) -> str:
        lines = [f"record {self.id}"]
        if self.statement:
            lines.append(f"  {self.statement}")
        for sentence in self.sentences:
            lines.append(f"  {sentence.text}{_basis(sentence)}")
        if self.abstained:
            lines.append("  No report.")
        lines += [f"  withheld ({one.reason}): {one.text}{_basis(one)}" for one in self.withheld]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join([*lines, f"  {NOTICE}"])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """A card for the notebook; every text is escaped, since it may come from data."""
        body = [_line(sentence) for sentence in self.sentences]
        if self.abstained:
            body.append("<div><b>No report.</b></div>")
        body += [
            f'<div style="opacity:.6">withheld ({html.escape(one.reason)}): {_line(one)}</div>'
            for one in self.withheld
        ]
        facts = [f"<b>Used</b> {html.escape(', '.join(self.used)) or 'nothing'}"]
        facts.append(f"<b>Missing</b> {html.escape(', '.join(self.missing)) or 'nothing'}")
        facts += [f"&#9432; {html.escape(note)}" for note in self.notes]
        return (
            '<div style="font:14px/1.55 system-ui,sans-serif;max-width:680px;border:1px solid #8886;'
            'border-radius:8px;padding:12px 16px">'
            f'<div style="opacity:.7">Record {html.escape(self.id)}</div>'
            f'{"".join(body)}<div style="margin-top:8px">{"<br>".join(facts)}</div>'
            f'<div style="margin-top:8px;font-size:12px;opacity:.7">{NOTICE}</div></div>'
        )


@dataclass(frozen=True)
class Reply:
    """The answer to one question about one record.

    text: the answer, or "not assessable" if abstained. score, evidence, grounding: as in `Sentence`. used,
    missing: modalities. notes: why it abstained, or what else the reader must know.
    """

    id: str
    question: str
    text: str
    score: float | None = None
    evidence: Mapping[str, float] = field(default_factory=dict)
    grounding: float | None = None
    used: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    abstained: bool = False
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready form."""
        return {
            "id": self.id,
            "question": self.question,
            "text": self.text,
            "score": self.score,
            "evidence": dict(self.evidence),
            "grounding": self.grounding,
            "used": list(self.used),
            "missing": list(self.missing),
            "abstained": self.abstained,
            "notes": list(self.notes),
            "notice": NOTICE,
        }

    def __str__(self) -> str:
        as_sentence = Sentence(self.text, self.score, self.evidence, self.grounding)
        lines = [f"record {self.id}", f"  {self.question}", f"  {self.text}{_basis(as_sentence)}"]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join([*lines, f"  {NOTICE}"])

    __repr__ = __str__


def _basis(sentence: Sentence) -> str:
    """What a sentence rests on, in brackets."""
    if sentence.grounding is None:
        return ""
    if sentence.from_habit:
        return "  [habit of the language]"
    if not sentence.rests_on:
        return f"  [the inputs together {sentence.grounding:+.2f}]"
    grounds = [name for name, rise in sentence.evidence.items() if rise > PRIOR]
    grounds.sort(key=lambda name: -sentence.evidence[name])
    return f"  [{', '.join(f'{name} {sentence.evidence[name]:+.2f}' for name in grounds)}]"


def _line(sentence: Sentence) -> str:
    basis = html.escape(_basis(sentence).strip(" []"))
    small = f' <span style="font-size:12px;opacity:.65">{basis}</span>' if basis else ""
    return f"<div>{html.escape(sentence.text)}{small}</div>"
