"""What a card says against what the data say: one sentence per difference.

Counts must be equal. In parts that were measured with chance in them (baselines, intervals) numbers with a
decimal point may differ by the tolerance of the part.
"""

from __future__ import annotations

import re
from itertools import zip_longest

from mmmed.checks import plain

_NUMBER = re.compile(r"-?\d+\.\d+")


def differences(name: str, written: str, counted: str, tolerance: float) -> list[str]:
    """The sentences about one counted part, in the order of its lines."""
    if written == counted:
        return []
    told, found = _keyed(written), _keyed(counted)
    if list(told) != list(found):
        gone, new = (
            [key for key in these if key not in others] for these, others in ((told, found), (found, told))
        )
        return [
            *(f"{name}: the card says {_short(told[key])}, the data do not." for key in gone),
            *(f"{name}: the data say {_short(found[key])}, the card does not." for key in new),
        ] or [f"{name}: the lines stand in another order than the data give them."]
    return [
        f"{name}, {spot}: the card says {old}, the data say {new}."
        for key in told
        for spot, old, new in _cells(key, told[key], found[key], tolerance)
    ]


def _keyed(text: str) -> dict[str, str]:
    """A name for each line (its table and first cell, or its words without numbers) -> the line."""
    lines: dict[str, str] = {}
    head = ""
    for line in text.splitlines():
        if not line.strip():
            head = ""
            continue
        if line.startswith("|"):
            first = _split(line)[0]
            head = head or f"{first}|"
            key = head + first
        else:
            key = re.sub(r"\d[\d.,]*", "#", line)
        while key in lines:
            key += "'"
        lines[key] = line
    return lines


def _split(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def _cells(key: str, old: str, new: str, tolerance: float) -> list[tuple[str, str, str]]:
    """Where two lines of the same name differ: place, what the card says, what the data say."""
    if not new.startswith("|"):
        return [] if _near(old, new, tolerance) else [("in words", _short(old), _short(new))]
    spot = _split(new)[0]
    pairs = zip_longest(_split(old), _split(new), fillvalue="")
    return [(f"line {spot}", plain(a), plain(b)) for a, b in pairs if not _near(a, b, tolerance)]


def _near(old: str, new: str, tolerance: float) -> bool:
    """Equal but for decimal numbers that lie within the tolerance."""
    if old == new:
        return True
    if not tolerance or _NUMBER.sub("#", old) != _NUMBER.sub("#", new):
        return False
    pairs = zip(_NUMBER.findall(old), _NUMBER.findall(new), strict=True)
    return all(abs(float(a) - float(b)) <= tolerance for a, b in pairs)


def _short(line: str) -> str:
    return plain(line, 120)
