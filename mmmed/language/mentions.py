"""Mentions: the findings that one clause of a report names, each with its status and attributes.

The terms of the table are found first, then the cues that deny or doubt them (`finding_cues`), then side,
zone, severity and measurement, which belong to the nearest term. Negation before and after a term follows the
idea of NegEx (Chapman et al., J Biomed Inform 34:301, 2001); the rules are our own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from mmmed.language.finding_tables import BILATERAL, Finding, FindingTable

PRESENT, UNCERTAIN, ABSENT = "present", "uncertain", "absent"
DENIED = "denied"  # of words for a normal state: "not normal" leaves open what is wrong
PLACES = ("side", "zone")
_VERB = re.compile(r"(?<!\w)(?:is|are|was|were|has|have)(?!\w)")
_GOES_ON = re.compile(r"(?<!\w)(?:is|are|was|were|has|have|had|shows?|demonstrates?|presents?)(?!\w)")
_NOT = re.compile(r"(?<!\w)not (?!.*(?:,| and ))")
_NOT_AHEAD = re.compile(r"(?<!\w)not (?:(?:an?|the|of|entirely|completely|quite) )?$")
_JOINED = re.compile(r"[/&]|(?<!\w)(?:and|or|plus)(?!\w)|^, (?:(?:in|at|on) )?(?:the )?$")
_LINK = (
    r"in|at|on|of|the|and|or|both|zones?|lobes?|lungs?|sides?|fields?|bases?|hemithora(?:x|ces)|quadrants?"
)
_JOINT = re.compile(r",|(?<!\w)(?:and|or|with|versus|vs)(?!\w)")
_MEASURE = re.compile(
    r"(\d{1,4}(?:[.,]\d{1,3})?(?: ?(?:x|×|by) ?\d{1,4}(?:[.,]\d{1,3})?){0,2})"
    r" ?-?(mm|cm|millimet\w+|centimet\w+)(?!\w)"
)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)?")


@dataclass(frozen=True)
class Mention:
    """One finding as one sentence states it.

    status: "present", "uncertain" or "absent". side, zone, severity: "" where not stated; side may be
    "bilateral". sentence: its place in `sentences(text)`. text: the words that name it, in lower case.
    millimetres: the measurement, 0 where there is none. attributes: all attributes of the table, by name.
    """

    finding: str
    status: str
    side: str = ""
    zone: str = ""
    severity: str = ""
    sentence: int = 0
    text: str = ""
    millimetres: float = 0.0
    attributes: tuple[tuple[str, str], ...] = ()


class _Term(NamedTuple):
    """Words of a clause that name a finding."""

    start: int
    end: int
    place: int  # of the finding in the table
    fixed: str  # the status that the words state by themselves, or ""


class _Value(NamedTuple):
    """A value of an attribute, and where a clause names it."""

    start: int
    end: int
    value: str


class ClauseReader:
    """Reads the mentions of one clause with the patterns of a table, which are put together once."""

    def __init__(self, table: FindingTable):
        self.table = table
        cues = table.cues
        self._findings = [_patterns(finding) for finding in self.table.findings]
        self._before = _groups(
            neutral=cues.neutral, uncertain=cues.uncertain_before, absent=cues.absent_before, past=cues.past
        )
        self._after = _groups(neutral=cues.neutral, uncertain=cues.uncertain_after, absent=cues.absent_after)
        self._alternatives, self._resets = _any(cues.alternatives), _any(cues.resets)
        self._attributes = {name: _valued(values) for name, values in self.table.attributes.items()}
        places = [way for name in PLACES for ways in table.attributes.get(name, {}).values() for way in ways]
        self._only_place = re.compile(
            r"(?P<none>(?:(?:and|but) )?(?:none|not) (?:\w+ )?(?=(?:on|in|at) ))?"
            rf"(?:(?:{'|'.join([*places, _LINK])})(?:[\s,/]+|[.!?]*$))+"
        )

    def read(self, clause: str) -> Iterator[Mention]:
        """The mentions of one clause, in lower case."""
        terms = self._terms(clause)
        if not terms:
            return
        cues = _Heard(
            [match for match in self._before.finditer(clause) if match.lastgroup != "neutral"],
            [match for match in self._after.finditer(clause) if match.lastgroup != "neutral"],
            [match.start() for match in self._resets.finditer(clause)],
            [match.span() for match in self._alternatives.finditer(clause)],
        )
        parts = _parts(clause, terms)
        for term in terms:
            finding = self.table.findings[term.place]
            status = PRESENT if finding.name == self.table.nothing else cues.status(clause, term, terms)
            if not status:
                continue
            looks, millimetres = self._describe(clause, term, parts[term])
            for place in self._places(clause, term.end, parts[term]):
                words = clause[term.start : term.end]
                yield _mention(finding.name, status, {**place, **looks}, words, millimetres)

    def continued(self, clause: str, last: Mention) -> Iterator[Mention]:
        """What a clause in lower case that names only a place says of the finding before it: "effusion on the
        right, none on the left", "nodules in the right upper zone and the left upper zone"."""
        only = self._only_place.fullmatch(clause)
        for place in self._places(clause, 0, (0, len(clause))) if only else ():
            if not place:
                continue
            if only["none"]:
                yield _mention(last.finding, ABSENT, place, last.text)
            else:
                told = {**dict(last.attributes), **place}
                yield _mention(last.finding, last.status, told, last.text, last.millimetres)

    def _terms(self, clause: str) -> list[_Term]:
        """Where the clause names a finding. Words that state a status win over those that only name it."""
        found = []
        for place, patterns in enumerate(self._findings):
            own: list[_Term] = []
            for fixed, pattern in patterns:
                for match in pattern.finditer(clause):
                    start, end = match.span()
                    if all(end <= term.start or term.end <= start for term in own):
                        denied = fixed == ABSENT and _not_normal(pattern, clause, start, end)
                        own.append(_Term(start, end, place, DENIED if denied else fixed))
            found += own
        return sorted(found, key=lambda term: (term.start, term.end))

    def _describe(self, clause: str, term: _Term, part: tuple[int, int]) -> tuple[dict[str, str], float]:
        """What a term looks like, from its own part of the clause, and its size in mm."""
        told = {}
        for name in self._attributes:
            found = [] if name in PLACES else self._values(name, clause, part)
            if found:
                told[name] = _nearest(found, term.end)
        measure = _MEASURE.search(clause, *part)
        millimetres = _millimetres(measure) if measure else 0.0
        if millimetres and self.table.sizes:
            told["severity"] = next(
                (word for border, word in self.table.sizes if millimetres < border), self.table.sizes[-1][1]
            )
        return told, millimetres

    def _places(self, clause: str, after: int, part: tuple[int, int]) -> list[dict[str, str]]:
        """Side and zone of a term that ends at `after`, in pairs: "right upper and left lower" are two,
        "right and left upper" is the upper zone of both sides. Without any, one place that says nothing."""
        groups: list[dict[str, list[_Value]]] = [{}]
        found = [(one, name) for name in PLACES for one in self._values(name, clause, part)]
        stop = 0
        for one, name in sorted(found):
            if name in groups[-1] and _JOINED.search(clause[stop : one.start]):
                groups.append({})
            groups[-1].setdefault(name, []).append(one)
            stop = one.end
        told = [{name: _nearest(values, after, name) for name, values in one.items()} for one in groups]
        for name in PLACES:  # what is said once holds for its neighbours: "right upper and lower"
            for neighbours in (told, told[::-1]):
                for last, one in pairwise(neighbours):
                    if name in last:
                        one.setdefault(name, last[name])
        sides: dict[str, dict[str, None]] = {}
        for one in told:
            sides.setdefault(one.get("zone", ""), {})[one.get("side", "")] = None
        return [_place(tuple(ways), zone) for zone, ways in sides.items()]

    def _values(self, name: str, clause: str, part: tuple[int, int]) -> list[_Value]:
        if name not in self._attributes:
            return []
        pattern, values = self._attributes[name]
        return [_Value(*one.span(), values[one.lastgroup]) for one in pattern.finditer(clause, *part)]


