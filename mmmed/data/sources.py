"""Tables to Arrow: CSV, parquet, a data frame, a `datasets.Dataset`, or plain rows become one `Source`.

Text stays text here: "007" and "3e461592" are not numbers until a schema says so (see cells.py), and of a CSV
only the empty cell is missing ("no" and "none" are answers).
"""

from __future__ import annotations

import csv
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import check_known, listing, plain
from mmmed.data.streams import landed
from mmmed.types import is_missing

if TYPE_CHECKING:
    import datasets
    import pandas
    import pyarrow as pa

SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"} | {
    "dev": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Source:
    """A table as it was read, shared by all views of it.

    table: one row per record. arrays: column -> one array (or list of views) per row, for pictures that are
    in memory; in `table` such a column only says where there is one. folder: where relative paths start.
    roles: column -> role, as far as declared. truth: the known answer of a synthetic cohort.
    """

    table: datasets.Dataset
    arrays: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    folder: str | None = None
    name: str = "cohort"
    roles: Mapping[str, str] = field(default_factory=dict)
    truth: Any = None
    cache: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)  # presence, by columns

    def __len__(self) -> int:
        return len(self.table)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.arrow.column_names)

    @property
    def arrow(self) -> pa.Table:
        return self.table.data.table

    def with_columns(self, columns: Mapping[str, Any]) -> Source:
        """The same source over other Arrow columns (name -> array), in this order."""
        import pyarrow as pa

        return replace(self, table=to_dataset(pa.table(dict(columns))), cache={})

    def fetch(self, rows: np.ndarray, columns: Iterable[str]) -> dict[str, list[Any]]:
        """Cells of some rows as Python values, column by column; missing = None. One Arrow slice, not one per
        cell."""
        wanted = list(dict.fromkeys(columns))
        if not len(rows):
            return {name: [] for name in wanted}
        found = self._take(np.asarray(rows), [name for name in wanted if name in self.columns])
        cells = {name: found.column(name).to_pylist() for name in found.column_names}
        for name in wanted:
            if name in self.arrays:
                store = self.arrays[name]
                cells[name] = [store[r] if c else None for r, c in zip(rows, cells[name], strict=True)]
            cells.setdefault(name, [None] * len(rows))
        return cells

    def _take(self, rows: np.ndarray, columns: list[str]) -> pa.Table:
        import pyarrow as pa

        table = self.arrow.select(columns)
        first, last = int(rows.min()), int(rows.max()) + 1
        near = last - first <= 4 * len(rows)
        if near or table.num_columns == 0 or table.column(0).num_chunks <= 1:
            return table.slice(first, last - first).take(pa.array(rows - first))
        # Arrow joins all chunks for a take; datasets gathers row by row, which is faster over many chunks.
        return self.table.select_columns(columns).with_format("arrow")[rows.tolist()]


def to_dataset(table: pa.Table) -> datasets.Dataset:
    """An Arrow table as a `datasets.Dataset`, in memory or mapped as it is. Nothing is written."""
    import datasets
    from datasets.table import InMemoryTable

    table = table.replace_schema_metadata(None)
    # Without a name of its own the table would be hashed, which reads all of it.
    return datasets.Dataset(InMemoryTable(table), fingerprint=uuid.uuid4().hex)


def check_columns(names: Sequence[str], what: str) -> None:
    """Raise ValueError if a column has no name or two have the same."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{what} has more than one column named {listing(map(repr, twice))}. Rename them.")
    if not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError(
            f"{what} has a column without a name, at place {_nameless(names) + 1}. Give it one, or remove it."
        )


def _nameless(names: Sequence[str]) -> int:
    return next(i for i, name in enumerate(names) if not isinstance(name, str) or not name.strip())


def check_rows(count: int, what: str) -> None:
    """Raise ValueError if there is no row."""
    if count == 0:
        raise ValueError(f"{what} holds no rows. A cohort needs at least one record below the header.")


# ------------------------------------------------------------------------------------------------------ files


def read_table(path: str | os.PathLike[str], missing: Iterable[str] = ("",), root: Any = None) -> Source:
    """Read .csv, .tsv (also compressed: .csv.gz) or .parquet. root: where file paths start; the table's
    folder.

    missing: cells of a CSV, written exactly so, that mean "not recorded". Raises ValueError for a file that
    is not there, is no table, is not UTF-8, has no rows or the same column twice.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(
            f"There is no file {plain(str(path), 200)}. Give the path of a CSV or parquet table."
        )
    table = _read_parquet(path) if path.suffix == ".parquet" else _read_text(path, missing)
    check_rows(table.num_rows, f"The table {path.name}")
    folder = str(root) if root is not None else str(path.parent)
    return Source(to_dataset(table), folder=folder, name=path.stem)


