"""On which grid an encoder's tokens lie."""

from __future__ import annotations

from itertools import chain
from math import prod

import torch
from torch import nn

from mmmed.backbones.small_cnn import SmallCNN
from mmmed.types import Image, Modality, Volume


def token_grid(encoder: nn.Module, modality: Modality) -> tuple[int, ...] | None:
    """(rows, cols) of the tokens of each picture, or (depth, rows, cols) of a volume; None where tokens lie
    on no grid.

    encoder: any encoder; one that has `crop_grid` tells it; of a small network it follows from the size that
    the modality states; any other is run once on a black picture. Raises ValueError if the number of its
    tokens is that of no grid.
    """
    if not isinstance(modality, Image | Volume) or not getattr(encoder, "grid", False):
        return None
    known = getattr(encoder, "crop_grid", None)
    if known is not None:
        return tuple(known)
    network = getattr(encoder, "network", None)
    if isinstance(network, SmallCNN):
        return tuple(-(-side // 2 ** len(network.widths)) for side in modality.size)
    return grid_of(_count(encoder, modality), modality.size)


def grid_of(places: int, size: tuple[int, ...]) -> tuple[int, ...]:
    """Sides of a grid with that many places on a picture or volume of `size`: the same stride along each
    side, rounded up or down: 6, (48, 32) -> (3, 2)."""
    strides = range(1, max(size) + 1)
    # up first: convolutions round up, and where patches are cut nothing is left to round
    up = (tuple(-(-side // stride) for side in size) for stride in strides)
    down = (tuple(side // stride for side in size) for stride in strides)
    for grid in chain(up, down):
        if prod(grid) == places:
            return grid
    raise ValueError(
        f"{places} tokens are the places of no regular grid on {list(size)}. Build the encoder with "
        "grid=True, or give the adapter the grid by hand."
    )


@torch.no_grad()
def _count(encoder: nn.Module, modality: Image | Volume) -> int:
    """How many tokens a black picture has; the encoder stays as it was, training or not."""
    modes = {module: module.training for module in encoder.modules()}
    weight = next(encoder.parameters())
    black = weight.new_zeros(1, modality.channels, *modality.size)
    encoder.eval()
    try:
        if isinstance(modality, Image):
            tokens = encoder(black.unsqueeze(1), torch.ones(1, 1, dtype=torch.bool, device=weight.device))
        else:
            tokens = encoder(black)
    finally:
        for module, training in modes.items():
            module.training = training
    return tokens.values.shape[1]
