"""Scale-aware vision-language attention: convolutions of several reaches beside a branch that reads words."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from mmmed.checks import check_count
from mmmed.layers.word_attention import (
    WordAttention,
    check_phrases,
    check_space,
    of_phrases,
    on_pixels,
    spread,
)
from mmmed.types import Tokens

_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
_PIXEL_BY_PIXEL = {2: torch.channels_last, 3: torch.channels_last_3d}


class SVLAFusion(nn.Module):
    """A map that is weighed by its surroundings and by the words: maps [n width *space], words [m t dim],
    which [m] long -> [m width *space].

    u = gelu(1x1(norm(maps))); local = depthwise 5x5 of u; each strip a depthwise 1xk, then kx1, of local;
    language = gate(c) * c with c what the pixels of local read (`WordAttention`) and gate(c) =
    tanh(1x1(relu(1x1(c)))); the answer is maps + 1x1(u * 1x1(local + strips + language)). SVLA of LSMS
    (arXiv:2408.17347), for which no code was found, in the form of its ancestor SLViT (IJCAI 2023, class LMFA
    of NaturalKnight/SLViT). strips: their lengths k in pixels, odd. space: 2 for pictures, 3 for volumes,
    where the 5x5 is 5x5x5 and a strip runs along all three axes. A 1x1 of a sum is the sum of 1x1s, so all
    but the language branch and the last 1x1 is computed once per picture.

    Parameters: width (6 width + 2 dim + 5 + 5^space + 1 + space (sum of strips + number of strips)).
    Differs from the released code:
    - the attention as `WordAttention` says;
    - a norm over all channels and pixels of a picture in place of BatchNorm: a picture is judged alone;
    - the way back takes the maps themselves, without the normalised ones beside them and without a scale of
      0.01 on the branch: here one block per scale has to do what several do there;
    - no convolution network behind it, which is the decoder's work;
    - no 1x1 on the visual side of the language branch, which exists there but is never used;
    - no bias in the 1x1 of the sum, since those of the strips do the same;
    - no uncertainty from the sum of the softmax over the words, which is 1 everywhere.
    """

    def __init__(self, width: int, dim: int, space: int = 2, strips: Sequence[int] = (7, 11, 21)):
        super().__init__()
        self.width, self.dim, self.space = width, dim, check_space(space)
        self.norm = nn.GroupNorm(1, width)
        self.enter = nn.Linear(width, width)
        self.local = _depthwise(width, (5,) * space)
        self.strips = nn.ModuleList(_strip(width, length, space) for length in strips)
        self.attention = WordAttention(width, dim)
        self.gate_enter = nn.Linear(width, width, bias=False)
        self.gate_leave = nn.Linear(width, width, bias=False)
        self.mix = nn.Linear(width, width, bias=False)
        self.leave = nn.Linear(width, width)

    def forward(self, maps: Tensor, words: Tokens, which: Tensor) -> Tensor:
        check_phrases(maps, words, which, width=self.width, dim=self.dim, space=self.space)
        u, local, around = self._see(maps)
        language = on_pixels(self.mix, self._read(local, words, which))  # [m width pixels]
        attended = torch.addcmul(of_phrases(u * around, which), language, of_phrases(u, which))
        base = maps.flatten(2).contiguous() + self.leave.bias.unsqueeze(1)
        return on_pixels(self.leave, attended, onto=of_phrases(base, which)).unflatten(2, maps.shape[2:])

    def _see(self, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What does not depend on words: u, local, and the 1x1 of local + strips, each [n width pixels]."""
        u = gelu(on_pixels(self.enter, self.norm(maps).flatten(2)))
        # Long depthwise strips are up to 30 times faster on CPU with the channels side by side.
        grid = u.unflatten(2, maps.shape[2:]).contiguous(memory_format=_PIXEL_BY_PIXEL[self.space])
        local = self.local(grid)
        around = local
        for strip in self.strips:
            around = around + strip(local)
        return u, local.flatten(2), on_pixels(self.mix, around.flatten(2))

    def _read(self, local: Tensor, words: Tokens, which: Tensor) -> Tensor:
        """The language branch: [m width pixels], or [m width 1] for phrases of one word."""
        shares, values = self.attention.shares(local, words, which), self.attention.values(words)
        # The first 1x1 of the gate on a few words, instead of on every pixel that reads them: it is linear.
        hidden = spread(self.gate_enter(values), shares)
        return spread(values, shares) * on_pixels(self.gate_leave, hidden.relu_()).tanh_()


def _depthwise(width: int, kernel: tuple[int, ...]) -> nn.Module:
    """A convolution of each channel by itself that keeps the size of the map."""
    padding = tuple(side // 2 for side in kernel)
    return _CONVOLUTION[len(kernel)](width, width, kernel, padding=padding, groups=width)


def _strip(width: int, length: int, space: int) -> nn.Sequential:
    """Depthwise convolutions as long as `length` along one axis after the other, the last axis first."""
    if check_count(length, name="strips") % 2 == 0:
        raise ValueError(f"strips should be odd, so that they have a middle pixel, got {length}.")
    kernels = [tuple(length if axis == along else 1 for axis in range(space)) for along in range(1, space)]
    return nn.Sequential(
        *(_depthwise(width, kernel) for kernel in reversed(kernels)), _FirstAxis(width, length)
    )


class _FirstAxis(nn.Module):
    """A depthwise strip along the height of a picture or the depth of a volume, other axes flattened.

    The same as the convolution in three axes, which on CPU takes 50 times as long for a strip of 21 slices.
    """

    def __init__(self, width: int, length: int):
        super().__init__()
        self.convolution = _depthwise(width, (length, 1))

    def forward(self, grid: Tensor) -> Tensor:
        return self.convolution(grid.flatten(3)).unflatten(3, grid.shape[3:])
