"""A small residual network for pictures and volumes that learns from some hundred of them on one core."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from mmmed.layers.residual import ResidualBlock

_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
_LAYOUT = {2: torch.channels_last, 3: torch.channels_last_3d}


class SmallCNN(nn.Module):
    """Pictures or volumes -> feature maps, fine to coarse: [n channels *space] -> [n width *space/4], [n
    width *space/8], ..., sides rounded up.

    widths: of the stem, which halves the sides, and of each residual block after it, which halves them again.
    space: 2 or 3. The maps of a row depend on that row alone. Channels lie last in memory,
    which saves a quarter of the time on a CPU.
    """

    def __init__(self, channels: int = 1, widths: Sequence[int] = (16, 24, 48), space: int = 2):
        super().__init__()
        self.widths, self.layout = tuple(widths), _LAYOUT[space]
        self.stem = _CONVOLUTION[space](channels, widths[0], 5, stride=2, padding=2)
        self.blocks = nn.ModuleList(
            ResidualBlock(before, after, stride=2, space=space) for before, after in pairwise(self.widths)
        )
        self.to(memory_format=self.layout)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        maps = relu(self.stem(pixels.contiguous(memory_format=self.layout)))
        pyramid = []
        for block in self.blocks:
            maps = block(maps)
            pyramid.append(maps)
        return pyramid
