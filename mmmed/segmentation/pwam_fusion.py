"""Pixel-word attention: what a pixel shows, multiplied by what it reads in the phrase."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from mmmed.layers.word_attention import WordAttention, check_phrases, check_space, of_phrases, on_pixels
from mmmed.types import Tokens


class PWAMFusion(nn.Module):
    """Look, read, multiply, and add as much as a gate lets through: maps [n width *space], words [m t dim],
    which [m] long -> [m width *space].

    fused = gelu(1x1(gelu(1x1(maps)) * read)) with `read` from `WordAttention`; the answer is maps +
    tanh(1x1(relu(1x1(fused)))) * fused. PWAM and the language gate of LAVT (Yang et al., arXiv:2112.02244,
    sec. 3), with GELU and without biases in the gate as in the released code (yz93/LAVT-RIS). space: 2 for
    pictures, 3 for volumes. Queries and the look are computed once per picture.

    Parameters: width (5 width + 2 dim + 3). Differs from the released code:
    - the attention as `WordAttention` says, and no dropout;
    - the answer is what goes on to the next stage there. Its decoder takes `fused` alone; here fusions can be
      exchanged for one another, so all of them add to the maps.
    """

    def __init__(self, width: int, dim: int, space: int = 2):
        super().__init__()
        self.width, self.dim, self.space = width, dim, check_space(space)
        self.look = nn.Linear(width, width)
        self.attention = WordAttention(width, dim)
        self.mix = nn.Linear(width, width)
        self.gate_enter = nn.Linear(width, width, bias=False)
        self.gate_leave = nn.Linear(width, width, bias=False)

    def forward(self, maps: Tensor, words: Tokens, which: Tensor) -> Tensor:
        check_phrases(maps, words, which, width=self.width, dim=self.dim, space=self.space)
        pixels = maps.flatten(2).contiguous()  # [n width pixels]
        seen = of_phrases(gelu(on_pixels(self.look, pixels)), which)
        fused = gelu(on_pixels(self.mix, seen * self.attention(pixels, words, which)))  # [m width pixels]
        gate = on_pixels(self.gate_leave, on_pixels(self.gate_enter, fused).relu_()).tanh_()
        return torch.addcmul(of_phrases(pixels, which), gate, fused).unflatten(2, maps.shape[2:])
