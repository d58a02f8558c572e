"""The counted parts of a data card that are pure counting: sizes, splits, patterns, labels, groups.
Nothing is fitted, and no file is opened."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.data.features import presence
from mmmed.data.splitting import SPLITS
from mmmed.evaluation.evaluate import patterns_of
from mmmed.evaluation.scores import Table
from mmmed.evaluation.shortcuts import confounder_columns
from mmmed.evaluation.subgroups import members
from mmmed.evaluation.tasks import Question, questions
from mmmed.types import Binary, Multiclass, is_missing

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort

Part = list["Table | str"]
PATTERNS = 12  # rows of a pattern matrix
PEOPLE = ("age", "sex", "gender", "race", "ethnicity")
LEVELS = 6  # different values up to which an input that is not read makes subgroups
SHOWN = 4  # yes-or-no questions with a column of their own


def share(part: int, whole: int) -> str:
    """A share in percent with one decimal."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def positive(question: Question, rows: np.ndarray) -> str:
    """The positives among the known labels of some rows: "77 of 200"."""
    known = question.labels[rows]
    known = known[~np.isnan(known)]
    return f"{int(known.sum())} of {len(known)}" if len(known) else "unknown"


def sizes(cohort: Cohort) -> Part:
    """Records, patients, and how many records a patient has."""
    per_patient = np.bincount(cohort.group_codes())
    rows = [
        {"what": "records", "count": str(len(cohort))},
        {"what": "patients", "count": str(len(per_patient))},
        {"what": "columns", "count": str(len(cohort.source.columns))},
        {
            "what": "records per patient: least, median, most",
            "count": f"{per_patient.min()}, {np.median(per_patient):g}, {per_patient.max()}",
        },
    ]
    many = Counter(per_patient.tolist())
    spread = [{"records of one patient": str(n), "patients": str(many[n])} for n in sorted(many)]
    alone = "No column names the patient: every record counts as one."
    return [Table(tuple(rows)), *([Table(tuple(spread))] if len(many) > 1 else [])] + (
        [alone] if cohort.schema.group is None else []
    )


def splits(cohort: Cohort) -> Part:
    """Records and patients of each part, and who is in more than one."""
    parts, groups = np.asarray(cohort.splits), np.asarray(cohort.groups)
    rows = [
        {
            "part": name,
            "records": str(int((parts == name).sum())),
            "patients": str(len(np.unique(groups[parts == name]))),
        }
        for name in SPLITS
    ]
    where = defaultdict(set)
    for group, part in zip(groups.tolist(), parts.tolist(), strict=True):
        where[group].add(part)
    both = sum(len(some) > 1 for some in where.values())
    said = f"Patients in more than one part: {both}. Where the parts come from: {cohort.split_origin}."
    return [Table(tuple(rows)), said]


def patterns(cohort: Cohort) -> Part:
    """The pattern matrices: which modalities, and which columns, are recorded together."""
    asked, present = questions(cohort)[:SHOWN], np.asarray(cohort.present)
    names = tuple(cohort.schema.modalities)
    rows = []
    for index in list(patterns_of(present, names).values())[:PATTERNS]:
        marks = {name: _mark(here) for name, here in zip(names, present[index[0]], strict=True)}
        rows.append(marks | _counts(cohort, index, asked))
    many = Counter(present.sum(axis=1).tolist())
    spread = [
        {"modalities recorded": f"{n} of {len(names)}", "records": str(many[n])} for n in sorted(many)[::-1]
    ]
    return [Table(tuple(rows), "Modalities together"), Table(tuple(spread)), *_blocks(cohort, asked)]


def _mark(here: Any) -> str:
    return "yes" if here else "–"


def _counts(cohort: Cohort, index: np.ndarray, asked: list[Question]) -> dict[str, str]:
    told = {"records": str(len(index)), "share": share(len(index), len(cohort))}
    return told | {f"{question.name} positive": positive(question, index) for question in asked}


