"""Light changes of training pictures that leave every label as it is; stronger ones are the user's choice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmmed.checks import check_share, plain
from mmmed.types import Batch, Tokens

NUMBERS = 5  # how many a record draws: down, right, mirrored, brighter, steeper


@dataclass(frozen=True)
class Augmentation:
    """Changes drawn anew for every record and epoch; all views of a record change alike.

    shift: largest displacement, as a share of the side; the border is repeated. flip: mirror left and right
    in half of the records; off, because the side of a finding can be the finding. brightness, contrast:
    largest change in units of the standardised picture and as a factor; off, because grey values can mean
    something. noise: standard deviation of the noise that is added, in units of the standardised picture.
    """

    shift: float = 0.06
    flip: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        check_share(self.shift, name="shift")
        check_share(self.contrast, name="contrast")
        for name in ("brightness", "noise"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
                raise ValueError(f"{name} should be a number that is not negative, got {plain(value)}.")

    def batch(
        self, batch: Batch, images: Iterable[str], numbers: Tensor, generator: torch.Generator
    ) -> Batch:
        """The batch with changed pictures; cached tokens stay as they are.

        images: names of the image modalities; numbers [batch 5] in 0..1; generator: of the noise.
        """
        values = dict(batch.values)
        for name in images:
            if name in values and not isinstance(values[name], Tokens):
                pixels = self(values[name]["pixels"], numbers[batch.rows[name]], generator)
                values[name] = {**values[name], "pixels": pixels}
        return replace(batch, values=values)

    def __call__(self, pixels: Tensor, numbers: Tensor, generator: torch.Generator) -> Tensor:
        """pixels [n views channels height width], numbers [n 5] in 0..1 -> the same shape as pixels."""
        if self.shift or self.flip:
            pixels = self._move(pixels, numbers)
        brighter, steeper = (2 * numbers[:, 3:] - 1).view(-1, 2, 1, 1, 1, 1).unbind(1)
        if self.contrast:
            pixels = pixels * (1 + self.contrast * steeper)
        if self.brightness:
            pixels = pixels + self.brightness * brighter
        if self.noise:
            pixels = pixels + self.noise * torch.randn(pixels.shape, generator=generator)
        return pixels

    def _move(self, pixels: Tensor, numbers: Tensor) -> Tensor:
        height, width = pixels.shape[-2:]
        down, right = self._places(height, numbers[:, 0]), self._places(width, numbers[:, 1])
        if self.flip:
            right = torch.where(numbers[:, 2:3] < 0.5, right.flip(1), right)
        places = (down[:, :, None] * width + right[:, None, :]).flatten(1)  # [n height*width]
        flat = pixels.flatten(1, 2).flatten(2)  # [n views*channels height*width]
        return flat.gather(2, places[:, None].expand(-1, flat.shape[1], -1)).view_as(pixels)

    def _places(self, side: int, number: Tensor) -> Tensor:
        """From which row (or column) each row of the new picture comes. [n side] long"""
        reach = int(self.shift * side)
        moved = (number * (2 * reach + 1)).long() - reach
        return (torch.arange(side) + moved[:, None]).clamp(0, side - 1)
