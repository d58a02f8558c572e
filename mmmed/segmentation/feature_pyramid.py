"""Maps of every scale in one width, each knowing what the coarser ones saw; shared by all phrases."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import interpolate

from mmmed.layers.residual import ResidualBlock

_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
_MODE = {2: "bilinear", 3: "trilinear"}


class FeaturePyramid(nn.Module):
    """Top-down over a pyramid: maps [n widths[level] *space], fine to coarse -> as many maps [n width
    *space].

    Source: Lin et al., arXiv:1612.03144, sec. 3. Differs: bilinear enlarging, since sides may be odd; a
    residual block in place of one 3x3 convolution behind each sum.
    """

    def __init__(self, widths: Sequence[int], width: int = 32, space: int = 2):
        super().__init__()
        self.widths, self.width = tuple(widths), width
        self.lateral = nn.ModuleList(_CONVOLUTION[space](own, width, 1) for own in self.widths)
        self.smooth = nn.ModuleList(ResidualBlock(width, width, space=space) for _ in self.widths)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        above, found = None, []
        for index in reversed(range(len(self.widths))):
            here = self.lateral[index](maps[index])
            here = here if above is None else here + resize(above, here.shape[2:])
            above = self.smooth[index](here)
            found.append(above)
        return found[::-1]


def resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps [n channels *space] on another grid, linearly along each axis."""
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    return interpolate(maps, size=tuple(size), mode=_MODE[maps.ndim - 2], align_corners=False)
