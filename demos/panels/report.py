"""A drafted report, sentence by sentence, with what each one rests on; and the answer to one question."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mmmed.types import Reply, Report, Sentence
from mmmed.types.prediction import NOTICE
from mmmed.types.report import PRIOR

from .svg import escape, finding, listed, remark, signed

STATES = {
    "present": "\u25cf",
    "uncertain": "?",
    "absent": "\u25cb",
}  # a mark beside the word, never colour alone
HOW = (
    "Chips name what a sentence rests on. The number is in nats per token: how much less likely the sentence "
    f"becomes without that input. Up to +{PRIOR:.2f} counts as nothing; a sentence that rests on nothing is "
    "a habit of the language."
)


def sentences(
    report: Report, whole: Report | None = None, modalities: Sequence[str] = (), chosen: int | None = None
) -> str:
    """The report as buttons, one per sentence, each with the evidence it rests on.

    whole: the report with everything switched on; its sentences that are lost are struck through, those that
    only appear now are marked. modalities: of the model, in order, for the colours. chosen: the sentence that
    is pressed.
    """
    names = list(modalities or (*report.used, *report.missing))
    parts = [finding(_headline(report)), _facts(report.statement, report.notes)]
    before = () if whole is None else [sentence.text for sentence in whole.sentences]
    off = _off(report, whole)
    lines = []
    for place, sentence in enumerate(report.sentences):
        new = _tag(f"only without {listed(off)}", "new") if off and sentence.text not in before else ""
        pressed = "true" if place == chosen else "false"
        lines.append(
            f'<li><button type="button" class="mm-sentence" data-sentence="{place}" aria-pressed="{pressed}">'
            f'<span class="mm-words">{escape(sentence.text)}</span> '
            f"{_grounds(sentence, names)}{new}</button></li>"
        )
    if lines:
        parts.append(f'<ol class="mm-sentences">{"".join(lines)}</ol>')
    parts += [_withheld(report.withheld, names), _lost(report, whole, names), _findings(report.findings)]
    measured = any(sentence.grounding is not None for sentence in report.sentences)
    parts += [remark(HOW) if measured else "", remark(NOTICE)]
    return f'<div class="mm-report">{"".join(parts)}</div>'


def answer(reply: Reply, modalities: Sequence[str] = ()) -> str:
    """One question and its answer, with what the answer rests on; or why there is none."""
    names = list(modalities or (*reply.used, *reply.missing))
    as_sentence = Sentence(reply.text, reply.score, reply.evidence, reply.grounding)
    title = "No answer: not assessable" if reply.abstained else reply.text
    grounds = "" if reply.abstained else _grounds(as_sentence, names)
    missing = f"Not available: {listed(reply.missing)}." if reply.missing else ""
    return (
        f'<div class="mm-report"><p class="mm-question">{escape(reply.question)}</p>'
        f"{finding(f'<b>{escape(title)}</b> {grounds}')}{_facts(missing, reply.notes)}{remark(NOTICE)}</div>"
    )


# --------------------------------------------------------------------------------------------------- sections


def _headline(report: Report) -> str:
    """What the report rests on, in one line of HTML."""
    if report.abstained:
        return "<b>No report:</b> nothing could be said with the inputs that are there."
    count = len(report.sentences)
    words = []
    grounds = [sentence.rests_on for sentence in report.sentences if sentence.rests_on]
    for name in dict.fromkeys(sorted(grounds, key=lambda one: -grounds.count(one))):
        words.append(f"{grounds.count(name)} rest{'s' * (grounds.count(name) == 1)} mostly on {name}")
    habits = sum(sentence.from_habit for sentence in report.sentences)
    if habits:
        words.append(f"{habits} {'is a habit' if habits == 1 else 'are habits'} of the language")
    told = f": {escape(', '.join(words))}" if words else ""
    return f"<b>{count} sentence{'s' * (count != 1)}</b>{told}."


def _facts(missing: str, notes: Iterable[str]) -> str:
    """What was not there comes first, then what else the reader must know."""
    lack = f'<p class="mm-lack">{escape(missing)}</p>' if missing else ""
    return lack + "".join(f'<p class="mm-told">Note: {escape(note)}</p>' for note in notes)


def _withheld(withheld: Sequence[Sentence], names: Sequence[str]) -> str:
    if not withheld:
        return ""
    lines = [
        f"<li>{escape(one.text)} {_tag(one.reason or 'withheld', 'withheld')} {_grounds(one, names)}</li>"
        for one in withheld
    ]
    return f'<p class="mm-report-head">Withheld</p><ul class="mm-unsaid">{"".join(lines)}</ul>'


def _lost(report: Report, whole: Report | None, names: Sequence[str]) -> str:
    """Sentences that were there with everything switched on, and are no longer, struck through."""
    off = _off(report, whole)
    if not off:
        return ""
    now = {sentence.text for sentence in (*report.sentences, *report.withheld)}
    gone = [sentence for sentence in whole.sentences if sentence.text not in now]
    if not gone:
        return ""
    lines = [
        f"<li><del>{escape(one.text)}</del> {_tag(_why(one, off), 'lost')} {_grounds(one, names)}</li>"
        for one in gone
    ]
    head = f"Lost without {listed(off)}"
    return f'<p class="mm-report-head">{escape(head)}</p><ul class="mm-unsaid">{"".join(lines)}</ul>'


def _off(report: Report, whole: Report | None) -> list[str]:
    """What the report with everything on had, and this one does not."""
    return [] if whole is None else [name for name in whole.used if name not in report.used]


def _why(sentence: Sentence, off: Sequence[str]) -> str:
    """'needs the image' if it rested on what is off; else only that it is not said any more."""
    needed = [name for name in off if sentence.evidence.get(name, 0.0) > PRIOR]
    return f"needs the {listed(needed)}" if needed else f"no longer said without {listed(off)}"


def _findings(findings: Mapping[str, str]) -> str:
    if not findings:
        return ""
    items = [
        f'<li class="mm-state-{escape(state)}"><span aria-hidden="true">{STATES.get(state, "")}</span> '
        f"{escape(finding)}: {escape(state)}</li>"
        for finding, state in findings.items()
    ]
    head = '<p class="mm-report-head">What the sentences state together</p>'
    return f'{head}<ul class="mm-findings">{"".join(items)}</ul>'


# ------------------------------------------------------------------------------------------------------ chips


def _grounds(sentence: Sentence, names: Sequence[str]) -> str:
    """Chips of evidence, the strongest first; "" where it was not measured."""
    if sentence.grounding is None:
        return ""
    if sentence.from_habit:
        return _tag("habit of the language", "habit")
    rises = sorted(sentence.evidence.items(), key=lambda item: -item[1])
    chips = [_chip(name, rise, names) for name, rise in rises if rise > PRIOR]
    return " ".join(chips) or _tag(f"the inputs together {signed(sentence.grounding, 2)}", "together")


def _chip(name: str, rise: float, names: Sequence[str]) -> str:
    place = names.index(name) % 7 if name in names else 6
    return f'<span class="mm-evidence mm-m{place}">{escape(name)} {signed(rise, 2)}</span>'


def _tag(words: str, kind: str) -> str:
    return f'<span class="mm-tag mm-tag-{kind}">{escape(words)}</span>'
