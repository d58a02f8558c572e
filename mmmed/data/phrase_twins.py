"""Sentences of synthetic reports said otherwise: with the same meaning, or with another one.

    sentence = "A small smooth nodule in the left zone."
    reworded(sentence, chance)                          # "A little round lesion in the left zone."
    turned(sentence, "side", chance, millimetres)       # "A small smooth nodule in the right zone."

Every word is one of the grammar, and what a sentence does not state stays unstated. A noun is never turned:
"nodule", "opacity" and "lesion" mean the same there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mmmed.data.synthetic import words
from mmmed.data.synthetic.words import Statement

KINDS = ("side", "zone", "size", "margin", "density")
TRIES = 6  # to find words that were not used yet
_WAYS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "side": words.SIDES,
    "zone": words.ZONES,
    "size": words.SIZES,
    "margin": words.MARGINS,
    "density": words.DENSITIES,
}
_ALIKE = (  # words for one another, whatever else the sentence says
    *(ways for kind in ("size", "margin", "density") for ways in _WAYS[kind].values()),
    words.FINDINGS["nodule"],
    words.FINDINGS["effusion"][:2],  # not the short form, which belongs to another style
)
_MEASURE = re.compile(r"\d+(?= mm\b)")
_ARTICLE = re.compile(r"\b([Aa])n? (?=(\w))")


def kinds_of(statement: Statement) -> tuple[str, ...]:
    """The kinds of words that a statement has, each of which can be turned: "side", "zone" and so on."""
    return tuple(kind for kind in KINDS if getattr(statement, kind))


def reworded(sentence: str, generator: np.random.Generator) -> str:
    """The same meaning, with every word that has synonyms drawn anew. A measure stays."""
    for ways in _ALIKE:
        sentence = _any(ways).sub(
            lambda match, ways=ways: _as(match.group(), _pick(ways, generator)), sentence
        )
    return _ARTICLE.sub(lambda match: f"{match[1]}{'n' * (match[2].lower() in 'aeiou')} ", sentence)


def wordings(sentence: str, count: int, generator: np.random.Generator) -> list[str]:
    """The sentence, and the same in other words, each once; fewer than `count` where words are few."""
    drawn = (reworded(sentence, generator) for _ in range(TRIES * count))
    return list(dict.fromkeys([sentence, *drawn]))[:count]


def turned(
    sentence: str, kind: str, generator: np.random.Generator, millimetres: Mapping[str, Sequence[int]]
) -> str:
    """The sentence with its word of one kind changed for another meaning; unchanged without such a word.

    millimetres: size -> the diameters that a measure of this size may have. A measure becomes that of another
    size, never one that is only a little off, since no picture would tell.
    """
    for (side, zone), short in words.PLACES_SHORT.items():
        if kind in ("side", "zone") and (match := _any([short]).search(sentence)):
            there = {"side": side, "zone": zone}
            there[kind] = _pick([value for value in _WAYS[kind] if value != there[kind]], generator)
            return _put(sentence, match, words.PLACES_SHORT[there["side"], there["zone"]])
    if kind == "size" and (match := _MEASURE.search(sentence)):
        others = [value for value in millimetres if value != words.size_word(int(match.group()))]
        if not others:
            return sentence
        return _put(sentence, match, str(_pick(millimetres[_pick(others, generator)], generator)))
    for value, ways in sorted(_WAYS[kind].items(), key=lambda item: -len(item[0])):  # part-solid before solid
        if match := _any(ways).search(sentence):
            other = _pick([another for another in _WAYS[kind] if another != value], generator)
            return _put(sentence, match, _as(match.group(), _pick(_WAYS[kind][other], generator)))
    return sentence


def _any(ways: Iterable[str]) -> re.Pattern[str]:
    longest = sorted(ways, key=len, reverse=True)
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest))})(?![\w-])", re.IGNORECASE)


def _put(sentence: str, match: re.Match[str], word: str) -> str:
    return sentence[: match.start()] + word + sentence[match.end() :]


def _as(model: str, word: str) -> str:
    """A word with a capital if the one that it stands for has one."""
    return word[0].upper() + word[1:] if model[0].isupper() else word


def _pick(items: Sequence, generator: np.random.Generator) -> Any:
    return items[int(generator.random() * len(items))]
