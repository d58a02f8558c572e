"""Cohorts in folders, and cohorts by name.

A prepared folder has metadata.csv (an empty cell is missing), schema.json with a role in words for each
column, and files beside it; a saved one has the package's own schema. `load_cohort` finds both, and never
downloads.
"""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmmed.checks import check_known, listing, plain
from mmmed.data.bundled import BUNDLED
from mmmed.data.inference import Columns, is_numeric
from mmmed.data.openi import NAME as OPENI
from mmmed.data.openi import find_archive, open_reports
from mmmed.data.opening import check_whole, prepare, read_split
from mmmed.data.published import PUBLISHED, Published, how_to_get
from mmmed.data.saving import FACTS, FORMAT
from mmmed.data.sources import Source, read_columns, read_table
from mmmed.types import Category, Number, Schema, Text, Volume

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort

VARIABLE = "MMMED_DATA"
KNOWN = ("synthetic", *PUBLISHED, OPENI, *BUNDLED)
UNITS = ("years", "days", "hours", "mg/l", "g/l", "U/l", "1000/ul", "mmHg", "Celsius", "%")

_TABULAR = ("input tabular", "input omics")
# In this order: the first that fits counts.
_ROLES = (
    (r"LEAK", "leak"),
    (r".*confounder|from the folder name", "confounder"),
    (r"provenance|licen[cs]e|attribution", "provenance"),
    (r"id\b", "id"),
    (r"group", "group"),
    (r"\d+ patient folds|split", "split"),
    (r"image path|npz path", "input"),
    (r"mask path", "mask"),
    (r"image descriptor", "descriptor"),
    (r"input tabular|input omics|input text|text input", "input"),
    (r"text target", "text target"),
    (r"target", "target"),
    (r"image", "spacing"),
)


def role_of(text: str) -> str:
    """The role that a description in words gives a column, for example "LEAK: histology" -> "leak"."""
    return next((role for pattern, role in _ROLES if re.match(pattern, text)), "other")


# ---------------------------------------------------------------------------------------------------- by name


def load_cohort(name: str, root: str | os.PathLike[str] | None = None, **options: Any) -> Cohort:
    """A cohort by name: "synthetic"; "breast-us", "hannover-cxr", "covid-cxr", "lgg-mri", "openi-reports"
    from a folder; "diabetes", "breast-cancer", "digits" as scikit-learn ships them. Never downloads.

    root: the folder that holds the folder of a published cohort (or that folder itself); else the environment
    variable MMMED_DATA. options: of "synthetic" those of `mmmed.data.synthetic.generate` (patients=600,
    seed=0, ...), and concepts=True, which asks for the six hidden factors as well; of the others target=,
    text=, missing_files=, unreadable=. Raises ValueError that says what to download, from where, under which
    licence and into which folder, if it is not there.
    """
    check_known(name, KNOWN, what="cohort")
    if name == "synthetic":
        return _synthetic(options)
    known = () if name in BUNDLED else ("target", "text", "missing_files", "unreadable")
    known = ("missing_files", "unreadable") if name == OPENI else known
    for option in options:
        check_known(option, known, what=f"option of {name!r}")
    if name in BUNDLED:
        return BUNDLED[name].open(name)
    if name == OPENI:
        return open_reports(find_archive(root, VARIABLE), **options)
    base = root if root is not None else os.environ.get(VARIABLE)
    if base is None:
        raise ValueError(how_to_get(name, f"nowhere, as neither root= nor {VARIABLE} is set", VARIABLE))
    for folder in (Path(base) / name, Path(base)):
        if _is_prepared(folder, name):
            return open_folder(folder, **options)
    raise ValueError(how_to_get(name, f"{Path(base) / name} and {base}", VARIABLE))


def _is_prepared(folder: Path, name: str) -> bool:
    if not ((folder / "metadata.csv").is_file() and (folder / "schema.json").is_file()):
        return False
    return folder.name == name or _read_json(folder / "schema.json").get("name") == name


def _synthetic(options: Mapping[str, Any]) -> Cohort:
    """The generated data as a cohort: holes where the mechanism left them, pictures drawn at first use."""
    import pyarrow as pa

    from mmmed.data.cohort import Cohort
    from mmmed.data.known import Pictures
    from mmmed.data.synthetic import generate

    options = dict(options)
    concepts = options.pop("concepts", False)
    known = [*inspect.signature(generate).parameters, "concepts"]
    for option in options:
        check_known(option, known, what="option of 'synthetic'")
    made = generate(**options)
    told = read_columns(made.observed, name="synthetic")
    columns = {name: told.arrow.column(name) for name in told.columns}
    columns["picture"] = pa.array(
        [True if stays else None for stays in made.stays[:, 0].tolist()], pa.bool_()
    )
    source = replace(
        told.with_columns(columns), arrays={"picture": Pictures(made)}, roles=made.roles, truth=made
    )
    return Cohort.from_source(
        source, Columns(), made.schema(concepts=bool(concepts)), "split", None, "error", "error", 0
    )


# ---------------------------------------------------------------------------------------------------- folders


