"""Records as a few plain numbers, for baselines without any learned encoder.

Image: mean, standard deviation, 8 x 8 grid means, histogram of 16 bins. Volume: the same with a 4 x 4 x 4
grid. Table: its cells. Series: last, mean, least, greatest value and spread of each channel. Text stays text
until TF-IDF. What is missing is filled with a value of the training rows and gets **no indicator**, so that a
baseline cannot read presence by accident; `presence` reads nothing else.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.types import Image, Number, Series, Tabular, Text, Volume, is_missing, spell

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort

MANY = 60  # more numbers than this are reduced by principal components
TEXT_STRENGTH = 10**0.5  # TF-IDF times this under C = 0.3 is penalised as if it had C = 3 of its own


@dataclass(frozen=True)
class Block:
    """One modality of every record: values [records numbers], NaN where not recorded, or texts with None.

    levels: for each number 0, or the count of levels if it is the index of a category. names: of the numbers.
    """

    values: np.ndarray
    names: tuple[str, ...] = ()
    levels: tuple[int, ...] = ()

    @property
    def is_text(self) -> bool:
        return self.values.dtype == object

    def rows(self, index: Any) -> Block:
        """Some of the records."""
        return Block(self.values[index], self.names, self.levels)

    def only(self, column: int) -> Block:
        """One of the numbers."""
        part = slice(column, column + 1)
        return Block(self.values[:, part], self.names[part], self.levels[part])


def blocks_of(cohort: Cohort, size: int = 256) -> dict[str, Block]:
    """Modality -> its block. Every file of the cohort is opened once."""
    modalities = cohort.schema.modalities
    texts = tuple(name for name, modality in modalities.items() if isinstance(modality, Text))
    parts: dict[str, list[np.ndarray]] = {name: [] for name in modalities}
    for start in range(0, len(cohort), size):
        records = list(cohort[start : start + size])
        for name in texts:
            parts[name].append(np.array([record.inputs.get(name) for record in records], dtype=object))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # unknown levels and unreadable files are the audit's to report
            batch = cohort.collate([record.without(*texts) for record in records])
        for name, modality in modalities.items():
            if name not in texts:
                values = np.full((len(records), len(_names(modality))), np.nan)
                if name in batch.rows:
                    values[batch.rows[name].numpy()] = _read(modality, batch.values[name])
                parts[name].append(values)
    return {
        name: Block(
            np.concatenate(part) if part else np.zeros((0, len(_names(modalities[name])))),
            _names(modalities[name]),
            _levels(modalities[name]),
        )
        for name, part in parts.items()
    }


def block_of_cells(cells: Sequence[Any], name: str) -> Block:
    """A raw column as a block: numbers if all recorded cells are numbers, else a category of its 50 commonest
    levels.
    """
    known = [cell for cell in cells if not is_missing(cell)]
    try:
        numbers = np.array([np.nan if is_missing(cell) else float(cell) for cell in cells], dtype=float)
        return Block(np.where(np.isfinite(numbers), numbers, np.nan)[:, None], (name,), (0,))
    except (TypeError, ValueError):
        spelled, counts = np.unique([spell(cell) for cell in known], return_counts=True)
        order = sorted(spelled[np.argsort(-counts, kind="stable")][:50].tolist())
        index = {level: float(k) for k, level in enumerate(order)}
        codes = [np.nan if is_missing(cell) else index.get(spell(cell), np.nan) for cell in cells]
        return Block(np.array(codes)[:, None], (name,), (len(order),))


def presence(cohort: Cohort, level: str = "columns") -> tuple[np.ndarray, tuple[str, ...]]:
    """What was recorded, and nothing else: [records columns] of 0 and 1, and the names.

    level: "modalities", or "columns": each column of a table by itself, every other modality as a whole.
    """
    present = np.asarray(cohort.present, dtype=float)
    names, flags = [], []
    for k, (name, modality) in enumerate(cohort.schema.modalities.items()):
        if level == "columns" and isinstance(modality, Tabular):
            for column in modality.columns:
                known = np.array([not is_missing(cell) for cell in cohort.column(column)], dtype=float)
                names.append(column)
                flags.append(known * present[:, k])
        else:
            names.append(name)
            flags.append(present[:, k])
    return np.stack(flags, axis=1), tuple(names)


def to_numbers(train: Block, test: Block) -> tuple[np.ndarray, np.ndarray]:
    """Both parts as complete, standardised numbers, everything learned on `train`: [rows dims] twice.

    What is missing gets the mean of the recorded training values, which is 0 here (a category: the shares of
    its levels). The median would not do: where it differs from the mean, a linear fit finds the filled rows
    by it.
    """
    if train.is_text:
        return _text_numbers(train.values, test.values)
    x, z = cells_of(train), cells_of(test)
    known = ~np.isnan(x)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, x, 0).sum(axis=0) / count
    spread = np.sqrt((np.where(known, x - mean, 0) ** 2).sum(axis=0) / count)
    spread = np.where(spread > 1e-9, spread, np.inf)  # a constant number says nothing
    x, z = (np.nan_to_num((part - mean) / spread) for part in (x, z))
    return _reduced(x, z) if x.shape[1] > MANY else (x, z)


def cells_of(block: Block) -> np.ndarray:
    """Numbers as they are, a category as one column per level; NaN where it is not recorded."""
    columns = []
    for k, levels in enumerate(block.levels or (0,) * block.values.shape[1]):
        value = block.values[:, k : k + 1]
        columns.append(np.where(np.isnan(value), np.nan, value == np.arange(levels)) if levels else value)
    return np.concatenate(columns, axis=1) if columns else np.zeros((len(block.values), 0))


def _reduced(x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first principal components (at most 20, and one for five training rows), each scaled to spread
    1.
    """
    parts = max(1, min(20, len(x) // 5, x.shape[1]))
    spreads, directions = np.linalg.eigh(x.T @ x / max(len(x), 1))  # ascending; x has mean 0
    directions = directions[:, ::-1][:, :parts] / np.sqrt(np.maximum(spreads[::-1][:parts], 1e-12))
    return x @ directions, z @ directions


def _text_numbers(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """TF-IDF of one and two words; an absent text gets the mean of the training texts, so absence says
    nothing.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    written = np.array([not is_missing(text) for text in train], dtype=bool)
    reader = TfidfVectorizer(
        ngram_range=(1, 2), min_df=2, max_features=1000, sublinear_tf=True, dtype=np.float32
    )
    try:
        reader.fit([str(text) for text in train[written]])
    except ValueError:  # no word occurs twice
        return np.zeros((len(train), 0)), np.zeros((len(test), 0))
    typical = reader.transform([str(text) for text in train[written]]).toarray().mean(axis=0)
    result = []
    for texts in (train, test):
        here = np.array([not is_missing(text) for text in texts], dtype=bool)
        values = np.tile(typical, (len(texts), 1))
        if here.any():
            values[here] = reader.transform([str(text) for text in texts[here]]).toarray()
        result.append((values - typical) * TEXT_STRENGTH)
    return result[0], result[1]


def _names(modality: Any) -> tuple[str, ...]:
    match modality:
        case Tabular():
            return modality.columns
        case Series():
            kinds = ("last", "mean", "least", "greatest", "spread")
            return tuple(f"{channel.name} {kind}" for channel in modality.channels for kind in kinds)
        case Image() | Volume():
            grid = 64
            return ("mean", "sd", *(f"grid {k}" for k in range(grid)), *(f"bin {k}" for k in range(16)))
    return ()


def _levels(modality: Any) -> tuple[int, ...]:
    if isinstance(modality, Tabular):
        return tuple(0 if isinstance(cell, Number) else len(cell.levels) for cell in modality.cells)
    return (0,) * len(_names(modality))


def _read(modality: Any, values: Any) -> np.ndarray:
    """What the collator packed -> [n numbers]."""
    if isinstance(modality, Tabular):
        return np.where(values["known"].numpy(), values["cells"].numpy(), np.nan)
    if isinstance(modality, Series):
        return _read_series(values["values"].numpy(), values["known"].numpy())
    return _read_picture(modality, values)


def _read_picture(modality: Image | Volume, values: Any) -> np.ndarray:
    """Grey pictures or volumes in 0..1 -> mean, spread, grid and histogram."""
    from torch.nn.functional import adaptive_avg_pool2d, adaptive_avg_pool3d

    if isinstance(modality, Image):
        real = values["views"].float()
        grey = (values["pixels"].mean(2) * real[:, :, None, None]).sum(1) / real.sum(1)[:, None, None]
        grid = adaptive_avg_pool2d(grey[:, None], 8)
    else:
        grey = values["voxels"].mean(1)
        grid = adaptive_avg_pool3d(grey[:, None], 4)
    grey = (grey * modality.scale + modality.mean).flatten(1).numpy()
    shares = [np.histogram(row, bins=16, range=(0, 1))[0] / row.size for row in np.clip(grey, 0, 1)]
    moments = np.stack([grey.mean(axis=1), grey.std(axis=1)], axis=1)
    return np.concatenate([moments, grid.flatten(1).numpy(), np.array(shares)], axis=1)


def _read_series(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """values, known [n steps channels] -> [n channels * 5]; how often was measured is left out on purpose."""
    seen = np.where(known, values, np.nan)
    last = np.full((len(values), values.shape[2]), np.nan)
    for step in range(values.shape[1]):
        last = np.where(known[:, step], values[:, step], last)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # a channel that was never measured: NaN is the answer
        numbers = [last, np.nanmean(seen, 1), np.nanmin(seen, 1), np.nanmax(seen, 1), np.nanstd(seen, 1)]
    return np.stack(numbers, axis=2).reshape(len(values), -1)
