"""What there is to rebuild of a record: a row of numbers per view, with the groups that are masked together.

A *view* (the word of the multi-view literature) is a modality of which something can be rebuilt: the cells of
a table, the pixels of a small picture, the mean token of a frozen encoder. Cells that are not recorded are
nothing to rebuild.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, one_hot

from mmmed.checks import check_count, plain
from mmmed.encoders.tabular import compress
from mmmed.models.multimodal import encode
from mmmed.types import Category, Image, Tabular

FLAT = 1e-4  # a feature that varies less is a constant, and is only centred


class Features(nn.Module):
    """Base: `read` gives raw numbers, `forward` standardises them.

    groups [features] long: features of one group are masked together. mean, scale [features]: fitted by
    `adapt`.
    """

    def __init__(self, groups: Tensor):
        super().__init__()
        self.register_buffer("groups", groups)
        self.register_buffer("mean", torch.zeros(len(groups)))
        self.register_buffer("scale", torch.ones(len(groups)))

    @property
    def width(self) -> int:
        """Number of features."""
        return len(self.groups)

    def read(self, values: Any) -> tuple[Tensor, Tensor]:
        """What a batch holds for the modality -> raw features and what is known of them, [n features]
        each."""
        raise NotImplementedError

    def forward(self, values: Any) -> tuple[Tensor, Tensor]:
        """-> standardised features, 0 where unknown, and what is known of them, [n features] each."""
        raw, known = self.read(values)
        return torch.where(known, (raw - self.mean) / self.scale, 0.0), known

    def adapt(self, raw: Tensor, known: Tensor) -> None:
        """Fit mean and scale to training rows [n features]; what is unknown does not count."""
        count = known.sum(0).clamp(min=1)
        self.mean = torch.where(known, raw, 0).sum(0) / count
        variance = torch.where(known, (raw - self.mean) ** 2, 0).sum(0) / count
        self.scale = variance.sqrt().where(variance.sqrt() > FLAT, 1.0)


class CellFeatures(Features):
    """Cells of a table: numbers (extreme ones compressed), and for a category one number per level.

    levels: for each column the number of levels, None for a number.
    """

    def __init__(self, levels: tuple[int | None, ...]):
        each = [1 if count is None else count for count in levels]
        super().__init__(torch.arange(len(levels)).repeat_interleave(torch.tensor(each)))
        self.levels = tuple(levels)

    def read(self, values: Any) -> tuple[Tensor, Tensor]:
        known = values["known"]
        cells = torch.where(known, values["cells"].float(), 0)
        parts = [
            compress(cells[:, column : column + 1])
            if count is None
            else one_hot(cells[:, column].long(), count).float()
            for column, count in enumerate(self.levels)
            if count != 0
        ]
        return torch.cat(parts, 1), known[:, self.groups]


class PixelFeatures(Features):
    """A picture made small: the mean over the views that exist, at `size` pixels, masked in patches.

    patch: side of a masked square, in pixels of the small picture.
    """

    def __init__(self, channels: int, size: tuple[int, int] = (16, 16), patch: int = 4):
        check_count(patch, name="patch")
        rows, columns = (torch.arange(side) // patch for side in size)
        places = rows[:, None] * (int(columns.max()) + 1) + columns  # [height width]
        super().__init__(places.flatten().repeat(channels))
        self.size = tuple(size)

    def read(self, values: Any) -> tuple[Tensor, Tensor]:
        pixels, views = values["pixels"].float(), values["views"]
        real = views[:, :, None, None, None]
        mean = pixels.where(real, 0.0).sum(1) / views.sum(1)[:, None, None, None]
        small = adaptive_avg_pool2d(mean, self.size).flatten(1)
        return small, torch.ones_like(small, dtype=torch.bool)


class TokenFeatures(Features):
    """The mean token of a frozen encoder; each of its numbers is masked by itself.

    encoder: a copy is kept that never learns and always is in evaluation mode.
    """

    def __init__(self, encoder: nn.Module, width: int):
        super().__init__(torch.arange(width))
        self.encoder = deepcopy(encoder).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> TokenFeatures:
        super().train(mode)
        self.encoder.eval()
        return self

    def read(self, values: Any) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            pooled = encode(self.encoder, values).mean().float()
        return pooled, torch.ones_like(pooled, dtype=torch.bool)


def make_features(name: str, modality: Any, frozen: nn.Module | None, sample: Any) -> Features:
    """Features of a schema entry. frozen: an encoder whose tokens are to be rebuilt in place of the input
    itself.

    sample: what a batch holds for the modality, to see how wide the tokens are. Raises ValueError for a
    modality whose input has no numbers to rebuild (words, volumes, series) and no frozen encoder.
    """
    if frozen is not None:
        with torch.inference_mode():
            width = encode(deepcopy(frozen).eval(), sample).values.shape[-1]
        return TokenFeatures(frozen, width)
    match modality:
        case Tabular():
            levels = [len(cell.levels) if isinstance(cell, Category) else None for cell in modality.cells]
            return CellFeatures(tuple(levels))
        case Image():
            return PixelFeatures(modality.channels, (min(16, modality.size[0]), min(16, modality.size[1])))
    raise ValueError(
        f"There is nothing to rebuild of {name!r}, a {plain(type(modality).__name__)}, as it is: give an "
        f"encoder whose tokens are, frozen={{{name!r}: encoder}}, or leave it out: cohort.without({name!r})."
    )


def draw_hidden(groups: Tensor, records: int, share: float, generator: torch.Generator) -> Tensor:
    """Which features are hidden: [records features] bool; int(share * groups) whole groups in every
    record."""
    names, member = groups.unique(return_inverse=True)
    rank = torch.rand(records, len(names), generator=generator).argsort(1).argsort(1)  # [records groups]
    return (rank < int(share * len(names)))[:, member]
