"""A small multi-layer perceptron, shared by encoders and fusions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from mmmed.checks import plain


def mlp(sizes: Sequence[int], dropout: float = 0.0, norm: bool = False) -> nn.Sequential:
    """Linear layers with SiLU between them: [... sizes[0]] -> [... sizes[-1]].

    sizes: widths from input to output, two at least; two give one linear layer. The last layer is linear, so
    that the output may take any value. dropout: after each hidden activation. norm: LayerNorm before each
    hidden activation, over one row alone and thus without any effect of the batch. SiLU is smooth, and dead
    units do not occur (Elfwing et al., arXiv:1702.03118). Raises ValueError for fewer than two sizes.
    """
    if len(sizes) < 2:
        raise ValueError(f"sizes should list input and output width at least, got {plain(list(sizes))}.")
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes[:-1]):
        layers.append(nn.Linear(before, after))
        if norm:
            layers.append(nn.LayerNorm(after))
        layers.append(nn.SiLU())
        if dropout:
            layers.append(nn.Dropout(dropout))
    layers.append(nn.Linear(sizes[-2], sizes[-1]))
    return nn.Sequential(*layers)