def _mention(
    finding: str, status: str, told: Mapping[str, str], text: str, millimetres: float = 0.0
) -> Mention:
    side, zone, severity = (told.get(name, "") for name in (*PLACES, "severity"))
    return Mention(
        finding,
        status,
        side,
        zone,
        severity,
        text=text,
        millimetres=millimetres,
        attributes=tuple(told.items()),
    )


def _nearest(found: Sequence[_Value], after: int, name: str = "") -> str:
    """The value nearest to a term that ends at `after`: the last before it, else the first behind it. Two
    sides without "and" between them are both."""
    if name == "side" and len({one.value for one in found}) > 1:
        return BILATERAL
    ahead = [one for one in found if one.start < after]
    return (ahead[-1] if ahead else found[0]).value


def _place(sides: Sequence[str], zone: str) -> dict[str, str]:
    side = sides[0] if len(sides) == 1 else BILATERAL
    return {name: value for name, value in (("side", side), ("zone", zone)) if value}


def _not_normal(pattern: re.Pattern[str], clause: str, start: int, end: int) -> bool:
    """Whether words for a normal state are denied: "heart size is not normal", but not "is not enlarged"."""
    said = clause[start:end]
    shorter = _NOT.sub("", said)
    if shorter != said:
        return pattern.search(shorter) is not None
    return _NOT_AHEAD.search(clause[:start]) is not None


