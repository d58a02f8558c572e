"""View: some records of a shared table, the part each is in, and what may be seen of it.

Everything here selects, hides or reads. Rows come from Arrow in slices, one conversion per slice and column.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import check_count, check_known, listing, plain
from mmmed.data.presence import Folders, keep_existing, presence
from mmmed.data.sources import Source
from mmmed.data.splitting import SPLITS
from mmmed.data.targets import read_task
from mmmed.types import Image, Record, Schema, Tabular, Volume
from mmmed.types.record import check_modalities

if TYPE_CHECKING:
    import datasets
    import torch
    from typing_extensions import Self

    from mmmed.data.known import KnownAnswer
    from mmmed.types import Batch

SLICE = 256  # records fetched at once while iterating
POLICIES = ("error", "absent")


class View:
    """Rows of a source, read by a schema; the reading half of `Cohort`."""

    def __init__(
        self,
        source: Source,
        schema: Schema,
        parts: np.ndarray | None = None,
        rows: np.ndarray | None = None,
        stays: np.ndarray | None = None,
        missing_files: str = "error",
        unreadable: str = "error",
        split_origin: str = "no split",
    ):
        """source: a typed table. parts [records]: 0 train, 1 val, 2 test; None = all train. rows [records]:
        rows of the source in view order, None = all. stays [records modality] bool: what is not hidden, None
        = nothing is."""
        self.source, self.schema = source, schema
        self.missing_files = check_known(missing_files, POLICIES, what="policy for missing files")
        self.unreadable = check_known(unreadable, POLICIES, what="policy for unreadable files")
        self.split_origin = split_origin
        self.rows = np.arange(len(source)) if rows is None else rows
        self.parts = np.zeros(len(self.rows), np.int8) if parts is None else parts
        self.stays = stays
        self._present: np.ndarray | None = None
        self._collator: Any = None

    def _with(self, **changes: Any) -> Self:
        """A copy with some of the constructor's arguments changed."""
        state = {
            "source": self.source,
            "schema": self.schema,
            "parts": self.parts,
            "rows": self.rows,
            "stays": self.stays,
            "missing_files": self.missing_files,
            "unreadable": self.unreadable,
            "split_origin": self.split_origin,
        }
        if "schema" in changes and "stays" not in changes:
            state["stays"] = self._stays_of(changes["schema"])
        return type(self)(**{**state, **changes})

    def _stays_of(self, schema: Schema) -> np.ndarray | None:
        """What is hidden, carried over to the modalities of another schema by name."""
        if self.stays is None or tuple(schema.modalities) == tuple(self.schema.modalities):
            return self.stays
        old = dict(zip(self.schema.modalities, self.stays.T, strict=True))
        seen = np.ones(len(self), bool)
        return np.stack([old.get(name, seen) for name in schema.modalities], axis=1)

    # ------------------------------------------------------------------------------------------------- facts

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def folder(self) -> str | None:
        return self.source.folder

    @property
    def roles(self) -> dict[str, str]:
        """Column -> role. Shared by all views; a role can be corrected here before a schema is changed."""
        return self.source.roles

    @property
    def table(self) -> datasets.Dataset:
        """All rows and columns of the table, whatever the view."""
        return self.source.table

    @property
    def truth(self) -> KnownAnswer | None:
        """The known answer of a synthetic cohort for these records, else None."""
        if self.source.truth is None:
            return None
        from mmmed.data.known import KnownAnswer

        return KnownAnswer(self.source.truth, self.rows, self.present, self.schema)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ids(self) -> np.ndarray:
        """Text [records]: the id column, or the row number."""
        return np.array(self._ids(self.rows), dtype=np.str_)

    def _ids(self, rows: np.ndarray) -> list[str]:
        column = self.schema.id
        return self.source.fetch(rows, [column])[column] if column else [str(row) for row in rows.tolist()]

    @property
    def groups(self) -> np.ndarray:
        """Text [records]: the patient; the id where there is none."""
        column = self.schema.group
        if column is None:
            return self.ids
        cells = self.source.fetch(self.rows, [column])[column]
        if None in cells:
            cells = [i if g is None else g for g, i in zip(cells, self._ids(self.rows), strict=True)]
        return np.array(cells, dtype=np.str_)

    def group_codes(self) -> np.ndarray:
        """Whole numbers [records]: equal for records of one patient."""
        if self.schema.group is None:
            return np.arange(len(self))
        return np.unique(self.groups, return_inverse=True)[1].reshape(-1)

    @property
    def splits(self) -> np.ndarray:
        """Text [records]: "train", "val" or "test"."""
        return np.array(SPLITS)[self.parts]

    @property
    def present(self) -> np.ndarray:
        """Bool [records modality], schema order: what is recorded and not hidden. No file is decoded for
        it."""
        if self._present is None:
            here = presence(self.source, self.schema, self.missing_files)[self.rows]
            self._present = here if self.stays is None else here & self.stays
            self._present.setflags(write=False)
        return self._present

    def column(self, name: str) -> list[Any]:
        """The cells of a column, in view order; missing, or hidden with its modality = None."""
        check_known(name, self.source.columns, what="column")
        cells = self.source.fetch(self.rows, [name])[name]
        users = [i for i, m in enumerate(self.schema.modalities.values()) if name in m.columns]
        if self.stays is None or not users:
            return cells
        seen = self.stays[:, users].any(axis=1)
        return [cell if here else None for cell, here in zip(cells, seen.tolist(), strict=True)]

    def targets(self, task: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Values and which of them are known. task: its name; None = the first.

        Binary: float [records] of 0 and 1; multiclass: whole number [records]; multilabel: float [records
        labels]; regression: float [records] in its unit. Unknown ones are 0.
        """
        if not self.schema.tasks:
            raise ValueError("This cohort has no task. Name a target when it is opened.")
        name = check_known(
            next(iter(self.schema.tasks)) if task is None else task, self.schema.tasks, what="task"
        )
        return read_task(self.source, self.schema.tasks[name], self.rows)

    # ------------------------------------------------------------------------------------ choosing and hiding

    def __getitem__(self, key: Any) -> Any:
        """A number -> Record; "train", "val", "test" -> that part; a slice, a mask or numbers -> those
        records."""
        if isinstance(key, str):
            check_known(key, SPLITS, what="split")
            return self._take(np.flatnonzero(self.parts == SPLITS.index(key)))
        if isinstance(key, slice):
            return self._take(np.arange(len(self))[key])
        if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
            if not -len(self) <= key < len(self):
                raise IndexError(f"This cohort has {len(self)} records; there is no number {key}.")
            return self.__getitems__([int(key) % len(self)])[0]
        return self.where(key)

    def where(self, rows: Any) -> Self:
        """Some of the records. rows: bool [records], or whole numbers in any order."""
        rows = np.asarray(rows)
        if rows.dtype == bool and rows.shape == (len(self),):
            return self._take(np.flatnonzero(rows))
        whole = rows.ndim == 1 and (rows.dtype.kind in "iu" or rows.size == 0)
        if not whole or (rows.size and not (-len(self) <= rows.min() and rows.max() < len(self))):
            raise ValueError(
                f"Records are chosen by a mask of {len(self)} bools or by whole numbers below {len(self)}, "
                f"got "
                f"{plain(rows.tolist())}."
            )
        return self._take(np.arange(len(self))[rows.astype(int)])

    def _take(self, index: np.ndarray) -> Self:
        stays = None if self.stays is None else self.stays[index]
        return self._with(rows=self.rows[index], parts=self.parts[index], stays=stays)

    def keep(self, stays: Any) -> Self:
        """Hide modalities per record. stays [records modality] bool; what is absent or hidden stays so."""
        stays = np.asarray(stays)
        shape = (len(self), len(self.schema.modalities))
        if stays.dtype != bool or stays.shape != shape:
            raise ValueError(
                f"stays should be bool [records={shape[0]} modality={shape[1]}], got {stays.dtype} "
                f"{list(stays.shape)}. "
                f"Modalities, in order: {listing(self.schema.modalities)}."
            )
        return self._with(stays=stays.copy() if self.stays is None else stays & self.stays)

    def without(self, *names: str) -> Self:
        """Hide whole modalities; the schema stays."""
        check_modalities(names, self.schema)
        return self.keep(np.tile([name not in names for name in self.schema.modalities], (len(self), 1)))

    def only(self, *names: str) -> Self:
        """Hide all other modalities; the schema stays."""
        check_modalities(names, self.schema)
        return self.without(*(name for name in self.schema.modalities if name not in names))

    # ---------------------------------------------------------------------------------------------- reading

    def __iter__(self) -> Iterator[Record]:
        for start in range(0, len(self), SLICE):
            yield from self.__getitems__(range(start, min(start + SLICE, len(self))))

    def __getitems__(self, positions: Sequence[int]) -> list[Record]:
        """Several records at once, in this order (what a torch DataLoader asks for)."""
        index = np.asarray(positions, dtype=int)
        if not len(index):
            return []
        rows, schema = self.rows[index], self.schema
        targets = tuple(dict.fromkeys(column for task in schema.tasks.values() for column in task.columns))
        keys = [column for column in (schema.id, schema.group) if column]
        cells = self.source.fetch(rows, [*schema.columns, *targets, *keys])
        if self.missing_files == "absent":
            self._drop_dead_views(cells)
        ids = cells[schema.id] if schema.id else [str(row) for row in rows.tolist()]
        groups = cells[schema.group] if schema.group else [None] * len(rows)
        shown = [
            (name, modality.columns, isinstance(modality, Tabular))
            for name, modality in schema.modalities.items()
        ]
        return [
            Record(
                id=ids[i],
                inputs={
                    name: {column: cells[column][i] for column in columns} if table else cells[columns[0]][i]
                    for (name, columns, table), there in zip(shown, here, strict=True)
                    if there
                },
                targets={column: cells[column][i] for column in targets},
                group=groups[i],
                folder=self.folder,
            )
            for i, here in enumerate(self.present[index].tolist())
        ]

    def _drop_dead_views(self, cells: dict[str, list[Any]]) -> None:
        folders = Folders(self.folder)
        for modality in self.schema.modalities.values():
            if isinstance(modality, (Image, Volume)) and modality.column not in self.source.arrays:
                cells[modality.column] = [keep_existing(cell, folders) for cell in cells[modality.column]]

    def collate(self, records: Sequence[Record]) -> Batch:
        """Records -> Batch, by this cohort's schema and policies."""
        if self._collator is None:
            from mmmed.data.collate import Collator

            self._collator = Collator(self.schema, self.missing_files, self.unreadable)
        return self._collator(records)

    def batches(self, size: int = 64, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """All records in batches, the last one may be smaller; shuffled if there is a generator."""
        check_count(size, name="size")
        order: Any = range(len(self))
        if generator is not None:
            import torch

            order = torch.randperm(len(self), generator=generator).numpy()
        for start in range(0, len(self), size):
            yield self.collate(self.__getitems__(order[start : start + size]))
