"""Notes and reports from a grammar, each with its exact label set, and the parser that reads them back.

The **note** is what a model reads: the history (it carries t) and a short finding with place and size of
the largest nodule (r, as a word or a measurement). It never tells margin or density, so the text sees t and
r and nothing else. The **report** (findings, impression) is what a model may be asked to write: it also
tells margin, density and further lesions, all of which the picture shows. The **whole report** puts history
and laboratory before the findings: each of its sentences needs exactly one modality (text, table or image)
and cannot be written without it. Doubt ("possible effusion") and negation ("no effusion") never touch t or
r.

The style depends on the site: A writes history then findings, B abbreviates, C puts the findings first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from mmmed.data.synthetic import words
from mmmed.data.synthetic.scene import MARGINS, Lesion, Scene
from mmmed.data.synthetic.table import FACTOR_CELLS
from mmmed.data.synthetic.words import FULL, SHORT, Statement

SUSPICIONS = ("absent", "uncertain", "present")  # by margin, a = -1, 0, +1
STYLES = {"A": FULL, "B": SHORT, "C": FULL}
NOTE_ORDERS = {
    "A": "History: {history}. Findings: {findings}.",
    "B": "Hx {history}. {findings}.",
    "C": "{findings}. Clinical history: {history}.",
}


def write_note(
    scene: Scene, history: int, generator: np.random.Generator
) -> tuple[str, tuple[Statement, ...]]:
    """The note of one visit and its label set. history: the level of t, -1, 0 or +1."""
    style = STYLES[scene.site]
    finding, status, ways = words.HISTORIES[history + 1]
    clauses = [_main_nodule(scene, style, generator), _effusion(scene, style, generator)]
    if generator.random() < 0.3:
        clauses.append(_no_pneumothorax(style, generator))
    text = NOTE_ORDERS[scene.site].format(
        history=_pick(ways, generator), findings=". ".join(_capital(clause) for clause, _ in clauses)
    )
    return text, (Statement(finding, status), *[statement for _, statement in clauses])


def write_report(
    scene: Scene, generator: np.random.Generator
) -> tuple[str, str, tuple[Statement, ...], tuple[Statement, ...]]:
    """Findings and impression of one visit, and the label set of each."""
    style = STYLES[scene.site]
    clauses = [_nodule(lesion, style, generator, further=not lesion.index) for lesion in scene.lesions]
    if not scene.lesions:
        clauses.append(_no_nodule(style, generator))
    clauses += [_effusion(scene, style, generator), _no_pneumothorax(style, generator)]
    findings = _text(clauses)
    closing = [_main_nodule(scene, style, generator)]
    if scene.lesions:
        closing.append(_suspicion(scene.lesions[0], style, generator))
    return findings, _text(closing), _labels(clauses), _labels(closing)


def write_background(
    scene: Scene, level: Mapping[str, int], generator: np.random.Generator
) -> tuple[str, tuple[Statement, ...]]:
    """What a whole report says before the picture, and its label set: the history, which only the note tells,
    and two laboratory values, which only the table does. level: of each factor, -1, 0 or +1.
    """
    style = STYLES[scene.site]
    finding, status, ways = words.HISTORIES[level["t"] + 1]
    head = "hx" if style == SHORT else "history of"
    clauses = [(f"{head} {_pick(ways, generator)}", Statement(finding, status))]
    for column, factor in FACTOR_CELLS.items():
        finding, statuses = words.LABORATORY[column]
        status = statuses[level[factor] + 1]
        ways = words.LABORATORY_WAYS[finding, status]
        clauses.append((ways[0] if style == SHORT else _pick(ways, generator), Statement(finding, status)))
    return _text(clauses), _labels(clauses)


def parse(text: str) -> tuple[Statement, ...]:
    """Read a note, findings or an impression back into its label set, sorted.

    Raises ValueError for a clause that states none of the findings of the grammar.
    """
    clauses = [clause.strip() for clause in re.split(r"[.]\s*", text) if clause.strip()]
    return ordered(_parse_clause(clause) for clause in clauses)


def ordered(statements: Sequence[Statement]) -> tuple[Statement, ...]:
    """Statements in a fixed order, so that two label sets can be compared."""
    return tuple(sorted(statements, key=lambda s: (s.finding, s.side, s.zone, s.status, s.size)))


def history_level(statements: Sequence[Statement]) -> int:
    """The level of t that a note's label set states."""
    told = {(statement.finding, statement.status) for statement in statements}
    return next(
        place - 1 for place, (finding, status, _) in enumerate(words.HISTORIES) if (finding, status) in told
    )


# ---------------------------------------------------------------------------------------------------- writing


def _main_nodule(scene: Scene, style: str, generator: np.random.Generator) -> tuple[str, Statement]:
    """The largest nodule by place and size, as a word or in mm; "no nodule" where there is none."""
    if not scene.lesions:
        return _no_nodule(style, generator)
    lesion = scene.lesions[0]
    name = _pick(words.FINDINGS["nodule"], generator)
    size, millimetres = _size(lesion, generator)
    place = _place(lesion, style)
    if style == SHORT:
        text = f"{name} {place} {size}" if millimetres else f"{size} {name} {place}"
    else:
        text = f"{_a(name)} of {size} in the {place}" if millimetres else f"{_a(size)} {name} in the {place}"
    return text, Statement("nodule", "present", lesion.side, lesion.zone, lesion.size, millimetres)


