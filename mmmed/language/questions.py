"""What a generator is asked for: a whole report, a sentence about a topic, the answer to a question.

The words of every prompt are made here, so training and use cannot differ. Closed questions come from the
finding table: "Is there an effusion on the right?", answered as the report of the record answers it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mmmed.language.labeller import Labeller

ASK_REPORT = "findings:"
ANSWERS = {"present": "Yes.", "absent": "No.", "uncertain": "Uncertain."}
# fmt: off
_UNCOUNTED = frozenset((
    "edema", "oedema", "cough", "fluid", "gas", "air", "blood", "consolidation", "collapse", "congestion",
    "pneumonia", "emphysema", "fever", "pain", "ascites", "diabetes", "bleeding", "hemorrhage", "haemorrhage",
    "disease", "damage", "weakness", "enlargement", "enhancement",
))
# fmt: on
_UNCOUNTED_ENDS = ("megaly", "sis", "itis", "aemia", "emia", "pnoea", "pnea", "ening", "owing", "arring")
_SINGULAR = ("lens", "pancreas", "biceps")  # with an "s" at the end, and still one


@dataclass(frozen=True)
class Closed:
    """A question about one finding. labels: those that answer it together; beside: those of the finding's
    other places, where the question names one."""

    text: str
    finding: str
    labels: tuple[str, ...]
    beside: tuple[str, ...] = ()


def ask_of_topic(topic: str) -> str:
    """The prompt for one sentence about a topic."""
    return f"{' '.join(topic.split())}:"


def ask_of_question(question: str) -> str:
    """The prompt for the answer to a question; line breaks and other blanks become single ones."""
    return f"{' '.join(question.split())} answer:"


def closed_questions(labeller: Labeller) -> tuple[Closed, ...]:
    """A question for every topic of the labeller, and for each of its places where the table has some."""
    asked = []
    for finding in labeller.table.findings:
        if finding.name not in labeller.topics:
            continue
        split = labeller.table.split(finding)
        stem = finding.question.rstrip("? ") or _is_there(finding.name)
        asked.append(Closed(f"{stem}?", finding.name, tuple(split)))
        for label, choice in split.items() if finding.by else ():
            beside = tuple(other for other in split if other != label)
            asked.append(Closed(f"{stem} {_place(choice)}?", finding.name, (label,), beside))
    return tuple(asked)


def answer_of(question: Closed, stated: Mapping[str, str]) -> str | None:
    """The answer that a report gives, from the labels that it states; None if it does not speak of it.

    A report that finds something at one place says that it is not at the others. One that denies it at one
    place says nothing of the others, and so not that there is none at all.
    """
    own = [stated.get(label) for label in question.labels]
    for status in ("present", "uncertain"):
        if status in own:
            return ANSWERS[status]
    elsewhere = any(stated.get(label) == "present" for label in question.beside)
    denied = all(status == "absent" for status in own)
    return ANSWERS["absent"] if denied or elsewhere else None


def words_of_prompts(labeller: Labeller) -> list[str]:
    """Everything that a prompt or an answer may say, for the tokenizer to learn."""
    topics = [ask_of_topic(name) for name in labeller.topics]
    asked = [ask_of_question(question.text) for question in closed_questions(labeller)]
    return [f" {ASK_REPORT}", *(f" {text}" for text in (*topics, *asked)), *ANSWERS.values()]


def _is_there(name: str) -> str:
    """ "Is there a ...", "Is there ..." for what cannot be counted, "Are there ..."; short names in capitals
    such as "PTX" stay in capitals."""
    name = " ".join(word if word.isupper() and len(word) > 1 else word.lower() for word in name.split())
    last = name.split()[-1].lower() if name else ""
    if last in _UNCOUNTED or last.endswith(_UNCOUNTED_ENDS):
        return f"Is there {name}"
    if last.endswith(("s", "ae")) and last not in _SINGULAR and not last.endswith(("is", "ss", "us")):
        return f"Are there {name}"
    spelled = name[:2].isupper()  # "an LDH": letters that are said begin with other sounds
    return f"Is there {'an' if name[:1] in ('AEFHILMNORSX' if spelled else 'aeiou') else 'a'} {name}"


def _place(choice: Mapping[str, str]) -> str:
    if "zone" in choice:
        return f"in the {' '.join(choice[key] for key in ('side', 'zone') if key in choice)} zone"
    return " ".join(f"on the {word}" if key == "side" else f"({word})" for key, word in choice.items())
