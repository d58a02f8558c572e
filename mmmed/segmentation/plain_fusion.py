"""No words at all: the text-blind baseline that any fusion with words has to beat."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import relu

from mmmed.layers.word_attention import check_phrases, check_space, of_phrases, on_pixels
from mmmed.types import Tokens


class PlainFusion(nn.Module):
    """A residual block of two 1x1 convolutions, blind to the words: maps [n width *space], words [m t dim],
    which [m] long -> [m width *space], the same for every phrase of a picture.

    space: 2 for pictures, 3 for volumes. `FiLMFusion` without its words; its way back follows He et al.,
    arXiv:1512.03385. Only shapes of the words are looked at. Parameters: 2 width (width + 1).
    """

    def __init__(self, width: int, dim: int, space: int = 2):
        super().__init__()
        self.width, self.dim, self.space = width, dim, check_space(space)
        self.enter = nn.Linear(width, width)
        self.leave = nn.Linear(width, width)

    def forward(self, maps: Tensor, words: Tokens, which: Tensor) -> Tensor:
        check_phrases(maps, words, which, width=self.width, dim=self.dim, space=self.space)
        pixels = maps.flatten(2)  # [n width pixels]
        pixels = pixels + on_pixels(self.leave, relu(on_pixels(self.enter, pixels)))
        # A copy each, so that a caller may write into the map of one phrase.
        return of_phrases(pixels, which).contiguous().unflatten(2, maps.shape[2:])
