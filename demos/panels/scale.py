"""Scale: one axis for all charts of an answer, in percent or in the unit of a regression."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .svg import MINUS, interval_text, percent, points, signed, whole

if TYPE_CHECKING:
    from mmmed.types import Answer

# Levels that say no more than the name of their task, and those that say no more than its denial.
YES = ("1", "yes", "true", "positive", "present")
NO = ("0", "no", "false", "negative", "absent")
TOPS = {0.1: 0.02, 0.2: 0.05, 1.0: 0.25}  # end of a probability axis -> distance of its ticks


@dataclass(frozen=True)
class Scale:
    """From a value to its place (percent of the width) and to words.

    share: a probability, shown in percent and points; else a number in `unit` with `digits` after the point.
    Changes are those of the numbers as shown, so that who subtracts them gets the same.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    share: bool = True
    unit: str = ""
    digits: int = 0
    tick_digits: int = 0

    def place(self, value: float) -> float:
        return 100 * min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)

    def tick(self, value: float) -> str:
        last = value == self.ticks[-1]
        return (
            f"{100 * value:.0f}{' %' if last else ''}"
            if self.share
            else _minus(f"{value:.{self.tick_digits}f}")
        )

    def text(self, value: float) -> str:
        return percent(value) if self.share else f"{self._number(value)}{self._unit}"

    def change(self, before: float, after: float) -> str:
        moved = self.moved(before, after)
        if self.share:
            return points(moved)
        return f"{signed(moved, self.digits)}{self._unit}" if moved else "no change"

    def moved(self, before: float, after: float) -> float:
        """The change as shown."""
        if self.share:
            return (whole(after) - whole(before)) / 100
        return round(round(after, self.digits) - round(before, self.digits), self.digits)

    def interval(self, bounds: tuple[float, float]) -> str:
        if self.share:
            return interval_text(*bounds)
        return f"[{self._number(bounds[0])} to {self._number(bounds[1])}{self._unit}]"

    def said(self, value: float, bounds: tuple[float, float] | None) -> str:
        """A value and its interval, to be heard."""
        tail = f", 95 % interval {self.interval(bounds).strip('[]')}" if bounds else ""
        return f"{self.text(value)}{tail}"

    @property
    def _unit(self) -> str:
        return f" {self.unit}" if self.unit else ""

    def _number(self, value: float) -> str:
        return _minus(f"{value:.{self.digits}f}")


def scale_of(answer: Answer, level: str) -> Scale:
    """The axis on which everything about one level of an answer fits: all subsets, steps and intervals.

    A switch moves the marks and not the axis, because the subsets of the whole record stay what they are. A
    probability axis starts at 0 and ends at 10, 20 or 100 %, the first that holds everything.
    """
    values = list(_all_values(answer, level))
    if answer.kind != "regression":
        return share_scale(values)
    return number_scale(values, answer.unit or "")


def share_scale(values: Iterable[float]) -> Scale:
    """An axis for probabilities."""
    most = max(values)
    top = next((top for top in TOPS if most <= 0.95 * top), 1.0)
    return Scale(0.0, top, tuple(TOPS[top] * k for k in range(round(top / TOPS[top]) + 1)))


def number_scale(values: Iterable[float], unit: str, start: float | None = None) -> Scale:
    """An axis for numbers: round ticks, the range of the data and a little room. start: of the axis, where
    there is nothing below it (an error is at least 0)."""
    values = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(values), max(values)
    spread = high - low or abs(high) or 1.0
    step = _round_step(spread / 4)
    first, last = math.floor((low - 0.02 * spread) / step), math.ceil((high + 0.02 * spread) / step)
    first = first if start is None else round(start / step)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    ticks = tuple(round(k * step, 12) for k in range(first, last + 1))
    # A value may need one digit more than the ticks, as steps are smaller than the distance of two ticks.
    more = digits + (step < 10 and digits == 0)
    return Scale(ticks[0], ticks[-1], ticks, share=False, unit=unit, digits=more, tick_digits=digits)


def says_yes(level: str) -> bool:
    """Whether a level of a task of two levels is said by the name of the task."""
    return level.lower() in YES


def says_no(level: str) -> bool:
    """Whether it is said by "no" and the name of the task."""
    return level.lower() in NO


def subject(answer: Answer, task: str, level: str) -> str:
    """What the number is about: the task, and the level where it says more."""
    if answer.kind == "regression" or (answer.kind == "binary" and says_yes(level)):
        return task
    return level if answer.kind == "multilabel" else f"{task}: {level}"


def axis_title(answer: Answer, task: str, level: str) -> str:
    """probability of sepsis; stay [d]"""
    if answer.kind == "regression":
        return f"{task} [{answer.unit}]" if answer.unit else task
    return f"probability of {subject(answer, task, level)}"


def noun(answer: Answer) -> str:
    """What moves, in a sentence."""
    return "prediction" if answer.kind == "regression" else "probability"


def _all_values(answer: Answer, level: str) -> Iterable[float]:
    yield answer.values[level]
    yield answer.prior[level]
    yield from answer.interval.get(level, ())
    yield from (values[level] for _, values in answer.trajectory)
    for part in answer.subsets.values():
        yield part.values[level]
        yield from part.interval.get(level, ())


def _minus(text: str) -> str:
    """A true minus sign, and none before a zero."""
    return text.replace("-", MINUS if float(text) else "")


def _round_step(rough: float) -> float:
    """1, 2 or 5 times a power of ten, not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * k for k in (1, 2, 5, 10) if power * k >= rough * (1 - 1e-9))
