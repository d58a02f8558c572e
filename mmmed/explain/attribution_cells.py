"""What in a table or a text moved an answer: each cell, or word, is taken away in turn."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from mmmed.data.tokenization import tokenizer_of
from mmmed.explain.attribution_answer import Question
from mmmed.types import Tabular, Text

_WORD = r"\w+(?:[-'./,]\w+)*"  # "12.5" and "X-ray" are one word each
ROWS = 64  # variants that go through the network at once


def cells(question: Question, modality: Tabular) -> tuple[tuple[str, ...], Tensor]:
    """Names of the recorded columns, and how far the answer falls when one is not recorded: [columns]."""
    values = question.values
    places = values["known"][0].nonzero().squeeze(1).tolist()
    _check_several(len(places), "recorded column", question.modality)
    known = values["known"].repeat(len(places), 1)
    known[range(len(places)), places] = False
    changed = {**values, "cells": values["cells"].expand(len(places), -1), "known": known}
    return tuple(modality.columns[place] for place in places), _falls(question, changed)


def words(question: Question, modality: Text, text: str) -> tuple[tuple[str, ...], Tensor]:
    """The words that were read, and how far the answer falls when one is hidden: [words].

    All pieces of a word are hidden at once, and the others keep their places. Punctuation alone is no word.
    What lies behind the longest text that the model reads has no entry.
    """
    length = question.values["ids"].shape[1]
    pieces = tokenizer_of(modality).encode(text).offsets[:length]
    found = []
    for word in re.finditer(_WORD, text):
        inside = [k for k, (start, end) in enumerate(pieces) if start < word.end() and end > word.start()]
        if inside:
            found.append((word.group(), inside))
    _check_several(len(found), "word", question.modality)
    mask = question.values["mask"].repeat(len(found), 1)
    for row, (_, inside) in enumerate(found):
        mask[row, inside] = False
    changed = {**question.values, "ids": question.values["ids"].expand(len(found), -1), "mask": mask}
    return tuple(word for word, _ in found), _falls(question, changed)


def _falls(question: Question, changed: Mapping[str, Tensor]) -> Tensor:
    """changed: one row for each thing that was taken away -> [rows]."""
    count = len(next(iter(changed.values())))
    parts = torch.arange(count).split(ROWS)
    answers = [question({name: value[part] for name, value in changed.items()}) for part in parts]
    return question(question.values) - torch.cat(answers)


def _check_several(count: int, what: str, modality: str) -> None:
    if count < 2:
        raise ValueError(
            f"Two {what}s at least are needed to tell which one moved the answer, got {count}. What all of "
            f'{modality} adds is in mmmed.predict(...)["task"].contributions.'
        )
