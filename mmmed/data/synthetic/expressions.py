"""Referring phrases and questions about the lesions of a picture, with exact answers.

A phrase is a set of conditions in words. It points at one lesion if exactly one lesion of the picture meets
them, and is **empty** if none does ("there is no such thing" is an answer). Phrases are minimal: none of
several conditions can be left out without losing the target, and one is always there, since "the nodule"
alone would tell that it exists. Every picture with a lesion gets one phrase of each sort, so they are one
to one; a picture without lesions gets an empty one. Masks are those of the first view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mmmed.data.synthetic.scene import DENSITIES, MARGINS, SIDES, SIZES, TINY, ZONES, Lesion, Scene

VALUES = {
    "side": SIDES,
    "zone": ZONES,
    "size": (TINY, *SIZES),
    "margin": MARGINS,
    "density": DENSITIES,
}
RELATIONS = ("larger", "smaller")
NOUNS = {"medium": "medium-sized"}
RELATED = 0.12  # share of the empty phrases that speak of two lesions where there is one


@dataclass(frozen=True)
class Expression:
    """A phrase about the picture of one row.

    conditions: attribute -> word. relation: "larger" or "smaller" of exactly two lesions that meet the
    conditions, or "". target: place of the lesion in the scene (lesion 1 is place 0), None for an empty
    phrase.
    """

    row: int
    text: str
    conditions: tuple[tuple[str, str], ...]
    relation: str
    target: int | None

    def fits(self, lesions: Sequence[Lesion]) -> list[int]:
        """The places of all lesions that the phrase describes, by its own conditions."""
        return select(lesions, self.conditions, self.relation)


@dataclass(frozen=True)
class Question:
    """A question about the picture of one row. kind: "yes or no", "where", "how many", "which"."""

    row: int
    kind: str
    text: str
    answer: str


def select(lesions: Sequence[Lesion], conditions: Sequence[tuple[str, str]], relation: str = "") -> list[int]:
    """The places of the lesions that meet all conditions; a relation then names one of exactly two."""
    places = [
        place
        for place, lesion in enumerate(lesions)
        if all(getattr(lesion, name) == word for name, word in conditions)
    ]
    if not relation:
        return places
    if len(places) != 2:  # "the larger of the two" speaks of two
        return []
    largest = max(places, key=lambda place: lesions[place].radius)
    return [largest] if relation == "larger" else [place for place in places if place != largest]


def refer(row: int, scene: Scene, generator: np.random.Generator) -> list[Expression]:
    """One phrase with a target and one without for a picture; only the latter where there is no lesion."""
    empty = _empty(row, scene.lesions)
    if not scene.lesions:
        return [_pick(empty, generator)]
    target = int(generator.random() * len(scene.lesions))
    pointing = _pick(_pointing(row, scene.lesions, target), generator)
    # an empty phrase of the same form, so that the words alone do not tell whether there is a target
    related = generator.random() < RELATED
    alike = [phrase for phrase in empty if (phrase.relation if related else _form(phrase) == _form(pointing))]
    return [pointing, _pick(alike or empty, generator)]


def every(row: int, scene: Scene) -> list[Expression]:
    """All phrases of a picture: every minimal one for each lesion, and every one that fits none."""
    places = range(len(scene.lesions))
    pointing = [phrase for target in places for phrase in _pointing(row, scene.lesions, target)]
    return [*pointing, *_empty(row, scene.lesions)]


def ask(row: int, scene: Scene, generator: np.random.Generator) -> list[Question]:
    """Questions about a picture, each with one right answer; what makes no sense for it is left out."""
    lesions = scene.lesions
    wanted = generator.random() < 0.5  # half of the answers are yes where both answers are possible
    sides = [side for side in SIDES if bool(select(lesions, [("side", side)])) == wanted] or list(SIDES)
    side = _pick(sides, generator)
    asked = [
        (
            "yes or no",
            f"Is there a nodule on the {side}?",
            "yes" if select(lesions, [("side", side)]) else "no",
        ),
        ("how many", "How many nodules are there?", str(len(lesions))),
    ]
    if scene.effusion != "uncertain":
        asked.append(("yes or no", "Is there an effusion?", "yes" if scene.effusion == "present" else "no"))
    if lesions:
        first = lesions[0]
        where = "Where is the largest nodule?" if len(lesions) > 1 else "Where is the nodule?"
        asked.append(("where", where, f"{first.side} {first.zone} zone"))
    single = [select(lesions, [("side", side)]) for side in SIDES]
    if all(len(places) == 1 for places in single):
        larger = max(SIDES, key=lambda side: lesions[select(lesions, [("side", side)])[0]].radius)
        asked.append(
            ("which", "Which nodule is larger, the one on the right or the one on the left?", larger)
        )
    return [Question(row, *item) for item in asked]


def _pointing(row: int, lesions: Sequence[Lesion], target: int) -> list[Expression]:
    """Every minimal phrase for the target: the fewest conditions that single it out, and relations."""
    lesion = lesions[target]
    own = [(name, getattr(lesion, name)) for name in VALUES]
    found: list[Expression] = []
    for count in range(1, len(own) + 1):
        fits = [chosen for chosen in combinations(own, count) if select(lesions, chosen) == [target]]
        found += [_expression(row, chosen, "", target) for chosen in fits]
        if fits:
            break
    for chosen in ((), (own[0],)):
        for relation in RELATIONS:
            shorter = chosen and select(lesions, (), relation) == [target]
            if select(lesions, chosen, relation) == [target] and not shorter:
                found.append(_expression(row, chosen, relation, target))
    return found


def _empty(row: int, lesions: Sequence[Lesion]) -> list[Expression]:
    """Phrases that describe no lesion, minimal as well: every shorter one describes something.

    Two words that are each true of some lesion but of none together; one word that is true of none; the
    larger of two where there is one.
    """
    every = [(name, word) for name, values in VALUES.items() for word in values]
    there = [pair for pair in every if select(lesions, [pair])]
    pairs = [(first, second) for first, second in combinations(there, 2) if first[0] != second[0]]
    single = [(pair,) for pair in every if pair not in there]
    found = [
        _expression(row, chosen, "", None) for chosen in (*pairs, *single) if not select(lesions, chosen)
    ]
    for chosen in ((), *[(("side", side),) for side in SIDES]):
        if len(select(lesions, chosen)) == 1:  # one lesion there, so no larger one of two
            found += [_expression(row, chosen, relation, None) for relation in RELATIONS]
    return found


def _form(phrase: Expression) -> tuple[str, ...]:
    """What a phrase speaks of, without the words: "two" for a relation, then the attributes."""
    return (*(["two"] if phrase.relation else []), *[name for name, _ in phrase.conditions])


def _expression(
    row: int, conditions: Sequence[tuple[str, str]], relation: str, target: int | None
) -> Expression:
    told = dict(conditions)
    noun = [NOUNS.get(told[name], told[name]) for name in ("size", "margin", "density") if name in told]
    place = [told[name] for name in ("side", "zone") if name in told]
    where = f" in the {' '.join(place)} zone" if "zone" in told else f" on the {place[0]}" if place else ""
    if relation:
        text = f"the {relation} of the two nodules{where}"
    else:
        text = f"the {' '.join([*noun, 'nodule'])}{where}"
    return Expression(row, text, tuple(conditions), relation, target)


def _pick(items: Sequence, generator: np.random.Generator):
    return items[int(generator.random() * len(items))]