def _blocks(cohort: Cohort, asked: list[Question]) -> Part:
    """Columns that are always missing together count as one block; the commonest patterns of the blocks."""
    flags, names = presence(cohort, "columns")
    if len(names) == len(cohort.schema.modalities) or flags.all():
        return []
    blocks: dict[bytes, list[int]] = defaultdict(list)
    for k in range(len(names)):
        blocks[flags[:, k].tobytes()].append(k)
    gaps = [columns for columns in blocks.values() if not flags[:, columns[0]].all()]
    heads = [names[columns[0]] + (f" and {len(columns) - 1} more" * (len(columns) > 1)) for columns in gaps]
    seen = flags[:, [columns[0] for columns in gaps]].astype(bool)
    different, code, counts = np.unique(seen, axis=0, return_inverse=True, return_counts=True)
    rows = []
    for place in np.argsort(-counts, kind="stable")[:PATTERNS]:
        marks = {head: _mark(here) for head, here in zip(heads, different[place], strict=True)}
        rows.append(marks | _counts(cohort, np.flatnonzero(code.reshape(-1) == place), asked))
    said = [
        f"{heads[k]}: {', '.join(names[c] for c in columns)}."
        for k, columns in enumerate(gaps)
        if columns[1:]
    ]
    rest = len(counts) - len(rows)
    notes = (f"Rarer patterns, not shown: {rest}.",) if rest else ()
    return [Table(tuple(rows), "Columns together (those with gaps)", notes), *said]


def labels(cohort: Cohort) -> Part:
    """How many records have which answer, in all and per part."""
    parts, rows = np.asarray(cohort.splits), []
    for name, task in cohort.schema.tasks.items():
        values, known = (np.asarray(some) for some in cohort.targets(name))
        if isinstance(task, (Binary, Multiclass)):
            answers = [(level, known & (values == k)) for k, level in enumerate(task.levels)]
            answers.append(("unknown", ~known))
        elif values.ndim == 2:
            answers = [(label, known[:, k] & (values[:, k] == 1)) for k, label in enumerate(task.labels)]
        else:
            answers = [(_spread(values[known], task.unit), known), ("unknown", ~known)]
        for level, here in answers:
            told = {"task": name, "answer": level, "records": str(int(here.sum()))}
            told |= {part: str(int(here[parts == part].sum())) for part in SPLITS}
            rows.append(told | {"patients": str(len(np.unique(cohort.group_codes()[here])))})
    return [Table(tuple(rows))] if rows else ["The schema asks no question yet."]


def _spread(some: np.ndarray, unit: str) -> str:
    """From where to where the known answers of a regression lie; "none" if no answer is known."""
    if not len(some):
        return "none"
    return f"{some.min():.4g} to {some.max():.4g}{f' {unit}' if unit else ''}, median {np.median(some):.4g}"


def subgroups(cohort: Cohort) -> Part:
    """Records, patients and positives by age, sex, origin and declared confounders."""
    names = [name for name in cohort.source.columns if name.lower() in PEOPLE]
    others = [n for n, role in cohort.roles.items() if role == "input" and n not in cohort.schema.columns]
    names += [n for n in others if n not in names and _levels(cohort, n) <= LEVELS]
    names += [name for name in confounder_columns(cohort) if name not in names]
    asked, rows = questions(cohort)[:SHOWN], []
    for name in names:
        for group, here in members(cohort, name).items():
            told = {"column": name, "group": group, "records": str(int(here.sum()))}
            told["patients"] = str(len(np.unique(cohort.group_codes()[here])))
            told |= {f"{q.name} positive": positive(q, np.flatnonzero(here)) for q in asked}
            rows.append(told)
    return [Table(tuple(rows))] if rows else ["No column for age, sex, origin, site or device is declared."]


def _levels(cohort: Cohort, name: str) -> int:
    """How many different values a column has; many where there is none, or where it holds pictures."""
    known = [] if name in cohort.source.arrays else [c for c in cohort.column(name) if not is_missing(c)]
    return len(set(map(str, known))) or LEVELS + 1


def missing_cells(cells: list[Any]) -> int:
    """How many cells are not recorded."""
    return sum(is_missing(cell) for cell in cells)
