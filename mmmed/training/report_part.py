"""The records of one part of a cohort that have a report, read once, with what their reports state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mmmed.checks import listing, plain
from mmmed.data.collate import Collator
from mmmed.data.targets import rows_with_text
from mmmed.models.report_room import LOOKED_AT, answer_room
from mmmed.training.report_lessons import Lessons
from mmmed.training.supply import PackedCohort, Supply, make_supply, padding_of
from mmmed.types import Batch

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort
    from mmmed.models.report_generator import ReportGenerator

Questions = Sequence[tuple[str, str, str]]  # record id, question, answer


@dataclass
class Part:
    """The records of a part of the cohort that have a report: their supply, lessons and weak labels.

    targets, known [records labels]: what the reports state, None without a table of findings.
    """

    supply: Supply
    lessons: Lessons
    rows: Tensor
    targets: Tensor | None
    known: Tensor | None

    def take(self, rows: Tensor, mask: Tensor | None = None) -> Batch:
        """The batch of some records, with no more than `mask` [records modality] leaves to them."""
        supply = self.supply
        if isinstance(supply, PackedCohort):
            return supply.take(rows, mask)
        mask = supply.present[rows] if mask is None else mask
        if not len(rows):  # the share of one of several processes in a small batch
            return Batch(tuple(self.lessons.reporter.modalities), {}, {}, mask)
        return next(iter(supply.batches([(rows, mask)])))


def part_of(reporter: ReportGenerator, cohort: Cohort, questions: Questions = ()) -> Part | None:
    """The records that have a report; None if there is none. Raises ValueError for a question about a record
    that is not among them."""
    texts = cohort.column(reporter.target) if len(cohort) else []
    told = rows_with_text(texts)
    if not told:
        return None
    cohort, texts = cohort.where(np.array(told)), [texts[row] for row in told]
    supply = make_supply(cohort, Collator(reporter.schema, cohort.missing_files, cohort.unreadable))
    asked = _asked(cohort.ids.tolist(), questions)
    targets = known = None
    if reporter.labeller is not None:
        values, there = reporter.labeller.targets(texts)
        targets, known = torch.from_numpy(values).float(), torch.from_numpy(there)
    part = Part(supply, Lessons(reporter, texts, asked), torch.arange(len(texts)), targets, known)
    fullest = _tokens_read(supply).argsort(descending=True, stable=True)[:LOOKED_AT]
    longest = answer_room(reporter, part.take(fullest), part.lessons.asks())
    part.lessons = Lessons(reporter, texts, asked, longest)
    return part


def _tokens_read(supply: Supply) -> Tensor:
    """How much each record brings: words, steps and views where they were read, else one for each modality;
    an adapter that passes every token on makes the longest prompt of the record with the most. [records]"""
    count = supply.present.sum(1)
    if isinstance(supply, PackedCohort):
        for name, values in supply.whole.values.items():
            used = padding_of(values)
            if used is not None:
                count = count.index_add(0, supply.whole.rows[name], used.sum(1))
    return count


def spread(cohort: Cohort, most: int) -> Cohort:
    """At most `most` records: those that are spread evenly over the part."""
    if len(cohort) <= most:
        return cohort
    return cohort.where(np.linspace(0, len(cohort) - 1, most).astype(int))


def _asked(ids: Sequence[str], questions: Questions) -> dict[int, list[tuple[str, str]]]:
    """Row -> its (question, answer) pairs."""
    asked: dict[int, list[tuple[str, str]]] = {}
    place = {str(name): row for row, name in enumerate(ids)}
    for item in questions:
        if len(item) != 3 or not all(isinstance(word, str) and word.strip() for word in item):
            raise ValueError(
                f"questions should be (record id, question, answer), texts all, got {plain(item)}."
            )
    strangers = [item[0] for item in questions if item[0] not in place]
    if strangers:
        raise ValueError(
            "Questions are asked about records that are not in the training part, or have no report: "
            f"{listing(strangers, 4)}. Give (record id, question, answer) of training records only."
        )
    for name, question, answer in questions:
        asked.setdefault(place[name], []).append((question, answer))
    return asked
