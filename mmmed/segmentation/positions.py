"""Where a pixel lies, as numbers that a map can carry: without them "on the left" has nothing to point at."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi

import torch
from torch import Tensor

FREQUENCIES = 4


def position_code(grid: Sequence[int], frequencies: int = FREQUENCIES, like: Tensor | None = None) -> Tensor:
    """A code for each place of a grid (height, width) or (depth, height, width): [1 channels *grid].

    Along each axis the place u, from -1 to 1 at the borders of the grid, and sin and cos of k pi u / 2 for
    k = 1 .. frequencies (Vaswani et al., arXiv:1706.03762, sec. 3.5, with a few slow waves: a place in words
    is a third or a half of the picture). like: a tensor whose type and device it takes.
    """
    device, dtype = (None, None) if like is None else (like.device, like.dtype)
    channels = []
    for axis, length in enumerate(grid):
        place = (torch.arange(length, device=device, dtype=torch.float32) + 0.5) / length * 2 - 1
        waves = [place]
        for k in range(1, frequencies + 1):
            waves += [torch.sin(k * pi / 2 * place), torch.cos(k * pi / 2 * place)]
        shape = [1] * len(grid)
        shape[axis] = length
        channels += [wave.view(shape).expand(*grid) for wave in waves]
    return torch.stack(channels).unsqueeze(0).to(dtype or torch.float32)


def count_channels(space: int, frequencies: int = FREQUENCIES) -> int:
    """Channels of a code for 2 or 3 axes."""
    return space * (1 + 2 * frequencies)
