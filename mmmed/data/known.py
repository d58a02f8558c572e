"""The known answer of a synthetic cohort, for the records of a view and what they show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mmmed.data.synthetic import Synthetic, Truth
    from mmmed.types import Schema


class KnownAnswer:
    """Exact posteriors of the records of a view. made: the whole generated data; rows: the view's rows in
    it."""

    def __init__(self, made: Synthetic, rows: np.ndarray, shown: np.ndarray, schema: Schema):
        """shown [records modality] bool: what the view shows, in the order of the schema."""
        self.made, self.rows = made, rows
        self._shown, self._modalities = shown, tuple(schema.modalities)
        self._tasks = tuple(name for name, task in schema.tasks.items() if task.columns == ("diagnosis",))

    @property
    def truth(self) -> Truth:
        """The distribution behind the data: ceilings, factors, weights."""
        return self.made.truth

    @property
    def levels(self) -> np.ndarray:
        """Whole numbers [records factors and site]."""
        return self.made.rows.levels[self.rows]

    def posterior(self, stays: np.ndarray | None = None, *, pattern: bool = False) -> dict[str, np.ndarray]:
        """The exact P(positive) of each record, task -> [records]; NaN where the label is not scored.

        stays [records modality] bool, in the order of the cohort's schema: what is looked at; None = all that
        the records show. pattern: what the generator hid is read as a sign as well (with stays=None only).
        Tasks other than the diagnosis have no entry.
        """
        if pattern:
            exact = self.made.posterior(self.rows, stays=stays, pattern=True)
        else:
            seen = self._shown if stays is None else np.asarray(stays, bool) & self._shown
            exact = self.made.posterior(self.rows, stays=self._ordered(seen))
        return {task: exact for task in self._tasks}

    def posterior_of(self, *names: str) -> np.ndarray:
        """The exact P(positive) [records] if exactly these modalities or factors of every record are
        known."""
        return self.made.posterior(self.rows, modalities=names)

    def _ordered(self, seen: np.ndarray) -> np.ndarray:
        """From the schema's modalities to image, table, text."""
        columns = dict(zip(self._modalities, seen.T, strict=True))
        nobody = np.zeros(len(self.rows), bool)
        return np.stack([columns.get(name, nobody) for name in ("image", "table", "text")], axis=1)


class Pictures(Sequence):
    """The pictures of a synthetic cohort, drawn when the first one is asked for. One array per row, or one
    per view."""

    def __init__(self, made: Synthetic):
        self.made = made

    def __len__(self) -> int:
        return len(self.made)

    def __getitem__(self, row: int) -> np.ndarray | list[np.ndarray]:
        drawn = self.made.pictures[row]
        return drawn if drawn.ndim == 2 else list(drawn)
