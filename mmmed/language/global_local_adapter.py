"""The whole picture by one adapter, its crops by another, a learned separator between.

Source: SliME (Zhang et al., arXiv:2406.08487). Differs from the released code: the separator is learned,
and not the embedding of one word.
"""

from __future__ import annotations

from math import prod

import torch
from torch import nn

from mmmed.checks import check_count, check_known
from mmmed.language.local_adapter import LocalAdapter
from mmmed.language.mixture_adapter import MixtureAdapter
from mmmed.language.mlp_adapter import Adapter, check_grid
from mmmed.types import Tokens

PARTS = ("global", "local")


class GlobalLocalAdapter(Adapter):
    """Tokens of a cropped picture -> Tokens [n global+1+local width]: the whole, a separator, the crops.

    Takes what `mmmed.encoders.crops.CroppedImageEncoder` gives: of each view the whole picture, then of each
    view all crops, on equal grids of `grid` places. crops: (rows, cols) of crops, as in the encoder.
    global_part, local_part: adapters of the same dim and width; None: a MixtureAdapter and a LocalAdapter.
    Tokens without a grid have no crops, and go through the global part alone. `use` is for the alternating
    training: "global" or "local" leaves out the other part and the separator; it is not part of the saved
    state.
    """

    def __init__(
        self,
        dim: int,
        width: int,
        crops: tuple[int, int] = (2, 2),
        global_part: Adapter | None = None,
        local_part: Adapter | None = None,
    ):
        super().__init__(dim, width)
        self.crops = tuple(check_count(count, name="crops") for count in crops)
        self.global_part = MixtureAdapter(dim, width) if global_part is None else global_part
        self.local_part = LocalAdapter(dim, width) if local_part is None else local_part
        for part in (self.global_part, self.local_part):
            if (part.dim, part.width) != (dim, width):
                raise ValueError(
                    f"Both parts should take tokens of dim {dim} and give width {width}, "
                    f"got {type(part).__name__} with {part.dim} and {part.width}."
                )
        self.separator = nn.Parameter(0.02 * torch.randn(width))
        self.used = "both"

    def use(self, parts: str) -> GlobalLocalAdapter:
        """Run "global" or "local" alone, or "both"."""
        self.used = check_known(parts, (*PARTS, "both"), what="part of a global and local adapter")
        return self

    def forward(
        self, tokens: Tokens, grid: tuple[int, ...] | None = None, prompt: Tokens | None = None
    ) -> Tokens:
        if grid is None:
            return self.global_part(tokens, None, prompt)
        whole, crops = self.split(tokens, grid)
        if self.used == "global":
            return self.global_part(whole, grid, prompt)
        local = self.local_part(crops, grid, prompt)
        if self.used == "local":
            return local
        whole = self.global_part(whole, grid, prompt)
        separator = self.separator.to(whole.values.dtype).expand(len(whole.mask), 1, -1)
        return Tokens(
            torch.cat([whole.values, separator, local.values], dim=1),
            torch.cat([whole.mask, whole.mask.new_ones(len(whole.mask), 1), local.mask], dim=1),
        )

    def split(self, tokens: Tokens, grid: tuple[int, ...]) -> tuple[Tokens, Tokens]:
        """Tokens [n views*(1+crops)*places dim] -> those of the whole pictures, those of the crops."""
        views = check_grid(grid, tokens.values.shape[1], pieces=1 + prod(self.crops))
        first = views * prod(grid)
        return (
            Tokens(tokens.values[:, :first], tokens.mask[:, :first]),
            Tokens(tokens.values[:, first:], tokens.mask[:, first:]),
        )
