"""Tables of mask scores: a line per system or class, a line per kind of swapped word, a line per phrase."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.evaluation.bootstrap import Draws, Estimate
from mmmed.evaluation.mask_metrics import (
    MaskScore,
    columns_of,
    draws_of,
    estimate,
    mean,
    surface_unit,
)
from mmmed.evaluation.scores import Table, table_of, write_whole

if TYPE_CHECKING:
    from mmmed.evaluation.masks import MaskScores

MOVED = 0.1  # Dice with the old target below which a mask is away from it
HEADS = {
    "miou": "mIoU",
    "oiou": "oIoU",
    "giou": "gIoU",
    "precision_50": "IoU >= .5",
    "precision_70": "IoU >= .7",
    "precision_90": "IoU >= .9",
    "empty_accuracy": "empty accuracy",
    "auroc": "presence AUROC",
}
INTERVALS = "In brackets: 95 % intervals, patients drawn with replacement."


@dataclass(frozen=True)
class Swap:
    """What became of one mask when a word of its phrase was swapped.

    kind: "side", "zone" or "size". dice: of the phrase as asked; dice_swapped: of the new mask with the OLD
    target; found: the new mask has a pixel.
    """

    record: str
    group: str
    kind: str
    phrase: str
    swapped: str
    dice: float
    dice_swapped: float
    found: bool

    @property
    def moved(self) -> bool:
        """The new mask is away from the old target, or empty."""
        return self.dice_swapped < MOVED

    @property
    def followed(self) -> bool:
        """The mask was on the target as asked, and the swapped word has moved it away."""
        return self.moved and self.dice >= MOVED


class PhraseRows(Table):
    """A table that is written as one CSV file."""

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write the file whole or not at all; undefined cells stay empty."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(self.to_rows())
        return write_whole(Path(path), text.getvalue().encode())


def score_row(scores: Sequence[MaskScore], draws: int, seed: int, unit: str | None = None) -> dict[str, Any]:
    """Counts, then every score. unit: of surface distances, None = by these phrases; a class that has them in
    another one gets none.
    """
    drawn = draws_of(scores, draws, seed)
    found = {name: estimate(drawn, column) for name, column in columns_of(scores).items()}
    return _in_unit({**_counts(scores), **found}, scores, unit)


def difference_row(
    ours: Sequence[MaskScore], theirs: Sequence[MaskScore], draws: int, seed: int
) -> dict[str, Any]:
    """Every score of `ours` minus that of `theirs`, paired: both are scored on every draw of patients."""
    drawn, other = draws_of(ours, draws, seed), columns_of(theirs)
    return {name: estimate(drawn, column, other[name]) for name, column in columns_of(ours).items()}


def _counts(scores: Sequence[MaskScore]) -> dict[str, int]:
    there = [score for score in scores if score.present]
    unit = surface_unit(scores)
    without = [s for s in there if s.unit != unit or not np.isfinite(s.hd95)] if unit else []
    return {
        "phrases": len(scores),
        "present": len(there),
        "empty": len(scores) - len(there),
        "patients": len({score.group for score in scores}),
        "no_surface": len(without),
    }


def _in_unit(row: dict[str, Any], scores: Sequence[MaskScore], unit: str | None) -> dict[str, Any]:
    """The row without surface scores, if these are in another unit."""
    alike = unit is None or surface_unit(scores) == unit
    return row if alike else row | {"hd95": None, "surface_dice": None, "no_surface": None}


def system_row(ours: MaskScores, unit: str, theirs: MaskScores | None = None) -> dict[str, Any]:
    """Scores and relation accuracies of one system, or their differences to another one."""
    if theirs is None:
        row, shares = dict(ours.overall), relation_columns(ours.swaps, ours.draws, ours.seed)
    else:
        row = difference_row(ours.scores, theirs.scores, ours.draws, ours.seed)
        shares = relation_columns(ours.swaps, ours.draws, ours.seed, theirs.swaps)
    named = {f"relation_{kind}": share for kind, share in shares.items()}
    return _in_unit(row, ours.scores, unit) | named


def score_table(
    rows: Sequence[Mapping[str, Any]], title: str, unit: str, tolerance: float, notes: Sequence[str] = ()
) -> Table:
    """Rows of `score_row` as a table that says what its columns mean."""
    table = table_of(rows, title, (*_surface_notes(rows, unit, tolerance), *notes, INTERVALS))
    short = "mm" if unit == "mm" else "px"
    heads = {"hd95": f"HD95 {short}", "surface_dice": f"surface Dice {tolerance:g} {short}"}
    return replace(table, heads={**HEADS, **heads})


def _surface_notes(rows: Sequence[Mapping[str, Any]], unit: str, tolerance: float) -> list[str]:
    if not unit:
        return []
    about = f"HD95 and surface Dice (tolerance {tolerance:g} {unit})"
    if not any(row.get("no_surface") for row in rows):
        notes = [f"{about} are means over the present targets."]
    else:
        why = "mask is empty" if unit == "pixels" else "mask is empty or whose spacing is not known"
        notes = [f"{about} leave out the present targets whose {why}: `no surface` counts them."]
    return notes + (["The spacing is not known: these two are in pixels."] if unit == "pixels" else [])


def upright(table: Table) -> Table:
    """The first row of a table as a table of two columns, which fits a terminal with every interval."""
    cells = [
        {"score": table.heads.get(name, name.replace("_", " ")), "value": cell}
        for name, cell in table[0].items()
    ]
    for row in cells:
        if isinstance(row["value"], Estimate):
            row |= {"phrases": row["value"].n, "patients": row["value"].groups}
    return Table(tuple(cells), table.title, table.notes)


# ----------------------------------------------------------------------------------------- swapped words


def relation_table(swaps: Sequence[Swap], draws: int, seed: int) -> Table:
    """A line per kind of word, and one for all if there are several."""
    kinds = list(dict.fromkeys(swap.kind for swap in swaps))
    parts = {kind: [swap for swap in swaps if swap.kind == kind] for kind in kinds}
    if len(kinds) > 1:
        parts["all"] = list(swaps)
    rows = [{"swapped": kind, **_relation_row(part, draws, seed)} for kind, part in parts.items()]
    notes = (
        f"moved: Dice of the new mask with the old target below {MOVED:g}; an empty mask counts as moved.",
        f"relation accuracy: moved, and on the target (Dice of at least {MOVED:g}) as asked, so that who "
        "never reads the phrase gets 0.",
        INTERVALS,
    )
    return Table(tuple(rows), "Swapped words", notes)


def _relation_row(swaps: Sequence[Swap], draws: int, seed: int) -> dict[str, Any]:
    drawn = _swap_draws(swaps, draws, seed)
    numbers = {
        "dice_as_asked": [swap.dice for swap in swaps],
        "dice_after_swap": [swap.dice_swapped for swap in swaps],
        "relation_accuracy": [swap.followed for swap in swaps],
        "moved": [swap.moved for swap in swaps],
        "new_mask_empty": [not swap.found for swap in swaps],
    }
    means = {name: _mean_of(drawn, np.array(values, dtype=float)) for name, values in numbers.items()}
    patients = len({swap.group for swap in swaps})
    return {"phrases": len(swaps), "patients": patients, **means}


def relation_columns(
    ours: Sequence[Swap], draws: int, seed: int, theirs: Sequence[Swap] | None = None
) -> dict[str, Estimate]:
    """Kind -> relation accuracy, or its difference to another system on the same swaps."""
    found = {}
    for kind in dict.fromkeys(swap.kind for swap in ours):
        some = [swap for swap in ours if swap.kind == kind]
        followed = np.array([swap.followed for swap in some], dtype=float)
        if theirs is not None:
            followed = followed - [swap.followed for swap in theirs if swap.kind == kind]
        found[kind] = _mean_of(_swap_draws(some, draws, seed), followed)
    return found


def _swap_draws(swaps: Sequence[Swap], draws: int, seed: int) -> Draws:
    return Draws(np.zeros(len(swaps)), np.array([swap.group for swap in swaps]), draws, seed)


def _mean_of(drawn: Draws, values: np.ndarray) -> Estimate:
    return drawn.estimate(drawn.scores({"": mean}, values)[""])


def plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON-ready row: an estimate as a dict of its fields, NaN as None."""
    return {name: _plain(cell) for name, cell in row.items()}


def _plain(cell: Any) -> Any:
    if isinstance(cell, Estimate):
        return {name: _plain(value) for name, value in asdict(cell).items()}
    if isinstance(cell, (float, np.floating)):
        return float(cell) if np.isfinite(cell) else None
    return cell
