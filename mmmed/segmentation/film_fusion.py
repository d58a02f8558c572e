"""Feature-wise linear modulation: the phrase as a whole turns channels up and down."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmmed.layers.word_attention import check_phrases, check_space, of_phrases, on_pixels
from mmmed.types import Tokens


class FiLMFusion(nn.Module):
    """Scale and shift every channel by the mean word: maps [n width *space], words [m t dim], which [m] long
    -> [m width *space].

    maps + 1x1(relu((1 + scale) * 1x1(maps) + shift)), with scale and shift linear in the mean word (FiLM,
    Perez et al., arXiv:1709.07871, sec. 2; the scale predicted as a change of 1, as there). space: 2 for
    pictures, 3 for volumes. The first 1x1 is computed once per picture.

    Parameters: 2 width (width + 1) + 2 width (dim + 1).
    Differs from the visual pipeline of the paper:
    - 1x1 in place of a 3x3 convolution and BatchNorm: maps come from a pyramid, which looks around and
      normalises, and a row must not depend on its batch;
    - a second 1x1, so that what is added may have any sign;
    - no coordinates: a position code is added to the maps before.
    """

    def __init__(self, width: int, dim: int, space: int = 2):
        super().__init__()
        self.width, self.dim, self.space = width, dim, check_space(space)
        self.modulate = nn.Linear(dim, 2 * width)
        self.enter = nn.Linear(width, width)
        self.leave = nn.Linear(width, width)

    def forward(self, maps: Tensor, words: Tokens, which: Tensor) -> Tensor:
        check_phrases(maps, words, which, width=self.width, dim=self.dim, space=self.space)
        pixels = maps.flatten(2).contiguous()  # [n width pixels]
        base = pixels + self.leave.bias.unsqueeze(1)
        mean = words.mean().to(self.modulate.weight.dtype)
        scale, shift = self.modulate(mean).unsqueeze(2).chunk(2, dim=1)  # each [m width 1]
        entered = of_phrases(on_pixels(self.enter, pixels), which)
        lit = torch.addcmul(shift, entered, 1 + scale).relu_()  # [m width pixels]
        return on_pixels(self.leave, lit, onto=of_phrases(base, which)).unflatten(2, maps.shape[2:])
