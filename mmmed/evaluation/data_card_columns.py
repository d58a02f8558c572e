"""The counted parts about columns: role, type, unit, range, missing share; and how each modality is read."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.evaluation.data_card_counts import Part, missing_cells, share
from mmmed.evaluation.scores import table_of
from mmmed.types import Category, Image, Number, Series, Tabular, Text, Volume, is_missing, spell

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort

LEVELS = 8  # levels of a category that are listed with their counts
MANY = 20  # different texts from which on a column is text, not a category
HIDDEN = ("id", "group")  # columns whose values are never shown
ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npz", ".npy", ".nii", ".nii.gz", ".dcm")


def columns(cohort: Cohort) -> Part:
    """One line per column of the table."""
    words, rows = descriptions(cohort), []
    for name in cohort.source.columns:
        cells = [
            True if name in cohort.source.arrays and cell is not None else cell
            for cell in _cells(cohort, name)
        ]
        gone = missing_cells(cells)
        kind = kind_of_column(cohort, name, cells)
        rows.append(
            {
                "column": name,
                "role": cohort.roles.get(name, "other"),
                "read as": ", ".join(_readers(cohort, name)),
                "type": kind,
                "unit": unit_of(cohort, name) or "",
                "values": _values(kind, cells, cohort.roles.get(name, "")),
                "missing": str(gone),
                "share": share(gone, len(cohort)),
                "in the words of its folder": words.get(name, ""),
            }
        )
    return [table_of(rows)]


def _cells(cohort: Cohort, name: str) -> list[Any]:
    """The cells of a column; of pictures in memory only whether they are there."""
    if name in cohort.source.arrays:
        return cohort.source.arrow.column(name).take(cohort.rows).to_pylist()
    return cohort.column(name)


def descriptions(cohort: Cohort) -> dict[str, str]:
    """What the schema.json of a prepared folder says of each column, in its own words."""
    path = Path(cohort.folder or "") / "schema.json"
    if cohort.folder is None or not path.is_file():
        return {}
    try:
        said = json.loads(path.read_text(encoding="utf-8")).get("columns")
    except (ValueError, AttributeError):
        return {}
    return (
        {name: text for name, text in said.items() if isinstance(text, str)} if isinstance(said, dict) else {}
    )


def _readers(cohort: Cohort, name: str) -> list[str]:
    """The modalities that read a column, and the tasks that ask for it."""
    modalities = [key for key, part in cohort.schema.modalities.items() if name in part.columns]
    return modalities + [f"task {key}" for key, part in cohort.schema.tasks.items() if name in part.columns]


def cell_of(cohort: Cohort, name: str) -> Number | Category | None:
    """How a table modality reads a column, if one does."""
    tables = [part for part in cohort.schema.modalities.values() if isinstance(part, Tabular)]
    return next((cell for table in tables for cell in table.cells if cell.name == name), None)


def unit_of(cohort: Cohort, name: str) -> str | None:
    """The unit of a column, from the schema."""
    cell = cell_of(cohort, name)
    if isinstance(cell, Number):
        return cell.unit
    tasks = [task for task in cohort.schema.tasks.values() if name in task.columns]
    return getattr(tasks[0], "unit", None) if tasks else None


def kind_of_column(cohort: Cohort, name: str, cells: list[Any]) -> str:
    """identifier, image, volume, series, file, number, category or text."""
    role = cohort.roles.get(name, "")
    if role in HIDDEN or name in (cohort.schema.id, cohort.schema.group):
        return "identifier"
    for part in cohort.schema.modalities.values():
        if not isinstance(part, Tabular) and name in part.columns:
            return type(part).__name__.lower()
    cell = cell_of(cohort, name)
    if cell is not None:
        return type(cell).__name__.lower()
    known = [cell for cell in cells if not is_missing(cell)]
    if known and all(isinstance(cell, str) and cell.lower().endswith(ENDINGS) for cell in known):
        return "text" if any("://" in cell for cell in known) else "file"
    if known and _numbers(known) is not None:
        return "number"
    return "category" if len({spell(cell) for cell in known}) <= MANY else "text"


def _numbers(cells: list[Any]) -> np.ndarray | None:
    try:
        return np.array([float(cell) for cell in cells])
    except (TypeError, ValueError):
        return None


def _values(kind: str, cells: list[Any], role: str) -> str:
    """The range of numbers, the levels of categories with their counts, else how many different ones."""
    known = [cell for cell in cells if not is_missing(cell)]
    if not known:
        return "never recorded"
    if kind in ("image", "volume", "series", "file"):
        return f"{len(known)} recorded"
    if kind == "text":
        words = statistics.median(len(str(cell).split()) for cell in known)
        return f"{len(set(map(str, known)))} different, median {words:g} words"
    levels = Counter(spell(cell) for cell in known)
    numbers = _numbers(known) if kind == "number" else None
    if numbers is not None and len(levels) > 2:
        return f"{numbers.min():.4g} to {numbers.max():.4g}, median {np.median(numbers):.4g}"
    if kind == "identifier" or len(levels) > LEVELS:
        return f"{len(levels)} different"
    return ", ".join(f"{level}: {count}" for level, count in sorted(levels.items()))


def inputs(cohort: Cohort) -> Part:
    """How each modality arrives at a model: shape, type and range, as in the network_data_format of MONAI."""
    rows = []
    for k, (name, part) in enumerate(cohort.schema.modalities.items()):
        gone = int((~np.asarray(cohort.present)[:, k]).sum())
        told = {"modality": name, "kind": type(part).__name__.lower(), "from": _from(part)} | _format(part)
        rows.append(told | {"missing": str(gone), "share": share(gone, len(cohort))})
    return [table_of(rows)]


def _from(part: Any) -> str:
    if isinstance(part, Tabular):
        return f"{len(part.cells)} columns"
    return f"{part.column}, array {part.key}" if isinstance(part, Volume) and part.key else part.column


def _format(part: Any) -> dict[str, str]:
    """Shape of one record's input, dtype, and what the values are before standardising."""
    match part:
        case Image() | Volume():
            sides = " x ".join(map(str, part.size))
            colour = "grey" if part.channels == 1 else f"{part.channels} channels"
            told = {"shape": f"{part.channels} x {sides} (channels first; {colour})", "type": "float32"}
            return told | {"values": f"0 to 1, standardised by mean {part.mean:g} and scale {part.scale:g}"}
        case Tabular():
            numbers = sum(isinstance(cell, Number) for cell in part.cells)
            kinds = f"numbers {numbers}, categories {len(part.cells) - numbers}"
            return {
                "shape": f"{len(part.cells)} cells",
                "type": "float32",
                "values": f"{kinds}, a flag for each",
            }
        case Text():
            return {"shape": f"up to {part.length} tokens", "type": "int64", "values": "word pieces"}
        case Series():
            shape = f"up to {part.length} steps x {len(part.channels)} channels"
            return {"shape": shape, "type": "float32", "values": "numbers with their times, a flag for each"}
    return {}
