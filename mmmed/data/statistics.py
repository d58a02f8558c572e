"""What is learned from the training rows and kept in the schema: means, scales, levels, vocabularies.

Nothing here sees a validation or test row. A number that was learned never has exactly the mean 0 and scale 1
of one that was not, so a saved schema is never learned again by accident.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from mmmed.checks import MissingFile, UnreadableFile
from mmmed.data.sources import Source
from mmmed.types import (
    Category,
    Image,
    Modality,
    Number,
    Regression,
    Schema,
    Series,
    Tabular,
    Task,
    Text,
    is_missing,
)

NONE_SEEN = (
    "(none in training)"  # the level of a column that no training row has: every later value is unknown
)
PICTURES = 64  # pictures that are looked at to standardise all of them
_ALMOST_ONE = math.nextafter(1.0, 2.0)


def fit_schema(schema: Schema, source: Source, rows: np.ndarray, only_open: bool = False) -> Schema:
    """The schema with its statistics learned from some rows of a typed source.

    rows: positions of the training rows. only_open: learn only what still has its default (mean 0 and scale
    1, no levels, no vocabulary); what the schema states stays. Levels of tasks are never learned here: a fold
    without a class still has that output. Volumes are scaled as the schema says.
    """
    modalities = {n: _fit_modality(m, source, rows, only_open) for n, m in schema.modalities.items()}
    tasks = {name: _fit_task(task, source, rows, only_open) for name, task in schema.tasks.items()}
    return replace(schema, modalities=modalities, tasks=tasks)


def _fit_modality(modality: Modality, source: Source, rows: np.ndarray, only_open: bool) -> Modality:
    match modality:
        case Tabular():
            cells = tuple(_fit_cell(cell, source, rows, only_open) for cell in modality.cells)
            return replace(modality, cells=cells)
        case Text() if modality.tokenizer is None and not (only_open and modality.vocabulary):
            from mmmed.data.tokenization import learn_vocabulary

            texts = source.fetch(rows, [modality.column])[modality.column]
            return replace(modality, vocabulary=tuple(learn_vocabulary([t for t in texts if t is not None])))
        case Series():
            return _fit_series(modality, source, rows, only_open)
        case Image() if not only_open or (modality.mean, modality.scale) == (Image.mean, Image.scale):
            return _fit_image(modality, source, rows)
    return modality


def _fit_image(modality: Image, source: Source, rows: np.ndarray) -> Image:
    """Grey values standardised by some training pictures, spread evenly over the rows.

    One that cannot be read is no use here, and is reported when a batch needs it. The padding of a picture
    to the common size counts, since the encoder will see it.
    """
    from mmmed.data.readers import read_image

    some = rows[np.linspace(0, len(rows) - 1, min(8 * PICTURES, len(rows))).astype(int)]
    cells = source.fetch(some, [modality.column])[modality.column]
    cells = [cell for cell in cells if not is_missing(cell)]
    places = np.linspace(0, len(cells) - 1, min(PICTURES, len(cells))).astype(int)
    pixels = []
    for cell in [cells[place] for place in places]:
        for view in cell if isinstance(cell, (list, tuple)) else [cell]:
            if is_missing(view):
                continue
            try:
                picture = read_image(
                    view, channels=modality.channels, size=modality.size, folder=source.folder
                )
            except (MissingFile, UnreadableFile):
                continue
            pixels.append(picture.ravel())
    if not pixels:
        return modality
    values = np.concatenate(pixels)
    mean, scale = round(float(values.mean()), 4), round(float(values.std()), 4)
    return replace(modality, mean=mean, scale=scale) if scale > 0 else modality


def _fit_cell(
    cell: Number | Category, source: Source, rows: np.ndarray, only_open: bool
) -> Number | Category:
    if isinstance(cell, Number):
        if only_open and not _is_open(cell):
            return cell
        mean, scale = mean_and_scale(number_column(source, cell.name)[rows])
        return replace(cell, mean=mean, scale=scale)
    if only_open and cell.levels:
        return cell
    return replace(cell, levels=tuple(levels_of(source, cell.name, rows)) or (NONE_SEEN,))


def _fit_task(task: Task, source: Source, rows: np.ndarray, only_open: bool) -> Task:
    if not isinstance(task, Regression) or (only_open and not _is_open(task)):
        return task
    mean, scale = mean_and_scale(number_column(source, task.column)[rows])
    return replace(task, mean=mean, scale=scale)


def _fit_series(series: Series, source: Source, rows: np.ndarray, only_open: bool) -> Series:
    """Mean and scale of each channel over all steps; time_scale = the 90th percentile of the spans, if
    open."""
    cells = [cell for cell in source.fetch(rows, [series.column])[series.column] if cell is not None]
    channels = []
    for channel in series.channels:
        if not only_open or _is_open(channel):
            values = [value for cell in cells for value in _steps(cell, channel.name)]
            mean, scale = mean_and_scale(np.array(values, float))
            channel = replace(channel, mean=mean, scale=scale)
        channels.append(channel)
    span = series.time_scale
    if not only_open or span == 1.0:
        times = [_steps(cell, series.time) for cell in cells]
        spans = [max(t) - min(t) for t in times if t]
        span = float(np.quantile(spans, 0.9)) if spans else 1.0
        span = span if span > 0 and span != 1.0 else _ALMOST_ONE
    return replace(series, channels=tuple(channels), time_scale=span)


def _steps(cell: Any, name: str) -> list[float]:
    """The recorded values of one quantity, of a list of steps or a mapping from quantity to list."""
    values = cell.get(name) or [] if isinstance(cell, dict) else [step.get(name) for step in cell if step]
    return [float(value) for value in values if not is_missing(value)]


def _is_open(item: Number | Regression) -> bool:
    return (item.mean, item.scale) == (0.0, 1.0)


def mean_and_scale(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the known values (NaN = unknown); a constant or empty column is divided
    by one."""
    known = values[~np.isnan(values)]
    if not len(known):
        return 0.0, _ALMOST_ONE
    mean, scale = float(known.mean()), float(known.std())
    if not scale > 1e-12 * max(1.0, abs(mean)):
        scale = _ALMOST_ONE
    return (mean, _ALMOST_ONE) if (mean, scale) == (0.0, 1.0) else (mean, scale)


def number_column(source: Source, column: str) -> np.ndarray:
    """A numeric column as float [rows], NaN where missing."""
    import pyarrow as pa

    return source.arrow.column(column).cast(pa.float64()).to_numpy()


def levels_of(source: Source, column: str, rows: np.ndarray) -> list[str]:
    """The different levels in some rows: as numbers where all are numbers, else in alphabetical order."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.unique(source.arrow.column(column).take(pa.array(rows))).to_pylist()
    return in_order([str(level) for level in found if level is not None])


def in_order(levels: list[str]) -> list[str]:
    """Levels sorted as numbers if all of them are numbers, else as text."""
    try:
        return sorted(levels, key=lambda level: (float(level), level))
    except ValueError:
        return sorted(levels)
