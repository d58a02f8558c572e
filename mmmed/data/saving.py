"""A cohort on disk: metadata.csv (or .parquet), schema.json and cohort.json, whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import plain
from mmmed.data.cells import is_text, kinds_of
from mmmed.types import Image, Schema, Volume

if TYPE_CHECKING:
    import pyarrow as pa

    from mmmed.data.cohort import Cohort

FORMAT = 1
FACTS = "cohort.json"


def save_cohort(cohort: Cohort, folder: str | os.PathLike[str]) -> None:
    """Write beside the place and move there in one step. Raises ValueError if something else is there
    already."""
    place = Path(folder)
    if place.exists() and (not place.is_dir() or (any(place.iterdir()) and not (place / FACTS).is_file())):
        raise ValueError(
            f"{plain(str(place), 200)} holds something that is not a saved cohort, and is left alone. Name a "
            f"new folder."
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{place.name}.part-", dir=place.parent))
    try:
        _write(cohort, fresh)
        fresh.chmod(0o755)
        _swap(fresh, place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _swap(fresh: Path, place: Path) -> None:
    """Put the new folder in the place of the old one."""
    if not place.exists():
        os.replace(fresh, place)
        return
    old = fresh.with_name(f"{fresh.name}.old")
    os.replace(place, old)
    try:
        os.replace(fresh, place)
    except OSError:
        os.replace(old, place)
        raise
    shutil.rmtree(old)


def _write(cohort: Cohort, folder: Path) -> None:
    import pyarrow as pa

    _check_hidden(cohort)
    schema, columns = cohort.schema, _columns(cohort, folder)
    if schema.id is None and not np.array_equal(cohort.ids, np.arange(len(cohort)).astype(str)):
        schema = replace(schema, id=_free("id", columns))
        columns[schema.id] = pa.array(cohort.ids.tolist(), pa.string())
    split = "split" if cohort.roles.get("split", "split") == "split" else _free("cohort_split", columns)
    columns[split] = pa.array(cohort.splits.tolist(), pa.string())
    _write_table(pa.table(columns), schema, folder)
    schema.save(folder / "schema.json")
    facts = {
        "format": FORMAT,
        "name": cohort.name,
        "split": split,
        "split_origin": cohort.split_origin,
        "files": _files(cohort),
        "roles": {**cohort.roles, split: "split"} | ({schema.id: "id"} if schema.id else {}),
    }
    (folder / FACTS).write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")


def _free(name: str, used: Any) -> str:
    while name in used:
        name += "_"
    return name


def _file_modalities(schema: Schema) -> list[str]:
    return [m.column for m in schema.modalities.values() if isinstance(m, (Image, Volume))]


def _files(cohort: Cohort) -> str | None:
    """Where the paths of the saved table start: None = its own folder, for pictures that were written
    there."""
    columns = _file_modalities(cohort.schema)
    inside = [column for column in columns if column in cohort.source.arrays]
    if inside and len(inside) < len(columns):
        raise ValueError(
            f"Column {inside[0]!r} holds pictures in memory and another column names files: a folder can "
            f"start paths "
            "in one place only. Write the pictures to files beside the others first."
        )
    return None if inside else os.path.abspath(cohort.folder or ".")


def _check_hidden(cohort: Cohort) -> None:
    """A column that two modalities read cannot be half empty."""
    if cohort.stays is None:
        return
    for column in cohort.schema.columns:
        users = [i for i, m in enumerate(cohort.schema.modalities.values()) if column in m.columns]
        seen = cohort.stays[:, users]
        if (seen.any(axis=1) != seen.all(axis=1)).any():
            raise ValueError(
                f'Column "{column}" is read by several modalities and hidden from some of them only; a table '
                f"cannot say "
                "that. Save the cohort before hiding, and hide again after opening."
            )


def _columns(cohort: Cohort, folder: Path) -> dict[str, pa.Array]:
    """The rows of the view, column by column; hidden cells are null; pictures become files."""
    import pyarrow as pa

    index = pa.array(cohort.rows)
    columns = {}
    for name in cohort.source.columns:
        if name in cohort.source.arrays:
            columns[name] = _write_pictures(cohort, name, folder)
            continue
        cells = cohort.source.arrow.column(name).take(index).combine_chunks()
        users = [i for i, m in enumerate(cohort.schema.modalities.values()) if name in m.columns]
        if cohort.stays is not None and users:
            hidden = pa.array(np.flatnonzero(~cohort.stays[:, users].any(axis=1)))
            seen = np.arange(len(cohort)).astype(float)
            seen[hidden.to_numpy()] = np.nan
            cells = cells.take(pa.array(seen, from_pandas=True).cast(pa.int64()))
        columns[name] = cells
    return columns


def _write_pictures(cohort: Cohort, column: str, folder: Path) -> pa.Array:
    """Every array of a column (or each view of it) as a file without loss -> paths."""
    import pyarrow as pa

    flat = any(isinstance(m, Image) and m.column == column for m in cohort.schema.modalities.values())
    place = Path("images", f"{cohort.source.columns.index(column)}_{re.sub(r'[^A-Za-z0-9_-]', '_', column)}")
    (folder / place).mkdir(parents=True)

    def write(stem: str, cell: Any) -> Any:
        if cell is None:
            return None
        if isinstance(cell, list):
            return [write(f"{stem}_{view}", values) for view, values in enumerate(cell)]
        path = (place / stem).as_posix()
        return _write_image(folder, path, cell) if flat else _write_array(folder, path, cell)

    paths = [write(f"{row:06d}", cell) for row, cell in enumerate(cohort.column(column))]
    if not any(isinstance(path, list) for path in paths):
        return pa.array(paths, pa.string())
    return pa.array([[path] if isinstance(path, str) else path for path in paths], pa.list_(pa.string()))


def _write_array(folder: Path, stem: str, values: np.ndarray) -> str:
    np.save(folder / f"{stem}.npy", values, allow_pickle=False)
    return f"{stem}.npy"


def _write_image(folder: Path, stem: str, values: np.ndarray) -> str:
    """8 and 16 bits as PNG, grey floats as TIFF. values: as the reader of pictures takes them."""
    from PIL import Image as Picture

    if values.ndim == 3 and values.shape[2] not in (1, 3, 4) and values.shape[0] in (1, 3, 4):
        values = np.moveaxis(values, 0, 2)
    values = values[:, :, 0] if values.ndim == 3 and values.shape[2] == 1 else values
    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * np.uint8(255)
    if values.dtype == np.uint8 or (values.dtype == np.uint16 and values.ndim == 2):
        path = f"{stem}.png"
    elif values.dtype.kind == "f" and values.ndim == 2:
        path, values = f"{stem}.tiff", values.astype(np.float32)
    else:
        raise ValueError(
            f"{stem}: a picture {list(values.shape)} of {values.dtype} has no file without loss. Pass colour "
            f"as uint8, "
            "grey as uint8, uint16 or float."
        )
    Picture.fromarray(np.ascontiguousarray(values)).save(folder / path)
    return path


def _write_table(table: pa.Table, schema: Schema, folder: Path) -> None:
    """CSV if reading it back gives the same cells, else parquet."""
    import pyarrow as pa
    import pyarrow.csv as arrow_csv
    from pyarrow import parquet

    kinds = kinds_of(schema)
    plain_text = all(
        is_text(field.type) or (kinds.get(field.name) == "number" and pa.types.is_floating(field.type))
        for field in table.schema
    )
    if plain_text:
        arrow_csv.write_csv(table, folder / "metadata.csv")
    else:
        parquet.write_table(table, folder / "metadata.parquet")