def _read_parquet(path: Path) -> pa.Table:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path.name} is not a parquet table: {error}") from error
    check_columns(table.column_names, f"The table {path.name}")
    return table.combine_chunks()


def _read_text(path: Path, missing: Iterable[str]) -> pa.Table:
    """Every column as text. Quoted line ends and a byte order mark are allowed."""
    import pyarrow as pa
    import pyarrow.csv as arrow_csv

    names, delimiter = _read_header(path)
    check_columns(names, f"The table {path.name}")
    try:
        table = arrow_csv.read_csv(
            path,
            parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                column_types={name: pa.string() for name in names},
                null_values=sorted({"", *missing}),
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        if "Empty CSV" in str(error):
            table = pa.table({name: pa.array([], pa.string()) for name in names})
        else:
            hint = (
                "Save it as UTF-8." if "UTF8" in str(error) else "Each row needs as many cells as the header."
            )
            raise ValueError(f"{path.name} cannot be read as a table: {error}. {hint}") from error
    return table.combine_chunks()


def _read_header(path: Path) -> tuple[list[str], str]:
    """Column names and the delimiter: the one of comma, semicolon and tab that the first line has most of."""
    import pyarrow as pa

    with pa.input_stream(str(path), compression="detect") as stream:
        start = stream.read(1 << 16).decode("utf-8-sig", errors="replace")
    lines = start.splitlines()
    if not lines or not lines[0].strip():
        raise ValueError(f"The table {path.name} is empty. The first line should name the columns.")
    delimiter = max((",", ";", "\t"), key=lines[0].count)
    return next(csv.reader(start.splitlines(keepends=True), delimiter=delimiter)), delimiter


# ---------------------------------------------------------------------------------------- frames and datasets


def read_frame(frame: pandas.DataFrame, root: Any = None, name: str = "frame") -> Source:
    """A pandas data frame; a named index counts as a column. Object columns may hold paths, lists, arrays."""
    if any(level is not None for level in frame.index.names):
        frame = frame.reset_index()
    names = [str(column) for column in frame.columns]
    check_columns(names, "The data frame")
    check_rows(len(frame), "The data frame")
    return read_columns({name: frame.iloc[:, i] for i, name in enumerate(names)}, root=root, name=name)


def read_rows(rows: Sequence[Mapping[str, Any]], root: Any = None, name: str = "records") -> Source:
    """Plain rows (column -> cell). A column that a row does not have is missing there."""
    check_rows(len(rows), "The list of records")
    names = list(dict.fromkeys(column for row in rows for column in row))
    check_columns(names, "The list of records")
    return read_columns({column: [row.get(column) for row in rows] for column in names}, root, name)


def read_columns(columns: Mapping[str, Any], root: Any = None, name: str = "records") -> Source:
    """Columns (name -> cells), each a list, a pandas series or an array whose first axis is the rows."""
    import pyarrow as pa

    table, arrays = {}, {}
    for column, cells in columns.items():
        store = _pictures(cells)
        if store is None:
            table[column] = _to_arrow(cells, column)
        else:
            arrays[column] = store
            table[column] = pa.array([None if is_missing(cell) else True for cell in store], pa.bool_())
    folder = None if root is None else str(root)
    return Source(to_dataset(pa.table(table)), arrays=arrays, folder=folder, name=name)


def read_dataset(dataset: Any, root: Any = None) -> tuple[Source, str | None]:
    """A `datasets.Dataset`, or a DatasetDict of train, validation, test -> source and the column of the
    split. Streams (IterableDataset) are written to disk first, see `mmmed.data.streams`.

    Pictures stay encoded ({"bytes", "path"}), class labels become their names. Mapped tables stay mapped; but
    for columns of text and categories, which are checked and copied.
    """
    import pyarrow as pa

    if not isinstance(dataset, Mapping):
        table = _plain_table(dataset)
        check_rows(table.num_rows, "The dataset")
        return Source(to_dataset(table), folder=None if root is None else str(root), name="dataset"), None
    parts = []
    for key, part in dataset.items():
        split = SPLIT_NAMES[check_known(str(key), SPLIT_NAMES, what="split of the dataset")]
        table = _plain_table(part)
        if "split" in table.column_names:
            raise ValueError('The dataset has splits and a column named "split" as well. Rename the column.')
        parts.append(table.append_column("split", pa.array([split] * len(table), pa.string())))
    table = pa.concat_tables(parts, promote_options="default")
    check_rows(table.num_rows, "The dataset")
    return Source(to_dataset(table), folder=None if root is None else str(root), name="dataset"), "split"


def _plain_table(dataset: datasets.Dataset) -> pa.Table:
    import datasets
    import pyarrow as pa

    if isinstance(dataset, datasets.IterableDataset):
        dataset = landed(dataset)
    if not isinstance(dataset, datasets.Dataset):
        raise ValueError(
            "A datasets.Dataset, IterableDataset or a dict of them was expected, got "
            f"{type(dataset).__name__}."
        )
    shuffled = dataset._indices is not None  # selected or shuffled rows live in an index beside the table
    table = dataset.with_format("arrow")[:] if shuffled else dataset.data.table
    check_columns(table.column_names, "The dataset")
    for name, feature in dataset.features.items():
        if isinstance(feature, datasets.ClassLabel):
            codes = table.column(name).to_pylist()
            labels = [None if code is None or code < 0 else feature.int2str(code) for code in codes]
            table = table.set_column(table.column_names.index(name), name, pa.array(labels, pa.string()))
    return table.replace_schema_metadata(None)


# ------------------------------------------------------------------------------------------------------ cells


def _is_picture(cell: Any) -> bool:
    """An array of two axes or more (numpy, torch, PIL); not a number, not a list of words."""
    if isinstance(cell, (str, bytes, Mapping)):
        return False
    if isinstance(cell, (list, tuple)):
        first = next((item for item in cell if item is not None), None)
        return not isinstance(first, (list, tuple)) and first is not None and _is_picture(first)
    if not (hasattr(cell, "__array__") or hasattr(cell, "__array_interface__")):
        return False
    return np.ndim(cell) >= 2


def _pictures(cells: Any) -> Sequence[Any] | None:
    """The arrays of a column, None where there is none; or None if the column holds no arrays."""
    if isinstance(cells, np.ndarray) and cells.ndim >= 3:
        return cells
    if str(getattr(cells, "dtype", "object")) != "object":
        return None
    cells = list(cells)
    kinds = {_is_picture(cell) for cell in cells if not is_missing(cell)}
    if kinds == {True, False}:
        raise ValueError("A column holds arrays in some rows and something else in others. Use one form.")
    if kinds != {True}:
        return None
    return [None if is_missing(cell) else _as_arrays(cell) for cell in cells]


def _as_arrays(cell: Any) -> Any:
    if isinstance(cell, (list, tuple)):
        return [np.asarray(view) for view in cell if not is_missing(view)]
    return np.asarray(cell)


def _to_arrow(cells: Any, column: str) -> pa.Array:
    import pyarrow as pa

    if str(getattr(cells, "dtype", "object")) != "object":
        return pa.array(cells, from_pandas=True)
    cells = [_simple(cell) for cell in cells]
    try:
        return pa.array(cells, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        pass
    # Numbers and text in one column: all as text, so that the schema decides, and names the cell it cannot
    # read.
    odd = next((cell for cell in cells if isinstance(cell, (list, dict))), None)
    if odd is not None:
        raise ValueError(f'Column "{column}" mixes cells of different form, for example {plain(odd)}.')
    return pa.array([None if cell is None else str(cell) for cell in cells], pa.string())


def _simple(cell: Any) -> Any:
    """Paths as text, arrays of one axis as lists, every spelling of missing as None."""
    if is_missing(cell):
        return None
    if isinstance(cell, os.PathLike):
        return os.fspath(cell)
    if isinstance(cell, np.ndarray):
        cell = cell.tolist()
    if isinstance(cell, (list, tuple)):
        return [_simple(item) for item in cell]
    if isinstance(cell, Mapping):
        return {str(key): _simple(item) for key, item in cell.items()}
    return cell
