"""Words of place and size in a phrase: which there are, and the same phrase with one of them turned round.

A model that reads the words must change its mask when "left" becomes "right"; one that has learned where
lesions usually lie does not. Swaps keep case and all else; every swap undoes itself.

"left" and "right" are swapped wherever they stand as whole words ("right-sided" has one). A single L or R is
a side only before a word of the body ("L lung") or "-sided", and in the usual short forms of lobes, zones and
quadrants (RUL, LLZ, RUQ). What names a place and cannot be swapped ("2 o'clock", "column 3", RML) is found by
`turns`: a picture with such a phrase must not be mirrored.

Only English words are known. A phrase in another language has, for this module, neither place nor size.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

SIDES = (("left", "right"), ("leftmost", "rightmost"), ("leftward", "rightward"))
SIDES_SHORT = (  # the right middle lobe (RML) has no twin on the left
    ("LUL", "RUL"),
    ("LLL", "RLL"),
    ("LUZ", "RUZ"),
    ("LMZ", "RMZ"),
    ("LLZ", "RLZ"),
    ("LUQ", "RUQ"),
    ("LLQ", "RLQ"),
)
SINGLE = ("L", "R")
AFTER_SINGLE = (
    *("side", "sided", "upper", "middle", "mid", "lower", "basal", "apical", "base", "apex"),
    *("lung", "lungs", "lobe", "hilum", "hemithorax", "hemidiaphragm", "pleural", "pleura", "costophrenic"),
    *("hemisphere", "frontal", "parietal", "temporal", "occipital", "eye", "ventricle", "atrium"),
    *("breast", "axilla", "kidney", "renal", "adrenal", "ovary", "clavicle", "shoulder", "hip", "knee"),
)
NUMBER = r"(?:\d+|[ivx]+|one|two|three|four|five|six|seven|eight|nine|ten)"
ORDINAL = r"(?:\d+(?:st|nd|rd|th)|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last)"
UNTURNED = (  # places that stay what they are called when the picture is mirrored, in any case of letters
    r"\bo\s?['’`´]?\s?clock\b",
    r"clockwise\b",
    rf"\b(?:column|col|row|quadrant)s?\.?\s?(?:no\.?\s?|number\s|#)?{NUMBER}\b",
    rf"\b{ORDINAL}\s(?:column|row|quadrant)s?\b",
    r"\b[xy]\s?=\s?\d",
    r"\bmiddle\slobe\b|\blingular?\b",  # each is on one side only
)
UNTURNED_SHORT = ("RML", *("LV", "RV", "LA", "RA"), *("LCC", "RCC", "LMLO", "RMLO"))  # lobe, heart, views

HEIGHTS = (
    ("upper", "lower"),
    ("uppermost", "lowermost"),
    ("top", "bottom"),
    ("superior", "inferior"),
    ("superiorly", "inferiorly"),
    ("apical", "basal"),
    ("above", "below"),
)
MIDDLES = {"middle": "lower"}  # no twin: another zone, not a swap

SIZES = (
    ("large", "small"),
    ("larger", "smaller"),
    ("largest", "smallest"),
    ("big", "little"),
    ("bigger", "littler"),
    ("huge", "tiny"),
)
MEDIUM = {"medium-sized": "large", "mid-sized": "large", "medium": "large"}
BARE_SIZES = ("biggest", "minute", "sub-centimetre", "subcentimetre")  # sizes that are not swapped
MEASURE = r"(?<![\w.])\d+(?:[.,]\d+)?\s?(?:mm|cm|millimet(?:re|er)s?|centimet(?:re|er)s?)(?!\w)"

PLACES = (  # beside sides and heights
    "middle",
    "central",
    "centrally",
    "centre",
    "center",
    "peripheral",
    "perihilar",
    "hilar",
    "medial",
    "lateral",
    "anterior",
    "posterior",
    "frontal",
    "temporal",
    "parietal",
    "occipital",
    "apex",
    "base",
)


def _forms(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Word -> its twin, both ways, in lower case, Capitals and CAPITALS."""
    forms = {}
    for first, second in pairs:
        for change in (str.lower, str.capitalize, str.upper):
            forms |= {change(first): change(second), change(second): change(first)}
    return forms


