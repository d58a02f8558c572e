"""Pixels that read words: the attention that word-pixel fusions share, and how phrases find their pictures.

Axes: n pictures, m phrases, t words, `pixels` the flattened grid of a picture or a volume. Everything stands
with the pixels last, [n width pixels]: a softmax over few words is fast along an axis that is not the last.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from mmmed.checks import check_known, check_shape
from mmmed.types import Tokens

SPACES = {2: "height width", 3: "depth height width"}


class WordAttention(nn.Module):
    """Every pixel reads the words of a phrase: pixels [n width pixels], words [m t dim], which [m] long, the
    picture of each phrase -> [m width pixels].

    softmax(q k / sqrt(width)) v with q from the pixels, normalised over the picture (instance norm), k and v
    from the words (LAVT, arXiv:2112.02244, sec. 3; SLViT, IJCAI 2023, uses the same). Queries are made once
    per picture. A phrase of one word (a class, the state of a language model) gives [m width 1]: a softmax
    over one score is 1, so all pixels read the same. A phrase without any real word reads a word of zeros.

    Parameters: width (width + 2 dim + 1).
    Differs from the released code (yz93/LAVT-RIS and NaturalKnight/SLViT):
    - no 1x1 and instance norm behind the attention. The norm would set to zero what all pixels read alike,
      thus the whole answer to a phrase of one word; without it the 1x1 is a part of `value`.
    - no bias in `query`, which the norm takes away, and none in `key`, to which the softmax is blind.
    - one head, the default there.
    """

    def __init__(self, width: int, dim: int):
        super().__init__()
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(dim, width, bias=False)
        self.value = nn.Linear(dim, width)

    def forward(self, pixels: Tensor, words: Tokens, which: Tensor) -> Tensor:
        return spread(self.values(words), self.shares(pixels, words, which))

    def values(self, words: Tokens) -> Tensor:
        """What each word says to a pixel that reads it: [m t width]."""
        return self.value(self._real(words))

    def shares(self, pixels: Tensor, words: Tokens, which: Tensor) -> Tensor:
        """How much each pixel reads of each word: [m t pixels], sums to 1 over t; [m 1 1] for one word."""
        if words.mask.shape[1] == 1:
            return pixels.new_ones(len(which), 1, 1)
        query = on_pixels(self.query, pixels)
        query = layer_norm(query, query.shape[2:])  # the instance norm, and it allows a map of one pixel
        key = self.key(self._real(words)) / query.shape[1] ** 0.5
        scores = key @ of_phrases(query, which)  # [m t pixels]
        # The lowest number, not minus infinity: a phrase without a word would be NaN.
        return scores.masked_fill_(~words.mask.unsqueeze(2), torch.finfo(scores.dtype).min).softmax(1)

    def _real(self, words: Tokens) -> Tensor:
        # Filled, not multiplied: padding may hold anything, and 0 * NaN is NaN.
        return words.values.masked_fill(~words.mask.unsqueeze(2), 0).to(self.value.weight.dtype)


def spread(values: Tensor, shares: Tensor) -> Tensor:
    """Values of words to the pixels that read them: [m t width], [m t pixels] -> [m width pixels]."""
    return values.transpose(1, 2) @ shares


def on_pixels(linear: nn.Linear, pixels: Tensor, onto: Tensor | None = None) -> Tensor:
    """A 1x1 convolution: the linear map on every pixel, [n before pixels] -> [n after pixels].

    onto: what it is added to, [n after pixels], in place of the bias, which is in there already.
    """
    weight = linear.weight.expand(len(pixels), -1, -1)  # `matmul` would copy the pixels instead
    if onto is None and linear.bias is not None:
        onto = linear.bias.unsqueeze(1)
    return torch.bmm(weight, pixels) if onto is None else torch.baddbmm(onto, weight, pixels)


def of_phrases(maps: Tensor, which: Tensor) -> Tensor:
    """What belongs to a picture, for each of its phrases: [n ...] -> [m ...]."""
    # The phrases of a single picture share its memory.
    return maps.expand(len(which), *maps.shape[1:]) if len(maps) == 1 else maps[which]


def check_space(space: int) -> int:
    """2 for pictures, 3 for volumes."""
    return int(check_known(space, SPACES, what="number of axes in space"))


def check_phrases(maps: Tensor, words: Tokens, which: Tensor, *, width: int, dim: int, space: int) -> None:
    """The border of every word-pixel fusion. ValueError if shapes do not fit or a picture is not there."""
    check_shape(maps, f"n channels {SPACES[space]}", name="maps", channels=width)
    check_shape(words.values, "m t dim", name="words", dim=dim, hint="It takes words of that width.")
    phrases = len(words.values)
    check_shape(which, "m", name="which", m=phrases, hint="It names the picture of each phrase.")
    if phrases and not 0 <= int(which.min()) <= int(which.max()) < len(maps):
        raise ValueError(
            f"which should hold positions of pictures from 0 to {len(maps) - 1}, "
            f"got {int(which.min())} to {int(which.max())}."
        )
