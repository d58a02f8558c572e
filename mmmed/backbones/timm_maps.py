"""The maps of every scale of any timm network, as a pyramid for segmentation."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmmed.backbones.timm_backbone import TimmBackbone
from mmmed.checks import check_known, plain


class TimmPyramid(nn.Module):
    """Pictures of one modality to the maps of a timm network (Wightman, doi:10.5281/zenodo.4414861), fine to
    coarse: values[name] [n channels height width], rows[name] [n], batch -> list of [batch widths[level]
    *space].

    Each map is normalised over its channels and places. Arguments as of `TimmBackbone`. A network with equal
    scales (a plain ViT) gives its last block twice, the first time enlarged twofold, since a decoder needs a
    finer scale to draw on. Raises ValueError for a network that gives no maps, and if a picture of the batch
    is missing: such a record has nothing to draw on.
    """

    space = 2

    def __init__(
        self,
        modality: str,
        name: str,
        channels: int = 1,
        size: tuple[int, int] = (64, 64),
        weights: str | os.PathLike[str] | None = None,
        mean: float = 0.5,
        scale: float = 0.25,
    ):
        super().__init__()
        self.names, self.size = (modality,), tuple(size)
        self.backbone = TimmBackbone(name, channels, self.size, weights, None, mean, scale)
        if not hasattr(self.backbone.network, "forward_intermediates"):
            raise ValueError(f"The timm network {plain(name)} gives no maps of several scales.")
        self.eval()
        with torch.no_grad():
            maps = self._maps(torch.zeros(1, channels, *self.size))
        self.train()
        self.widths = tuple(map_.shape[1] for map_ in maps)
        self.steps = tuple(self.size[-1] / map_.shape[-1] for map_ in maps)  # pixels of a cell

    def forward(self, values: Mapping[str, Tensor], rows: Mapping[str, Tensor], batch: int) -> list[Tensor]:
        name = self.names[0]
        for other in values:
            check_known(other, self.names, what="picture of this pyramid")
        if name not in values or len(rows[name]) < batch:
            raise ValueError(f"Every record needs its {name} here; leave out those without.")
        return self._maps(values[name])

    def _maps(self, pixels: Tensor) -> list[Tensor]:
        maps = self.backbone.maps(pixels)
        kept: list[Tensor] = []  # the last of each scale
        for map_ in maps:
            if kept and kept[-1].shape[2:] == map_.shape[2:]:
                kept.pop()
            kept.append(map_)
        # networks differ in the size of their maps a hundredfold; the decoder expects about one
        kept = [nn.functional.group_norm(map_, 1) for map_ in kept]
        if len(kept) == 1:
            finer = nn.functional.interpolate(kept[0], scale_factor=2, mode="bilinear", align_corners=False)
            kept.insert(0, finer)
        return kept
