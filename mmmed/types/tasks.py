"""Tasks: what is asked about a record. An empty target cell is an unknown label, never a negative."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mmmed.checks import check_scale, listing
from mmmed.types.record import spell_levels


@dataclass(frozen=True)
class Binary:
    """Yes or no. levels: (negative, positive) as written in the column. An empty cell is an unknown label."""

    column: str
    levels: tuple[str, str] = ("0", "1")
    outputs: ClassVar[int] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", spell_levels(self.levels, f"Binary task {self.column!r}"))
        if len(self.levels) != 2 or self.levels[0] == self.levels[1]:
            raise ValueError(
                f"Binary task {self.column!r} needs two different levels, got {listing(self.levels)}."
            )

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)


@dataclass(frozen=True)
class Multiclass:
    """One of several classes."""

    column: str
    levels: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", spell_levels(self.levels, f"Multiclass task {self.column!r}"))
        if len(set(self.levels)) != len(self.levels) or len(self.levels) < 2:
            raise ValueError(
                f"Multiclass task {self.column!r} needs different levels, two at least: "
                f"{listing(self.levels)}."
            )

    @property
    def outputs(self) -> int:
        return len(self.levels)

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)


@dataclass(frozen=True)
class Multilabel:
    """Several yes-or-no labels at once, one column each (0, 1 or empty = unknown)."""

    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        if not self.labels:
            raise ValueError("A Multilabel task needs at least one column.")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"A Multilabel task lists a column twice: {listing(self.labels)}.")

    @property
    def outputs(self) -> int:
        return len(self.labels)

    @property
    def columns(self) -> tuple[str, ...]:
        return self.labels


@dataclass(frozen=True)
class Regression:
    """A number, in `unit`; standardised by `mean` and `scale` of the training rows while learning."""

    column: str
    unit: str | None = None
    mean: float = 0.0
    scale: float = 1.0
    outputs: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_scale(self.mean, self.scale, name=f"Regression task {self.column!r}")

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)


Task = Binary | Multiclass | Multilabel | Regression