def _nodule(
    lesion: Lesion, style: str, generator: np.random.Generator, further: bool
) -> tuple[str, Statement]:
    """A lesion with all that the picture shows of it."""
    name = _pick(words.FINDINGS["nodule"], generator)
    size, millimetres = _size(lesion, generator)
    margin = _pick(words.MARGINS[lesion.margin], generator)
    density = _pick(words.DENSITIES[lesion.density], generator)
    place = _place(lesion, style)
    head = "" if millimetres else f"{size} "
    measure = f", {size}" if millimetres else ""
    article = "" if style == SHORT else "a further " if further else "a "
    inside = " " if style == SHORT else " in the "
    text = f"{article}{head}{margin} {density} {name}{inside}{place}{measure}"
    return text, Statement(
        "nodule", "present", lesion.side, lesion.zone, lesion.size, millimetres, lesion.margin, lesion.density
    )


def _no_nodule(style: str, generator: np.random.Generator) -> tuple[str, Statement]:
    name = _pick(words.FINDINGS["nodule"], generator)
    return f"neg for {name}" if style == SHORT else f"no {name}", Statement("nodule", "absent")


def _effusion(scene: Scene, style: str, generator: np.random.Generator) -> tuple[str, Statement]:
    side = scene.effusion_side
    if style == SHORT:
        ways = {"absent": ("no eff",), "uncertain": (f"query eff {side}",), "present": (f"eff {side}",)}
    else:
        ways = {
            "absent": ("no effusion", "no pleural fluid", "an effusion is not seen"),
            "uncertain": (
                f"possible effusion on the {side}",
                f"an effusion on the {side} cannot be excluded",
            ),
            "present": (f"effusion on the {side}", f"pleural fluid on the {side}"),
        }
    told = "" if scene.effusion == "absent" else side
    return _pick(ways[scene.effusion], generator), Statement("effusion", scene.effusion, told)


def _no_pneumothorax(style: str, generator: np.random.Generator) -> tuple[str, Statement]:
    ways = ("no ptx",) if style == SHORT else ("no pneumothorax", "a pneumothorax is not seen")
    return _pick(ways, generator), Statement("pneumothorax", "absent")


def _suspicion(lesion: Lesion, style: str, generator: np.random.Generator) -> tuple[str, Statement]:
    """How the margin looks to the reader: a statement about the picture, not about the diagnosis."""
    status = SUSPICIONS[MARGINS.index(lesion.margin)]
    ways = {
        "absent": ("not suspicious", "the margin is not suspicious"),
        "uncertain": ("possibly suspicious", "the margin may be suspicious"),
        "present": ("suspicious", "the margin is suspicious"),
    }
    return ways[status][0] if style == SHORT else _pick(ways[status], generator), Statement(
        "suspicion", status
    )


def _size(lesion: Lesion, generator: np.random.Generator) -> tuple[str, int]:
    if generator.random() < 0.5:
        return f"{lesion.millimetres} mm", lesion.millimetres
    return _pick(words.SIZES[lesion.size], generator), 0


def _place(lesion: Lesion, style: str) -> str:
    return (
        words.PLACES_SHORT[lesion.side, lesion.zone]
        if style == SHORT
        else f"{lesion.side} {lesion.zone} zone"
    )


def _pick(ways: Sequence[str], generator: np.random.Generator) -> str:
    return ways[int(generator.random() * len(ways))]


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def _capital(clause: str) -> str:
    return clause[0].upper() + clause[1:]


def _text(clauses: Sequence[tuple[str, Statement]]) -> str:
    return ". ".join(_capital(clause) for clause, _ in clauses) + "."


def _labels(clauses: Sequence[tuple[str, Statement]]) -> tuple[Statement, ...]:
    return tuple(statement for _, statement in clauses)


# ---------------------------------------------------------------------------------------------------- parsing


def _search(phrases: Mapping[str, Sequence[str]]) -> tuple[re.Pattern[str], dict[str, str]]:
    """One pattern for all phrases, longest first, and the meaning of each phrase."""
    meaning = {phrase.lower(): name for name, ways in phrases.items() for phrase in ways}
    longest = sorted(meaning, key=len, reverse=True)
    return re.compile(r"(?<![\w-])(" + "|".join(map(re.escape, longest)) + r")(?![\w-])"), meaning


_FINDING = _search(words.FINDINGS)
_SIZE = _search(words.SIZES)
_MARGIN = _search(words.MARGINS)
_DENSITY = _search(words.DENSITIES)
_SIDE = _search(words.SIDES)
_ZONE = _search(words.ZONES)
_SHORT_PLACE = _search({f"{side} {zone}": (short,) for (side, zone), short in words.PLACES_SHORT.items()})
_STATUS = _search({"absent": words.NEGATIONS, "uncertain": words.HEDGES})
_MEASURE = re.compile(r"(\d+) mm")


def _found(search: tuple[re.Pattern[str], dict[str, str]], clause: str) -> str:
    pattern, meaning = search
    match = pattern.search(clause)
    return meaning[match.group(1)] if match else ""


def _parse_clause(clause: str) -> Statement:
    lower = clause.lower()
    finding = _found(_FINDING, lower)
    if not finding:
        raise ValueError(
            f"No finding of the grammar in the clause {clause!r}. Known: {', '.join(words.FINDINGS)}."
        )
    status = _found(_STATUS, lower) or "present"
    short = _found(_SHORT_PLACE, lower)
    side, zone = short.split() if short else (_found(_SIDE, lower), _found(_ZONE, lower))
    measure = _MEASURE.search(lower)
    millimetres = int(measure.group(1)) if measure else 0
    size = words.size_word(millimetres) if millimetres else _found(_SIZE, lower)
    return Statement(
        finding, status, side, zone, size, millimetres, _found(_MARGIN, lower), _found(_DENSITY, lower)
    )