def open_folder(
    folder: str | os.PathLike[str],
    target: str | None = None,
    text: str | None = None,
    root: str | os.PathLike[str] | None = None,
    missing_files: str = "error",
    unreadable: str = "error",
) -> Cohort:
    """A saved or a prepared folder as a cohort. Raises ValueError that says what is missing in it."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"There is no folder {plain(str(folder), 200)}.")
    table = next((folder / n for n in ("metadata.csv", "metadata.parquet") if (folder / n).is_file()), None)
    if table is None or not (folder / "schema.json").is_file():
        raise ValueError(
            f"{plain(str(folder), 200)} should hold metadata.csv (or .parquet) and schema.json, has "
            f"{listing(sorted(item.name for item in folder.iterdir()))}. A CSV alone is opened with "
            f"Cohort.from_csv."
        )
    words = _read_json(folder / "schema.json")
    columns = words.get("columns")
    if isinstance(columns, dict) and all(isinstance(role, str) for role in columns.values()):
        return _open_prepared(table, words, target, text, root, missing_files, unreadable)
    if target is not None or text is not None:
        raise ValueError(
            "target= and text= choose columns of a prepared folder; a saved cohort has its schema."
        )
    return _open_saved(table, root, missing_files, unreadable)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        words = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(words, dict):
        raise ValueError(f"{path} should be a JSON object, got {plain(words)}.")
    return words


def _open_saved(table: Path, root: Any, missing_files: str, unreadable: str) -> Cohort:
    """What `Cohort.save` wrote; or any table with a schema of this package, then split here if it has no
    split."""
    from mmmed.data.cohort import Cohort

    folder = table.parent
    schema = Schema.load(folder / "schema.json")
    facts = _read_json(folder / FACTS) if (folder / FACTS).is_file() else {}
    if not isinstance(facts.get("format", FORMAT), int) or facts.get("format", FORMAT) > FORMAT:
        raise ValueError(
            f"{folder} was saved by a newer release (format {plain(facts.get('format'))}). Update mmmed."
        )
    source = read_table(table, root=root if root is not None else facts.get("files") or folder)
    source = replace(source, name=str(facts.get("name", folder.name)))
    if not facts:
        split = "split" if "split" in source.columns else None
        return Cohort.from_source(source, Columns(), schema, split, None, missing_files, unreadable, 0)
    if not (isinstance(facts.get("roles"), dict) and {"split", "split_origin"} <= facts.keys()):
        raise ValueError(
            f"{folder / FACTS} should name roles, split and split_origin. Save the cohort again."
        )
    roles = {name: role for name, role in facts["roles"].items() if name in source.columns}
    source, schema = prepare(source, Columns(), schema, roles, missing_files)
    parts = read_split(source, facts["split"])
    cohort = Cohort(source, schema, parts, None, None, missing_files, unreadable, str(facts["split_origin"]))
    check_whole(cohort, parts, facts["split"])
    return cohort


def _open_prepared(
    table: Path,
    words: Mapping[str, Any],
    target: str | None,
    text: str | None,
    root: Any,
    missing_files: str,
    unreadable: str,
) -> Cohort:
    from mmmed.data.cohort import Cohort

    source, said = read_table(table, root=root), words["columns"]
    for column in said:
        check_known(column, source.columns, what=f"column of {table.parent / 'schema.json'}")
    roles = {column: role_of(role) for column, role in said.items()}
    name = str(words.get("name", table.parent.name))
    source = replace(source, name=name, roles=roles)
    recipe = PUBLISHED.get(name) or _recipe(said, roles)
    columns = _columns(source, said, recipe, target, text)
    ids = next((column for column, role in roles.items() if role == "id"), None)
    columns = replace(columns, group=words.get("group"), id=ids)
    split = "split" if roles.get("split") == "split" else None
    return Cohort.from_source(source, columns, None, split, None, missing_files, unreadable, 0)


def _recipe(said: Mapping[str, str], roles: Mapping[str, str]) -> Published:
    """How to read a prepared folder that is not one of the published: by the roles alone. The first target is
    the question, the first text the text."""
    images = [column for column, role in said.items() if role.startswith("image path")]
    texts = [column for column, role in said.items() if role.startswith("input text")]
    table = any(role.startswith(_TABULAR) for role in said.values())
    return Published(
        what="",
        target=next((column for column, role in roles.items() if role == "target"), ""),
        download="",
        licence="",
        layout="",
        first_file="",
        images={"image" if i == 0 else column: column for i, column in enumerate(images)},
        tables={"table": ()} if table else {},
        text=next(iter(texts), None),
    )


def _columns(
    source: Source, said: Mapping[str, str], recipe: Published, target: str | None, text: str | None
) -> Columns:
    """Inputs and target of a prepared folder; a column of the table that the roles call a category is one."""
    tables = {
        name: columns or tuple(column for column, role in said.items() if role.startswith(_TABULAR))
        for name, columns in recipe.tables.items()
    }
    text = text or recipe.text
    if text is not None:
        words = [column for column, role in said.items() if "text" in role or role.startswith("LEAK")]
        check_known(text, words, what="text column")
    return Columns(
        image=dict(recipe.images) or None,
        volume={name: Volume(column, key=key) for name, (column, key) in recipe.volumes.items()} or None,
        tabular={
            name: [_cell(source, column, said) for column in columns] for name, columns in tables.items()
        }
        or None,
        text=None if text is None else {"text": Text(text)},
        target=target or recipe.target or None,
    )


def _cell(source: Source, column: str, said: Mapping[str, str]) -> Number | Category:
    check_known(column, source.columns, what="column")
    words = said.get(column, "")
    cells = source.arrow.column(column)
    if "category" in words or cells.null_count == len(cells) or not is_numeric(cells, column):
        return Category(column)
    unit = words.split(";")[1].split()[0] if ";" in words else ""
    return Number(column, unit=unit if unit in UNITS else None)
