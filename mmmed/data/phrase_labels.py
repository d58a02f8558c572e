"""Phrases from labels: where somebody has said that a thing is in a picture, but nobody has drawn where.

They teach presence alone. A segmenter with weak=True has the largest value of its map as its presence, so
from them it learns masks; any other learns when to say "not there".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from mmmed.checks import check_known, listing
from mmmed.data.phrases import pictured
from mmmed.types import Binary, Multiclass, Multilabel, Phrase

if TYPE_CHECKING:
    from mmmed.data.view import View


def labelled_phrases(view: View, task: str | None = None, text: str | None = None) -> tuple[Phrase, ...]:
    """One phrase for each known label of the records whose picture is there.

    task: its name; None = the first of the schema. text: of a binary task, None = "the NAME"; a multiclass or
    multilabel task asks for "the LEVEL" of each level. Raises ValueError for a task without levels, and if no
    label is known.
    """
    if not view.schema.tasks:
        raise ValueError("This cohort has no task, so there are no labels. Name a target when it is opened.")
    name = (
        next(iter(view.schema.tasks)) if task is None else check_known(task, view.schema.tasks, what="task")
    )
    asked = view.schema.tasks[name]
    if not isinstance(asked, (Binary, Multiclass, Multilabel)):
        raise ValueError(
            f"{name} is a number; phrases need a task with levels, among {listing(view.schema.tasks)}."
        )
    values, known = view.targets(name)
    shown, found = pictured(view), []
    for row, record in enumerate(view.ids.tolist()):
        if record not in shown:
            continue
        for words, there in _told(name, asked, text, values[row], known[row]):
            found.append(
                Phrase(record, words, True if there else None, group=shown[record], category=words[4:])
            )
    if not found:
        raise ValueError(f"No record with a picture has a known label of {name!r}.")
    return tuple(found)


def undrawn(phrases: Iterable[Phrase]) -> tuple[Phrase, ...]:
    """The same phrases without their masks: there, but nobody drew where; or not there."""
    return tuple(replace(phrase, mask=True, key=None) if phrase.drawn else phrase for phrase in phrases)


def _told(
    name: str, task: Binary | Multiclass | Multilabel, text: str | None, value, known
) -> list[tuple[str, bool]]:
    if isinstance(task, Multilabel):
        triples = zip(task.labels, value, known, strict=True)
        return [(f"the {label}", bool(there)) for label, there, told in triples if told]
    if not known:
        return []
    if isinstance(task, Binary):
        return [(text or f"the {name}", bool(value))]
    return [(f"the {level}", index == int(value)) for index, level in enumerate(task.levels)]
