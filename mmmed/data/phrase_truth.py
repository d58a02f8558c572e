"""Phrases about synthetic pictures, whose answers are known: referring expressions, sentences of reports."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmmed.data.phrase_twins import kinds_of, turned, wordings
from mmmed.data.synthetic.expressions import Expression, every
from mmmed.data.synthetic.scene import FIELD, Scene
from mmmed.data.synthetic.text import parse
from mmmed.data.synthetic.words import Statement
from mmmed.types import Image, Phrase

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort
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


def report_phrases(
    view: View, column: str = "findings", twins: bool = False, seed: int = 0
) -> tuple[Phrase, ...]:
    """The sentences of synthetic reports as phrases: "A small smooth solid nodule in the left upper zone."

    A sentence about one nodule points at the only nodule that has all that it states; present fluid at the
    fluid; what a sentence denies is not there. Left out: doubt, suspicion, history, laboratory, and a
    sentence that fits several nodules. column: "findings", "impression" or "report".

    twins: with false sentences. Without them every sentence about a nodule is true, and a model may learn to
    draw whatever it is told. For each word that a sentence states (side, zone, size, margin, density) comes a
    pair: the sentence, from the second pair on in other words of the same meaning, and this with that one
    word changed. The latter points at the nodule that it happens to fit, mostly at none; if it fits several,
    the pair is left out. So of the sentences about nodules as many fit as do not, in the same words.

    Presence is turned as well: a true sentence brings a denial from another record, and a denial a sentence
    of another record that is false here. A denial points at nothing, be it true or not: "No effusion." says
    of no place that something is there. So a picture without a mark does not say that a denial is true; to
    learn that, ask for the effusion. seed: chooses the words.

    Raises ValueError for a cohort that is not synthetic, and if no record shows picture and report.
    """
    _check_synthetic(view)
    made, texts = view.truth.made, dict(zip(view.rows.tolist(), view.column(column), strict=True))
    fluid = made.mask("effusion")
    shown = [(record, patient, row, sentences(texts[row] or "")) for record, patient, row in shown_rows(view)]
    others = _Others.of(view, [sentence for *_, told in shown for sentence in told]) if twins else None
    found = []
    for record, patient, row, told in shown:
        tied = {sentence: _tie(made, row, parse(sentence)[0], fluid[row]) for sentence in told}
        said = [(sentence, mask) for sentence, (is_tied, mask) in tied.items() if is_tied]
        if others is not None:
            said += _twins(made, row, said, fluid[row], others, np.random.default_rng([seed, row]))
        for text, mask in said:
            found.append(_phrase(view, record, patient, text, mask, parse(text)[0].finding, ACQUISITION))
    if not found:
        raise ValueError(f'No record of {view.name!r} shows both a picture and a text in "{column}".')
    return tuple(found)


def taught_phrases(
    cohort: Cohort, column: str = "findings", twins: bool = True, seed: int = 0
) -> list[Phrase]:
    """What a segmenter is taught that should answer to short phrases and to sentences of synthetic reports:
    every short phrase about the training and validation pictures, and the sentences of their reports.

    column, twins, seed: as in `report_phrases`. Raises ValueError for a cohort that is not synthetic.
    """
    _check_synthetic(cohort)
    found = []
    for part in (cohort["train"], cohort["val"]):
        if any(True for _ in shown_rows(part)):
            found += [*known_phrases(part, whole=True), *report_phrases(part, column, twins, seed)]
    return found


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


def _check_synthetic(view: View) -> None:
    if view.truth is None:
        raise ValueError(
            f"Only the reports of a synthetic cohort are tied to masks, {view.name!r} has no known answer. "
            f"Pass phrases of your own to phrases_of(cohort, expressions=...)."
        )


def _tie(
    made: Synthetic, row: int, statement: Statement, fluid: np.ndarray
) -> tuple[bool, np.ndarray | None]:
    """Whether a statement speaks of exactly one thing in the picture, or of none, and its mask. fluid: bool
    [height width], or [views height width]."""
    if statement.finding not in _DRAWN or statement.status == "uncertain":
        return False, None
    if statement.status == "absent":
        return True, None
    meant = _meant(made, row, statement, fluid)
    return (True, meant[0]) if len(meant) == 1 else (False, None)


def _meant(made: Synthetic, row: int, statement: Statement, fluid: np.ndarray) -> list[np.ndarray]:
    """The masks of everything in the picture that has what a statement states as present."""
    scene = made.scenes[row]
    if statement.finding == "nodule":
        places = _described(scene, statement)
        return [made.target_mask(Expression(row, "", (), "", place)) for place in places]
    fluid = fluid if fluid.ndim == 2 else fluid[0]  # masks are those of the first view
    return [fluid] if statement.side in ("", scene.effusion_side) and fluid.any() else []


def _described(scene: Scene, statement: Statement) -> list[int]:
    """The places of all lesions that have whatever the statement states."""
    stated = {name: getattr(statement, name) for name in _STATED if getattr(statement, name)}
    return [
        place
        for place, lesion in enumerate(scene.lesions)
        if all(getattr(lesion, name) == value for name, value in stated.items())
    ]


@dataclass(frozen=True)
class _Others:
    """What twins are made with. saying: (finding, status) -> the sentences of all records that state it;
    millimetres: size -> the diameters that there are."""

    saying: Mapping[tuple[str, str], Sequence[str]]
    millimetres: Mapping[str, Sequence[int]]

    @classmethod
    def of(cls, view: View, told: Iterable[str]) -> _Others:
        saying: dict[tuple[str, str], list[str]] = {}
        for sentence in dict.fromkeys(told):
            statement = parse(sentence)[0]
            saying.setdefault((statement.finding, statement.status), []).append(sentence)
        sizes: dict[str, set[int]] = {}
        for scene in view.truth.made.scenes:
            for lesion in scene.lesions:
                sizes.setdefault(lesion.size, set()).add(lesion.millimetres)
        return cls(saying, {size: sorted(sizes[size]) for size in sorted(sizes)})


def _twins(
    made: Synthetic,
    row: int,
    said: Sequence[tuple[str, np.ndarray | None]],
    fluid: np.ndarray,
    others: _Others,
    generator: np.random.Generator,
) -> list[tuple[str, np.ndarray | None]]:
    """The pairs of all sentences about a record, with their masks; no text comes twice."""
    found = dict(said)
    for sentence, mask in said:
        statement = parse(sentence)[0]
        kinds = () if mask is None else kinds_of(statement)
        for same, kind in zip(wordings(sentence, len(kinds), generator), kinds, strict=False):
            other = turned(same, kind, generator, others.millimetres)
            meant = _meant(made, row, parse(other)[0], fluid)
            if len(meant) < 2 and other not in found and (same == sentence or same not in found):
                found |= {same: mask, other: meant[0] if meant else None}
        status = "absent" if statement.status == "present" else "present"
        against = others.saying.get((statement.finding, status), ())
        if against:  # reports are true, so whatever they deny is nowhere in the picture
            found.setdefault(against[int(generator.random() * len(against))], None)
    return list(found.items())[len(said) :]


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
