"""Who has what: one bool per record and modality, from the table and the names of files; no file is
decoded."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import PureWindowsPath
from typing import Any

import numpy as np

from mmmed.checks import MissingFile, listing
from mmmed.data.cells import is_list, is_text, record_name
from mmmed.data.paths import resolve
from mmmed.data.sources import Source
from mmmed.types import Image, Schema, Tabular, Volume


def presence(source: Source, schema: Schema, missing_files: str = "error") -> np.ndarray:
    """-> bool [rows modality], modalities in schema order.

    A table is there if one of its cells is; a list of views if one view is; an array of an .npz if the file
    holds its key. missing_files="absent": a path that leads nowhere counts as not recorded. Remembered by the
    source.
    """
    here = np.zeros((len(source), len(schema.modalities)), bool)
    for index, modality in enumerate(schema.modalities.values()):
        key = (type(modality), modality.columns, getattr(modality, "key", None), missing_files)
        if key not in source.cache:
            source.cache[key] = _present(source, modality, missing_files)
        here[:, index] = source.cache[key]
    return here


def _present(source: Source, modality: Any, missing_files: str) -> np.ndarray:
    if isinstance(modality, Tabular):
        return np.any([_recorded(source, column) for column in modality.columns], axis=0)
    here = _recorded(source, modality.column)
    if not isinstance(modality, (Image, Volume)) or modality.column in source.arrays:
        return here
    if missing_files == "absent":
        here &= np.array([cell is not None for cell in existing_files(source, modality.column)], bool)
    if isinstance(modality, Volume) and modality.key is not None:
        rows = np.flatnonzero(here)
        paths = source.fetch(rows, [modality.column])[modality.column]
        here[rows] = [_holds(path, modality.key, source.folder) for path in paths]
    return here


def _recorded(source: Source, column: str) -> np.ndarray:
    """-> bool [rows]: the cell is not missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column not in source.columns:
        return np.zeros(len(source), bool)
    cells = source.arrow.column(column)
    if is_list(cells.type):
        return np.array([_any(cell) for cell in cells.to_pylist()], bool)
    if pa.types.is_struct(cells.type):
        return _filled(cells)
    return pc.is_valid(cells).to_numpy(zero_copy_only=False)


def _filled(cells: Any) -> np.ndarray:
    """-> bool [rows]: some part of a struct, such as {"bytes", "path"} of a picture, is there. The parts are
    looked at where they lie: pictures of a mapped table are not read into memory."""
    import pyarrow.compute as pc

    here = np.zeros(len(cells), bool)
    for place in range(cells.type.num_fields):
        part = pc.struct_field(cells, [place])
        there = pc.is_valid(part)
        if is_text(part.type):
            there = pc.and_(there, pc.fill_null(pc.not_equal(part, ""), False))
        here |= there.to_numpy(zero_copy_only=False)
    return here


def _any(cells: Iterable[Any] | None) -> bool:
    return cells is not None and any(cell is not None and cell != "" for cell in cells)


def _holds(path: Any, key: str, folder: str | None) -> bool:
    """Whether an .npz holds an array of this name: read from its table of contents. Other files: yes, the
    reader of the file will say."""
    if not isinstance(path, str) or not path.endswith(".npz"):
        return True
    try:
        with zipfile.ZipFile(os.path.join(folder or "", path)) as archive:
            return f"{key}.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return True


# ------------------------------------------------------------------------------------------------------ files


class Folders:
    """Answers whether a path leads to a file; each directory is listed once."""

    def __init__(self, folder: str | None):
        self.folder = folder or ""
        self.names: dict[str, set[str]] = {}

    def has(self, path: str) -> bool:
        """Whether the file is there. Outside the folder nothing is looked up: such a path counts as there,
        and whoever reads it refuses it."""
        if leaves(path):
            return True
        whole = os.path.join(self.folder, path)
        parent, name = os.path.split(whole)
        if parent not in self.names:
            try:
                self.names[parent] = set(os.listdir(parent or "."))
            except (OSError, ValueError):  # no such directory; a zero byte in the path
                self.names[parent] = set()
        # A name not listed can still exist where file names ignore case.
        return name in self.names[parent] or os.path.exists(whole)


def leaves(path: str) -> bool:
    """Whether a path is absolute or climbs out of its folder."""
    absolute = os.path.isabs(path) or PureWindowsPath(path).is_absolute()
    return absolute or os.path.normpath(path).split(os.sep)[0] == os.pardir


def existing_files(source: Source, column: str) -> list[Any]:
    """Cells of a file column, without the paths that lead nowhere; None if nothing is left."""
    folders = Folders(source.folder)
    return [_existing(cell, folders) for cell in source.arrow.column(column).to_pylist()]


def _existing(cell: Any, folders: Folders) -> Any:
    if isinstance(cell, str):
        return cell if folders.has(cell) else None
    if isinstance(cell, list):
        return [view for view in cell if _existing(view, folders) is not None] or None
    if isinstance(cell, dict):
        there = cell.get("bytes") is not None or (cell.get("path") and folders.has(cell["path"]))
        return cell if there else None
    return None


def keep_existing(cell: Any, folders: Folders) -> Any:
    """A list of views without those whose file is not there; any other cell as it is."""
    return _existing(cell, folders) if isinstance(cell, list) else cell


def check_files(source: Source, schema: Schema) -> None:
    """Raise MissingFile if a path of the schema's images and volumes leads nowhere, UnsafePath if it leads
    out."""
    for name, modality in schema.modalities.items():
        if not isinstance(modality, (Image, Volume)) or modality.column in source.arrays:
            continue
        folders, dead = Folders(source.folder), []
        for row, path in _paths(source, modality.column):
            if leaves(path):
                where = f'record "{record_name(source, schema, row)}", column "{modality.column}"'
                resolve(path, source.folder, where)
            elif not folders.has(path):
                dead.append((row, path))
        if dead:
            some = [f'record "{record_name(source, schema, row)}": {path}' for row, path in dead[:3]]
            raise MissingFile(
                f'Modality "{name}", column "{modality.column}": {len(dead)} paths lead to no file, first '
                f"{listing(some)}. Looked in "
                f"{source.folder or os.getcwd()}. Pass root= (the folder where the paths start), correct or "
                f"empty the "
                'cells, or pass missing_files="absent" to count them as not recorded.'
            )


def _paths(source: Source, column: str) -> Iterator[tuple[int, str]]:
    """Row and path of every file that a column names; pictures whose bytes are in the table have none."""
    cells = source.arrow.column(column)
    for row, cell in enumerate(cells.to_pylist() if is_text(cells.type) or is_list(cells.type) else []):
        for path in cell if isinstance(cell, list) else [cell]:
            if isinstance(path, str):
                yield row, path
