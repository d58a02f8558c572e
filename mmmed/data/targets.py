"""Target columns as numbers, with what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmmed.data.sources import Source
from mmmed.data.statistics import number_column
from mmmed.types import Multiclass, Multilabel, Regression, Task


def read_task(source: Source, task: Task, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """-> values and known, both [rows] or [rows labels]; 0 where unknown.

    Binary: 0.0, 1.0; multiclass: index of the level; multilabel: 0.0, 1.0; regression: in the column's unit.
    """
    if isinstance(task, Regression):
        values = number_column(source, task.column)[rows]
        known = ~np.isnan(values)
        return np.where(known, values, 0.0), known
    levels = ("0", "1") if isinstance(task, Multilabel) else task.levels
    codes = np.stack([_codes(source, column, levels)[rows] for column in task.columns], axis=1)
    known = codes >= 0
    values = np.where(known, codes, 0).astype(int if isinstance(task, Multiclass) else float)
    return (values, known) if isinstance(task, Multilabel) else (values[:, 0], known[:, 0])


def _codes(source: Source, column: str, levels: tuple[str, ...]) -> np.ndarray:
    """Index of the level, -1 = unknown."""
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = source.arrow.column(column)
    found = pc.index_in(cells.cast(pa.string()), value_set=pa.array(levels, pa.string()))
    return pc.fill_null(found, -1).to_numpy()


def rows_with_text(cells: Sequence[Any]) -> list[int]:
    """The places of the cells that hold text with something in it: which records have a report."""
    return [row for row, cell in enumerate(cells) if isinstance(cell, str) and cell.strip()]
