"""One line of a file of triplets: read strictly, written back without what is not known.

Lines come from outside. Whatever is wrong with one is said with file, line and field; nothing is guessed or
repaired. The fields are those of `mmmed.data.triplets`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmmed.checks import MissingFile, check_known, plain, suggestion
from mmmed.data.paths import reading, resolve

PARTS = ("modality", "organ", "roi", "texture", "relation")  # of a description, from coarse to fine
FIELDS = ("image", "modality", "roi", "description", "source", "id", "patient", "split")
REGION = ("box", "mask", "words")
COLUMN = {"modality": "modality_words"}  # part of the description -> its column, where the name is taken
LONGEST = 1_000_000  # bytes of a line


def read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where a line stands, and its columns."""
    if not path.is_file():
        raise ValueError(f"There is no file {plain(str(path), 200)}. Give the path of a file of JSON lines.")
    with open(path, "rb") as stream:
        for number, content in enumerate(stream, start=1):
            where = f"{path.name}, line {number}"
            if len(content) > LONGEST:
                raise ValueError(f"{where} has {len(content)} bytes, more than {LONGEST}: no triplet has.")
            text = _decoded(content, where).strip()
            if text:
                yield where, _row(_parsed(text, where), where, str(number))


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not UTF-8: {error}. Save the file as UTF-8.") from error


def _parsed(text: str, where: str) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the field {plain(name)} is there twice")
        return dict(pairs)

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no number of JSON")

    try:
        line = json.loads(text, object_pairs_hook=once, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{where} is no JSON that can be read: {error}. Correct or remove the line."
        ) from error
    if not isinstance(line, dict):
        raise ValueError(
            f"{where} should be an object with the fields {', '.join(FIELDS[:5])}, got {plain(line)}."
        )
    return line


def _row(line: Mapping[str, Any], where: str, number: str) -> dict[str, Any]:
    _known(line, FIELDS, where, "")
    for name in ("image", "modality", "description", "source"):
        if name not in line:
            raise ValueError(f'{where}: the field "{name}" is missing{suggestion(name, line)}. Add it.')
    roi = _object(line.get("roi"), REGION, where, "roi")
    description = _object(line["description"], PARTS, where, "description")
    row = {name: _words(line.get(name), where, name) for name in FIELDS if name not in ("roi", "description")}
    parts = {part: _words(description.get(part), where, f"description.{part}") for part in PARTS}
    for name in ("modality", "source"):
        if row[name] is None:
            raise ValueError(f'{where}, field "{name}" is empty. Say what it is.')
    if not any(parts.values()):
        raise ValueError(f'{where}, field "description": all parts are empty. Describe at least one.')
    return {
        **row,
        "id": row["id"] or number,
        **{COLUMN.get(part, part): words for part, words in parts.items()},
        "roi_box": _box(roi.get("box"), where),
        "roi_mask": _words(roi.get("mask"), where, "roi.mask"),
        "roi_words": _words(roi.get("words"), where, "roi.words"),
    }


def _known(given: Mapping[str, Any], fields: Iterable[str], where: str, inside: str) -> None:
    for name in given:
        try:
            check_known(name, fields, what="field")
        except ValueError as error:
            raise ValueError(f"{where}{f', field {inside!r}' if inside else ''}: {error}") from None


def _object(value: Any, fields: tuple[str, ...], where: str, name: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(
            f'{where}, field "{name}" should be an object with {", ".join(fields)}, got {plain(value)}.'
        )
    _known(value, fields, where, name)
    return value


def _words(value: Any, where: str, name: str) -> str | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if name in ("id", "patient") and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise ValueError(f'{where}, field "{name}" should be text, got {plain(value)}.')
    return value.strip()


def _box(value: Any, where: str) -> list[float] | None:
    if value is None:
        return None
    numbers = isinstance(value, list) and all(
        isinstance(n, (int, float)) and not isinstance(n, bool) for n in value
    )
    if not numbers or len(value) != 4 or not all(math.isfinite(number) for number in value):
        raise ValueError(
            f'{where}, field "roi.box" should be four numbers [left, top, right, bottom] in pixels, got '
            f"{plain(value)}."
        )
    left, top, right, bottom = map(float, value)
    if not (0 <= left < right and 0 <= top < bottom):
        raise ValueError(
            f'{where}, field "roi.box" should have 0 <= left < right and 0 <= top < bottom, got {value}. '
            "It is [left, top, right, bottom], not [left, top, width, height]."
        )
    return [left, top, right, bottom]


def check_sizes(rows: list[tuple[str, dict[str, Any]]], path: Path, missing_files: str) -> None:
    """Boxes lie in their pictures and masks fit them. Only headers are read, each file once."""
    sizes: dict[str, tuple[int, int] | None] = {}
    for where, row in rows:
        for field in ("image", "roi_mask"):
            name = row[field]
            if name is not None and name not in sizes:
                subject = f'{where}, field "{field.replace("_", ".")}"'
                sizes[name] = _size(name, path.parent, subject, missing_files)
        own, mask = sizes.get(row["image"]), sizes.get(row["roi_mask"])
        if own is not None and mask is not None and own != mask:
            raise ValueError(
                f'{where}, field "roi.mask" has {mask} pixels, its picture {own} (width, height).'
            )
        box = row["roi_box"]
        if own is not None and box is not None and (box[2] > own[0] or box[3] > own[1]):
            raise ValueError(
                f'{where}, field "roi.box" {box} leads out of its picture of {own[0]} x {own[1]} '
                "pixels (width x height)."
            )


def _size(name: str, folder: Path, where: str, missing_files: str) -> tuple[int, int] | None:
    """Width and height of a picture as it is shown; None if the file is not there and may be absent."""
    from PIL import Image

    from mmmed.data.readers import FORMATS, read_image

    try:
        place = resolve(name, folder, where)
    except MissingFile:
        if missing_files == "absent":
            return None
        raise
    if place.suffix.lower() in (".dcm", ".dicom", ""):
        return read_image(name, folder=folder, where=where).shape[:0:-1]
    with reading(f"{where}: {plain(name)}"), Image.open(place, formats=FORMATS) as picture:
        turned = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # EXIF: lies on its side
        return picture.size[::-1] if turned else picture.size


def line_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row as the fields of a line, without what is not known."""
    box = row.get("roi_box")
    roi = {
        "box": None if box is None else [int(n) if float(n).is_integer() else float(n) for n in box],
        "mask": row.get("roi_mask"),
        "words": row.get("roi_words"),
    }
    description = {part: row.get(COLUMN.get(part, part)) for part in PARTS}
    line = {
        "image": row["image"],
        "modality": row["modality"],
        "roi": {name: value for name, value in roi.items() if value is not None},
        "description": {part: words for part, words in description.items() if words is not None},
        **{name: row[name] for name in ("source", "id", "patient", "split")},
    }
    return {name: value for name, value in line.items() if name != "roi" or value}
