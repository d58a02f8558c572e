"""Audit, part one: can the answer be read off something that it should not be read off?

One definition for every AUROC here: balanced logistic regression, five patient folds, all pairs of the same
fold counted together, 95 % interval by drawing patients. Its direction is learned inside the training folds;
it is not turned around afterwards. Presence-only: the fit sees nothing but 0/1 flags of what was recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmmed.data.features import Block, block_of_cells, presence, to_numbers
from mmmed.evaluation.baselines import confounder_columns, linear
from mmmed.evaluation.bootstrap import Estimate
from mmmed.evaluation.findings import Finding
from mmmed.evaluation.folds import FOLDS, out_of_fold_auroc, patient_folds
from mmmed.evaluation.metrics import auroc
from mmmed.evaluation.scores import Table
from mmmed.evaluation.tasks import Question
from mmmed.types import Series, Tabular, Text, is_missing, spell

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort

WARN = 0.55  # of anything that should know nothing
LEAK = 0.95  # of anything that should not know everything
DEFINITION = (
    "AUROC of balanced logistic regression on held-out patients (5 folds, pairs of the same fold), "
    "95 % interval by patient."
)


def check_presence(
    cohort: Cohort, asked: Sequence[Question], draws: int, seed: int
) -> tuple[list[Finding], Table]:
    """Does what was recorded tell the answer? By modality and by column."""
    rows, found = [], []
    for level in ("modalities", "columns"):
        flags, names = presence(cohort, level)
        varying = [name for name, column in zip(names, flags.T, strict=True) if column.min() < column.max()]
        if not varying or (level == "columns" and len(names) == len(cohort.schema.modalities)):
            continue
        for question in asked:
            score = _score([flags - 0.5], question, cohort.groups, draws, seed)
            if score is None:
                continue
            rows.append(
                {
                    "question": question.name,
                    "presence of": level,
                    "varying": len(varying),
                    "n": score.n,
                    "auroc": score,
                }
            )
            if score.value > WARN:
                found.append(Finding("warning", "presence", _say_presence(question, level, score)))
    note = "Nothing is missing." if not rows else DEFINITION
    return found, Table(tuple(rows), "Presence only: what is recorded, no value", (note,), {"auroc": "AUROC"})


def _say_presence(question: Question, level: str, score: Estimate) -> str:
    chance = " The interval includes 0.5, so it may be luck." if score.low <= 0.5 else ""
    return (
        f"what was recorded ({level}) predicts {question.name} with AUROC {score} without any value.{chance} "
        'Train with missingness="ignore" and put this number beside every result.'
    )


def check_confounders(
    cohort: Cohort, asked: Sequence[Question], draws: int, seed: int
) -> tuple[list[Finding], Table]:
    """Do device, site and other declared confounders tell the answer?"""
    columns = confounder_columns(cohort)
    blocks = [block_of_cells(cohort.column(name), name) for name in columns]
    rows, found = [], []
    for question in asked if columns else ():
        for name, part in [
            *zip(columns, ([block] for block in blocks), strict=True),
            ("all of them", blocks),
        ]:
            if name == "all of them" and len(columns) == 1:
                continue
            score = _score(part, question, cohort.groups, draws, seed)
            if score is None:
                continue
            rows.append({"question": question.name, "confounder": name, "n": score.n, "auroc": score})
            if score.value > WARN and score.low > 0.5:
                text = f"{name} alone predicts {question.name} with AUROC {score}. A model can live on it."
                found.append(Finding("warning", "confounder", text))
    notes = (DEFINITION,) if rows else ("No column is declared as a confounder.",)
    return found, Table(tuple(rows), "Confounders only", notes, {"auroc": "AUROC"})


def check_texts(
    cohort: Cohort, asked: Sequence[Question], draws: int, seed: int
) -> tuple[list[Finding], Table]:
    """What a bag of words says, per text input: near 1 means that the text names the answer."""
    rows, found = [], []
    for k, (name, modality) in enumerate(cohort.schema.modalities.items()):
        if not isinstance(modality, Text):
            continue
        texts = np.array(cohort.column(modality.column), dtype=object)
        here = np.asarray(cohort.present[:, k])
        for question in asked:
            labels = np.where(here, question.labels, np.nan)
            score = _score(
                [Block(texts)], Question(question.name, question.task, labels), cohort.groups, draws, seed
            )
            if score is None:
                continue
            rows.append({"question": question.name, "text": name, "n": score.n, "auroc": score})
            if score.value > LEAK:
                text = (
                    f"a bag of words of {name} predicts {question.name} with AUROC {score}: it may name the "
                    "answer. Was it written before the answer was known?"
                )
                found.append(Finding("warning", "leak", text))
    notes = (DEFINITION + " TF-IDF of one and two words; rows with the text.",) if rows else ()
    return found, Table(tuple(rows), "Bag of words", notes, {"auroc": "AUROC"})


def check_columns(cohort: Cohort, asked: Sequence[Question]) -> tuple[list[Finding], Table]:
    """Single input columns that know (nearly) everything, are the target, or have a role that forbids
    them.
    """
    found, rows = _forbidden_roles(cohort), []
    for name, cells in input_cells(cohort).items():
        block = block_of_cells(cells, name)
        spelled = np.array([None if is_missing(cell) else spell(cell) for cell in cells], dtype=object)
        for question in asked:
            score = column_auroc(block, question.labels, cohort.groups)
            if score is None:
                continue
            same = _is_target(spelled, question.labels)
            rows.append({"question": question.name, "column": name, "auroc": score})
            if same:
                text = f"column {name} is {question.name} in other words. Take it out of the inputs."
                found.append(Finding("error", "leak", text))
            elif score > LEAK:
                text = (
                    f"column {name} alone ranks {question.name} with AUROC {score:.3f}. Was it known before?"
                )
                found.append(Finding("warning", "leak", text))
    rows.sort(key=lambda row: -row["auroc"])
    note = (
        "Numbers: AUROC of the raw value, the better direction. Categories: out-of-fold share of positives."
    )
    return found, Table(tuple(rows), "Single columns", (note,) if rows else (), {"auroc": "AUROC"})


def input_cells(cohort: Cohort) -> dict[str, list]:
    """Column -> raw cells of every table modality, None where the cell or the whole table is missing."""
    cells = {}
    for k, modality in enumerate(cohort.schema.modalities.values()):
        if isinstance(modality, Tabular):
            here = np.asarray(cohort.present[:, k])
            for name in modality.columns:
                raw = cohort.column(name)
                cells[name] = [
                    cell if there and not is_missing(cell) else None
                    for cell, there in zip(raw, here, strict=True)
                ]
    return cells


def column_auroc(block: Block, labels: np.ndarray, groups: np.ndarray) -> float | None:
    """How well one raw column ranks a question among the rows where both are known; None below 20 rows or 5
    of a class. A number that takes few values is tried as a category too.
    """
    values = block.values[:, 0]
    both = ~np.isnan(values) & ~np.isnan(labels)
    values, labels, groups = values[both], labels[both], groups[both]
    if len(values) < 20 or min(labels.sum(), len(labels) - labels.sum()) < 5:
        return None
    levels, codes = np.unique(values, return_inverse=True)
    scores = []
    if not block.levels[0]:
        raw = _rank(labels, values)
        scores.append(max(raw, 1 - raw))
    if block.levels[0] or len(levels) <= 20:
        scores.append(_rank(labels, _level_shares(codes, labels, groups)))
    return max(scores)


def _rank(labels: np.ndarray, values: np.ndarray) -> float:
    """AUROC of any numbers: the order is all that counts, so they are replaced by their ranks in 0..1."""
    _, ranks = np.unique(values, return_inverse=True)
    return auroc(labels, ranks / max(ranks.max(), 1))


def _level_shares(codes: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """For each row the share of positives with the same level in the other folds, drawn to one half by one
    row.
    """
    fold = patient_folds(labels, groups)
    count = codes.max() + 1
    rows, ones = np.zeros((FOLDS, count)), np.zeros((FOLDS, count))
    np.add.at(rows, (fold, codes), 1)
    np.add.at(ones, (fold, codes), labels)
    others, positive = rows.sum(axis=0) - rows, ones.sum(axis=0) - ones
    # relative to the share of positives in those folds, else folds would rank by their prevalence
    base = positive.sum(axis=1, keepdims=True) / np.maximum(others.sum(axis=1, keepdims=True), 1)
    return ((positive + base) / (others + 1) - base)[fold, codes]


def _is_target(cells: np.ndarray, labels: np.ndarray) -> bool:
    """Do cells and labels name the same thing: two values, each for one label, on every row where both are
    known?
    """
    both = np.array([cell is not None for cell in cells]) & ~np.isnan(labels)
    pairs = set(zip(cells[both], labels[both], strict=True))
    return (
        len(pairs) == 2 and len({cell for cell, _ in pairs}) == 2 and len({label for _, label in pairs}) == 2
    )


def _forbidden_roles(cohort: Cohort) -> list[Finding]:
    """Input columns, of any modality, whose role says leak, truth or target."""
    columns = set(cohort.schema.columns)
    for modality in cohort.schema.modalities.values():
        if isinstance(modality, Series):
            columns |= {channel.name for channel in modality.channels}
    found = []
    for name, role in cohort.roles.items():
        word = role.strip().lower()
        if name in columns and (word.startswith("leak") or word.startswith("truth")):
            text = f"column {name} is an input, but its role is {role!r}. Take it out of the inputs."
            found.append(Finding("error", "leak", text))
    return found


def _score(
    blocks: Sequence[Block | np.ndarray], question: Question, groups: np.ndarray, draws: int, seed: int
) -> Estimate | None:
    """Out-of-fold AUROC of a few blocks, or of 0/1 flags [rows flags] as they are."""

    def fit_predict(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        pairs = [
            (block[train], block[test])
            if isinstance(block, np.ndarray)
            else to_numbers(block.rows(train), block.rows(test))
            for block in blocks
        ]
        x, z = (np.concatenate(side, axis=1) for side in zip(*pairs, strict=True))
        return linear(x, question.labels[train], z, prior=False)

    return out_of_fold_auroc(fit_predict, question.labels, groups, draws, seed)
