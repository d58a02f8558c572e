"""Overlap of masks: Dice, IoU and what is made of them over many phrases, some of them about nothing.

prediction, truth: bool arrays of one shape, any [*space]. With I the pixels in both and U the pixels in
either, Dice is 2 I / (I + U) and IoU is I / U. A target that is there and whose mask came out empty scores 0.
Where neither side has a pixel both are undefined (NaN): that is no overlap but a right "not there".

Over phrases, with "present" for a target that is there and "empty" for one known not to be:
- dice, miou: means over present targets, each with the same weight;
- oiou (also cIoU): sum of the intersections over sum of the unions of all phrases, so that large targets
  weigh more and a mask drawn for an empty target costs its area (LAVT, arXiv:2112.02244, sec. 4);
- giou: mean IoU over all phrases, where an empty target scores 1 for an empty mask and 0 otherwise
  (MIMIC-ILS, arXiv:2511.15186; not the generalised IoU of boxes);
- precision_50, _70, _90: share of present targets with an IoU of at least .5, .7, .9;
- kept: share of present targets with any mask; empty_accuracy: share of empty targets with none;
- auroc: how often a present target has a higher probability of being there than an empty one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mmmed.evaluation.bootstrap import Draws, Estimate
from mmmed.evaluation.metrics import auroc
from mmmed.evaluation.weighted import share

LEVELS = (0.5, 0.7, 0.9)
NAN = float("nan")


def dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    """2 I / (I + U) of two bool arrays [*space]; NaN if both are empty. ValueError for two shapes."""
    both, either = overlap(prediction, truth)
    return 2 * both / (both + either) if either else NAN


def iou(prediction: np.ndarray, truth: np.ndarray) -> float:
    """I / U of two bool arrays [*space]; NaN if both are empty. ValueError for two shapes."""
    both, either = overlap(prediction, truth)
    return both / either if either else NAN


def overlap(prediction: np.ndarray, truth: np.ndarray) -> tuple[int, int]:
    """Pixels in both and in either."""
    prediction, truth = np.asarray(prediction, dtype=bool), np.asarray(truth, dtype=bool)
    if prediction.shape != truth.shape:
        raise ValueError(
            f"The mask has shape {list(prediction.shape)} and the true mask {list(truth.shape)}; both should "
            "lie on the grid of the picture as it came. Check that the mask belongs to this picture."
        )
    both = int(np.count_nonzero(prediction & truth))
    return both, int(np.count_nonzero(prediction)) + int(np.count_nonzero(truth)) - both


@dataclass(frozen=True)
class MaskScore:
    """How one mask compares with its true one.

    intersection, union: pixels. present: the target is there. found: the mask has a pixel. presence: the
    probability that was given for its being there. hd95 and surface_dice (`mask_surfaces`), NaN where
    undefined, in `unit`: "mm", "pixels", or "" where they were not computed.
    """

    record: str
    phrase: str
    group: str
    intersection: int
    union: int
    present: bool
    found: bool
    presence: float
    category: str = ""
    acquisition: str = ""
    hd95: float = NAN
    surface_dice: float = NAN
    unit: str = ""

    @property
    def dice(self) -> float:
        """0 if a present target has an empty mask; NaN for an empty target with an empty mask."""
        total = self.intersection + self.union
        return 2 * self.intersection / total if total else NAN

    @property
    def iou(self) -> float:
        return self.intersection / self.union if self.union else NAN

    def to_row(self) -> dict[str, Any]:
        """The fields, Dice and IoU, as cells of a table."""
        row = asdict(self)
        names = ("record", "phrase", "group", "category", "acquisition", "present", "found", "presence")
        return {name: row.pop(name) for name in names} | {"dice": self.dice, "iou": self.iou} | row


def score_mask(prediction: np.ndarray, truth: np.ndarray, presence: float = NAN, **about: Any) -> MaskScore:
    """One mask against the true one. presence: NaN = 1 for a mask with a pixel, else 0. about: the other
    fields of `MaskScore`.
    """
    both, either = overlap(prediction, truth)
    found, present = bool(np.any(prediction)), bool(np.any(truth))
    presence = float(found) if math.isnan(presence) else float(presence)
    named = {"record": "", "phrase": "", "group": "", **about}
    return MaskScore(
        intersection=both, union=either, present=present, found=found, presence=presence, **named
    )


# ------------------------------------------------------------------------------------------ over many phrases


@dataclass(frozen=True)
class Column:
    """One score over phrases. values [phrases] or [phrases numbers]; rows: bool [phrases], those that it is
    about; metric(labels, values, weights [draws phrases]) -> [draws].
    """

    values: np.ndarray
    rows: np.ndarray
    metric: Callable[..., np.ndarray]


def columns_of(scores: Sequence[MaskScore]) -> dict[str, Column]:
    """Name -> score over phrases, in the order of a table; see the module for what each one is."""
    present = np.array([score.present for score in scores], dtype=bool)
    found = np.array([score.found for score in scores], dtype=bool)
    overlaps = np.array([score.iou for score in scores], dtype=float)
    areas = np.array([(score.intersection, score.union) for score in scores], dtype=float).reshape(-1, 2)
    presence = np.array([score.presence for score in scores], dtype=float)
    every = np.ones(len(scores), dtype=bool)
    both_kinds = every if 0 < present.sum() < len(scores) else ~every
    return {
        "dice": Column(np.array([score.dice for score in scores], dtype=float), present, mean),
        "miou": Column(overlaps, present, mean),
        "oiou": Column(areas, every, _ratio),
        "giou": Column(np.where(present, overlaps, ~found), every, mean),
        **{f"precision_{t * 100:.0f}": Column((overlaps >= t) * 1.0, present, mean) for t in LEVELS},
        "kept": Column(found * 1.0, present, mean),
        "empty_accuracy": Column(~found * 1.0, ~present, mean),
        "auroc": Column(presence, both_kinds, auroc),
        **_surface_columns(scores),
    }


def surface_unit(scores: Sequence[MaskScore]) -> str:
    """What surface distances are told in: mm if any phrase has them in mm, since the two cannot be mixed."""
    units = {score.unit for score in scores}
    return "mm" if "mm" in units else "pixels" if "pixels" in units else ""


def _surface_columns(scores: Sequence[MaskScore]) -> dict[str, Column]:
    unit, columns = surface_unit(scores), {}
    for name in ("hd95", "surface_dice"):
        values = np.array([getattr(score, name) for score in scores], dtype=float)
        rows = np.array([score.unit == unit != "" for score in scores], dtype=bool) & np.isfinite(values)
        columns[name] = Column(values, rows, mean)
    return columns


def draws_of(scores: Sequence[MaskScore], draws: int, seed: int) -> Draws:
    """Draws of patients over phrases. The labels say which targets are there, and none of them is unknown."""
    present = np.array([score.present for score in scores], dtype=float)
    return Draws(present, np.array([score.group for score in scores]), draws, seed)


def estimate(drawn: Draws, column: Column, against: Column | None = None) -> Estimate | None:
    """The score with its interval by patient, or its difference to the same score of another system on the
    rows that both have. None where it is undefined: there is no phrase that it is about.
    """
    rows = column.rows if against is None else column.rows & against.rows
    values = drawn.scores({"": column.metric}, column.values, rows)[""]
    if against is not None:
        values = values - drawn.scores({"": against.metric}, against.values, rows)[""]
    if not np.isfinite(values[0]):
        return None
    found = drawn.estimate(values, rows=rows)
    # a draw may lack the few phrases that a score is about; `Draws` says "one class only" to that
    return replace(found, note=found.note.replace("one class only", "no such phrase among them"))


def mean(labels: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted mean per draw; NaN where a draw has no row."""
    return share(weights @ values, weights.sum(axis=1))


def _ratio(labels: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum of the first column over sum of the second, per draw."""
    sums = weights @ values
    return share(sums[:, 0], sums[:, 1])
