"""The counted parts of a data card that look at files: near-duplicates, identical files, sizes, checksums."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from mmmed.data.paths import resolve
from mmmed.evaluation.data_card_columns import kind_of_column
from mmmed.evaluation.doubles import check_pictures, check_rows
from mmmed.evaluation.scores import Table
from mmmed.types import Image, Volume

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort
    from mmmed.evaluation.data_card_counts import Part


def duplicates(cohort: Cohort, pictures: int = 5000) -> Part:
    """Near-duplicates by fingerprint, identical files, and rows that agree."""
    kinds, seen = cohort.schema.modalities.values(), cohort.present.any(axis=0)
    images = [kind for kind, here in zip(kinds, seen, strict=True) if here and isinstance(kind, Image)]
    said: Part = []
    if images:
        found, table = check_pictures(cohort, pictures)
        pairs = list(table)
        copies = [pair for pair in pairs if pair["bits apart"] <= 16]
        across = sum(pair["across parts"] for pair in copies)
        said.append(
            "Pairs of pictures of different patients: up to 16 of 256 bits apart (copies) "
            f"{len(copies)}, of them across parts {across}; 17 to 32 bits apart (look at both) "
            f"{len(pairs) - len(copies)}. Cropped copies are not found."
        )
        said += [finding.text for finding in found if finding.topic == "files"]
    within, across = _identical(cohort)
    if within is not None:
        said.append(f"Pairs of identical files: within a patient {within}, between patients {across}.")
    rows = check_rows(cohort)
    said += [finding.text for finding in rows] or ["No two patients agree in every table cell and text."]
    return said


def _paths(cohort: Cohort, column: str) -> list[tuple[int, Path]]:
    """Row and file of every cell that names one inside the cohort's folder."""
    if cohort.folder is None or column in cohort.source.arrays:
        return []
    found = []
    for row, cell in enumerate(cohort.column(column)):
        for path in cell if isinstance(cell, list) else str(cell or "").split(";"):
            try:
                found += [(row, resolve(path, cohort.folder))] if path else []
            except ValueError:
                continue  # no file, or one outside the folder: the audit says so
    return found


def _identical(cohort: Cohort) -> tuple[int | None, int]:
    """Pairs of equal files of pictures and volumes: within a patient (None without files), and between
    two."""
    columns = {m.column for m in cohort.schema.modalities.values() if isinstance(m, (Image, Volume))}
    groups, owners, some = cohort.groups, defaultdict(list), False
    for column in sorted(columns):
        for row, path in _paths(cohort, column):
            some = True
            owners[hashlib.sha256(path.read_bytes()).hexdigest()].append(str(groups[row]))
    within = across = 0
    for names in owners.values():
        same = sum(n * (n - 1) // 2 for n in Counter(names).values())
        within, across = within + same, across + len(names) * (len(names) - 1) // 2 - same
    return (within if some else None), across


def files(cohort: Cohort) -> Part:
    """Files per column, and the checksum of the table."""
    rows = []
    for column in cohort.source.columns:
        kind = kind_of_column(cohort, column, cohort.column(column)) if cohort.folder else "text"
        named = _paths(cohort, column) if kind in ("image", "volume", "file") else []
        if named:
            size = sum(path.stat().st_size for _, path in named) / 1e6
            rows.append({"column": column, "files": str(len(named)), "megabytes": f"{size:.1f}"})
    said: Part = [Table(tuple(rows))] if rows else ["No column names files."]
    digest = table_digest(cohort)
    return [*said, f"SHA-256 of {digest[0]}: {digest[1]}"] if digest else said


def table_digest(cohort: Cohort) -> tuple[str, str] | None:
    """File name and SHA-256 of the table that the cohort was read from, where it is beside its files."""
    if cohort.folder is None:
        return None
    for name in ("metadata.csv", "metadata.parquet", f"{cohort.name}.csv"):
        path = Path(cohort.folder) / name
        if "/" not in name and path.is_file():
            return name, hashlib.sha256(path.read_bytes()).hexdigest()
    return None
