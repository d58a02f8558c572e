"""Mosaics: real pictures of several patients side by side in one, and phrases that pick one of them.

"the lesion in the upper left picture" has one right answer, which nothing but the words tells: a model that
does not read them cannot find the picture that is meant, however well it knows lesions. Patients of a part
are only put together with patients of the same part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import check_count, check_share, plain
from mmmed.data.masks import fit_mask, own_shape, read_mask
from mmmed.data.phrases import lesions_of
from mmmed.data.readers import read_image
from mmmed.data.sources import read_columns
from mmmed.data.splitting import SPLITS
from mmmed.types import Image, Phrase, Schema

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort
    from mmmed.data.view import View

ROWS = {1: ("",), 2: ("upper", "lower"), 3: ("upper", "middle", "lower")}
COLUMNS = {1: ("",), 2: ("left", "right"), 3: ("left", "central", "right")}
THING = "lesion"  # what a phrase without a category is about
ROLES = {"id": "id", "split": "split", "image": "input", "tiles": "provenance"}


@dataclass(frozen=True)
class Tile:
    """One picture of a mosaic, uint8 [size size] or [size size 3], what is asked about it, and where that is:
    bool [size size], or None if the tile is blank. record: the record that it shows, "" if it is black."""

    picture: np.ndarray
    phrase: Phrase
    mask: np.ndarray | None
    record: str


def mosaics(
    view: View,
    phrases: Sequence[Phrase],
    pictures: int,
    *,
    size: int = 64,
    grid: tuple[int, int] = (2, 2),
    blank: float = 0.1,
    generator: np.random.Generator,
) -> tuple[Cohort, tuple[Phrase, ...]]:
    """`pictures` mosaics as a cohort, and one phrase for each of their tiles.

    phrases: those of `phrases_of`; of each patient one with a mask is used, of a picture that is known to
    show one such thing only. size: side of a tile in pixels. grid: (rows, columns). blank: chance that a
    tile shows no such thing: a patient known to have none, else black; its phrase is empty. At blank=0.5
    there are as many empty phrases as others. generator: decides everything.

    The ids are "mosaic-0001", ..., the column "tiles" says which records a mosaic shows. group of a phrase:
    the patient of the tile that is meant; the mosaic itself where the tile is blank. A part gets as many of
    the mosaics as it has of the patients.

    Raises ValueError for a cohort without pictures and for a part with fewer patients than tiles.
    """
    words = positions(grid)
    check_count(pictures, name="pictures")
    check_count(size, name="size", least=4)
    check_share(blank, name="blank")
    if not isinstance(generator, np.random.Generator):
        raise ValueError(f"generator should be a numpy Generator, got {plain(generator)}.")
    shelf = Shelf(view, phrases, size)
    parts = _parts(view, shelf, pictures, len(words))
    found, made, shown = [], [], []
    for number, part in enumerate(parts, start=1):
        name = f"mosaic-{number:04d}"
        tiles = shelf.draw(part, len(words), blank, generator)
        made.append(join([tile.picture for tile in tiles], grid))
        shown.append(";".join(tile.record for tile in tiles))
        found += [_phrase(name, tile, words, place, grid) for place, tile in enumerate(tiles)]
    return _cohort(view, shelf, np.stack(made), shown, parts), tuple(found)


def positions(grid: tuple[int, int]) -> tuple[str, ...]:
    """How the pictures of a mosaic are called, row by row: (2, 2) -> "upper left", "upper right", ...

    Beyond three rows or columns they are counted: "row 2, column 4".
    """
    if not (isinstance(grid, (tuple, list)) and len(grid) == 2):
        raise ValueError(f"grid should be (rows, columns), got {plain(grid)}.")
    rows, columns = (
        check_count(n, name=f"grid: {axis}") for n, axis in zip(grid, ("rows", "columns"), strict=True)
    )
    if rows * columns < 2:
        raise ValueError("grid should have at least two places, or there is nothing to choose from.")
    if max(rows, columns) > 3:
        return tuple(
            f"row {row + 1}, column {column + 1}" for row in range(rows) for column in range(columns)
        )
    return tuple(f"{row} {column}".strip() for row in ROWS[rows] for column in COLUMNS[columns])


def join(tiles: Sequence[np.ndarray], grid: tuple[int, int]) -> np.ndarray:
    """Arrays [size size ...], row by row, side by side: [rows*size columns*size ...]."""
    rows, columns = grid
    lines = [np.concatenate(tiles[row * columns : (row + 1) * columns], axis=1) for row in range(rows)]
    return np.concatenate(lines, axis=0)


def _phrase(name: str, tile: Tile, words: Sequence[str], place: int, grid: tuple[int, int]) -> Phrase:
    """What is asked about a tile, on the grid of the mosaic."""
    thing, word = tile.phrase.category or THING, words[place]
    where = f"in the {word} picture" if "," not in word else f"in the picture of {word}"
    mask = None
    if tile.mask is not None:
        masks = [tile.mask if other == place else np.zeros_like(tile.mask) for other in range(len(words))]
        mask = join(masks, grid)
    return replace(
        tile.phrase,
        record=name,
        text=f"the {thing} {where}",
        mask=mask,
        key=None,
        group=name if mask is None else tile.phrase.group,
        spacing=None if mask is None else tile.phrase.spacing,
        folder=None,
    )


# ------------------------------------------------------------------------------------------------------ tiles


class Shelf:
    """The patients of every part, and their pictures at the size of a tile, read when first asked for."""

    def __init__(self, view: View, phrases: Sequence[Phrase], size: int):
        self.view, self.size = view, size
        self.name, self.modality = _image(view)
        self.places = {record: place for place, record in enumerate(view.ids.tolist())}
        self.read: dict[str, np.ndarray] = {}
        seen = view.present[:, list(view.schema.modalities).index(self.name)]
        told = lesions_of(view)
        self.patients: dict[int, dict[str, list[Phrase]]] = {part: {} for part in range(len(SPLITS))}
        self.normal: dict[int, list[str]] = {part: [] for part in range(len(SPLITS))}
        for phrase in _single(phrases):
            place = self.places.get(phrase.record)
            if place is not None and seen[place] and told.get(phrase.record) is None:
                patients = self.patients[int(view.parts[place])]
                patients.setdefault(phrase.group or phrase.record, []).append(phrase)
        for record, kind in told.items():
            if kind == "none" and seen[self.places[record]]:
                self.normal[int(view.parts[self.places[record]])].append(record)

    def draw(self, part: int, count: int, blank: float, generator: np.random.Generator) -> list[Tile]:
        """The tiles of one mosaic, of different patients of a part."""
        patients = list(self.patients[part])
        chosen = generator.choice(len(patients), count, replace=False)
        empty = generator.random(count) < blank
        normal = iter(generator.permutation(len(self.normal[part])).tolist())
        tiles = []
        for place, none in zip(chosen.tolist(), empty.tolist(), strict=True):
            told = self.patients[part][patients[place]]
            phrase = told[int(generator.random() * len(told))]
            if none:
                number = next(normal, None)
                record = "" if number is None else self.normal[part][number]
                tiles.append(Tile(self.picture(record), phrase, None, record))
            else:
                tiles.append(self.tile(phrase))
        return tiles

    def tile(self, phrase: Phrase) -> Tile:
        """The picture of a phrase with its mask; spacing is that of the tile."""
        source, where = self._source(phrase.record)
        folder = self.view.folder
        shape = own_shape(source, self.modality, folder=folder, where=where)
        mask = read_mask(phrase.mask, key=phrase.key, folder=phrase.folder, where=where, shape=shape)
        inside = fit_mask(mask, (self.size, self.size))
        if phrase.spacing is not None:
            shrunk = max(shape) / self.size
            phrase = replace(phrase, spacing=tuple(shrunk * side for side in phrase.spacing))
        # What is smaller than half a pixel of the tile keeps the pixel of which it covers most.
        mask = inside >= min(0.5, inside.max())
        return Tile(self.picture(phrase.record), phrase, mask, phrase.record)

    def picture(self, record: str) -> np.ndarray:
        """uint8 [size size] or [size size 3]; black for ""."""
        if record not in self.read:
            channels, size = self.modality.channels, (self.size, self.size)
            if record:
                source, where = self._source(record)
                folder = self.view.folder
                values = read_image(source, channels=channels, size=size, folder=folder, where=where)
            else:
                values = np.zeros((channels, *size))
            values = np.round(255 * values).astype(np.uint8)
            self.read[record] = values[0] if channels == 1 else np.moveaxis(values, 0, 2)
        return self.read[record]

    def _source(self, record: str) -> tuple[Any, str]:
        """The picture of a record, the first view of several, and the words for messages."""
        source = self.view[self.places[record]].inputs[self.name]
        source = source[0] if isinstance(source, list) else source
        return source, f'record "{record}", column "{self.modality.column}"'


def _image(view: View) -> tuple[str, Image]:
    """The first modality that is a picture."""
    for name, modality in view.schema.modalities.items():
        if isinstance(modality, Image):
            return name, modality
    raise ValueError(f"A mosaic is made of flat pictures, and {view.name!r} has none. Open it with image=.")


def _single(phrases: Sequence[Phrase]) -> list[Phrase]:
    """Phrases with a mask whose category is named once of their record, so that "the lesion" is one."""
    counts: dict[tuple[str, str], int] = {}
    for phrase in phrases:
        if not phrase.empty:
            counts[phrase.record, phrase.category] = counts.get((phrase.record, phrase.category), 0) + 1
    return [
        phrase
        for phrase in phrases
        if counts.get((phrase.record, phrase.category)) == 1 and phrase.mask is not None
    ]


# ----------------------------------------------------------------------------------------------------- cohort


def _parts(view: View, shelf: Shelf, pictures: int, tiles: int) -> list[int]:
    """The part of each mosaic, in order: shares as of the patients, the largest remainders rounded up."""
    counts = np.array([len(shelf.patients[part]) for part in range(len(SPLITS))])
    if not counts.any():
        raise ValueError(
            "There is no phrase with a mask about a picture of this cohort that shows one such thing. Pass "
            "the phrases that phrases_of(cohort) gives for these records."
        )
    shares = pictures * counts / counts.sum()
    each = np.floor(shares).astype(int)
    each[np.argsort(each - shares, kind="stable")[: pictures - each.sum()]] += 1
    few = [(SPLITS[part], n) for part, n in enumerate(counts.tolist()) if each[part] and n < tiles]
    if few:
        raise ValueError(
            f'A mosaic of {tiles} pictures needs as many patients; the part "{few[0][0]}" has {few[0][1]}. '
            f"Choose a smaller grid, or pass a part that has more."
        )
    return np.repeat(np.arange(len(SPLITS)), each).tolist()


def _cohort(view: View, shelf: Shelf, made: np.ndarray, shown: Sequence[str], parts: Sequence[int]) -> Cohort:
    from mmmed.data.cohort import Cohort

    columns: Mapping[str, Any] = {
        "id": [f"mosaic-{number:04d}" for number in range(1, len(made) + 1)],
        "split": [SPLITS[part] for part in parts],
        "tiles": list(shown),
        "image": made,
    }
    source = replace(read_columns(columns, name=f"mosaics of {view.name}"), roles=dict(ROLES))
    image = Image("image", size=made.shape[1:3], channels=shelf.modality.channels)
    schema = Schema(modalities={"image": image}, tasks={}, id="id")
    cohort = Cohort(source, schema, np.array(parts, np.int8), split_origin=view.split_origin)
    return cohort.refit() if 0 in parts else cohort
