"""How well a segmenter finds what phrases ask for, admits what is not there, and listens to their words.

    scores = evaluate_masks(segmenter, cohort["test"], phrases)
    print(scores)                                 # each score with its interval by patient
    print(scores.table("category"))               # a line per class
    print(compare_masks({"ours": segmenter, "fixed shape": floor}, cohort["test"], phrases, "fixed shape"))

A high Dice alone may come from a shape that fits everywhere, or from a model that never reads the phrase. So
the swapped phrase stands beside it: "left" becomes "right", and a mask that was on the target has to leave it
(relation accuracy; `mask_tables.Swap`). Scores: `mask_metrics` and `mask_surfaces`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import check_count, check_known, listing, needs, plain
from mmmed.evaluation import mask_tables as tables
from mmmed.evaluation.mask_metrics import MaskScore, dice, score_mask, surface_unit
from mmmed.evaluation.mask_surfaces import TOLERANCE, has_monai, surface_scores
from mmmed.evaluation.mask_tables import PhraseRows, Swap
from mmmed.evaluation.scores import Table

if TYPE_CHECKING:
    from mmmed.data.view import View
    from mmmed.types import Record
    from mmmed.types.phrase import Phrase


@dataclass(frozen=True, eq=False, repr=False)
class MaskScores:
    """The scores of one segmenter: `rows` one line per phrase, `table` with intervals by patient, `relations`
    what swapped words do. scores and swaps are in the order of the records. unseen: the record of each phrase
    that is not scored, because its picture is not there or cannot be read.
    """

    scores: tuple[MaskScore, ...]
    swaps: tuple[Swap, ...] = ()
    draws: int = 1000
    seed: int = 0
    tolerance: float = TOLERANCE
    notes: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()

    @property
    def rows(self) -> PhraseRows:
        """A line per phrase; `.to_csv(path)`, `.to_frame()`."""
        return PhraseRows(tuple(score.to_row() for score in self.scores), "Masks, phrase by phrase")

    @property
    def unit(self) -> str:
        """What surface distances are told in: "mm", "pixels", or "" without MONAI or without a present
        target.
        """
        return surface_unit(self.scores)

    @cached_property
    def overall(self) -> Mapping[str, Any]:
        """Counts and scores over all phrases: name -> number or `Estimate`."""
        return tables.score_row(self.scores, self.draws, self.seed)

    def table(self, by: str | None = None) -> Table:
        """All phrases in one line; or a line per "category" or "acquisition"."""
        if by is None:
            rows: list[Mapping[str, Any]] = [self.overall]
        else:
            check_known(by, ("category", "acquisition"), what="column to group by")
            parts: dict[str, list[MaskScore]] = {}
            for score in self.scores:
                parts.setdefault(getattr(score, by), []).append(score)
            rows = [
                {by: name or "(not named)", **tables.score_row(part, self.draws, self.seed, self.unit)}
                for name, part in parts.items()
            ]
        return tables.score_table(rows, "Masks", self.unit, self.tolerance, self.remarks)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What must be known about the scores: `notes`, and how many phrases had no picture."""
        if not self.unseen:
            return self.notes
        told = f"{len(self.unseen)} phrases had no picture that can be read; they are not scored."
        return (*self.notes, told)

    def without(self, records: Iterable[str]) -> MaskScores:
        """The same without the phrases about some records, which then count as unseen."""
        gone = set(records)
        lost = tuple(score.record for score in self.scores if score.record in gone)
        return replace(
            self,
            scores=tuple(score for score in self.scores if score.record not in gone),
            swaps=tuple(swap for swap in self.swaps if swap.record not in gone),
            unseen=(*self.unseen, *lost),
        )

    def relations(self) -> Table:
        """A line per kind of swapped word: Dice as asked, Dice of the new mask with the OLD target, relation
        accuracy (the mask was on the target and has left it), the share of new masks away from the old
        target, and the share that is empty (which counts as away).
        """
        return tables.relation_table(self.swaps, self.draws, self.seed)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready form, without the single phrases."""
        return {
            "scores": tables.plain_row(self.overall),
            "relations": [tables.plain_row(row) for row in self.relations()],
            "unit": self.unit or None,
            "tolerance": self.tolerance,
            "draws": self.draws,
            "seed": self.seed,
            "notes": [*self.table().notes, *(self.relations().notes if self.swaps else ())],
        }

    def __str__(self) -> str:
        parts = [tables.upright(self.table())] + ([self.relations()] if self.swaps else [])
        return "\n\n".join(map(str, parts))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        parts = [tables.upright(self.table())] + ([self.relations()] if self.swaps else [])
        return "".join(part._repr_html_() for part in parts)


def evaluate_masks(
    segmenter: Any,
    view: View | Sequence[Record],
    phrases: Iterable[Phrase],
    *,
    swaps: bool = True,
    draws: int = 1000,
    tolerance: float = TOLERANCE,
    seed: int = 0,
    threshold: float | None = None,
    progress: bool = False,
) -> MaskScores:
    """Ask every phrase about its record and compare with the true mask.

    segmenter: anything with `iterate(records, phrases)`, one list of masks per record. view: a cohort, or
    records; phrases about other records are left out and counted in a note. swaps: also ask each phrase about
    a present target with its side, zone or size swapped. tolerance: of the surface Dice, in mm (in pixels
    where the spacing is not known). Without MONAI the surface scores are left out, with a note. threshold: of
    presence, handed to `iterate`; None = the segmenter's own.

    A record without a picture that can be read says nothing about the segmenter, not even where nothing is to
    be found: its phrases are not scored, and counted in a note. Only scores are kept, so memory does not grow
    with the pictures. Raises ValueError if there is no phrase, or none with a picture, for a segmenter that
    leaves phrases unanswered, and for a mask on another grid than the true one.
    """
    check_count(draws, name="draws")
    records, questions, left_out = _questions(view, tuple(phrases), swaps)
    scores: list[MaskScore] = []
    swapped: list[Swap] = []
    unseen: list[str] = []
    surfaces = has_monai()
    answered = zip(questions, _answers(segmenter, records, questions, threshold), strict=True)
    for question, masks in _with_bar(answered, len(questions)) if progress else answered:
        for phrase, kinds in question.asked:
            if _blind(segmenter, masks[phrase.text]):
                unseen.append(question.record)
                continue
            truth = _truth(phrase, masks[phrase.text])
            about = {"record": question.record, "group": phrase.group or question.group}
            score = _score(phrase, masks[phrase.text], truth, about, tolerance if surfaces else None)
            scores.append(score)
            if score.present:
                swapped += [_swap(score, kind, text, masks[text], truth) for kind, text in kinds]
    notes = [f"{left_out} phrases are about other records and left out."] if left_out else []
    notes += [] if surfaces else [f"HD95 and surface Dice are left out. {needs('monai', 'segmentation')}"]
    _check_seen(scores, unseen)
    return MaskScores(tuple(scores), tuple(swapped), draws, seed, tolerance, tuple(notes), tuple(unseen))


def compare_masks(
    segmenters: Mapping[str, Any],
    view: View | Sequence[Record],
    phrases: Iterable[Phrase],
    against: str,
    **options: Any,
) -> Table:
    """A line per segmenter, then a line per difference to `against`, on the same draws of patients.

    segmenters: name -> segmenter, or `MaskScores` that are there already for the same phrases. options: those
    of `evaluate_masks`. relation_side and so on: relation accuracy per kind of swapped word. For HD95 less is
    better: there a negative difference speaks for the first name. Surface scores in another unit than those
    of `against` are left out, and so is for all a record of which any of them could not read the picture.
    """
    check_known(against, segmenters, what="segmenter")
    phrases = tuple(phrases)
    found = {
        name: one if isinstance(one, MaskScores) else evaluate_masks(one, view, phrases, **options)
        for name, one in segmenters.items()
    }
    unseen = {record for one in found.values() for record in one.unseen}
    found = {name: one.without(unseen) for name, one in found.items()}
    theirs = found[against]
    _check_seen(theirs.scores, theirs.unseen)
    _check_same(found, against)
    rows = [{"system": name, **tables.system_row(one, theirs.unit)} for name, one in found.items()]
    rows += [
        {"system": f"{name} minus {against}", **tables.system_row(one, theirs.unit, theirs)}
        for name, one in found.items()
        if name != against
    ]
    return tables.score_table(rows, "Masks", theirs.unit, theirs.tolerance, theirs.remarks)


def _check_same(found: Mapping[str, MaskScores], against: str) -> None:
    wanted = found[against]
    for name, one in found.items():
        same = _asked_of(one) == _asked_of(wanted)
        if not same or (one.draws, one.seed, one.tolerance) != (wanted.draws, wanted.seed, wanted.tolerance):
            raise ValueError(
                f"{plain(name)} and {plain(against)} were not scored on the same phrases with the same draws "
                "and seed. Evaluate both with the same view, phrases and options."
            )


def _asked_of(scores: MaskScores) -> list[tuple[str, str, str]]:
    """What was asked, in order, swaps included."""
    asked = [(score.record, score.phrase, score.group) for score in scores.scores]
    return asked + [(swap.record, swap.phrase, swap.swapped) for swap in scores.swaps]


# ------------------------------------------------------------------------------------------------- asking


@dataclass(frozen=True)
class _Question:
    """What one record is asked: phrases with their swaps (kind, text)."""

    record: str
    group: str
    asked: tuple[tuple[Phrase, tuple[tuple[str, str], ...]], ...]

    @property
    def texts(self) -> list[str]:
        """Each text once, in order."""
        every = [text for phrase, kinds in self.asked for text in (phrase.text, *(t for _, t in kinds))]
        return list(dict.fromkeys(every))


def _questions(
    view: View | Sequence[Record], phrases: Sequence[Phrase], swaps: bool
) -> tuple[Any, list[_Question], int]:
    """The records that have phrases, what they are asked, and how many phrases are about others."""
    ids, groups = _names(view)
    if len(set(ids)) != len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise ValueError(f"Two records have the id {plain(twice)}, so a phrase cannot say which it is about.")
    asked: dict[str, list[Phrase]] = {}
    for phrase in phrases:
        asked.setdefault(str(phrase.record), []).append(phrase)
    rows = [row for row, name in enumerate(ids) if name in asked]
    if not rows:
        raise ValueError(
            f"There is no phrase about any of these {len(ids)} records. Expected phrases with a record among "
            f"{listing(ids, 4)}; got {len(phrases)} phrases, about {listing(asked, 4)}."
        )
    questions = [
        _Question(ids[row], groups[row], tuple((p, _swaps_of(p, swaps)) for p in asked[ids[row]]))
        for row in rows
    ]
    records = view.where(np.array(rows)) if hasattr(view, "where") else [view[row] for row in rows]
    return records, questions, len(phrases) - sum(len(question.asked) for question in questions)


def _names(view: View | Sequence[Record]) -> tuple[list[str], list[str]]:
    """Ids and patients."""
    if hasattr(view, "ids"):
        return view.ids.tolist(), view.groups.tolist()
    return [str(r.id) for r in view], [str(r.id if r.group is None else r.group) for r in view]


def _swaps_of(phrase: Phrase, wanted: bool) -> tuple[tuple[str, str], ...]:
    from mmmed.data.phrase_words import relation_swaps

    return tuple(relation_swaps(phrase.text)) if wanted and not phrase.empty else ()


def _answers(
    segmenter: Any, records: Any, questions: Sequence[_Question], threshold: float | None
) -> Iterator[Mapping[str, Any]]:
    """Text -> mask, record by record, as the segmenter makes them."""
    options = {} if threshold is None else {"threshold": threshold}
    answers = iter(segmenter.iterate(records, [question.texts for question in questions], **options))
    for number, question in enumerate(questions):
        masks = next(answers, None)
        if masks is None:
            raise ValueError(
                f"The segmenter answered {number} records of {len(questions)}. `iterate` should yield a list "
                "of masks for each record, in order."
            )
        if len(masks) != len(question.texts):
            raise ValueError(
                f"The segmenter gave {len(masks)} masks for the {len(question.texts)} phrases about record "
                f"{plain(question.record)}. `iterate` should yield one mask per phrase, in order."
            )
        yield dict(zip(question.texts, masks, strict=True))
    if next(answers, None) is not None:
        raise ValueError(f"The segmenter answered more than the {len(questions)} records it was asked about.")


def _with_bar(answered: Iterable[Any], total: int) -> Iterator[Any]:
    from tqdm import tqdm

    yield from tqdm(answered, total=total, desc="masks", unit="record", delay=2, leave=False)


# ------------------------------------------------------------------------------------------------- scoring


def _blind(segmenter: Any, mask: Any) -> bool:
    """Whether nothing of the picture was seen: all that the segmenter draws on is missing."""
    missing = set(getattr(mask, "missing", ()))
    names = getattr(segmenter, "modalities", None)
    return bool(missing) and (set(names) <= missing if names else not getattr(mask, "used", ()))


def _check_seen(scores: Sequence[MaskScore], unseen: Sequence[str]) -> None:
    if unseen and not scores:
        raise ValueError(
            f"None of {len(unseen)} phrases can be scored: no picture could be read of {listing(unseen, 4)}. "
            "Check the files that the table names."
        )


def _truth(phrase: Phrase, mask: Any) -> np.ndarray:
    """The true mask, bool; on the grid of the answer if there is nothing to be found."""
    if phrase.empty:
        return np.zeros(np.shape(mask.pixels), dtype=bool)
    if not phrase.drawn:
        raise ValueError(
            f'record "{phrase.record}", {phrase.text!r}: it is known to be there, but nobody drew where, so '
            "no mask can be scored. Pass phrases with masks, and those of what is not there."
        )
    from mmmed.data.masks import read_mask

    where = f'record "{phrase.record}", mask of "{phrase.text}"'
    return np.asarray(read_mask(phrase.mask, key=phrase.key, folder=phrase.folder, where=where), dtype=bool)


def _pixels(mask: Any, truth: np.ndarray, about: str) -> np.ndarray:
    """The answer as bool."""
    pixels = np.asarray(mask.pixels, dtype=bool)
    if pixels.shape == truth.shape:
        return pixels
    raise ValueError(
        f"{about}: the mask has shape {list(pixels.shape)}, the true mask {list(truth.shape)}. Both should "
        "lie on the grid of the picture as it came."
    )


def _score(
    phrase: Phrase, mask: Any, truth: np.ndarray, about: Mapping[str, str], tolerance: float | None
) -> MaskScore:
    """tolerance: None = no surface scores."""
    pixels = _pixels(mask, truth, f'Record "{phrase.record}", "{phrase.text}"')
    named = {**about, "phrase": phrase.text, "category": phrase.category, "acquisition": phrase.acquisition}
    if tolerance is not None and truth.any():
        spacing = phrase.spacing or getattr(mask, "spacing", None)
        hd95, surface_dice = surface_scores(pixels, truth, spacing, tolerance)
        unit = "mm" if spacing else "pixels"
        named |= {"hd95": hd95, "surface_dice": surface_dice, "unit": unit}
    return score_mask(pixels, truth, float(mask.presence), **named)


def _swap(score: MaskScore, kind: str, text: str, mask: Any, truth: np.ndarray) -> Swap:
    pixels = _pixels(mask, truth, f'Record "{score.record}", "{text}"')
    return Swap(
        record=score.record,
        group=score.group,
        kind=kind,
        phrase=score.phrase,
        swapped=text,
        dice=score.dice,
        dice_swapped=dice(pixels, truth),
        found=bool(pixels.any()),
    )
