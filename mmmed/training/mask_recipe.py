"""How a referring segmenter is taught: the settings, all of them frozen and saved with the run."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from mmmed.checks import check_count, check_known, check_share, plain
from mmmed.training.optimisation import PRECISIONS

FLIPS = ("sides", "heights")


@dataclass(frozen=True)
class MaskRecipe:
    """batch_size: pictures of an update. pairs: phrases of each picture in an update are drawn in pairs, one
    that points at something and one of the same form that points at nothing, where there are such: one
    pair, and two more for each further region of the picture, up to that many. lr, weight_decay, warmup,
    clip: of AdamW with a cosine. first: share of the epochs in which the network only learns which phrase
    answers to which region, before it draws.

    flips: "sides" mirrors half of the pictures and swaps left and right in their phrases, "heights" the same
    for upper and lower; () for neither. Only English words turn (see `mmmed.data.phrase_words`). shift, zoom:
    largest move, as a share of the side, and largest change of size; a picture with a phrase of place is
    never moved, one with a phrase of size never zoomed. dropout: chance that a sequence is hidden, never the
    last one of a record. slices: of each volume in an update, where volumes are drawn by slice. On real
    pictures lr 1e-3 was steadier than the default, which suits the synthetic ones.
    mask, presence, coarse, contrast: weights of the losses; of the mask's, cross-entropy counts twice as much
    as Dice. precision: "fp32" or "bf16".
    """

    lr: float = 3e-3
    batch_size: int = 16
    pairs: int = 5
    weight_decay: float = 0.01
    warmup: float = 0.05
    clip: float = 1.0
    first: float = 0.2
    flips: tuple[str, ...] = ("sides",)
    shift: float = 0.0
    zoom: float = 0.0
    dropout: float = 0.3
    slices: int = 4
    mask: float = 4.0
    presence: float = 1.0
    coarse: float = 0.4
    contrast: float = 1.0
    precision: str = "fp32"

    def __post_init__(self) -> None:
        flips = (self.flips,) if isinstance(self.flips, str) else tuple(self.flips)
        object.__setattr__(self, "flips", flips)
        for flip in flips:
            check_known(flip, FLIPS, what="flip")
        for name in ("batch_size", "pairs", "slices"):
            check_count(getattr(self, name), name=name)
        for name in ("warmup", "first", "shift", "zoom", "dropout"):
            check_share(getattr(self, name), name=name)
        for name in ("lr", "weight_decay", "clip", "mask", "presence", "coarse", "contrast"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise ValueError(f"{name} should be a number that is not negative, got {plain(value)}.")
        check_known(self.precision, PRECISIONS, what="precision")

    def facts(self) -> dict[str, Any]:
        """JSON-ready settings."""
        return {f.name: list(v) if isinstance(v := getattr(self, f.name), tuple) else v for f in fields(self)}
