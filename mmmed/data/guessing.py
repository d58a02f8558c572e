"""Which columns of a table are pictures, volumes, text or cells: a guess to be read, and corrected by one
keyword."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmmed.types import is_missing

if TYPE_CHECKING:
    import pandas

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".dcm", ".dicom")
VOLUMES = (".nii", ".nii.gz", ".npz", ".npy")
WORDS = 4  # mean number of words from which a column counts as free text
LEVELS = 20  # different words up to which a column counts as a category
RESERVED = ("split", "fold")


@dataclass(frozen=True)
class Guess:
    """Columns by what they seem to hold; ignored: column -> reason."""

    image: tuple[str, ...]
    volume: tuple[str, ...]
    text: tuple[str, ...]
    tabular: tuple[str, ...]
    ignored: Mapping[str, str]

    def __str__(self) -> str:
        lines = [
            f"{kind}: {', '.join(getattr(self, kind))}" for kind in ("image", "volume", "text", "tabular")
        ]
        lines = [line for line in lines if not line.endswith(": ")]
        return "\n".join(
            [*lines, *(f"not used: {column} ({reason})" for column, reason in self.ignored.items())]
        )


def guess_columns(frame: pandas.DataFrame, exclude: Iterable[str] = ()) -> Guess:
    """Sort the columns of a data frame by their cells. exclude: target, patient, id and split columns."""
    kinds: dict[str, list[str]] = {"image": [], "volume": [], "text": [], "tabular": []}
    ignored: dict[str, str] = {}
    exclude = set(exclude)
    for column in frame.columns:
        if column in exclude:
            continue
        kind = "a split column" if column in RESERVED else _kind(column, frame[column])
        if kind in kinds:
            kinds[kind].append(column)
        else:
            ignored[column] = kind
    return Guess(*(tuple(columns) for columns in kinds.values()), ignored)


def _kind(column: str, cells: pandas.Series) -> str:
    """One of the four kinds, or the reason why the column is left out."""
    known = [cell for cell in cells.tolist() if not is_missing(cell)]
    if not known:
        return "no cell is filled"
    first = known[0]
    if isinstance(first, (list, tuple)):
        first = next(item for item in first if not is_missing(item))
        known = [item for cell in known for item in cell]
    if _is_picture(first):
        return "image"
    if isinstance(first, str):
        return _kind_of_text([str(cell) for cell in known])
    if getattr(cells.dtype, "kind", "O") in "mM":
        return "a date or time span"
    different = len(set(known))
    if different == 1:
        return "constant"
    whole = all(isinstance(cell, int) or float(cell).is_integer() for cell in known)
    if whole and different == len(known) > LEVELS and column.lower().endswith("id"):
        return "looks like an id"
    return "tabular"


def _is_picture(value: Any) -> bool:
    """An array with two axes or more, an opened picture, or the bytes of one."""
    if isinstance(value, Mapping):
        return "bytes" in value or "path" in value
    return getattr(value, "ndim", 0) >= 2 or hasattr(value, "convert") or isinstance(value, bytes)


def _kind_of_text(cells: list[str]) -> str:
    for kind, endings in (("image", IMAGES), ("volume", VOLUMES)):
        if sum(cell.lower().endswith(endings) for cell in cells) > 0.9 * len(cells):
            return kind
    different = len(set(cells))
    if different == 1:
        return "constant"
    if sum(len(cell.split()) for cell in cells) / len(cells) >= WORDS and different > LEVELS:
        return "text"
    if _all_numbers(cells):
        return "tabular"
    if different <= LEVELS or different < len(cells) / 10:
        return "tabular"
    return "nearly every row has another word; name it as text or tabular to use it"


def _all_numbers(cells: list[str]) -> bool:
    try:
        [float(cell) for cell in cells]
    except ValueError:
        return False
    return True
