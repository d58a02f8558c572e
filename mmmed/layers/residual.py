"""A residual block over the grid of a picture or a volume."""

from __future__ import annotations

from math import gcd

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, relu

_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
_AVERAGE = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
GROUP = 8  # channels that are normalised together, where their number allows it


class ResidualBlock(nn.Module):
    """Two 3-wide convolutions beside a shortcut: maps [n before *space] -> [n after *space/stride].

    space: 2 for pictures, 3 for volumes; sides are rounded up. Residual learning as in He et al.,
    arXiv:1512.03385, with the averaging shortcut of He et al., arXiv:1812.01187 (sec. 4.2, ResNet-D). Differs
    from both: one GroupNorm (Wu and He, arXiv:1803.08494) between the convolutions in place of BatchNorm, so
    that a row never depends on its batch, and none on the way of the shortcut, so that the grey value itself,
    which can be the finding, stays readable.
    """

    def __init__(self, before: int, after: int, stride: int = 1, space: int = 2):
        super().__init__()
        convolution = _CONVOLUTION[space]
        self.first = convolution(before, after, 3, stride=stride, padding=1)
        self.norm = nn.GroupNorm(gcd(after, max(after // GROUP, 1)), after)
        self.second = convolution(after, after, 3, padding=1)
        self._quicken()
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or before != after:
            # a side that is odd keeps its last pixel, as the convolution does
            average = _AVERAGE[space](stride, ceil_mode=True)
            self.shortcut = nn.Sequential(average, convolution(before, after, 1))

    def _quicken(self, gain: float = 2.0) -> None:
        """Smaller weights beside a larger gain: nearly the same function at first, learned in fewer steps.

        Adam moves each weight by about the learning rate, however large it is, so small ones change faster
        (the reason for the equalised learning rate of Karras et al., arXiv:1710.10196, sec. 4.1).
        """
        with torch.no_grad():
            self.first.weight /= gain  # the norm takes its scale away
            self.norm.weight.fill_(gain)
            self.second.weight /= gain

    def forward(self, maps: Tensor) -> Tensor:
        # GELU learns faster and ReLU is cheaper: each where it counts more (measured)
        branch = self.second(gelu(self.norm(self.first(maps))))
        return relu(self.shortcut(maps) + branch)
