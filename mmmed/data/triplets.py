"""Triplets: a picture, a region of it, and a description in five parts. One line of JSON is one triplet.

    {"image": "images/a.png", "modality": "chest radiograph",
     "roi": {"box": [12, 30, 40, 58], "mask": "masks/a.png", "words": "right upper zone"},
     "description": {"modality": "...", "organ": "...", "roi": "...", "texture": "...", "relation": "..."},
     "source": "where it comes from"}

box: pixels of the picture, left, top, right, bottom; right and bottom are just outside, so a box of the whole
picture is [0, 0, width, height]. mask: a picture of the same size. Besides these a line may have "id",
"patient" and "split". Whatever is not known is left out; image, modality, source and one part of the
description have to be there, and image may be null where the picture is not.

Source: the five parts and their use at several granularities, Xie et al., arXiv:2408.02900 (MedTrinity-25M),
sec. 3. Differs: box and words of a region stand beside each other, and masks are files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import plain
from mmmed.data.triplet_lines import COLUMN, PARTS, check_sizes, line_of, read_lines

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort
    from mmmed.data.synthetic import Synthetic

ROLES = {
    "id": "id",
    "patient": "group",
    "split": "split",
    "image": "input",
    "modality": "descriptor",
    "roi_box": "mask",
    "roi_mask": "mask",
    "roi_words": "descriptor",
    "modality_words": "descriptor",
    "organ": "descriptor",
    "source": "provenance",
    **dict.fromkeys(("report", "short", "roi", "texture", "relation"), "text target"),
}


def read_triplets(
    path: str | os.PathLike[str], *, missing_files: str = "error", unreadable: str = "error", seed: int = 0
) -> Cohort:
    """A file of triplets as a cohort; file paths start at its folder and stay inside it.

    Columns: id (else the number of the line), patient (else the picture, so that no picture is torn apart by
    a split), image, modality, roi_box, roi_mask, roi_words, modality_words, organ, source, and the text
    targets: "report" (all parts), "short" (modality, organ and roi), "roi", "texture", "relation". Split:
    the lines' own, else by patient with `seed`. missing_files, unreadable: as for any cohort. Raises
    ValueError that names line and field.
    """
    path = Path(path)
    rows = list(read_lines(path))
    if not rows:
        raise ValueError(f"{path.name} holds no triplet. One line of JSON for each was expected.")
    check_sizes(rows, path, missing_files)
    return _cohort([row for _, row in rows], path.stem, path.parent, missing_files, unreadable, seed)


def write_triplets(cohort: Cohort, path: str | os.PathLike[str]) -> None:
    """Write a cohort of triplets as a file that `read_triplets` reads.

    Pictures and masks in memory become PNG files in images/ and masks/ beside it, named by their content;
    files stay where they are, and have to lie in the folder of `path` or below. What is hidden is left out.
    Raises ValueError if the cohort has no triplets.
    """
    path = Path(path)
    needed = ("image", "modality", "source", *(COLUMN.get(part, part) for part in PARTS))
    for name in needed:
        if name not in cohort.source.columns:
            raise ValueError(f"The cohort has no column {plain(name)}, so it does not hold triplets.")
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: cohort.column(name) for name in cohort.source.columns if name in ROLES}
    columns |= {"id": cohort.ids.tolist(), "patient": cohort.groups.tolist(), "split": cohort.splits.tolist()}
    names = list(columns)
    lines = []
    for cells in zip(*columns.values(), strict=True):
        row = dict(zip(names, cells, strict=True))
        for name, folder in (("image", "images"), ("roi_mask", "masks")):
            row[name] = _stored(row.get(name), cohort.folder, path.parent, folder)
        lines.append(json.dumps(line_of(row), ensure_ascii=False))
    fresh = path.with_name(f".{path.name}.part")
    fresh.write_text("\n".join([*lines, ""]), encoding="utf-8")
    os.replace(fresh, path)


def triplets_from(cohort: Cohort) -> Cohort:
    """One triplet for each lesion of a synthetic cohort whose picture is not hidden: box and mask as drawn,
    words from the scene. Patients and split stay as they are.

    Raises ValueError for a cohort without known truth, with several views, or without any lesion to be seen.
    """
    made = cohort.source.truth
    if made is None:
        raise ValueError(
            "Triplets are made from a synthetic cohort. Read those of your own with read_triplets."
        )
    if made.settings.views != 1:
        raise ValueError("A box needs one picture per record, this cohort has two views. Pass views=1.")
    shown = cohort.present[:, list(cohort.schema.modalities).index("image")]
    told = zip(
        cohort.rows.tolist(),
        shown.tolist(),
        cohort.groups.tolist(),
        cohort.ids.tolist(),
        cohort.splits.tolist(),
        strict=True,
    )
    rows = [
        {**lesion, "id": f"{name}-lesion-{number}", "patient": patient, "split": split}
        for row, there, patient, name, split in told
        if there
        for number, lesion in _lesions(made, row)
    ]
    if not rows:
        raise ValueError("No record of this cohort shows a lesion, so there is no triplet to make.")
    return _cohort(rows, f"{cohort.name} triplets", None, "error", "error", 0)


def texts_of(description: Mapping[str, str | None]) -> dict[str, str | None]:
    """The parts of a description at every granularity: report, short, roi, texture, relation."""
    line = {part: _sentence(description.get(part)) for part in PARTS}
    joined = {"report": PARTS, "short": PARTS[:3], "roi": ("roi",), "texture": ("texture",)}
    joined["relation"] = ("relation",)
    return {
        name: " ".join(line[part] for part in parts if line[part]) or None for name, parts in joined.items()
    }


# ------------------------------------------------------------------------------------------------ as a cohort


def _cohort(
    rows: list[dict[str, Any]], name: str, folder: Any, missing_files: str, unreadable: str, seed: int
) -> Cohort:
    from mmmed.data.cohort import Cohort
    from mmmed.data.inference import Columns
    from mmmed.data.sources import read_columns

    rows = [
        {**row, **texts_of({part: row[COLUMN.get(part, part)] for part in PARTS}), "patient": _group(row)}
        for row in rows
    ]
    kept = [column for column in ROLES if column != "split" or any(row.get("split") for row in rows)]
    source = read_columns({column: [row.get(column) for row in rows] for column in kept}, folder, name)
    roles = {column: ROLES[column] for column in kept}
    split = "split" if "split" in kept else None
    columns = Columns(image="image", group="patient", id="id")
    return Cohort.from_source(source, columns, None, split, roles, missing_files, unreadable, seed)


def _group(row: Mapping[str, Any]) -> str:
    """The patient, else the picture: two triplets of one picture never stand in two parts of a split."""
    image = row.get("image")
    return row.get("patient") or (image if isinstance(image, str) else row["id"])


def _sentence(part: str | None) -> str:
    text = " ".join((part or "").split())
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")


# ---------------------------------------------------------------------------------------------------- writing


def _stored(cell: Any, old: str | None, new: Path, folder: str) -> str | None:
    """The path of a picture as the new file names it; a picture in memory is written first."""
    if cell is None:
        return None
    if not isinstance(cell, str):
        return _write_picture(np.asarray(cell), new, folder)
    place = os.path.relpath(os.path.realpath(os.path.join(old or "", cell)), os.path.realpath(new))
    if place.split(os.sep)[0] == "..":
        raise ValueError(
            f"{plain(cell)} does not lie in {plain(str(new), 200)} or below. Write the triplets into the "
            "folder of their pictures, or above it."
        )
    return Path(place).as_posix()


def _write_picture(values: np.ndarray, new: Path, folder: str) -> str:
    from PIL import Image

    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * np.uint8(255)
    if values.dtype != np.uint8 or values.ndim not in (2, 3):
        raise ValueError(
            f"A picture in memory should be uint8 or bool [height width] or [height width 3], got "
            f"{values.dtype} {list(values.shape)}. Write it to a file first."
        )
    name = hashlib.sha256(repr(values.shape).encode() + np.ascontiguousarray(values).tobytes()).hexdigest()[
        :20
    ]
    (new / folder).mkdir(exist_ok=True)
    if not (new / folder / f"{name}.png").exists():
        Image.fromarray(np.ascontiguousarray(values)).save(new / folder / f"{name}.png")
    return f"{folder}/{name}.png"


# --------------------------------------------------------------------------------------- the synthetic cohort


def _lesions(made: Synthetic, row: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and columns of every lesion of a scene that is to be seen in its picture."""
    scene = made.scenes[row]
    for number, lesion in enumerate(scene.lesions, start=1):
        mask = made.mask(f"lesion {number}")[row]
        if not mask.any():
            continue
        down, across = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        place = f"{lesion.side} {lesion.zone} zone"
        yield (
            number,
            {
                "image": made.pictures[row],
                "modality": "synthetic chest radiograph",
                "roi_box": [float(n) for n in (across[0], down[0], across[-1] + 1, down[-1] + 1)],
                "roi_mask": mask,
                "roi_words": place,
                "modality_words": "synthetic chest radiograph",
                "organ": f"{lesion.side} lung",
                "roi": f"{lesion.size} nodule of {lesion.millimetres} mm in the {place}",
                "texture": f"the nodule is {lesion.density} with a {lesion.margin} margin",
                "relation": _relation(scene, lesion.index),
                "source": "mmmed.data.synthetic",
            },
        )


def _relation(scene: Any, index: bool) -> str:
    count, largest = len(scene.lesions), scene.lesions[0]
    if count == 1:
        return "it is the only nodule"
    if index:
        return f"it is the largest of {count} nodules"
    return f"it is one of {count} nodules and smaller than the one in the {largest.side} {largest.zone} zone"
