"""Border checks: what was expected, what came, what to do.

Public functions check their input once and trust it afterwards. Everything here raises `ValueError` (or a
subclass) with one sentence for each of the three questions. No check needs torch to be imported.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any


class UnreadableFile(ValueError):
    """A file that is there but cannot be read as what the schema says it is."""


class MissingFile(ValueError):
    """A path in the table that leads to no file."""


class UnsafePath(ValueError):
    """A path that leaves the cohort's folder: absolute, with `..`, or through a symbolic link."""


def plain(value: object, limit: int = 60) -> str:
    """A short, single-line rendering of any value for an error message."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def listing(names: Iterable[object], limit: int = 12) -> str:
    """Names joined by commas, cut after `limit`: 'age, sex, crp, and 9 more'."""
    names = [str(name) for name in names]
    if not names:
        return "none"
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown}, and {len(names) - limit} more"


def suggestion(name: str, known: Iterable[str]) -> str:
    """' Did you mean "image"?' if a known name is close, else ''."""
    close = difflib.get_close_matches(str(name), [str(item) for item in known], n=1, cutoff=0.6)
    return f' Did you mean "{close[0]}"?' if close else ""


def check_known(name: str, known: Iterable[str], *, what: str) -> str:
    """Return `name` if it is among `known`; otherwise say what there is and what was probably meant."""
    known = list(known)
    if name not in known:
        raise ValueError(f"Unknown {what} {plain(name)}.{suggestion(name, known)} Known: {listing(known)}.")
    return name


def check_shape(value: Any, axes: str, *, name: str, hint: str = "", **sizes: int) -> None:
    """Check a tensor's number of axes and the sizes that are given by name.

    value: anything with `.shape`; axes: words such as "batch features"; sizes: expected length of an axis.

        check_shape(values, "batch features", name="labs", features=12, hint="The schema lists 12 columns.")
    """
    words = axes.split()
    shape = tuple(value.shape)
    wanted = [sizes.get(word) for word in words]
    fits = len(shape) == len(words) and all(w is None or w == s for w, s in zip(wanted, shape, strict=True))
    if not fits:
        expected = " ".join(
            word if size is None else f"{word}={size}" for word, size in zip(words, wanted, strict=True)
        )
        raise ValueError(f"{name} should have shape [{expected}], got {list(shape)}. {hint}".rstrip())


def check_share(value: float, *, name: str) -> float:
    """Return a number between 0 and 1, both included."""
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"{name} should be a number between 0 and 1, got {plain(value)}.")
    return float(value)


def check_count(value: int, *, name: str, least: int = 1) -> int:
    """Return a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} should be a whole number of at least {least}, got {plain(value)}.")
    return value


def check_scale(mean: float, scale: float, *, name: str) -> None:
    """Check the numbers that standardise a value: (value - mean) / scale must be finite."""
    if not (math.isfinite(mean) and math.isfinite(scale) and scale > 0):
        raise ValueError(f"{name}: mean must be finite and scale positive, got {mean}, {scale}.")


def needs(package: str, extra: str) -> ImportError:
    """The error for an optional package that is not installed, with the line that installs it."""
    return ImportError(
        f'This needs the package "{package}". Install it with: python -m pip install "mmmed[{extra}]"'
    )
