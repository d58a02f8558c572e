"""Reports and answers in words: what is written with the inputs that are on, and what is lost without the
others."""

from __future__ import annotations

import html
from typing import Any

from mmmed import Record
from mmmed.types import Sentence

from .answers import Visit
from .cast import Cast
from .panels.report import answer, sentences
from .pictures import pictured


def write(cast: Cast, seen: Record, whole: Record) -> tuple[Any, Any]:
    """The report on what is on, and the one on everything recorded if that is more, else None."""
    both = [seen] if seen.present == whole.present else [seen, whole]
    reports = cast.reporter.generate(both)
    return reports[0], reports[1] if len(reports) > 1 else None


def told(cast: Cast, reports: tuple[Any, Any], chosen: int | None = None) -> str:
    """The sentences that were written; chosen: the one whose mask is shown."""
    return sentences(*reports, cast.modalities, chosen)


def ask(cast: Cast, record: Record, question: str) -> str:
    """The answer to a question about what is on. Raises ValueError for an empty question."""
    return answer(cast.reporter.answer(record, question), cast.modalities)


def elsewhere(cast: Cast, sentence: Sentence) -> str:
    """Says that a sentence rests on another input than the picture; "" if it may be looked for there."""
    if sentence.rests_on and sentence.rests_on not in pictured(cast):
        name = html.escape(sentence.rests_on)
        return f'<p class="mm-quiet">This sentence rests on the {name}: there is nothing to point at.</p>'
    return ""


def stale(visit: Visit, report: Any) -> str:
    """Says that the report was written about other inputs than those that are on the page now."""
    was, now = set(report.used), set(visit.now.used if visit.now else ())
    names = html.escape(", ".join(report.used) or "nothing")
    about = f"with: {names}" if was != now else "about other values of the same inputs"
    return f'<p class="mm-stale">This report was written {about}. Write it again for what is on now.</p>'
