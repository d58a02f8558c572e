"""Volumes to tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmmed.backbones.small_cnn import SmallCNN
from mmmed.checks import check_shape
from mmmed.layers.pooling import mean_and_max
from mmmed.types import Tokens, Volume

SMALLEST = 8  # voxels; below that the last map has a single place


class VolumeEncoder(nn.Module):
    """A small residual network in three dimensions.

    voxels [n channels depth height width] standardised -> Tokens [n 1 dim], or with `grid` [n places dim],
    where places is the number of voxels of the coarsest map. Any depth, height and width from 8 voxels on;
    the sides need not be alike. widths: see `mmmed.backbones.small_cnn.SmallCNN`. Source: He et al.,
    arXiv:1512.03385; see `mmmed.layers.residual` for where we differ.
    """

    def __init__(
        self, channels: int = 1, dim: int = 64, widths: Sequence[int] = (8, 16, 32), grid: bool = False
    ):
        super().__init__()
        self.channels, self.dim, self.grid = channels, dim, grid
        self.network = SmallCNN(channels, widths, space=3)
        self.project = nn.Linear(widths[-1] if grid else 2 * sum(widths[1:]), dim)

    @classmethod
    def from_schema(
        cls, modality: Volume, dim: int = 64, widths: Sequence[int] = (8, 16, 32), grid: bool = False
    ) -> VolumeEncoder:
        """For the volumes that a schema describes."""
        return cls(modality.channels, dim, widths, grid)

    def forward(self, voxels: Tensor) -> Tokens:
        check_shape(
            voxels,
            "n channels depth height width",
            name="voxels",
            channels=self.channels,
            hint="The schema's Volume(channels=...) says how many channels there are.",
        )
        if min(voxels.shape[-3:]) < SMALLEST:
            raise ValueError(
                f"Volumes should measure {SMALLEST} voxels along each side at least, got "
                f"{list(voxels.shape[-3:])}. Give the schema a larger Volume(size=...)."
            )
        pyramid = self.network(voxels.to(self.project.weight.dtype))
        if self.grid:
            values = self.project(pyramid[-1].flatten(2).transpose(1, 2))
        else:
            values = self.project(torch.cat([mean_and_max(maps) for maps in pyramid], dim=1)).unsqueeze(1)
        return Tokens(values, values.new_ones(values.shape[:2], dtype=torch.bool))
