"""Phrases as a table of classes hears them: one question for each class and record."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from mmmed.training.mask_lessons import Lessons

if TYPE_CHECKING:
    from mmmed.models.phrase_reader import ClassReader


def by_class(lessons: Lessons, reader: ClassReader) -> Lessons:
    """One phrase for each class of a record: it points at everything that any phrase of the class points at.

    "The nodule on the left" and "the nodule on the right" are both asked as "nodule" where only the class is
    read; left as they are, the same question would have two answers. A class is not there only if every
    phrase about it says so, and nobody knows where all of it is if one of its things was not drawn. What a
    phrase does not say of its class is read from its words, as when it is asked.
    """
    groups: dict[tuple[int, str, str], list[int]] = {}
    for index, (phrase, row) in enumerate(zip(lessons.phrases, lessons.row.tolist(), strict=True)):
        groups.setdefault((row, reader.category(phrase), reader.acquisition(phrase)), []).append(index)
    phrases, rows, there, region, drawn = [], [], [], [], []
    for (row, category, acquisition), members in groups.items():
        first = lessons.phrases[members[0]]
        phrases.append(replace(first, text=category, category=category, acquisition=acquisition))
        rows.append(row)
        there.append(bool(lessons.there[members].any()))
        known = bool(lessons.known[members].all())
        own = sorted({int(k) for k in lessons.region[members]} - {-1}) if known else []
        region.append(len(drawn) if own else -1)
        if own:
            drawn.append(lessons.regions[own].amax(0))
    true_of: dict[int, list[int]] = {}
    false_of: dict[int, list[int]] = {}
    for index, (row, here) in enumerate(zip(rows, there, strict=True)):
        (true_of if here else false_of).setdefault(row, []).append(index)
    return Lessons(
        lessons.supply,
        tuple(phrases),
        torch.tensor(rows, dtype=torch.long),
        torch.tensor(there, dtype=torch.bool),
        torch.tensor(region, dtype=torch.long),
        torch.stack(drawn) if drawn else lessons.regions[:0],
        {row: tuple(found) for row, found in true_of.items()},
        {row: tuple(found) for row, found in false_of.items()},
    )
