"""Fixed shape: the segmenter that never looks at the picture, which every other one has to beat.

It answers with the mean of the training masks, cut where the mean Dice on the training masks is best: one
shape per category, where phrases name their category, and one for everything else. Where anatomy or habit
puts the target in the same place (lungs; lesions that are centred before a picture is stored) its Dice is
high, and a model below it has learned less than where to look. Masks are stretched to one grid and back, not
fitted with their proportions: place is then told in shares of the picture, which makes the floor stronger.

    floor = FixedShape.fit(cohort["train"], phrases)
    print(compare_masks({"ours": segmenter, "fixed shape": floor}, cohort["test"], phrases, "fixed shape"))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mmmed.checks import MissingFile, UnreadableFile, check_known, listing
from mmmed.data.grids import own_shape
from mmmed.data.masks import read_mask
from mmmed.data.volumes import resample
from mmmed.types import Image, Record, Volume
from mmmed.types.mask import Mask

if TYPE_CHECKING:
    from mmmed.data.view import View
    from mmmed.types.phrase import Phrase

SIZES = {2: (64, 64), 3: (32, 32, 32)}  # the grid on which masks are averaged
LEVELS = np.arange(1, 100) / 100  # where the mean mask may be cut
NOTE = "A fixed shape from the training masks: the picture was not looked at."


@dataclass(frozen=True)
class Shape:
    """mean: float [*grid], the share of training masks that hold each pixel; level: where it is cut; there:
    share of the training phrases whose target was there.
    """

    mean: np.ndarray
    level: float
    there: float


class FixedShape:
    """A segmenter that answers every phrase of a category with one shape, at the size of the picture.

    modality: the name of the picture or volume that phrases are about. shapes: category -> Shape, "" for all
    phrases together. texts: training phrase -> its category. kind: how the picture is stored (key,
    channels), so that its grid can be read. A phrase belongs to the category of the same training phrase,
    else to the longest category whose name it contains, else to all. Where less than half of the training
    phrases of a category were about something that is there, the answer is "not there".
    """

    def __init__(
        self,
        modality: str,
        shapes: Mapping[str, Shape],
        texts: Mapping[str, str] | None = None,
        kind: Image | Volume | None = None,
    ):
        self.modality, self.shapes, self.texts = modality, dict(shapes), dict(texts or {})
        axes = self.shapes[""].mean.ndim
        self.kind = kind or (Image(modality) if axes == 2 else Volume(modality))

    @property
    def modalities(self) -> tuple[str, ...]:
        """The name of the picture or volume, as a segmenter tells it."""
        return (self.modality,)

    @classmethod
    def fit(cls, train: View, phrases: Iterable[Phrase], modality: str | None = None) -> FixedShape:
        """From the phrases about the records of `train`; each mask is read once. modality: needed if there
        are several pictures. A phrase about something that is there, but that nobody drew, counts as there.
        Raises ValueError if no phrase has a mask.
        """
        modality = _picture_of(train, modality)
        ids = set(train.ids.tolist())
        some = [phrase for phrase in phrases if phrase.record in ids]
        told = [phrase for phrase in some if phrase.drawn]
        if not told:
            raise ValueError(
                f"None of {len(some)} phrases about these {len(ids)} records has a mask, so there is no "
                "shape. Pass phrases of the training records with their masks."
            )
        masks = np.stack([_small(phrase) for phrase in told])  # [phrases *grid]
        named = np.array([phrase.category for phrase in told])
        shares = _shares(some)
        shapes = {"": _shape(masks, sum(not phrase.empty for phrase in some) / len(some))}
        shapes |= {name: _shape(masks[named == name], shares[name]) for name in set(named.tolist()) - {""}}
        # a category that nobody drew has no shape of its own, yet whether it is there is known
        never = set(shares) - set(shapes)
        shapes |= {name: replace(shapes[""], there=shares[name]) for name in never if shares[name]}
        nothing = Shape(np.zeros_like(shapes[""].mean), 1.0, 0.0)
        shapes |= {name: nothing for name in never if not shares[name]}
        texts = {phrase.text: phrase.category for phrase in some}
        return cls(modality, shapes, texts, train.schema.modalities[modality])

    def segment(
        self, record: Record, phrases: str | Sequence[str], *, spacing: tuple[float, ...] | None = None
    ) -> Mask | list[Mask]:
        """One mask for a text, a list for several, on the grid of the record's picture. A record without its
        picture gets empty masks, of the size of the shape, that say so.
        """
        texts = [phrases] if isinstance(phrases, str) else list(phrases)
        grid = self._grid(record)
        masks = [self._mask(record, text, grid, spacing) for text in texts]
        return masks[0] if isinstance(phrases, str) else masks

    def iterate(self, records: Iterable[Record], phrases: Sequence[Sequence[str]]) -> Iterator[list[Mask]]:
        """A list of masks per record, in order."""
        for record, texts in zip(records, phrases, strict=True):
            yield self.segment(record, list(texts))

    def category(self, text: str) -> str:
        """The category whose shape a phrase gets."""
        if text in self.texts:
            return self.texts[text]
        inside = [name for name in self.shapes if name and name.lower() in text.lower()]
        return max(inside, key=len, default="")

    def _grid(self, record: Record) -> tuple[int, ...] | None:
        """Height and width, or depth, height and width, of the picture: all that is used of it; None
        without a picture that can be read."""
        value = record.inputs.get(self.modality)
        if value is None:
            return None
        value = value[0] if isinstance(value, (list, tuple)) else value
        where = f'record "{record.id}", {self.modality}'
        try:
            return tuple(own_shape(value, self.kind, folder=record.folder, where=where))
        except (MissingFile, UnreadableFile):
            return None

    def _mask(
        self, record: Record, text: str, grid: tuple[int, ...] | None, spacing: tuple[float, ...] | None
    ) -> Mask:
        shape = self.shapes[self.category(text)]
        missing = grid is None
        grid = shape.mean.shape if missing else grid
        probability = np.clip(_stretched(shape.mean, grid), 0, 1)
        pixels = (probability >= shape.level) & (shape.there >= 0.5) & (not missing)
        return Mask(
            id=record.id,
            phrase=text,
            pixels=pixels,
            presence=shape.there,
            present=bool(pixels.any()),
            probability=probability,
            spacing=spacing,
            notes=(NOTE,),
            missing=(self.modality,) if missing else (),
        )


def _picture_of(train: View, modality: str | None) -> str:
    """The name of the picture or volume."""
    names = [name for name, kind in train.schema.modalities.items() if isinstance(kind, (Image, Volume))]
    if modality is not None:
        return check_known(modality, names, what="picture or volume")
    if len(names) != 1:
        raise ValueError(
            f"Phrases should be about one picture or volume; this cohort has {listing(names)}. Name it: "
            "FixedShape.fit(train, phrases, modality=...)."
        )
    return names[0]


def _shares(phrases: Sequence[Phrase]) -> dict[str, float]:
    """Category -> share of its phrases that are about something that is there."""
    every = Counter(phrase.category for phrase in phrases)
    there = Counter(phrase.category for phrase in phrases if not phrase.empty)
    return {name: there[name] / count for name, count in every.items()}


def _small(phrase: Phrase) -> np.ndarray:
    """The true mask on the small grid, float32 in 0..1."""
    where = f'record "{phrase.record}", mask of "{phrase.text}"'
    mask = read_mask(phrase.mask, key=phrase.key, folder=phrase.folder, where=where)
    return _stretched(mask.astype(np.float32), SIZES[mask.ndim])


def _stretched(values: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """[height width] or [depth height width] -> [*size], each axis on its own."""
    if values.ndim == 3:
        return resample(values[None], size)[0]
    return resample(values[None, None], (1, *size))[0, 0]


def _shape(masks: np.ndarray, there: float) -> Shape:
    """masks [phrases *grid] -> their mean, and the level with the best mean Dice."""
    mean = masks.mean(axis=0)
    cuts = mean.reshape(-1, 1) >= LEVELS * mean.max()  # [pixels levels]; up to the largest share that occurs
    values, shapes = masks.reshape(len(masks), -1), cuts.astype(np.float32)
    overlaps = values @ shapes  # [phrases levels]
    merits = 2 * overlaps / np.maximum(values.sum(axis=1)[:, None] + shapes.sum(axis=0), 1e-6)
    merits = merits.mean(axis=0)
    return Shape(mean, float(LEVELS[int(merits.argmax())] * mean.max()), there)