@dataclass(frozen=True)
class _Heard:
    """The cues of one clause: what stands before terms, after them, ends a denial, or stands between two."""

    before: Sequence[re.Match[str]]
    after: Sequence[re.Match[str]]
    resets: Sequence[int]
    alternatives: Sequence[tuple[int, int]]

    def status(self, clause: str, term: _Term, terms: Sequence[_Term]) -> str:
        """The status of a term; "" if it tells of another time."""
        if term.fixed in (ABSENT, DENIED):
            return ABSENT if term.fixed == ABSENT else UNCERTAIN
        ahead = {match.lastgroup for match in self.before if self._reaches(clause, match, term)}
        if "past" in ahead:
            return ""
        behind = {match.lastgroup for match in self.after if _reaches_back(clause, match, term)}
        if ABSENT in ahead or (ABSENT in behind and UNCERTAIN not in behind):
            return ABSENT
        doubted = UNCERTAIN in ahead | behind or self._one_of_two(clause, term, terms)
        return UNCERTAIN if doubted or term.fixed == UNCERTAIN else PRESENT

    def _reaches(self, clause: str, cue: re.Match[str], term: _Term) -> bool:
        """Whether a cue before a term, or within its words, speaks of it."""
        if cue.start() >= term.end or cue.start() == term.start:
            return False
        if any(
            cue.end() <= reset + 1 and reset < term.start for reset in self.resets if reset >= cue.start()
        ):
            return False
        if cue.group() == "without" and _GOES_ON.search(clause, cue.end(), term.start):
            return False  # "a patient without cough has a nodule"
        return cue.lastgroup != "past" or "," not in clause[cue.end() : term.start]

    def _one_of_two(self, clause: str, term: _Term, terms: Sequence[_Term]) -> bool:
        """Whether "or" or "versus" stands right before or after the term, with another term beyond it."""
        for start, end in self.alternatives:
            left = [one for one in terms if one.end <= start and _near(clause, one.end, start)]
            right = [one for one in terms if one.start >= end and _near(clause, end, one.start)]
            if left and right and term in (*left, *right):
                return True
        return False


def _reaches_back(clause: str, cue: re.Match[str], term: _Term) -> bool:
    """Whether a cue after a term speaks of it: no other verb stands between."""
    return cue.start() >= term.end and not _VERB.search(clause, term.end, cue.start())


def _near(clause: str, start: int, end: int) -> bool:
    return end - start <= 32 and "," not in clause[start:end]


def _parts(clause: str, terms: Sequence[_Term]) -> dict[_Term, tuple[int, int]]:
    """For every term the part of the clause whose attributes are its own.

    Between two terms the border is the last comma or "and"; without one, the words between belong to the
    second term. Terms that overlap share their part.
    """
    groups: list[list[_Term]] = []
    for term in terms:
        if groups and term.start < max(one.end for one in groups[-1]):
            groups[-1].append(term)
        else:
            groups.append([term])
    parts, start = {}, 0
    for group, after in zip(groups, [*groups[1:], None], strict=True):
        end = len(clause)
        if after is not None:
            stop = max(term.end for term in group)
            joints = [match.start() for match in _JOINT.finditer(clause, stop, after[0].start)]
            end = joints[-1] if joints else stop
        parts.update(dict.fromkeys(group, (start, end)))
        start = end
    return parts


def _millimetres(measure: re.Match[str]) -> float:
    """The longest of "26 x 20 mm", in mm."""
    longest = max(float(number.replace(",", ".")) for number in _NUMBER.findall(measure.group(1)))
    return longest * (10 if measure.group(2).startswith("c") else 1)


# ------------------------------------------------------------------------------------------------ patterns


def _whole(pattern: str) -> str:
    """A pattern on whole words; a sign at its end, such as "?", is its own border."""
    left = r"(?<![\w-])" if pattern[0].isalnum() or pattern[0] == "(" else ""
    right = "" if pattern.endswith((r"\?", " ")) else r"(?!\w)"
    return f"{left}(?:{pattern}){right}"


def _any(patterns: Collection[str]) -> re.Pattern[str]:
    """One pattern for all of them; without any, one that never matches."""
    signs = [pattern for pattern in patterns if _whole(pattern) != _plainly(pattern)]
    words = "|".join(pattern for pattern in patterns if pattern not in signs)
    return re.compile("|".join([*([_plainly(words)] if words else []), *map(_whole, signs)]) or r"(?!)")


def _plainly(pattern: str) -> str:
    return rf"(?<![\w-])(?:{pattern})(?!\w)"


def _groups(**patterns: Collection[str]) -> re.Pattern[str]:
    """One pattern with a group for every kind of cue; where two begin at one place the first kind wins."""
    return re.compile("|".join(f"(?P<{kind}>{_any(ways).pattern})" for kind, ways in patterns.items()))


def _patterns(finding: Finding) -> list[tuple[str, re.Pattern[str]]]:
    kinds = ((UNCERTAIN, finding.uncertain), (ABSENT, finding.absent), ("", finding.patterns))
    return [(fixed, _any(patterns)) for fixed, patterns in kinds if patterns]


def _valued(values: Mapping[str, Collection[str]]) -> tuple[re.Pattern[str], dict[str, str]]:
    """One pattern for an attribute, and the value of each of its groups."""
    names = {f"v{place}": value for place, value in enumerate(values)}
    groups = [f"(?P<{name}>{'|'.join(values[value])})" for name, value in names.items()]
    return re.compile(rf"(?<![\w-])(?:{'|'.join(groups)})(?![\w-])"), names
