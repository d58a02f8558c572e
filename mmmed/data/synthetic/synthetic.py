"""Synthetic: the complete data, what is observed of it, and the truth behind it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from mmmed.checks import check_count, check_known, plain
from mmmed.data.synthetic import table, text
from mmmed.data.synthetic.expressions import Expression, Question, ask, refer
from mmmed.data.synthetic.missingness import Mechanism, mechanism, posterior_with_pattern
from mmmed.data.synthetic.patients import Rows, stream
from mmmed.data.synthetic.picture import ANGLES, STRUCTURES, bits, render, render_stack
from mmmed.data.synthetic.scene import Scene
from mmmed.data.synthetic.truth import COLUMNS, FACTORS, LEVELS, MODALITIES, Truth, visible_factors
from mmmed.data.synthetic.words import Statement
from mmmed.types import Binary, Image, Multiclass, Schema, Tabular, Text

ROLES = {
    "id": "id",
    "patient": "group",
    "visit": "confounder",
    "split": "split",
    "site": "confounder",
    "picture": "input",
    **dict.fromkeys(table.COLUMNS, "input"),
    "note": "input",
    "findings": "text target",
    "impression": "text target",
    "report": "text target",
    "diagnosis": "target",
    "months": "target",
    "event": "target",
    **{f"factor_{name}": "truth" for name in FACTORS},
}


@dataclass(frozen=True)
class Settings:
    """What `generate` was asked for; enough to make the same bytes again."""

    patients: int
    seed: int
    strength: float
    size: int
    visits: tuple[int, int]
    keep: float
    shortcut: float
    shift: bool
    mechanism: Mechanism | None
    split: tuple[float, float, float]
    lesions: tuple[int, int]
    views: int


@dataclass(frozen=True, eq=False)
class Synthetic:
    """A synthetic cohort, complete, with what is observed beside it.

    table: column -> values of all rows, complete (a numpy array, or a list; None where a target is
    unknown). roles: column -> "id", "group", "split", "input", "target", "text target", "truth" or
    "confounder"; "picture" has a role too, its values are in `pictures`. labels: text column -> label set
    per row. stays [rows modalities] bool, in the order image, table, text; measured [rows table columns]
    bool: what the mechanism left. rows.levels [rows columns]: the factors and the site.
    """

    truth: Truth
    settings: Settings
    table: Mapping[str, Any]
    roles: Mapping[str, str]
    rows: Rows
    scenes: Sequence[Scene] = field(repr=False)
    labels: Mapping[str, Sequence[tuple[Statement, ...]]] = field(repr=False)
    stays: np.ndarray = field(repr=False)
    measured: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.scenes)

    # ---------------------------------------------------------------------------------------------- pictures

    @cached_property
    def _drawn(self) -> tuple[np.ndarray, np.ndarray]:
        return self.render(range(len(self)))

    @property
    def pictures(self) -> np.ndarray:
        """All pictures, [rows height width] or [rows views height width] uint8, drawn at first use."""
        return self._drawn[0]

    def mask(self, name: str) -> np.ndarray:
        """Where a structure is, bool in the shape of `pictures`.

        name: "body", "right lung", "left lung", "effusion", "lesion 1" (the index lesion), "lesion 2",
        "lesion 3". A structure that a picture does not have is an empty mask.
        """
        return bits(self._drawn[1], check_known(name, STRUCTURES, what="structure"))

    def target_mask(self, expression: Expression) -> np.ndarray:
        """The mask of what a phrase points at, [height width] bool; all False for an empty phrase."""
        drawn = self._drawn[1][expression.row]
        drawn = drawn if self.settings.views == 1 else drawn[0]
        if expression.target is None:
            return np.zeros(drawn.shape, dtype=bool)
        return bits(drawn, f"lesion {expression.target + 1}")

    def render(self, rows: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
        """Draw some rows: pictures and structures (a bit each), uint8. A row looks the same whatever else
        is drawn.
        """
        asked = self.settings
        shape = (asked.size, asked.size) if asked.views == 1 else (asked.views, asked.size, asked.size)
        rows = list(rows)
        pictures, structures = (np.empty((len(rows), *shape), dtype=np.uint8) for _ in range(2))
        for place, row in enumerate(rows):
            generator = self._stream(row, "noise")
            views = [
                render(self.scenes[row], asked.size, generator, angle) for angle in ANGLES[: asked.views]
            ]
            for store, parts in zip((pictures, structures), zip(*views, strict=True), strict=True):
                store[place] = parts[0] if asked.views == 1 else np.stack(parts)
        return pictures, structures

    def stacks(self, rows: Iterable[int], depth: int = 8) -> np.ndarray:
        """Coarse 3D stacks of some rows, [rows depth height width] uint8, drawn on every call."""
        check_count(depth, name="depth", least=4)
        size = self.settings.size
        drawn = [render_stack(self.scenes[row], size, depth, self._stream(row, "slices")) for row in rows]
        return np.stack(drawn) if drawn else np.empty((0, depth, size, size), dtype=np.uint8)

    # --------------------------------------------------------------------------------- phrases and questions

    @cached_property
    def expressions(self) -> tuple[Expression, ...]:
        """Referring phrases of all rows, one with and one without a target for each picture with lesions."""
        rows = enumerate(self.scenes)
        return tuple(item for row, scene in rows for item in refer(row, scene, self._stream(row, "phrases")))

    @cached_property
    def questions(self) -> tuple[Question, ...]:
        """Questions about the pictures of all rows, with their answers."""
        rows = enumerate(self.scenes)
        return tuple(item for row, scene in rows for item in ask(row, scene, self._stream(row, "questions")))

    def reworded(self, seed: int) -> list[str]:
        """The whole reports of all rows in other words: the same facts, drawn anew from the ways to say them.

        What no writer of reports can beat by BLEU or ROUGE is how well this agrees with the reports.
        """
        levels = [dict(zip(COLUMNS, row, strict=True)) for row in self.rows.levels.tolist()]
        found = []
        for row, (scene, level) in enumerate(zip(self.scenes, levels, strict=True)):
            generator = np.random.default_rng((seed, row))
            background, _ = text.write_background(scene, level, generator)
            found.append(f"{background} {text.write_report(scene, generator)[0]}")
        return found

    def _stream(self, row: int, part: str) -> np.random.Generator:
        return stream(self.settings.seed, int(self.rows.patient[row]), part, int(self.rows.visit[row]))

    # --------------------------------------------------------------------------------------------- the truth

    def posterior(
        self,
        rows: Any = None,
        modalities: Sequence[str] | None = None,
        stays: np.ndarray | None = None,
        *,
        pattern: bool = False,
    ) -> np.ndarray:
        """The exact P(diagnosis) of rows (all, or an index or mask), [rows].

        modalities: the same for every row: names of modalities, factors, or "site". stays [rows modalities]
        bool: row by row, besides what the mechanism hid of single cells. Neither: what the mechanism left.
        pattern: what is missing is read as well, as the mechanism of the training part made it; else
        absence says nothing. With a shift, "site" is read as in training. Rows without a scored diagnosis
        are NaN.
        """
        chosen = np.arange(len(self))[slice(None) if rows is None else rows]
        levels = self.rows.levels[chosen]
        if (modalities is not None) + (stays is not None) + pattern > 1:
            raise ValueError("Pass one of modalities, stays and pattern=True; they ask different questions.")
        if modalities is not None:
            answer = self.truth.posterior(levels, *modalities)
        else:
            answer = (
                self._with_pattern(chosen) if pattern else self._by_row(levels, self._seen(chosen, stays))
            )
        return np.where([bool(self.scenes[row].lesions) for row in chosen], answer, np.nan)

    def _seen(self, chosen: np.ndarray, stays: np.ndarray | None) -> np.ndarray:
        """Which factors are seen, [rows factors] bool."""
        kept, measured = self.stays[chosen], self.measured[chosen]
        if stays is not None:
            kept = np.asarray(stays, dtype=bool)
            if kept.shape != (len(chosen), len(MODALITIES)):
                raise ValueError(
                    f"stays should have shape [rows={len(chosen)} modalities={len(MODALITIES)}] in the order "
                    f"{', '.join(MODALITIES)}, got {list(kept.shape)}."
                )
        seen = np.zeros((len(chosen), len(FACTORS)), dtype=bool)
        for place, name in enumerate(MODALITIES):
            for factor in visible_factors([name]):
                carrier = next((cell for cell, own in table.FACTOR_CELLS.items() if own == factor), None)
                told = kept[:, place]
                if carrier is not None:
                    told = told & measured[:, table.COLUMNS.index(carrier)]
                seen[:, FACTORS.index(factor)] |= told
        return seen

    def _by_row(self, levels: np.ndarray, seen: np.ndarray) -> np.ndarray:
        answer = np.empty(len(levels))
        for pattern in np.unique(seen, axis=0):
            here = (seen == pattern).all(axis=1)
            names = [name for name, told in zip(FACTORS, pattern, strict=True) if told]
            answer[here] = self.truth.posterior(levels[here], *names)
        return answer

    def _with_pattern(self, chosen: np.ndarray) -> np.ndarray:
        how = self.settings.mechanism
        if how is None:
            raise ValueError(
                "Nothing was hidden, so there is no pattern to read. Pass missingness= to generate."
            )
        missing = ~np.concatenate([self.stays, self.measured], axis=1)[chosen].all(axis=1)
        return posterior_with_pattern(self.truth, how, self.rows.levels[chosen], missing)

    # ---------------------------------------------------------------------------------------- for the cohort

    def with_missingness(self, missingness: str | Mechanism | None) -> Synthetic:
        """The same patients under another mechanism; None makes them complete again."""
        how = mechanism(missingness)
        rows, settings = self.rows, replace(self.settings, mechanism=how)
        if how is None:
            stays, measured = np.ones_like(self.stays), np.ones_like(self.measured)
        else:
            coins = rows.uniform(settings.seed, "gaps", len(MODALITIES) + len(table.COLUMNS))
            stays, measured = how.hide(rows.levels, rows.label, coins, rows.test)
        return replace(self, settings=settings, stays=stays, measured=measured)

    @property
    def observed(self) -> dict[str, Any]:
        """The table as a study would have it: None in every cell and note that the mechanism hides."""
        keep = dict(zip(table.COLUMNS, (self.measured & self.stays[:, [1]]).T, strict=True))
        keep["note"] = self.stays[:, 2]
        return {
            name: _with_holes(values, keep[name]) if name in keep else values
            for name, values in self.table.items()
        }

    def schema(self, *, concepts: bool = False, columns: Sequence[str] | None = None) -> Schema:
        """The schema, not yet fitted to training rows.

        concepts: the six factors as auxiliary tasks of three classes. columns: the table's columns, all by
        default. Raises ValueError for a column that is no input: truth, confounders and targets cannot be
        learned from.
        """
        for name in columns or ():
            role = self.roles[check_known(name, self.roles, what="column")]
            if name not in table.COLUMNS:
                raise ValueError(
                    f"Column {name!r} cannot be a table input: its role is {plain(role)}. "
                    f"Choose from {', '.join(table.COLUMNS)}."
                )
        tasks = {"diagnosis": Binary("diagnosis")}
        if concepts:
            levels = tuple(str(level) for level in LEVELS)
            tasks |= {f"factor_{name}": Multiclass(f"factor_{name}", levels) for name in FACTORS}
        return Schema(
            modalities={
                "image": Image("picture", size=(self.settings.size, self.settings.size)),
                "table": Tabular(table.cells(tuple(columns) if columns is not None else table.COLUMNS)),
                "text": Text("note"),
            },
            tasks=tasks,
            group="patient",
            id="id",
        )


def _with_holes(values: Any, keep: np.ndarray) -> Any:
    if keep.all():
        return values
    values = values.tolist() if isinstance(values, np.ndarray) else values
    return [value if there else None for value, there in zip(values, keep, strict=True)]
