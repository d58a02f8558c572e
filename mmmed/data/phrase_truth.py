"""Phrases about synthetic pictures, whose answers are known: referring expressions, sentences of reports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from mmmed.data.synthetic.expressions import Expression, every
from mmmed.data.synthetic.scene import FIELD, Scene
from mmmed.data.synthetic.text import parse
from mmmed.data.synthetic.words import Statement
from mmmed.types import Image, Phrase

if TYPE_CHECKING:
    from mmmed.data.synthetic import Synthetic
    from mmmed.data.view import View

CATEGORY, ACQUISITION = "nodule", "radiograph"
_DRAWN = ("nodule", "effusion", "pneumothorax")  # what a picture can show
_STATED = ("side", "zone", "size", "margin", "density", "millimetres")


def known_phrases(
    view: View, category: str = CATEGORY, acquisition: str = ACQUISITION, whole: bool = False
) -> list[Phrase]:
    """The referring expressions about the pictures that the view shows, in view order.

    One phrase that points at a nodule and one that points at none for each picture with nodules; only the
    latter for a picture without. whole: every minimal phrase about each nodule, and all that point at none,
    about twenty for a picture: they cost nothing to learn from, since they share the picture.
    """
    made = view.truth.made
    of_row: dict[int, list] = {}
    for expression in made.expressions:
        of_row.setdefault(expression.row, []).append(expression)
    if whole:
        of_row = {row: every(row, made.scenes[row]) for _, _, row in shown_rows(view)}
    return [
        _phrase(
            view,
            record,
            patient,
            expression.text,
            None if expression.target is None else made.target_mask(expression),
            category,
            acquisition,
        )
        for record, patient, row in shown_rows(view)
        for expression in of_row.get(row, ())
    ]


def report_phrases(view: View, column: str = "findings") -> tuple[Phrase, ...]:
    """The sentences of synthetic reports as phrases: "A small smooth solid nodule in the left upper zone."

    A sentence about one nodule points at the only nodule that has all that it states; present fluid at the
    fluid; what a sentence denies is not there. Left out: doubt, suspicion, history, laboratory, and a
    sentence that fits several nodules. column: "findings", "impression" or "report".

    Raises ValueError for a cohort that is not synthetic, and if no record shows picture and report.
    """
    if view.truth is None:
        raise ValueError(
            f"Only the reports of a synthetic cohort are tied to masks, {view.name!r} has no known answer. "
            f"Pass phrases of your own to phrases_of(cohort, expressions=...)."
        )
    made, texts = view.truth.made, dict(zip(view.rows.tolist(), view.column(column), strict=True))
    fluid = made.mask("effusion")
    found = []
    for record, patient, row in shown_rows(view):
        for sentence in sentences(texts[row] or ""):
            statement = parse(sentence)[0]
            tied, mask = _tie(made, row, statement, fluid[row])
            if tied:
                found.append(_phrase(view, record, patient, sentence, mask, statement.finding, ACQUISITION))
    if not found:
        raise ValueError(f'No record of {view.name!r} shows both a picture and a text in "{column}".')
    return tuple(found)


def sentences(text: str) -> list[str]:
    """The sentences of a text of the grammar, each with its full stop."""
    return [f"{clause.strip()}." for clause in re.split(r"[.]\s*", text) if clause.strip()]


def shown_rows(view: View) -> Iterator[tuple[str, str, int]]:
    """Record, patient and row of the generated data, for each record whose picture is there."""
    picture = [
        isinstance(modality, Image) and modality.column == "picture"
        for modality in view.schema.modalities.values()
    ]
    seen = view.present[:, picture].any(axis=1).tolist()
    facts = zip(view.ids.tolist(), view.groups.tolist(), view.rows.tolist(), seen, strict=True)
    return ((record, patient, row) for record, patient, row, here in facts if here)


def _tie(
    made: Synthetic, row: int, statement: Statement, fluid: np.ndarray
) -> tuple[bool, np.ndarray | None]:
    """Whether a statement speaks of exactly one thing in the picture, or of none, and its mask. fluid: bool
    [height width], or [views height width]."""
    if statement.finding not in _DRAWN or statement.status == "uncertain":
        return False, None
    if statement.status == "absent":
        return True, None
    scene = made.scenes[row]
    if statement.finding == "nodule":
        places = _described(scene, statement)
        if len(places) != 1:
            return False, None
        return True, made.target_mask(Expression(row, "", (), "", places[0]))
    fluid = fluid if fluid.ndim == 2 else fluid[0]  # masks are those of the first view
    return statement.side in ("", scene.effusion_side) and bool(fluid.any()), fluid


def _described(scene: Scene, statement: Statement) -> list[int]:
    """The places of all lesions that have whatever the statement states."""
    stated = {name: getattr(statement, name) for name in _STATED if getattr(statement, name)}
    return [
        place
        for place, lesion in enumerate(scene.lesions)
        if all(getattr(lesion, name) == value for name, value in stated.items())
    ]


def _phrase(
    view: View,
    record: str,
    patient: str,
    text: str,
    mask: np.ndarray | None,
    category: str,
    acquisition: str,
) -> Phrase:
    side = FIELD / view.truth.made.settings.size
    return Phrase(
        record, text, mask, None, patient, category, acquisition, spacing=(side, side), folder=view.folder
    )
