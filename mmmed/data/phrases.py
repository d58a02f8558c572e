"""Phrases about the pictures of a cohort, with masks: known, prepared, or the user's own.

    phrases = phrases_of(cohort["train"])                                # what comes with the cohort
    phrases = phrases_of(cohort, "my/expressions.csv")                   # record, expression, mask
    phrases = phrases_of(cohort, column="finding", mask="mask_finding")  # columns of its own table

A model that was never asked for what is not there draws a mask for every phrase, so empty phrases belong to
training and test. They are made only where they are false: for breast-us with the place of another patient's
lesion, where neither the middle nor most of this one lies; for lgg-mri with the other side, if no lesion
voxel lies there; for covid-cxr a finding in the lung in which a radiologist who drew it drew none of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import plain
from mmmed.data.masks import read_mask
from mmmed.data.phrase_tables import ABSENT, column_phrases, table_phrases
from mmmed.data.phrase_truth import ACQUISITION, CATEGORY, known_phrases
from mmmed.data.phrase_words import has_side, swap_sides
from mmmed.types import Image, Phrase, Volume, is_missing

if TYPE_CHECKING:
    from mmmed.data.view import View

TABLE = "expressions.csv"  # in a prepared folder
ACQUISITIONS = {"covid-cxr": "radiograph"}
ELSEWHERE = 0.5  # share of a lesion up to which a place counts as not its own
_PLACE = re.compile(r"\bin the ((?:[\w-]+ ){0,3})(?:part )?of the image\b")


@dataclass(frozen=True)
class Told:
    """How the table of a published cohort tells its phrases.

    mask: column and key. spacing: column, and mm per unit of it. several: a column that is filled where there
    is more than one lesion. normal: column and value of a picture without any. empty: what makes phrases that
    are false.
    """

    column: str
    mask: tuple[str, str | None]
    category: str
    acquisition: str
    empty: Callable[[Sequence[Phrase], np.random.Generator], list[Phrase]]
    spacing: tuple[str, float] | None = None
    several: str | None = None
    normal: tuple[str, str] | None = None


class NoPhrases(ValueError):
    """Nothing is asked about these records: no phrase was found, and nothing was wrong with what was read."""


def phrases_of(
    view: View,
    expressions: Any = None,
    *,
    column: str | None = None,
    mask: str | tuple[str, str] | None = None,
    category: str = "",
    acquisition: str = "",
    absent: bool = True,
    whole: bool = False,
    seed: int = 0,
) -> tuple[Phrase, ...]:
    """The phrases about those records of a cohort, or of a part of it, whose picture is there.

    expressions: a CSV, rows or Phrases (see `mmmed.data.phrase_tables`). column, mask: columns of the
    cohort's own table; mask may be (column, key). Neither: what comes with the cohort. category, acquisition:
    words for class tables, where the phrases have none. absent: with phrases of what is not there. whole: of
    the synthetic cohort, every phrase that can be made about a picture (to learn from) instead of two. seed:
    chooses the places that are named falsely.

    Raises NoPhrases (a ValueError) if there is no phrase, and ValueError for a table that does not fit the
    cohort.
    """
    if (column is None) != (mask is None) or (column is not None and expressions is not None):
        raise ValueError("Pass expressions=, or column= together with mask=, or none of them.")
    shown = pictured(view)
    if expressions is not None:
        found = table_phrases(view, shown, expressions, category, acquisition)
    elif column is not None:
        found = column_phrases(view, shown, column, mask, category, acquisition)
    elif view.source.truth is not None:
        found = known_phrases(view, category or CATEGORY, acquisition or ACQUISITION, whole)
    else:
        found = _prepared(view, shown, category, acquisition, absent, seed)
    found = found if absent else [phrase for phrase in found if not phrase.empty]
    if not found:
        raise NoPhrases(_nothing(view, expressions, column))
    return tuple(found)


def mask_of(phrase: Phrase) -> np.ndarray | None:
    """The mask of a phrase, bool [height width] or [depth height width]; None for what is not there."""
    if phrase.empty:
        return None
    where = f'record "{phrase.record}", mask of {plain(phrase.text)}'
    return read_mask(phrase.mask, key=phrase.key, folder=phrase.folder, where=where)


def pictured(view: View) -> dict[str, str]:
    """Record -> patient, for the records that show at least one picture or volume.

    Raises ValueError for a cohort that has neither.
    """
    kinds = [isinstance(modality, (Image, Volume)) for modality in view.schema.modalities.values()]
    if not any(kinds):
        raise ValueError(
            f"A phrase points into a picture, and {view.name!r} has none. Open the cohort with image= or "
            f"volume=."
        )
    seen = view.present[:, kinds].any(axis=1).tolist()
    facts = zip(view.ids.tolist(), view.groups.tolist(), seen, strict=True)
    return {record: patient for record, patient, here in facts if here}


def lesions_of(view: View) -> dict[str, str]:
    """Record -> "none" or "several", for the records whose picture is known to show no lesion, or more than
    one."""
    ids = view.ids.tolist()
    if view.source.truth is not None:
        counts = [len(view.truth.made.scenes[row].lesions) for row in view.rows.tolist()]
        told = {0: "none", 1: ""}
        return {record: told.get(n, "several") for record, n in zip(ids, counts, strict=True) if n != 1}
    facts, found = _told(view), {}
    if facts is not None and facts.several in view.source.columns:
        cells = zip(ids, view.column(facts.several), strict=True)
        found |= {record: "several" for record, cell in cells if not is_missing(cell)}
    if facts is not None and facts.normal is not None and facts.normal[0] in view.source.columns:
        cells = zip(ids, view.column(facts.normal[0]), strict=True)
        found |= {record: "none" for record, cell in cells if cell == facts.normal[1]}
    return found


# ---------------------------------------------------------------------------------------- published cohorts


def _told(view: View) -> Told | None:
    facts = TOLD.get(view.name)
    there = facts is not None and {facts.column, facts.mask[0]} <= set(view.source.columns)
    return facts if there else None


def _prepared(
    view: View, shown: Mapping[str, str], category: str, acquisition: str, absent: bool, seed: int
) -> list[Phrase]:
    """What comes with a prepared folder, and phrases that are false of its pictures."""
    facts = _told(view)
    if facts is not None:
        spacing = _spacing(view, facts)
        names = category or facts.category, acquisition or facts.acquisition
        found = column_phrases(view, shown, facts.column, facts.mask, *names, spacing)
        known = lesions_of(view)
        single = [phrase for phrase in found if known.get(phrase.record) != "several"]
        return _paired(found, facts.empty(single, np.random.default_rng(seed)) if absent else [])
    table = Path(view.folder, TABLE) if view.folder is not None else None
    if table is None or not table.is_file():
        return []
    found = table_phrases(view, shown, table, category, acquisition or ACQUISITIONS.get(view.name, ""))
    found = [replace(p, category=p.category or p.text.removeprefix("the ")) for p in found]
    return found + (spared_sides(found) if absent else [])


def _spacing(view: View, facts: Told) -> dict[str, tuple[float, float]]:
    """Record -> mm per pixel, (row, column)."""
    if facts.spacing is None or facts.spacing[0] not in view.source.columns:
        return {}
    column, millimetres = facts.spacing
    cells = zip(view.ids.tolist(), view.column(column), strict=True)
    sizes = {record: millimetres * float(cell) for record, cell in cells if not is_missing(cell)}
    return {record: (size, size) for record, size in sizes.items()}


def _paired(found: Sequence[Phrase], empty: Sequence[Phrase]) -> list[Phrase]:
    """Every false phrase right after the true one of its record."""
    others = {phrase.record: phrase for phrase in empty}
    pairs = ((phrase, others.get(phrase.record)) for phrase in found)
    return [phrase for pair in pairs for phrase in pair if phrase is not None]


# ------------------------------------------------------------------------------------ phrases that are false


def other_places(phrases: Sequence[Phrase], generator: np.random.Generator) -> list[Phrase]:
    """For each phrase with a place "in the ... of the image" the same with another patient's place.

    The place is drawn from those that differ, so that it is no rarer among the false phrases than among the
    true ones. The words of this cohort name the ninth in which the middle of the lesion lies, so a place is
    false by the same rule, although a large lesion may reach into it. A place that holds most of the lesion
    gives no phrase.
    """
    told = [(phrase, _PLACE.search(phrase.text)) for phrase in phrases]
    told = [(phrase, match) for phrase, match in told if match]
    found = []
    for phrase, match in told:
        others = [
            other.group() for of, other in told if of.group != phrase.group and other.group() != match.group()
        ]
        if not others:
            continue
        place = others[int(generator.random() * len(others))]
        lesion = mask_of(phrase)
        if lesion[_cell(place, lesion.shape)].sum() <= ELSEWHERE * lesion.sum():
            text = phrase.text.replace(match.group(), place)
            found.append(replace(phrase, text=text, mask=None, key=None))
    return found


def _cell(place: str, shape: tuple[int, int]) -> tuple[slice, slice]:
    """The ninth of a picture that a place names: thirds by height and width."""
    named = (("upper", "lower"), ("left", "right"))
    thirds = [0 if first in place else 2 if last in place else 1 for first, last in named]
    return tuple(  # type: ignore[return-value]
        slice(round(n * third / 3), round(n * (third + 1) / 3))
        for n, third in zip(shape, thirds, strict=True)
    )


def other_sides(phrases: Iterable[Phrase], generator: np.random.Generator | None = None) -> list[Phrase]:
    """For each phrase with one side the same with the other side, where the lesion has no voxel there.

    Sides are the patient's, whose left lies on the picture's right. The middle of the picture counts as the
    middle of the head.
    """
    found = []
    for phrase in phrases:
        text = swap_sides(phrase.text)
        if text == phrase.text or re.search(r"\bleft\b.*\bright\b|\bright\b.*\bleft\b", text):
            continue
        lesion = mask_of(phrase)
        middle = lesion.shape[-1] // 2
        named = lesion[..., middle:] if "left" in text else lesion[..., :middle]
        if not named.any():
            found.append(replace(phrase, text=text, mask=None, key=None))
    return found


def spared_sides(phrases: Sequence[Phrase]) -> list[Phrase]:
    """ "the consolidation in the left lung", where the consolidation and the left lung are drawn and do not
    meet.

    Only what is said so of another record is said.
    """
    sayings, records = {phrase.text for phrase in phrases}, {}
    for phrase in phrases:
        records.setdefault(phrase.record, {})[phrase.text] = phrase
    found = []
    for told in records.values():
        for finding in told.values():
            for side in (phrase for phrase in told.values() if has_side(phrase.text)):
                text = f"{finding.text} in {side.text}"
                if text in sayings and text not in told and not (mask_of(finding) & mask_of(side)).any():
                    category = text.removeprefix("the ")
                    found.append(replace(finding, text=text, mask=None, key=None, category=category))
    return found


TOLD = {
    "breast-us": Told(
        column="expression_templated",
        mask=("mask_lesion", None),
        category="lesion",
        acquisition="ultrasound",
        empty=other_places,
        spacing=("cm_per_pixel", 10.0),
        several="mask_other",
        normal=("classification", "normal"),
    ),
    "lgg-mri": Told(
        column="expression_templated",
        mask=("volume", "mask"),
        category="lesion",
        acquisition="flair MR",
        empty=other_sides,
    ),
}


def _nothing(view: View, expressions: Any, column: str | None) -> str:
    """What was looked for in vain, and how phrases are passed."""
    if expressions is not None:
        looked = "expressions= has none about a record of this part whose picture is there and mask is known"
    elif column is not None:
        looked = f'no record with a picture has both words in "{column}" and a mask'
    elif view.source.truth is not None:
        looked = "no record of this synthetic cohort shows its picture"
    else:
        looked = (
            f"there is no {TABLE} in {view.folder}, or none about these records, and no table of phrases is "
            f"known for {view.name!r}"
        )
    return (
        f"No phrases: {looked}. Pass expressions= (a CSV with the columns record, expression and mask, where "
        f'"{ABSENT[0]}" stands for what is known not to be there), or column= and mask= (columns of the '
        f"cohort's own table)."
    )
