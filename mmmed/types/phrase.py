"""Phrase: words that point into the picture of one record, with the answer where it is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mmmed.checks import plain


@dataclass(frozen=True)
class Phrase:
    """A referring expression, "the larger nodule on the right", about the picture or volume of one record.

    mask: where it is: a path inside `folder`, or an array [height width] or [depth height width] of 0 and 1;
    True: it is there, but nobody drew where (a weak label); None: there is no such thing in the picture, and
    that is known (an empty target). key: the array inside an .npz. group: the patient it is about; None = the
    record's. category: what it is ("lesion", "left lung"), acquisition: how the picture was made
    ("ultrasound", "flair MR"): the words of a class table. spacing: mm per pixel on the mask's own grid,
    (row, column) or (depth, row, column).

    Raises ValueError for a phrase without words and a spacing that is no positive length.
    """

    record: str
    text: str
    mask: Any = field(default=None, repr=False, compare=False)
    key: str | None = None
    group: str | None = None
    category: str = ""
    acquisition: str = ""
    spacing: tuple[float, ...] | None = None
    folder: str | None = None

    def __post_init__(self) -> None:
        check_phrase(self.text)
        if self.spacing is not None:
            object.__setattr__(self, "spacing", check_spacing(self.spacing))

    @property
    def empty(self) -> bool:
        """Whether the picture is known not to show it."""
        return self.mask is None

    @property
    def drawn(self) -> bool:
        """Whether there is a mask."""
        return self.mask is not None and self.mask is not True


def check_phrase(text: Any) -> str:
    """A text with at least one letter or digit."""
    if not isinstance(text, str) or not any(letter.isalnum() for letter in text):
        raise ValueError(
            f'A phrase should say what to look for, such as "the lesion on the left", got {plain(text)}.'
        )
    return text


def check_spacing(spacing: Any) -> tuple[float, ...]:
    """Millimetres per pixel: two or three positive lengths."""
    try:
        lengths = tuple(float(length) for length in spacing)
    except (TypeError, ValueError):
        lengths = ()
    if len(lengths) not in (2, 3) or not all(0 < length < float("inf") for length in lengths):
        raise ValueError(
            "spacing should be (row, column) or (depth, row, column) in mm per pixel, all positive, got "
            f"{plain(spacing)}. Leave it out if it is not known."
        )
    return lengths