def _pattern(words: Iterable[str]) -> str:
    """Any of the words, whole, the longest first."""
    return r"(?<!\w)(?:" + "|".join(map(re.escape, sorted(words, key=len, reverse=True))) + r")(?!\w)"


_SIDES = _forms(SIDES) | {a: b for pair in SIDES_SHORT for a, b in (pair, pair[::-1])}
_LETTERS = dict([SINGLE, SINGLE[::-1]])
_SIDE = re.compile(
    f"{_pattern(_SIDES)}|(?<!\\w)[{''.join(SINGLE)}](?=[ -](?:{'|'.join(AFTER_SINGLE)})(?!\\w))"
)
_UNTURNED = re.compile("|".join(UNTURNED), re.IGNORECASE)
_UNTURNED_SHORT = re.compile(_pattern(UNTURNED_SHORT))
_LEFT_OVER = re.compile(rf"(?<!\w)(?:(?:left|right)\w*|[{''.join(SINGLE)}](?!\w))", re.IGNORECASE)
_HEIGHTS = _forms(HEIGHTS)
_HEIGHT = re.compile(_pattern(_HEIGHTS))
_SIZES = _forms(SIZES)
_SIZE = re.compile(_pattern(_SIZES))
_MIDDLE = re.compile(_pattern(MIDDLES))
_MEDIUM = re.compile(_pattern(MEDIUM))
_PLACE = re.compile(_pattern(PLACES), re.IGNORECASE)
_ANY_SIZE = re.compile(f"{_pattern([*_SIZES, *MEDIUM, *BARE_SIZES])}|{MEASURE}", re.IGNORECASE)


def swap_sides(text: str) -> str:
    """ "the left lung" -> "the right lung"."""
    return _swap(_SIDE, _SIDES | _LETTERS, text)


def swap_heights(text: str) -> str:
    """ "the upper zone" -> "the lower zone"; also top, superior, apical, above and their opposites."""
    return _swap(_HEIGHT, _HEIGHTS, text)


def swap_sizes(text: str) -> str:
    """ "the larger of the two" -> "the smaller of the two". Measures stay."""
    return _swap(_SIZE, _SIZES, text)


def has_side(text: str) -> bool:
    """Whether a side is named."""
    return bool(_SIDE.search(text))


def turns(text: str) -> bool:
    """Whether the phrase stays true of a picture mirrored from left to right once `swap_sides` has turned it.

    True also where no place is named. False for "2 o'clock", "column 3", "the second row", RML, the lingula,
    an L or R that no known word follows, and spellings of left and right that are not swapped ("leftwards").
    What `swap_heights` cannot turn, for a picture mirrored from top to bottom, is the same, and besides the
    short forms of lobes, zones and quadrants.
    """
    if _UNTURNED.search(text) or _UNTURNED_SHORT.search(text):
        return False
    return not _LEFT_OVER.search(_SIDE.sub("", text))


def has_place(text: str) -> bool:
    """Whether the phrase says where: a side, a height, or a word such as "centre" or "frontal"."""
    return has_side(text) or bool(_HEIGHT.search(text) or _PLACE.search(text))


def has_size(text: str) -> bool:
    """Whether the phrase says how large: a word, a comparison, or a measure in mm or cm."""
    return bool(_ANY_SIZE.search(text))


def relation_swaps(text: str) -> tuple[tuple[str, str], ...]:
    """What else the phrase could have said: (kind, text) for the kinds "side", "zone" and "size" it names.

    "the small nodule in the left upper zone" -> ("side", "... right upper zone"), ("zone", "... left lower
    zone"), ("size", "the large nodule ..."). "middle" and "medium", which have no twin, become "lower" and
    "large".
    """
    found = (
        ("side", swap_sides(text)),
        ("zone", swap_heights(text) if _HEIGHT.search(text) else _swap(_MIDDLE, MIDDLES, text)),
        ("size", swap_sizes(text) if _SIZE.search(text) else _swap(_MEDIUM, MEDIUM, text)),
    )
    return tuple((kind, other) for kind, other in found if other != text)


def _swap(pattern: re.Pattern[str], twins: Mapping[str, str], text: str) -> str:
    return pattern.sub(lambda match: twins[match.group()], text)
