"""Audit, part three: the same patient, row or picture twice, above all on both sides of a split."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import numpy as np

from mmmed.checks import MissingFile, UnreadableFile, listing
from mmmed.evaluation.findings import Finding
from mmmed.evaluation.scores import Table
from mmmed.evaluation.shortcuts import input_cells
from mmmed.types import Image, Text, is_missing, spell

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort

SHOWN = 50  # pairs of pictures that are listed


def check_patients(cohort: Cohort) -> list[Finding]:
    """Patients on both sides of a split."""
    parts: dict[str, set[str]] = defaultdict(set)
    for group, split in zip(cohort.groups, cohort.splits, strict=True):
        parts[str(group)].add(str(split))
    both = sorted(group for group, splits in parts.items() if len(splits) > 1)
    if not both:
        return []
    text = (
        f"{len(both)} patients are in more than one part ({listing(both, 3)}): every score on it is "
        "too good. Split again with cohort.split()."
    )
    return [Finding("error", "patients", text)]


def check_rows(cohort: Cohort) -> list[Finding]:
    """Rows of different patients that agree in every table cell and text, where chance would hardly do that.

    Chance: pairs of patients times the squared share of each recorded value in its column, as if columns were
    independent. What is missing counts for nothing, since it is missing in blocks.
    """
    columns = _spelled(cohort)
    if not columns:
        return []
    shares = [_shares(column) for column in columns]
    rows: dict[tuple, list[int]] = defaultdict(list)
    for row, values in enumerate(zip(*columns, strict=True)):
        if any(value is not None for value in values):
            rows[values].append(row)
    groups, splits = np.asarray(cohort.groups), np.asarray(cohort.splits)
    pairs = len(set(groups)) ** 2 / 2
    same = [
        index
        for values, index in rows.items()
        if len(index) > 1 and len(set(groups[index])) > 1 and pairs * _likelihood(values, shares) ** 2 < 0.01
    ]
    if not same:
        return []
    across = sum(len(set(splits[index])) > 1 for index in same)
    ids = [" = ".join(str(cohort.ids[row]) for row in index[:3]) for index in same]
    text = (
        f"{len(same)} set{'s' * (len(same) > 1)} of rows of different patients agree in every cell and text, "
        f"{across} across parts ({listing(ids, 3)}). One patient under two names?"
    )
    return [Finding("note", "duplicates", text)]


def _spelled(cohort: Cohort) -> list[list[str | None]]:
    """Every table column and text as one spelling per cell, None where it is missing."""
    columns = [
        [None if cell is None else spell(cell) for cell in cells] for cells in input_cells(cohort).values()
    ]
    for modality in cohort.schema.modalities.values():
        if isinstance(modality, Text):
            raw = cohort.column(modality.column)
            columns.append([None if is_missing(text) else str(text).strip() for text in raw])
    return columns


def _shares(column: list[str | None]) -> dict[str | None, float]:
    """Share of each value among the recorded ones; 1 for what is missing."""
    counts = Counter(value for value in column if value is not None)
    return {None: 1.0, **{value: n / counts.total() for value, n in counts.items()}}


def _likelihood(values: tuple, shares: list[dict]) -> float:
    return float(np.prod([share[value] for value, share in zip(values, shares, strict=True)]))


def check_pictures(cohort: Cohort, limit: int) -> tuple[list[Finding], Table]:
    """Pictures that are copies of another patient's, by a hash of the whole picture (up to 16 of 256 bits
    apart).

    Unreadable and absent files are reported, not raised. Copies that were cropped escape.
    """
    found, rows = [], []
    for name, modality in cohort.schema.modalities.items():
        if not isinstance(modality, Image):
            continue
        k = list(cohort.schema.modalities).index(name)
        having = np.flatnonzero(np.asarray(cohort.present)[:, k])
        if len(having) > limit:
            text = f"{len(having)} records have {name}, more than the limit of {limit}: no search for copies."
            found.append(Finding("note", "duplicates", f"{text} Raise it with audit(cohort, pictures=...)."))
            continue
        prints, owners, troubles = _fingerprints(cohort, name, modality, having)
        if troubles:
            text = f"{len(troubles)} files of {name} cannot be read, the first: {troubles[0]}"
            found.append(Finding("error", "files", text))
        pairs = _pairs(cohort, name, prints, owners)
        found += _say_pairs(name, pairs)
        rows += pairs
    note = (
        "Up to 16 of 256 bits apart: the same picture. 17 to 32: look at both. Cropped copies are not found."
    )
    return found, Table(tuple(rows[:SHOWN]), "Pictures alike", (note,) if rows else ())


def _fingerprints(
    cohort: Cohort, name: str, modality: Image, having: np.ndarray
) -> tuple[np.ndarray, list[int], list[str]]:
    """-> fingerprints [pictures 256], the row of each, and what could not be read."""
    from tqdm.auto import tqdm

    from mmmed.data.fingerprints import BITS, fingerprint
    from mmmed.data.readers import read_image

    prints, owners, troubles = [], [], []
    records = tqdm(
        cohort.where(having), f"reading {name}", len(having), unit="record", disable=None, leave=False
    )
    for row, record in zip(having.tolist(), records, strict=True):
        value = record.inputs[name]
        for view in value if isinstance(value, (list, tuple)) else [value]:
            where = f'record "{record.id}", column "{modality.column}"'
            try:
                picture = read_image(view, channels=1, folder=record.folder, where=where)
            except (MissingFile, UnreadableFile) as error:
                troubles.append(str(error))
                continue
            prints.append(fingerprint(picture))
            owners.append(row)
    return np.array(prints, dtype=bool).reshape(-1, BITS), owners, troubles


def _pairs(cohort: Cohort, name: str, prints: np.ndarray, owners: list[int]) -> list[dict]:
    """Pairs of pictures of different patients that look alike, closest first."""
    from mmmed.data.fingerprints import near_duplicates

    rows = []
    for a, b, distance in near_duplicates(prints):
        first, second = owners[a], owners[b]
        if cohort.groups[first] != cohort.groups[second]:
            rows.append(
                {
                    "modality": name,
                    "first": str(cohort.ids[first]),
                    "second": str(cohort.ids[second]),
                    "bits apart": distance,
                    "across parts": bool(cohort.splits[first] != cohort.splits[second]),
                }
            )
    return rows


def _say_pairs(name: str, pairs: list[dict]) -> list[Finding]:
    from mmmed.data.fingerprints import DUPLICATE

    found = []
    copies = [pair for pair in pairs if pair["bits apart"] <= DUPLICATE]
    across = [pair for pair in copies if pair["across parts"]]
    spoken = [f"{pair['first']} = {pair['second']}" for pair in across or copies]
    if copies:
        severity = "error" if across else "warning"
        text = (
            f"{len(copies)} pairs of {name} of different patients are one picture, {len(across)} of them "
            f"across parts ({listing(spoken, 3)}). One patient with two names? Give it one group."
        )
        found.append(Finding(severity, "duplicates", text))
    if len(pairs) > len(copies):
        text = (
            f"{len(pairs) - len(copies)} more pairs of {name} of different patients look alike. Look at them."
        )
        found.append(Finding("note", "duplicates", text))
    return found
