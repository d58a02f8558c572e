"""Cohort: a schema over a table of records, split by patient, read when a batch needs it.

A cohort is a view: which rows of a shared Arrow table, in which part each row is, and what is hidden.
Selecting, splitting and hiding copy row numbers, never the table.

    cohort = Cohort.from_csv("my.csv", image="path", tabular=["age", "crp"], target="label", group="patient")
    print(cohort)  # schema, sizes, labels, patterns
    for batch in cohort["train"].batches(64, generator=torch.Generator().manual_seed(0)): ...
"""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mmmed.checks import check_count
from mmmed.data.inference import Columns
from mmmed.data.opening import check_whole, complete_roles, prepare, read_split, remark_unused_split
from mmmed.data.sources import Source, read_dataset, read_frame, read_table
from mmmed.data.splitting import check_fractions, fold_parts, split_parts, whole_folds
from mmmed.data.statistics import fit_schema
from mmmed.data.view import View
from mmmed.types import Record, Schema

if TYPE_CHECKING:
    import datasets
    import pandas


class Cohort(View):
    """Records with a schema, a split and, for each record, what may be seen of it.

    Made by `from_csv`, `from_frame`, `from_dataset`, `from_records` or `from_folder`. missing_files,
    unreadable: "error" or "absent" (such a file counts as not recorded). Ids and patients are text, exactly
    as written.
    """

    # ---------------------------------------------------------------------------------------------- opening

    @classmethod
    def from_csv(
        cls,
        path: str | os.PathLike[str],
        *,
        image: Any = None,
        volume: Any = None,
        tabular: Any = None,
        text: Any = None,
        series: Any = None,
        target: Any = None,
        group: str | None = None,
        id: str | None = None,
        split: str | None = None,
        schema: Schema | None = None,
        root: str | os.PathLike[str] | None = None,
        roles: Mapping[str, str] | None = None,
        missing: Sequence[str] = ("",),
        missing_files: str = "error",
        unreadable: str = "error",
        seed: int = 0,
    ) -> Cohort:
        """Open a .csv, .tsv or .parquet table.

        image, volume, text, series: a column (the modality is called "image", ...), a list of columns (each
        called by its name), {name: column}, or ready-made parts such as Image("path", size=(128, 128)).
        tabular: columns of the table "table", or {name: columns}; a Number or Category in place of a name
        says what the column is. target: a column, a list, {name: column, list of 0/1 columns, or task}.
        group: the patient. id: the record. split: a column of train, val, test; without it a split by patient
        is made with `seed`. schema: instead of all these; what it leaves open is learned from the training
        rows. root: where file paths start, by default the folder of the table. roles: {column: role}; a
        "leak" or "confounder" can never become an input. missing: cells that mean not recorded, exactly as
        written. Raises ValueError that names row, column and cure.
        """
        columns = Columns(image, volume, tabular, text, series, target, group, id)
        source = read_table(path, missing, root)
        return cls.from_source(source, columns, schema, split, roles, missing_files, unreadable, seed)

    @classmethod
    def from_frame(
        cls,
        frame: pandas.DataFrame,
        *,
        image: Any = None,
        volume: Any = None,
        tabular: Any = None,
        text: Any = None,
        series: Any = None,
        target: Any = None,
        group: str | None = None,
        id: str | None = None,
        split: str | None = None,
        schema: Schema | None = None,
        root: str | os.PathLike[str] | None = None,
        roles: Mapping[str, str] | None = None,
        missing_files: str = "error",
        unreadable: str = "error",
        seed: int = 0,
    ) -> Cohort:
        """Open a pandas data frame, as `from_csv` does. Cells may also hold arrays, or lists of paths or
        arrays (several views). root: where file paths start, by default the current directory."""
        columns = Columns(image, volume, tabular, text, series, target, group, id)
        source = read_frame(frame, root)
        return cls.from_source(source, columns, schema, split, roles, missing_files, unreadable, seed)

    @classmethod
    def from_dataset(
        cls,
        dataset: datasets.Dataset | datasets.DatasetDict,
        *,
        image: Any = None,
        volume: Any = None,
        tabular: Any = None,
        text: Any = None,
        series: Any = None,
        target: Any = None,
        group: str | None = None,
        id: str | None = None,
        split: str | None = None,
        schema: Schema | None = None,
        root: str | os.PathLike[str] | None = None,
        roles: Mapping[str, str] | None = None,
        missing_files: str = "error",
        unreadable: str = "error",
        seed: int = 0,
    ) -> Cohort:
        """Open a `datasets.Dataset`, or a DatasetDict with the splits train, validation and test, as
        `from_csv` does."""
        columns = Columns(image, volume, tabular, text, series, target, group, id)
        source, own_split = read_dataset(dataset, root)
        return cls.from_source(
            source, columns, schema, split or own_split, roles, missing_files, unreadable, seed
        )

    @classmethod
    def from_records(
        cls,
        records: Sequence[Record | Mapping[str, Any]],
        *,
        image: Any = None,
        volume: Any = None,
        tabular: Any = None,
        text: Any = None,
        series: Any = None,
        target: Any = None,
        group: str | None = None,
        id: str | None = None,
        split: str | None = None,
        schema: Schema | None = None,
        root: str | os.PathLike[str] | None = None,
        roles: Mapping[str, str] | None = None,
        missing_files: str = "error",
        unreadable: str = "error",
        seed: int = 0,
    ) -> Cohort:
        """Open a list of rows {column: cell} as `from_csv` does, or a list of `Record` with their schema."""
        from mmmed.data.listed import read_records

        columns = Columns(image, volume, tabular, text, series, target, group, id)
        source, schema, stays = read_records(records, schema, root)
        cohort = cls.from_source(source, columns, schema, split, roles, missing_files, unreadable, seed)
        return cohort if stays is None else cohort.keep(stays)

    @classmethod
    def from_folder(
        cls,
        folder: str | os.PathLike[str],
        *,
        target: str | None = None,
        text: str | None = None,
        root: str | os.PathLike[str] | None = None,
        missing_files: str = "error",
        unreadable: str = "error",
    ) -> Cohort:
        """Open a folder that `save` wrote, or a prepared one (metadata.csv, and schema.json with a role per
        column).

        target, text: for a prepared folder, another target or text column than its usual one. root: where
        file paths start, if the files have moved.
        """
        from mmmed.data.folders import open_folder

        return open_folder(folder, target, text, root, missing_files, unreadable)

    @classmethod
    def from_source(
        cls,
        source: Source,
        columns: Columns,
        schema: Schema | None,
        split: str | None,
        roles: Mapping[str, str] | None,
        missing_files: str,
        unreadable: str,
        seed: int,
    ) -> Cohort:
        source, schema = prepare(source, columns, schema, roles, missing_files)
        if split is None:
            remark_unused_split(source.columns)
            cohort = cls(source, schema, missing_files=missing_files, unreadable=unreadable)
            return cohort._dealt((0.7, 0.15, 0.15), seed)._learned(only_open=True)
        parts = read_split(source, split)
        source = replace(source, roles={**source.roles, split: "split"})
        cohort = cls(source, schema, parts, None, None, missing_files, unreadable, f'column "{split}"')
        check_whole(cohort, parts, split)
        return cohort._learned(only_open=True)

    # -------------------------------------------------------------------------------------- split and learned

    def split(self, fractions: Sequence[float] = (0.7, 0.15, 0.15), seed: int = 0) -> Cohort:
        """A new group-safe split, stratified by label and missing pattern; means, scales, levels and
        vocabulary are learned anew from its training rows. Raises ValueError if a part would lack a class of
        a binary task."""
        return self._dealt(check_fractions(fractions), seed, strict=True).refit()

    def folds(self, k: int = 5, seed: int = 0) -> list[Cohort]:
        """k cohorts: in the i-th, fold i is "test", the next fold "val", the rest "train", each with its own
        learned schema. A column "fold" with the role of a split and k folds is used as it is. Raises
        ValueError if a fold could not hold both classes of a binary task."""
        check_count(k, name="k", least=3)
        folds, origin = whole_folds(self, k, seed)
        return [
            self._with(parts=fold_parts(folds, i, k), split_origin=f"{origin}, fold {i} of {k}").refit()
            for i in range(k)
        ]

    def refit(self) -> Cohort:
        """The same cohort, its schema learned anew from the training rows."""
        return self._learned(only_open=False)

    def with_schema(self, schema: Schema) -> Cohort:
        """The same records read by another schema, for example an edited one or that of a saved model.

        What it states is kept; only what is still open (mean 0 and scale 1, no levels, no vocabulary) is
        learned from the training rows. Modalities that were hidden stay hidden if they keep their name.
        """
        source, schema = prepare(self.source, Columns(), schema, self.roles, self.missing_files)
        source = replace(source, roles=complete_roles(source, schema, self.roles))
        return self._with(source=source, schema=schema)._learned(only_open=True)

    def _learned(self, only_open: bool) -> Cohort:
        """Files and texts are read from the training rows only."""
        rows = self.rows[self.parts == 0]
        return self._with(schema=fit_schema(self.schema, self.source, rows, only_open))

    def _dealt(self, fractions: Sequence[float], seed: int, strict: bool = False) -> Cohort:
        parts = split_parts(self, fractions, seed, strict)
        return self._with(parts=parts, split_origin=f"split by {self.schema.group or 'row'}, seed {seed}")

    # ----------------------------------------------------------------------------------------- kept and shown

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write metadata.csv (or .parquet where CSV cannot hold a cell) and schema.json, whole or not at all.

        What is hidden is written as missing. Pictures in memory are written to images/; files are not copied:
        their folder is noted. Raises ValueError if the folder holds something that is not a saved cohort.
        """
        from mmmed.data.saving import save_cohort

        save_cohort(self, folder)

    def to_frame(self) -> pandas.DataFrame:
        """All columns of these records as a pandas frame, and the split; hidden cells are empty."""
        import pandas

        columns = {name: self.column(name) for name in self.source.columns}
        return pandas.DataFrame({**columns, "split": self.splits})

    def summary(self) -> str:
        """Sizes, labels, patterns of presence, unused columns, as aligned text."""
        from mmmed.data.summary import summarise

        return summarise(self)

    def __str__(self) -> str:
        return f"{self.schema}\n\n{self.summary()}"

    def __repr__(self) -> str:
        return f"Cohort({self.name!r}, {len(self)} records of {', '.join(self.schema.modalities)})"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"
