"""A picture as a whole, made small, and in crops of the full resolution: one network for all of them."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from mmmed.checks import check_count, check_shape
from mmmed.encoders.grids import token_grid
from mmmed.encoders.image import SmallImageEncoder
from mmmed.encoders.views import check_views, encode_views
from mmmed.types import Image, Tokens


class CroppedImageEncoder(nn.Module):
    """Sees small things and the whole alike: pixels [n views channels height width] standardised, views
    [n views] bool -> Tokens [n views*(1+crops)*places dim].

    First come the tokens of the whole picture of every view, then those of the crops of every view, row by
    row of crops. encoder: an image encoder with `grid`, built for pictures of `piece_size`. size: (height,
    width) of the pictures; crops: (rows, cols). The whole is the mean over blocks of rows x cols pixels, so
    that all pieces are of one size and run in one batch. Pictures that do not divide are stretched to the
    next size that does. Source: the partition of SliME (Zhang et al., arXiv:2406.08487). Differs: the crops
    are given, not chosen from a list by the shape of the picture, since all pictures of a modality have one
    size.
    """

    grid = True

    def __init__(self, encoder: nn.Module, size: tuple[int, int], crops: tuple[int, int] = (2, 2)):
        super().__init__()
        if not getattr(encoder, "grid", False):
            raise ValueError(f"{type(encoder).__name__} gives no grid of tokens. Build it with grid=True.")
        self.size, self.crops = tuple(size), tuple(check_count(count, name="crops") for count in crops)
        self.encoder, self.channels, self.dim = encoder, encoder.channels, encoder.dim
        piece = Image("piece", size=self.piece_size, channels=self.channels)
        self.crop_grid = self.global_grid = token_grid(encoder, piece)

    @classmethod
    def from_schema(
        cls, modality: Image, dim: int = 64, crops: tuple[int, int] = (2, 2)
    ) -> CroppedImageEncoder:
        """For the pictures that a schema describes, with the small network."""
        return cls(SmallImageEncoder(modality.channels, dim, grid=True), modality.size, crops)

    @property
    def piece_size(self) -> tuple[int, int]:
        """(height, width) of each crop, and of the whole picture made small."""
        return tuple(-(-side // count) for side, count in zip(self.size, self.crops, strict=True))

    @property
    def global_tokens(self) -> int:
        """How many tokens the whole picture has in each view."""
        return prod(self.global_grid)

    def forward(self, pixels: Tensor, views: Tensor) -> Tokens:
        check_views(pixels, views, self.channels)
        height, width = self.size
        hint = "The encoder was built for this size; build it anew for another."
        check_shape(
            pixels, "n views channels height width", name="pixels", height=height, width=width, hint=hint
        )
        return self._wholes_first(encode_views(pixels, views, self._encode), views.shape[1])

    def pieces(self, pixels: Tensor) -> Tensor:
        """The whole and its crops: [pictures channels height width] -> [pictures 1+crops channels h w]"""
        (rows, cols), (height, width) = self.crops, self.piece_size
        if self.size != (rows * height, cols * width):
            pixels = interpolate(
                pixels, size=(rows * height, cols * width), mode="bilinear", align_corners=False
            )
        whole = adaptive_avg_pool2d(pixels, (height, width)).unsqueeze(1)
        crops = pixels.unflatten(3, (cols, width)).unflatten(2, (rows, height))
        crops = crops.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # [pictures crops channels h w]
        return torch.cat([whole, crops], dim=1)

    def _encode(self, pixels: Tensor) -> Tensor:
        """[pictures channels height width] -> [pictures (1+crops)*places dim]"""
        pieces = self.pieces(pixels.to(next(self.encoder.parameters()).dtype))
        return self.encoder(
            pieces, torch.ones(pieces.shape[:2], dtype=torch.bool, device=pieces.device)
        ).values

    def _wholes_first(self, tokens: Tokens, views: int) -> Tokens:
        """From view by view to all wholes, then all crops."""
        if views == 1:
            return tokens
        parts = []
        for item in (tokens.values, tokens.mask):
            by_view = item.unflatten(1, (views, -1))
            whole, crops = by_view[:, :, : self.global_tokens], by_view[:, :, self.global_tokens :]
            parts.append(torch.cat([whole.flatten(1, 2), crops.flatten(1, 2)], dim=1))
        return Tokens(*parts)
