"""From what is typed on the command line to a cohort: a name, a prepared folder, or a CSV file with its
columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmmed.checks import listing, suggestion


def open_cohort(source: str, patients: int = 600, seed: int = 0, **columns: Any) -> Any:
    """source: "synthetic" or another known cohort, a folder with metadata.csv and schema.json, or a .csv
    file.

    columns: for a CSV file the keyword arguments of `Cohort.from_csv`; empty ones are left out.
    """
    from mmmed.data.cohort import Cohort
    from mmmed.data.folders import KNOWN, load_cohort

    given = {name: value for name, value in columns.items() if value}
    path = Path(source)
    if path.suffix.lower() == ".csv":
        return Cohort.from_csv(path, seed=seed, **given)
    if given:
        raise ValueError(f"{listing('--' + name for name in given)} describe a CSV file; {source!r} is none.")
    if path.is_dir():
        return Cohort.from_folder(path)
    if source == "synthetic":
        return load_cohort(source, patients=patients, seed=seed)
    if source in KNOWN:
        return load_cohort(source)
    raise ValueError(
        f"{source!r} is no folder, no CSV file and no known cohort.{suggestion(source, KNOWN)} Known: "
        f"{listing(KNOWN)}."
    )
