"""The last layers of a segmenter, written anew for each phrase: the words decide what is drawn.

A controller turns what is asked (query) and what is seen (the pooled picture) into the numbers of a small
network of 1x1 convolutions, which then runs over that phrase's features. With width 8 and three layers these
are 8*8 + 8*8 + 8*1 weights and 8 + 8 + 1 biases: 153 numbers.

Sources: Tian et al., Conditional convolutions for instance segmentation, arXiv:2003.05664, sec. 3; with words
in the controller, MulModSeg (Li et al., arXiv:2411.15576, sec. 3). Differs from both: each row of features is
a matrix product of its own in place of one grouped convolution over all rows (the same numbers give the same
logits), so there is no loop over pictures; and the first numbers are those of an ordinary network (see
`DynamicHead`).
"""

from __future__ import annotations

from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from mmmed.checks import check_count, check_known, check_shape


class DynamicHead(nn.Module):
    """features [m width *space], query [m dim], pooled [m pooled] -> logits [m 1 *space], phrase by phrase.

    dim: width of the query; pooled: width of the pooled picture; width, layers: of the network that is
    written; space: 2 or 3. Query and pooled picture should be of size about one in each number (normalised).
    At first the written numbers are spread by about 1/sqrt(width), as in an ordinary network of that width:
    a controller of the usual kind would write products that grow with it. Most of each comes from words and
    picture, little is shared by all phrases (measured on two words of opposite meaning: 2 of 16 small
    networks got stuck at one answer or at none, and 5 of 16 the other way round). No nonlinearity stands
    before the first layer. Raises ValueError for features of another width.
    """

    def __init__(self, dim: int, pooled: int, width: int = 8, layers: int = 3, space: int = 2):
        super().__init__()
        for name, value in (("dim", dim), ("pooled", pooled), ("width", width), ("layers", layers)):
            check_count(value, name=name)
        check_known(space, (2, 3), what="number of axes in space")
        self.dim, self.pooled, self.width, self.layers, self.space = dim, pooled, width, layers, space
        self.controller = nn.Linear(dim + pooled, count_numbers(width, layers))
        spread = width**-0.5
        nn.init.normal_(self.controller.weight, std=1.6 * spread * (dim + pooled) ** -0.5)
        nn.init.normal_(self.controller.bias, std=0.3 * spread)

    @property
    def numbers(self) -> int:
        """How many numbers are written for each phrase."""
        return self.controller.out_features

    def write(self, query: Tensor, pooled: Tensor) -> Tensor:
        """The networks: query [m dim], pooled [m pooled] -> [m numbers], as `apply_networks` takes them."""
        return self.controller(torch.cat([query, pooled], dim=1))

    def forward(self, features: Tensor, query: Tensor, pooled: Tensor) -> Tensor:
        axes = "m channels height width" if self.space == 2 else "m channels depth height width"
        check_shape(features, axes, name="features", channels=self.width)
        check_shape(query, "m dim", name="query", m=len(features), dim=self.dim)
        check_shape(pooled, "m pooled", name="pooled", m=len(features), pooled=self.pooled)
        return apply_networks(features, self.write(query, pooled), self.layers)


def apply_networks(features: Tensor, numbers: Tensor, layers: int) -> Tensor:
    """A network of 1x1 convolutions with ReLU between them for each row: features [m width *space], numbers
    [m numbers] -> [m 1 *space].

    The numbers of a row: all weights, layer after layer, each [out in]; then all biases, layer after layer.
    """
    weights, biases = split_numbers(numbers, features.shape[1], layers)
    rows = features.flatten(2)  # [m width pixels]
    for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        rows = torch.baddbmm(bias, weight, rows.relu() if index else rows)
    return rows.unflatten(2, features.shape[2:])


def split_numbers(numbers: Tensor, width: int, layers: int) -> tuple[list[Tensor], list[Tensor]]:
    """[m numbers] -> the weights [m out in] and the biases [m out 1] of each layer."""
    sizes = _sizes(width, layers)
    ends = list(accumulate([out * width for out in sizes] + sizes, initial=0))
    parts = [numbers[:, start:end] for start, end in pairwise(ends)]
    weights = [part.unflatten(1, (out, width)) for part, out in zip(parts[:layers], sizes, strict=True)]
    return weights, [part.unsqueeze(2) for part in parts[layers:]]


def count_numbers(width: int, layers: int) -> int:
    """How many weights and biases the network has: 153 for width 8 and three layers."""
    return sum(out * width + out for out in _sizes(width, layers))


def _sizes(width: int, layers: int) -> list[int]:
    """Outputs of each layer; every layer has `width` inputs."""
    return [width] * (layers - 1) + [1]
