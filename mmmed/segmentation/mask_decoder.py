"""Shared maps and the words of a phrase -> a mask, and how likely it is that there is such a thing.

Words meet pixels on every scale but the finest; all scales together say where to look; there the phrase's own
small network reads the finest map. Whatever does not depend on words is done once for a picture, so a further
phrase is cheap. What was drawn is then looked at again and compared with the words, which says best whether
there is such a thing: a mask alone is too easily found somewhere.

Sources: LSMS (arXiv:2408.17347) for fusion at every scale and the full-scale decoder, which projects all
scales to one width and one grid before they are joined; MulModSeg (arXiv:2411.15576) for the head that words
write; VoxTell (arXiv:2511.11450) for a query that reaches every scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from mmmed.layers.word_attention import of_phrases, on_pixels
from mmmed.segmentation.dynamic_head import DynamicHead
from mmmed.segmentation.feature_pyramid import resize
from mmmed.segmentation.heat_maps import peak
from mmmed.segmentation.matching import AVERAGE, RegionMatch
from mmmed.segmentation.positions import count_channels, position_code
from mmmed.types import Tokens

_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}


@dataclass(frozen=True)
class Drawing:
    """logits [m 1 *space]: of the mask, on the finest grid of the maps. coarse: the same on coarser grids,
    while learning. presence [m]: logit of "there is such a thing". match [m]: how well what was drawn answers
    to the words."""

    logits: Tensor
    coarse: tuple[Tensor, ...]
    presence: Tensor
    match: Tensor


@dataclass(frozen=True)
class Seen:
    """What of a picture does not depend on words. maps: fine to coarse, [n width *space] each; summary: see
    `RegionMatch`; fine [n head *space]: the finest map, as the head reads it."""

    maps: tuple[Tensor, ...]
    summary: Tensor
    fine: Tensor


class MaskDecoder(nn.Module):
    """see(maps) once for a picture, then forward(seen, words, which) for its phrases.

    width: of the maps; dim: of the words; fusions: one word-pixel fusion for each scale but the finest,
    coarse ones last; head: width of the network that is written for each phrase. weak: presence is the
    largest mask logit and nothing else, so that masks can be learned from "there is one" alone (GP-UNet,
    arXiv:2206.05148).
    """

    def __init__(
        self,
        width: int,
        dim: int,
        fusions: Sequence[nn.Module],
        space: int = 2,
        head: int = 8,
        weak: bool = False,
    ):
        super().__init__()
        convolution, scales = _CONVOLUTION[space], len(fusions)
        self.width, self.dim, self.weak = width, dim, weak
        self.place = nn.ModuleList(convolution(count_channels(space), width, 1) for _ in fusions)
        for layer in self.place:
            nn.init.normal_(layer.weight, std=0.25)  # as strong as the maps: a place is half of most phrases
        self.fusions = nn.ModuleList(fusions)
        # 1x1 convolutions that are done for every phrase, as matrix products: cheaper on a CPU
        self.coarse = nn.ModuleList(nn.Linear(width, 1) for _ in fusions)
        self.project = nn.ModuleList(nn.Linear(width, width) for _ in fusions)
        self.modulate = nn.Linear(dim, 2 * width)
        self.around = convolution(width, width, 5, padding=2, groups=width)
        self.widen, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.enter, self.fine = nn.Linear(width, head), convolution(width, head, 3, padding=1)
        self.head = DynamicHead(dim, width, head, space=space)
        self.match = RegionMatch(width, scales + 1, dim)
        self.doubt = nn.Sequential(
            nn.Linear(dim + 2 * width + 2, 2 * width), nn.GELU(), nn.Linear(2 * width, 1)
        )
        if weak:  # a maximum over thousands of pixels would start near "it is there" for every picture
            self.offset = nn.Parameter(torch.tensor(-2.0))

    def see(self, maps: Sequence[Tensor]) -> Seen:
        """maps: [n width *space], fine to coarse."""
        placed = [
            map_ + layer(position_code(map_.shape[2:], like=map_))
            for map_, layer in zip(maps[1:], self.place, strict=True)
        ]
        maps = (maps[0], *placed)
        return Seen(maps, self.match.summary(maps), self.fine(maps[0]))

    def forward(self, seen: Seen, words: Tokens, which: Tensor) -> Drawing:
        """words [m t dim], which [m] long: the picture of each phrase."""
        query = words.mean()
        fused = [fusion(map_, words, which) for fusion, map_ in zip(self.fusions, seen.maps[1:], strict=True)]
        coarse = ()
        if self.training:  # they are there to teach
            coarse = tuple(_each(layer, map_.relu()) for layer, map_ in zip(self.coarse, fused, strict=True))
        joined = self._join(fused, query)
        pooled = joined.flatten(2).amax(2)
        grid = seen.fine.shape[2:]
        features = (resize(_each(self.enter, joined), grid) + of_phrases(seen.fine, which)).relu_()
        logits = self.head(features, query, pooled)
        if self.weak:
            logits = logits + self.offset
            highest = peak(logits)
            return Drawing(logits, coarse, highest, torch.zeros_like(highest))
        match = self._look_again(seen, words, which, logits)
        facts = [query, joined.flatten(2).mean(2), pooled, peak(logits).unsqueeze(1), match.unsqueeze(1)]
        return Drawing(logits, coarse, self.doubt(torch.cat(facts, dim=1)).squeeze(1) + match, match)

    def _join(self, fused: Sequence[Tensor], query: Tensor) -> Tensor:
        """All scales in one map, [m width *space] on the grid of the finest of them."""
        grid = fused[0].shape[2:]
        joined = sum(
            resize(_each(layer, map_), grid) for layer, map_ in zip(self.project, fused, strict=True)
        )
        ones = (1,) * len(grid)
        scale, shift = self.modulate(query).chunk(2, dim=1)
        scale, shift = 1 + scale.view(*scale.shape, *ones), shift.view(*shift.shape, *ones)
        joined = torch.addcmul(shift, joined, scale).relu_()
        wide = gelu(_each(self.widen, self.around(joined)))
        return on_pixels(self.narrow, wide.flatten(2), onto=self._onto(joined)).unflatten(2, grid)

    def _onto(self, joined: Tensor) -> Tensor:
        return joined.flatten(2) + self.narrow.bias.unsqueeze(1)

    def _look_again(self, seen: Seen, words: Tokens, which: Tensor, logits: Tensor) -> Tensor:
        """How well what was drawn answers to the words: [m]. Where nothing reaches one half, what comes
        nearest to it is looked at."""
        with torch.no_grad():  # where to look is no matter of how well it answers
            highest = logits.flatten(1).amax(1).view(-1, *(1,) * (logits.ndim - 1))
            inside = (logits > highest.clamp(max=1.0) - 1).to(logits.dtype)
            inside = self.shares(inside, seen)
        regions = self.match.regions(of_phrases(seen.summary, which), inside)
        return self.match.score(regions, words).squeeze(1)

    def shares(self, masks: Tensor, seen: Seen) -> Tensor:
        """Masks [n k *space] -> the share of each cell of the summary that is inside, [n k *grid]."""
        return AVERAGE[masks.ndim - 2](masks, seen.summary.shape[2:])


def _each(linear: nn.Linear, maps: Tensor) -> Tensor:
    """A 1x1 convolution: [m before *space] -> [m after *space]."""
    return on_pixels(linear, maps.flatten(2)).unflatten(2, maps.shape[2:])
