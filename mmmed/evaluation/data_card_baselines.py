"""The measured parts of a data card: what presence, leaks, confounders and plain models say.

One definition of AUROC for all: that of `shortcuts` (balanced logistic regression on held-out patients, five
folds, pairs of the same fold, interval by patient), so every line can be read against every other. A recount
may differ by `TOLERANCE`, because solvers differ in the last digits from release to release.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import MissingFile, UnreadableFile
from mmmed.data.features import Block, block_of_cells, blocks_of, to_numbers
from mmmed.data.masks import read_mask
from mmmed.data.volumes import resample
from mmmed.evaluation.baselines import linear
from mmmed.evaluation.bootstrap import Estimate
from mmmed.evaluation.data_card_columns import kind_of_column
from mmmed.evaluation.data_card_counts import Part
from mmmed.evaluation.folds import out_of_fold_auroc, patient_folds
from mmmed.evaluation.scores import Table
from mmmed.evaluation.shortcuts import (
    DEFINITION,
    check_columns,
    check_confounders,
    check_presence,
)
from mmmed.evaluation.tasks import Question, questions
from mmmed.types import is_missing

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort

TOLERANCE = 0.03  # how far a measured number of a card may lie from a recount
ASKED = 4  # yes-or-no questions that are measured
TELLING = ("leak", "truth", "text target", "descriptor", "target")  # roles that may know the answer
FEWEST = 20  # masks, or recorded cells, below which nothing is measured
GRID = (64, 64)


def how(draws: int, seed: int) -> str:
    """What a reader must know to measure the same."""
    return f"Seed {seed}, {draws} draws of patients; a recount may differ by {TOLERANCE:g}."


def presence(cohort: Cohort, draws: int, seed: int) -> Part:
    """What was recorded, without any value."""
    table = check_presence(cohort, questions(cohort)[:ASKED], draws, seed)[1]
    return _plain(table, draws, seed) if len(table) else ["No gap varies, so presence says nothing."]


def confounders(cohort: Cohort, draws: int, seed: int) -> Part:
    """What device, site and other declared confounders say alone."""
    table = check_confounders(cohort, questions(cohort)[:ASKED], draws, seed)[1]
    return _plain(table, draws, seed) if len(table) else ["No column is declared as a confounder."]


def leaks(cohort: Cohort, draws: int, seed: int) -> Part:
    """What each column says that may know the answer: leaks, truth, other targets, inputs that are not
    read."""
    used = {*cohort.schema.columns, *(c for task in cohort.schema.tasks.values() for c in task.columns)}
    names = [n for n, role in cohort.roles.items() if role.startswith(TELLING) and n not in used]
    names += _unread(cohort)
    rows = []
    for question in questions(cohort)[:ASKED]:
        for name in names:
            score = _score_column(cohort, name, question, draws, seed)
            role = cohort.roles[name].replace("input", "input, not read")
            told = {"question": question.name, "column": name, "role": role}
            if score is not None:
                rows.append(told | {"n": str(score.n), "auroc": score})
    if not rows:
        return ["No column is declared as a leak, as truth, or as an input that is not read."]
    said = (
        "A text: a bag of its words, on the rows that have it. Else: the value, and whether it was filled in."
    )
    return [*_plain(Table(tuple(rows), heads={"auroc": "AUROC"}), draws, seed), said]


def _unread(cohort: Cohort) -> list[str]:
    """Inputs by their role that the schema does not read: notes that name the diagnosis, the device, ..."""
    used = set(cohort.schema.columns)
    free = [name for name, role in cohort.roles.items() if role == "input" and name not in used]
    found = []
    for name in free:
        cells = [] if name in cohort.source.arrays else cohort.column(name)
        if kind_of_column(cohort, name, cells) in ("number", "category", "text"):
            found += [name] if sum(not is_missing(cell) for cell in cells) >= FEWEST else []
    return found


def _is_text(cells: Sequence[Any]) -> bool:
    known = [str(cell) for cell in cells if not is_missing(cell)]
    return bool(known) and sum(" " in cell for cell in known) > 0.8 * len(known) and len(set(known)) > 20


def _score_column(cohort: Cohort, name: str, question: Question, draws: int, seed: int) -> Estimate | None:
    """A column as a bag of words, a number or a category; the latter two with a flag for filled in, which
    leaks too."""
    cells = cohort.column(name)
    here = np.array([not is_missing(cell) for cell in cells])
    if _is_text(cells):
        texts = [str(cell) if there else None for cell, there in zip(cells, here, strict=True)]
        blocks = [Block(np.array(texts, dtype=object))]
        question = replace(question, labels=np.where(here, question.labels, np.nan))
    else:
        flags = [] if here.all() else [Block(here[:, None] - 0.5, ("filled in",), (0,))]
        blocks = [block_of_cells(cells, name), *flags]
    return _score(blocks, question, cohort.groups, draws, seed)


def baselines(cohort: Cohort, draws: int, seed: int) -> Part:
    """Each modality alone, all together in two ways, the best single columns, and one shape for all masks."""
    blocks, asked, rows = blocks_of(cohort), questions(cohort)[:ASKED], []
    blocks = {name: block for name, block in blocks.items() if _any(block)}
    for question in asked:
        tried: list[tuple[str, list[Block], bool]] = [(f"{n} only", [b], False) for n, b in blocks.items()]
        if len(blocks) > 1:
            tried += [("mean of the log-odds of all", list(blocks.values()), True)]
            tried += [("all inputs in one fit", list(blocks.values()), False)]
        for name, some, late in tried:
            score = _score(some, question, cohort.groups, draws, seed, late)
            if score is not None:
                rows.append({"question": question.name, "inputs": name, "n": str(score.n), "auroc": score})
    said = _plain(Table(tuple(rows), heads={"auroc": "AUROC"}), draws, seed) if rows else []
    return [*said, *_columns(cohort, asked), *_shapes(cohort)] or ["Nothing can be asked of this cohort yet."]


def _columns(cohort: Cohort, asked: Sequence[Question]) -> Part:
    """Every table column alone, in the order of the schema."""
    table = check_columns(cohort, asked)[1]
    names, order = [question.name for question in asked], list(cohort.schema.columns)
    found = sorted(table, key=lambda row: (names.index(row["question"]), order.index(row["column"])))
    rows = tuple({**row, "auroc": f"{row['auroc']:.3f}"} for row in found)
    return [Table(rows, "Single columns", table.notes, {"auroc": "AUROC"})] if rows else []


def _shapes(cohort: Cohort) -> Part:
    """Mean Dice of one fixed shape per mask column, on patients that it was not made from."""
    rows = []
    for name, role in cohort.roles.items():
        if role == "mask":
            masks, groups = _masks(cohort, name)
            if len(masks) >= FEWEST:
                found = fixed_shape_dice(masks, groups)
                rows.append({"mask": name, "masks": str(len(masks)), "Dice": f"{found:.3f}"})
    note = (
        "One shape for everybody: the mean mask of four fifths of the patients at 64 x 64, cut where it fits "
        "them best, laid on the last fifth. The picture is not looked at."
    )
    return [Table(tuple(rows), "A fixed shape", (note,))] if rows else []


def _masks(cohort: Cohort, column: str) -> tuple[np.ndarray, np.ndarray]:
    """The masks of a column that names one file per cell: [masks height width] in 0..1, and the patients."""
    found, owners = [], []
    for cell, group in zip(cohort.column(column), cohort.groups, strict=True):
        if is_missing(cell) or ";" in str(cell):
            continue
        try:
            mask = read_mask(cell, folder=cohort.folder, where=f'column "{column}"')
        except (MissingFile, UnreadableFile):
            continue
        if mask.ndim == 2:
            found.append(resample(mask[None, None].astype(np.float32), (1, *GRID))[0, 0])
            owners.append(str(group))
    return np.array(found), np.array(owners)


def fixed_shape_dice(masks: np.ndarray, groups: np.ndarray) -> float:
    """Mean Dice of the best cut of the mean training mask over five folds of patients. masks [n h w]."""
    fold = patient_folds(np.zeros(len(masks)), groups)
    scores = np.full(len(masks), np.nan)
    for k in np.unique(fold):
        train, test = masks[fold != k], masks[fold == k]
        mean = train.mean(axis=0)
        cuts = [mean >= level * mean.max() for level in np.arange(1, 100) / 100]
        best = max(cuts, key=lambda cut: _dice(train, cut).mean())
        scores[fold == k] = _dice(test, best)
    return float(np.nanmean(scores))


def _dice(masks: np.ndarray, shape: np.ndarray) -> np.ndarray:
    hard = masks >= 0.5
    both = (hard & shape).sum(axis=(1, 2))
    return 2 * both / np.maximum(hard.sum(axis=(1, 2)) + shape.sum(), 1)


def _any(block: Block) -> bool:
    """Is anything of a modality recorded?"""
    if block.is_text:
        return any(not is_missing(text) for text in block.values)
    return bool((~np.isnan(block.values)).any())


def _score(
    blocks: Sequence[Block],
    question: Question,
    groups: np.ndarray,
    draws: int,
    seed: int,
    late: bool = False,
) -> Estimate | None:
    """Out-of-fold AUROC of one fit on all blocks; late: of the mean of the log-odds of a fit on each."""

    def fit_predict(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        pairs = [to_numbers(block.rows(train), block.rows(test)) for block in blocks]
        if not late:
            pairs = [tuple(np.concatenate(side, axis=1) for side in zip(*pairs, strict=True))]
        answers = [linear(x, question.labels[train], z, prior=False) for x, z in pairs]
        odds = [np.log(np.clip(p, 1e-6, 1 - 1e-6) / np.clip(1 - p, 1e-6, 1)) for p in answers]
        return 1 / (1 + np.exp(-np.mean(odds, axis=0)))

    return out_of_fold_auroc(fit_predict, question.labels, groups, draws, seed)


def _plain(table: Table, draws: int, seed: int) -> Part:
    """A table with text in every cell, its definition and what a recount needs."""
    rows = tuple({name: _word(cell) for name, cell in row.items()} for row in table if row)
    return [Table(rows, "", (f"{DEFINITION} {how(draws, seed)}",), table.heads)]


def _word(cell: Any) -> Any:
    return cell if isinstance(cell, Estimate) else "-" if cell is None else str(cell)
