"""Radiology text in sentences, and sentences in clauses.

Made for what reports look like: "1.5 cm", "e.g.", "Dr. XXXX", numbered lists, lines without a point, points
without a space, text without any point at all. No character but white space is lost, so that what is shown
to a reader is what was written. Time is linear in the length of the text, whatever it is.
"""

from __future__ import annotations

import re

LONGEST = 1500  # characters; what has no border in so many is cut, so that no later step sees a text as one
# fmt: off
ABBREVIATIONS = frozenset((
    "dr", "mr", "mrs", "ms", "prof", "st", "approx", "appr", "ca", "cf", "e.g", "i.e", "eg", "ie", "vs",
    "fig", "incl", "max", "min", "resp", "z.b", "bzw", "ggf", "evtl",
))
# fmt: on

# a run of points is read from its start only, or a long one would be read again from each of its points
_POINT = (
    r"(?<![.!?])[.!?]+[\"')\]]*(?=\s|$)|(?<=[\w)]{2})[.!?]+(?=[A-Z])|(?<=[a-z]{3})\.(?=[a-z]{2})|[。！？]+"
)
_LINE = r"[\r\n]\s*(?=[\r\n]|\d{1,2}[.)]\s|[-*•]\s|(?!XX)[A-Z])"
_BORDER = re.compile(f"({_POINT})|{_LINE}")
_NUMBER = re.compile(r"\s*(?:\d{1,2}|[a-z])[.)]", re.IGNORECASE)
_LAST_WORD = re.compile(r"[^\s(]{1,8}$")
_CLAUSE = re.compile(
    r"\s*;\s*"
    r"|,?\s+(?=(?:but|however|although|though|whereas|while|yet|except|which|other than|apart from"
    r"|aside from|with the exception of|with no|with possible)(?!\w))"
    r"|,\s*(?=(?:no|not|without|possibl[ey]|probabl[ey]|likely|query|cannot|may|might|could|there (?:is|are)"
    r"|negative for)(?!\w))"
    r"|(?<!but),?\s+(?:and\s+)?(?=none\s+(?:\w+\s+)?(?:on|in|at)\s)"
    r"|,?\s+and\s+(?=(?:the|there|no|without)\s)",
    re.IGNORECASE,
)


def sentences(text: str) -> list[str]:
    """The sentences of a text in its order, without white space around them; an empty text has none.

    Without white space, the sentences joined are the text. A sentence has at most `LONGEST` characters.
    """
    found, start = [], 0
    for border in _BORDER.finditer(text):
        if border.group(1) and _inside(text, start, border):
            continue
        found.append(text[start : border.end()])
        start = border.end()
    found.append(text[start:])
    return [piece for sentence in found for piece in _pieces(sentence.strip())]


def clauses(sentence: str) -> list[str]:
    """The parts of a sentence between which negation and doubt do not reach.

    They are cut at ";", before "but", "however", "except", "with no", and at a comma before "no", "possible"
    and the like; the cut white space and comma are left out.
    """
    return [part for part in _CLAUSE.split(sentence) if part.strip()] or [sentence]


def _inside(text: str, start: int, border: re.Match[str]) -> bool:
    """Whether a point belongs to a number of a list or to an abbreviation, so that the sentence goes on."""
    if border.group().startswith("?") and text[border.start() - 1 : border.start()].strip() == "":
        return True  # "?effusion", "? effusion": a question put before the word
    if not border.group().startswith("."):
        return False
    if border.start() - start < 8 and _NUMBER.fullmatch(text, start, border.start() + 1):
        return border.end() < len(text)
    word = _LAST_WORD.search(text, max(start, border.start() - 9), border.start())
    return word is not None and word.group().lower() in ABBREVIATIONS


def _pieces(sentence: str) -> list[str]:
    """A sentence, or pieces of it of at most `LONGEST` characters, cut at a space where there is one."""
    pieces, start = [], 0
    while len(sentence) - start > LONGEST:
        cut = sentence.rfind(" ", start + LONGEST // 2, start + LONGEST)
        cut = start + LONGEST if cut < 0 else cut
        pieces.append(sentence[start:cut].strip())
        start = cut
    return [piece for piece in (*pieces, sentence[start:].strip()) if piece]
