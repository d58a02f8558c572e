"""What the page does with the picture itself: which pixels moved the answer, and where a phrase points to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmmed import Record
from mmmed.data.phrases import NoPhrases, phrases_of
from mmmed.explain import saliency
from mmmed.types import Image, Volume

from .cast import Cast
from .panels.masks import best_slice, masks
from .panels.saliency import heat

MOST_PHRASES = 6  # suggestions below the box


def pictured(cast: Cast) -> tuple[str, ...]:
    """Modalities that are looked at: pictures and volumes, in the order of the model."""
    kinds = cast.model.schema.modalities
    return tuple(name for name in cast.modalities if isinstance(kinds[name], (Image, Volume)))


def marked(cast: Cast, record: Record, task: str) -> str:
    """The heat map of the first picture that is on, or a sentence on why there is none."""
    names = [name for name in pictured(cast) if name in record.inputs]
    if not names:
        return '<p class="mm-quiet">There is no picture among the inputs that are on.</p>'
    return heat(saliency(cast.model, record, modality=names[0], task=task))


def find(
    cast: Cast, record: Record, phrases: Sequence[str], threshold: float, spacing: Any = None
) -> list[Any]:
    """A mask for each phrase. Raises ValueError for an empty phrase."""
    told = [phrase.strip() for phrase in phrases if phrase and phrase.strip()]
    if not told:
        raise ValueError("Type what to look for, such as the nodule on the left.")
    return cast.segmenter.segment(record, told, threshold=threshold, spacing=spacing)


def drawn(found: Sequence[Any], opacity: float, place: int | None = None) -> str:
    """The masks on their picture; place: which slice of a volume, None for the fullest."""
    if not found:
        return ""
    flat = found[0].pixels.ndim == 2
    return masks(list(found), opacity=opacity, slice=None if flat else place)


def first_slice(found: Sequence[Any]) -> tuple[int | None, int]:
    """The slice of a volume to show first, and the last one; None and 0 for a picture."""
    place = best_slice(found)
    return place, 0 if place is None else len(found[0].pixels) - 1


def suggestions(cast: Cast) -> list[str]:
    """The phrases that the cohort asks most often; none without a cohort, or where it has no phrases."""
    if cast.cohort is None:
        return []
    try:
        texts = [phrase.text for phrase in phrases_of(cast.cohort["test"])]
    except NoPhrases:
        return []
    words, counts = np.unique(texts, return_counts=True)
    return [str(text) for text in words[np.argsort(-counts, kind="stable")][:MOST_PHRASES]]
