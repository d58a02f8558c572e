"""Does a region answer to a phrase? What a segmenter learns before it draws, and asks itself once it has
drawn.

A region is a mask over the shared maps. Each of its parts is seen as the mean and the largest value of every
channel in it, since margins and bright cores show in the largest; then a region and the words of a phrase
meet in one number. Learned from all phrases about a picture, those that do not point at the region included,
this tells words apart far sooner than drawing does: of a picture with one lesion every mask looks right.

Source: the contrast of vision and language of LSMS (arXiv:2408.17347, v3), in the form of InfoNCE (van den
Oord et al., arXiv:1807.03748, eq. 4) whose wrong answers are phrases known to be false of the region.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
)

from mmmed.segmentation.feature_pyramid import resize
from mmmed.types import Tokens

AVERAGE = {2: adaptive_avg_pool2d, 3: adaptive_avg_pool3d}
_LARGEST = {2: adaptive_max_pool2d, 3: adaptive_max_pool3d}
SHARP = (
    8.0  # as a scale of the scores: with 2 the margin of a lesion took several times as long to be learned
)
_LAYOUT = {2: torch.channels_last, 3: torch.channels_last_3d}
INSIDE = 0.25  # share of a cell that must be inside for its largest value to count


class RegionMatch(nn.Module):
    """Regions and phrases in one space. width: of the maps; levels: how many; dim: of the words."""

    def __init__(self, width: int, levels: int, dim: int, shared: int = 64):
        super().__init__()
        self.shared = shared
        self.region = nn.Sequential(
            nn.Linear(2 * width * (levels + 1), shared), nn.GELU(), nn.Linear(shared, shared)
        )
        self.word = nn.Linear(dim, shared)

    def summary(self, maps: Sequence[Tensor]) -> Tensor:
        """All maps on the grid of the second: [n width *space] each -> [n width*(levels+1) *grid].

        The finest map, which would be too large to look at for every phrase, gives the mean and the largest
        value of each cell.
        """
        grid, space = maps[1].shape[2:], maps[1].ndim - 2
        fine = [AVERAGE[space](maps[0], grid), _LARGEST[space](maps[0], grid)]
        whole = torch.cat([*fine, *(resize(map_, grid) for map_ in maps[1:])], dim=1)
        return whole.contiguous(memory_format=_LAYOUT[space])  # the channels of a cell side by side

    def regions(self, summary: Tensor, masks: Tensor) -> Tensor:
        """summary [n channels *grid], masks [n k *grid] of 0..1, the share of each cell that is inside ->
        [n k shared]. An empty mask is a region of zeros."""
        cells = summary.flatten(2).transpose(1, 2)  # [n cells channels]
        weights = masks.flatten(2)  # [n k cells]
        mean = weights @ cells / weights.sum(2, keepdim=True).clamp(min=1e-6)
        most = weights.amax(2, keepdim=True)
        picture, region, cell = ((weights >= INSIDE * most) & (most > 0)).nonzero(as_tuple=True)
        # few cells are inside, so they are picked out and not masked: the rest is never copied
        largest = cells.new_full((mean.shape[0] * mean.shape[1], mean.shape[2]), -torch.inf)
        place = (picture * mean.shape[1] + region).unsqueeze(1).expand(-1, mean.shape[2])
        largest = largest.scatter_reduce(0, place, cells[picture, cell], "amax").view_as(mean)
        return self.region(torch.cat([mean, largest.masked_fill(~(most > 0), 0)], dim=2))

    def score(self, regions: Tensor, words: Tokens) -> Tensor:
        """regions [m k shared], words [m t dim] -> [m k]: the sum over the words of what each says of it."""
        told = self.word(words.values).masked_fill(~words.mask.unsqueeze(2), 0)  # [m t shared]
        return (regions @ told.sum(1).unsqueeze(2)).squeeze(2) * SHARP / self.shared**0.5


def contrast(scores: Tensor, right: Tensor, picture: Tensor) -> Tensor:
    """Each true pair of region and phrase against all false phrases about that region: -> sum of the losses,
    nats.

    scores [m k]: phrase against the k regions of its picture; right [m k] bool: it points at that region;
    picture [m] long. A region that no phrase points at, or that has no false phrase, teaches nothing.
    """
    if not len(scores):
        return scores.sum()
    grid = scores.new_full((int(picture.max()) + 1, len(scores), scores.shape[1]), -torch.inf)
    grid[picture, torch.arange(len(scores), device=scores.device)] = scores.masked_fill(right, -torch.inf)
    wrong = grid.logsumexp(1)[picture]  # [m k], over the false phrases about the same picture
    taught = right & wrong.isfinite()
    if not taught.any():
        return scores.sum() * 0.0
    return (torch.logaddexp(scores[taught], wrong[taught]) - scores[taught]).sum()


def count_taught(right: Tensor, picture: Tensor) -> int:
    """How many pairs `contrast` sums over."""
    if not len(right):
        return 0
    wrong = torch.zeros(int(picture.max()) + 1, right.shape[1], dtype=torch.long, device=right.device)
    wrong.index_add_(0, picture, (~right).long())
    return int((right & (wrong[picture] > 0)).sum())
