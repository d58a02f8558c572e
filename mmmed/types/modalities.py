"""Modalities: the kinds of input a record may hold, and how each is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from mmmed.checks import check_count, check_known, check_scale, listing, plain
from mmmed.types.record import spell_levels


@dataclass(frozen=True)
class Number:
    """A numeric column. `mean` and `scale` standardise it and come from training rows; `low`, `high` bound
    it, in `unit`.

    low, high: the range that is physically possible. A value outside is an error of the data, not an outlier.
    """

    name: str
    unit: str | None = None
    low: float | None = None
    high: float | None = None
    mean: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_scale(self.mean, self.scale, name=f"Number {self.name!r}")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"Number {self.name!r}: low {self.low} is above high {self.high}.")


@dataclass(frozen=True)
class Category:
    """A categorical column; `levels` come from training rows.

    unknown: what a level never seen in training becomes: "missing" (the cell counts as not recorded, with a
    warning that names record, column and value) or "error".
    """

    name: str
    levels: tuple[str, ...] = ()
    unknown: str = "missing"

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", spell_levels(self.levels, f"Category {self.name!r}"))
        if len(set(self.levels)) != len(self.levels):
            raise ValueError(f"Category {self.name!r} lists a level twice: {listing(self.levels)}.")
        check_known(self.unknown, ("missing", "error"), what=f"policy for unknown levels of {self.name!r}")


@dataclass(frozen=True)
class Image:
    """A picture per record, or a list of pictures (several views of one examination).

    size: (height, width) in pixels after resizing; channels: 1 grey or 3 colour. Intensities arrive in 0..1
    and are standardised by `mean` and `scale`.
    """

    column: str
    size: tuple[int, int] = (64, 64)
    channels: int = 1
    mean: float = 0.5
    scale: float = 0.25

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _sizes(self.size, 2, f"Image {self.column!r}"))
        if self.channels not in (1, 3):
            raise ValueError(
                f"Image {self.column!r}: channels should be 1 (grey) or 3 (colour), got {self.channels}."
            )
        check_scale(self.mean, self.scale, name=f"Image {self.column!r}")

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)


@dataclass(frozen=True)
class Volume:
    """A 3D picture per record, resampled to `size` = (depth, height, width) voxels.

    key: the array inside an .npz file. Intensities arrive in 0..1 (robust range of the volume) and are
    standardised.
    """

    column: str
    size: tuple[int, int, int] = (16, 64, 64)
    channels: int = 1
    key: str | None = None
    mean: float = 0.5
    scale: float = 0.25

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _sizes(self.size, 3, f"Volume {self.column!r}"))
        check_count(self.channels, name=f"Volume {self.column!r}: channels")
        check_scale(self.mean, self.scale, name=f"Volume {self.column!r}")

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)


@dataclass(frozen=True)
class Tabular:
    """Numbers and categories of one row. A row with some cells recorded is present; one with none is
    absent."""

    cells: tuple[Number | Category, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "cells", tuple(self.cells))
        if not self.cells:
            raise ValueError("A Tabular modality needs at least one column.")
        _check_kinds(self.cells, (Number, Category), "A column of a Tabular modality")
        names = [cell.name for cell in self.cells]
        if len(set(names)) != len(names):
            raise ValueError(f"A Tabular modality lists a column twice: {listing(names)}.")

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(cell.name for cell in self.cells)


@dataclass(frozen=True)
class Text:
    """Free text. `vocabulary` is a WordPiece vocabulary learned from training rows; `tokenizer` names a
    Hugging Face tokenizer (a folder or a hub name) and then replaces it. length: tokens kept."""

    column: str
    length: int = 64
    vocabulary: tuple[str, ...] = ()
    tokenizer: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "vocabulary", tuple(self.vocabulary))
        check_count(self.length, name=f"Text {self.column!r}: length")

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)


@dataclass(frozen=True)
class Series:
    """Measurements at irregular times: a list of steps, each {"time": hours, channel: value or missing, ...}.

    channels: the measured quantities, each with unit and scaling. length: the latest steps kept. time_scale:
    the span, in the unit of `time`, that counts as one (for the time encoding).
    """

    column: str
    channels: tuple[Number, ...]
    length: int = 128
    time: str = "time"
    time_scale: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        if not self.channels:
            raise ValueError(f"Series {self.column!r} needs at least one channel.")
        _check_kinds(self.channels, (Number,), f"A channel of Series {self.column!r}")
        names = [self.time, *(channel.name for channel in self.channels)]
        if len(set(names)) != len(names):
            raise ValueError(
                f"Series {self.column!r}: time and channels need different names, got {listing(names)}."
            )
        check_count(self.length, name=f"Series {self.column!r}: length")
        if not (math.isfinite(self.time_scale) and self.time_scale > 0):
            raise ValueError(f"Series {self.column!r}: time_scale must be positive, got {self.time_scale}.")

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)


Modality = Image | Volume | Tabular | Text | Series


def _check_kinds(parts: tuple[Any, ...], kinds: tuple[type, ...], name: str) -> None:
    for part in parts:
        if not isinstance(part, kinds):
            raise ValueError(
                f"{name} should be a {' or '.join(k.__name__ for k in kinds)}, got {plain(part)}."
            )


def _sizes(size: Any, count: int, name: str) -> tuple[int, ...]:
    size = (size,) * count if isinstance(size, int) else tuple(size)
    if len(size) != count or not all(isinstance(item, int) and item > 0 for item in size):
        raise ValueError(f"{name}: size should be {count} positive whole numbers, got {plain(size)}.")
    return size
