"""The network of a referring segmenter: pictures are seen once, phrases ask, masks are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmmed.layers.foreground import foreground_norm
from mmmed.segmentation.feature_pyramid import resize
from mmmed.segmentation.mask_decoder import Drawing, MaskDecoder, Seen
from mmmed.types import Batch, Tokens

Inputs = tuple[dict[str, Tensor], dict[str, Tensor], int]


class SegmentationNetwork(nn.Module):
    """pyramid (values, rows, batch) -> maps; neck: maps of one width; decoder: see `MaskDecoder`; query: what
    makes Tokens of a phrase (a text encoder, a `ClassTable`, a `StateQuery`).

    modalities: the picture, or the sequences, that are drawn on. by_slice: every slice of a volume is a
    picture. normalise: standardise grey values over what is not air (see `foreground_norm`). finest: the
    scale that is drawn on, from 0; finer ones only feed the coarser.
    """

    def __init__(
        self,
        modalities: tuple[str, ...],
        pyramid: nn.Module,
        neck: nn.Module,
        decoder: MaskDecoder,
        query: nn.Module,
        by_slice: bool = False,
        normalise: bool = False,
        finest: int = 0,
    ):
        super().__init__()
        self.modalities, self.by_slice, self.normalise = tuple(modalities), by_slice, normalise
        self.finest = finest
        self.pyramid, self.neck, self.decoder, self.query = pyramid, neck, decoder, query

    @property
    def device(self) -> torch.device:
        return next(self.decoder.parameters()).device

    @property
    def space(self) -> int:
        """2 if pictures (or slices) are drawn on, 3 if volumes are."""
        return self.pyramid.space

    def inputs_of(self, batch: Batch) -> Inputs:
        """The pictures of a batch as the pyramid takes them: values [n channels *space] and rows [n] by
        modality, and the number of records, or of slices.

        Of several views the first is drawn on. by_slice: [n channels depth height width] becomes n*depth
        pictures; slice k of record i is row i*depth + k.
        """
        values, rows, depth = {}, {}, 1
        for name in self.modalities:
            if name not in batch.values:
                continue
            packed = batch.values[name]
            pictures = packed["pixels"][:, 0] if "pixels" in packed else packed["voxels"]
            pictures = foreground_norm(pictures) if self.normalise else pictures
            rows[name] = batch.rows[name]
            if self.by_slice:
                depth = pictures.shape[2]
                pictures = pictures.transpose(1, 2).flatten(0, 1)
                places = torch.arange(depth, device=rows[name].device)
                rows[name] = (rows[name][:, None] * depth + places).flatten()
            values[name] = pictures
        return values, rows, len(batch) * depth

    def see(self, values: Mapping[str, Tensor], rows: Mapping[str, Tensor], batch: int) -> Seen:
        """What does not depend on words, once for each of `batch` pictures."""
        return self.decoder.see(self.neck(self.pyramid(values, rows, batch)[self.finest :]))

    def ask(self, **inputs: Any) -> Tokens:
        """The words of m phrases: what the query maker takes -> Tokens [m t dim]."""
        return self.query(**inputs)

    def draw(self, seen: Seen, words: Tokens, which: Tensor, grid: tuple[int, ...] | None = None) -> Drawing:
        """The masks of m phrases about the pictures `which` [m]. grid: of the logits, None = the finest
        map's."""
        drawing = self.decoder(seen, words, which)
        if grid is None:
            return drawing
        return Drawing(resize(drawing.logits, grid), drawing.coarse, drawing.presence, drawing.match)
