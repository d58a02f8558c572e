"""Each token through two linear layers, and what all adapters share: `Adapter` and `Projector`.

Source: LLaVA-Rad (Zambrano Chaves et al., arXiv:2403.08002), whose adapter is the "mlp2x_gelu" of LLaVA-1.5
(Liu et al., arXiv:2310.03744).
"""

from __future__ import annotations

from math import prod

from torch import Tensor, nn

from mmmed.checks import check_count, check_shape
from mmmed.types import Tokens
from mmmed.types.modalities import Modality


class Projector(nn.Module):
    """Linear, GELU, linear: [... dim] -> [... width].

    scale: None leaves the result as it is, about 0.2 in size for tokens of size 1 ("mlp2x_gelu"). A number
    adds a LayerNorm whose learned gain starts there: give the spread of the language model's word embeddings
    (`embeddings.weight.std()`, 0.02 in a new Llama), and the tokens begin in the range of its words. It is
    not the default: beside a Llama learned from scratch, which normalises what it reads, it made no
    difference that could be told from chance.
    """

    def __init__(self, dim: int, width: int, scale: float | None = None):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(dim, width), nn.GELU(), nn.Linear(width, width))
        self.norm = scaled_norm(width, scale)

    def forward(self, values: Tensor) -> Tensor:
        return self.norm(self.network(values))


def scaled_norm(width: int, scale: float | None) -> nn.Module:
    """A LayerNorm whose gain starts at `scale`; nothing at all for None."""
    if scale is None:
        return nn.Identity()
    if not scale > 0:
        raise ValueError(f"scale should be positive, or None for no norm, got {scale}.")
    norm = nn.LayerNorm(width)
    nn.init.constant_(norm.weight, scale)
    return norm


class Adapter(nn.Module):
    """What every adapter is: tokens of one modality -> tokens as wide as the words of a language model.

        adapter(tokens, grid=(8, 8), prompt=words)      Tokens [n tokens dim] -> Tokens [n t width]

    grid: (rows, cols) or (depth, rows, cols) of the places where tokens lie, row by row; None where there are
    none. There may be several views, one behind the other: tokens = views * places, and the mask says which
    view is real. prompt: Tokens [n words width], the embedded question, for adapters that choose by it; never
    the answer. Rows are judged alone; what stands in padding is not read. Raises ValueError for a
    wrong shape, a grid that does not fit, and a row without a real token.
    """

    def __init__(self, dim: int, width: int):
        super().__init__()
        self.dim, self.width = check_count(dim, name="dim"), check_count(width, name="width")

    @classmethod
    def from_schema(cls, modality: Modality, dim: int = 64, width: int = 128) -> Adapter:
        """For the tokens of a modality that a schema describes: the default sizes suit them all."""
        return cls(dim, width)

    def real(self, tokens: Tokens, grid: tuple[int, ...] | None) -> Tensor:
        """The values [n tokens dim], checked, in the precision of the weights, with zeros in the padding."""
        check_shape(
            tokens.values,
            "n tokens dim",
            name="tokens",
            dim=self.dim,
            hint="The adapter was built for the width of one encoder; build it with that encoder's dim.",
        )
        rows, count, _ = tokens.values.shape
        check_shape(tokens.mask, "n tokens", name="mask", n=rows, tokens=count)
        check_grid(grid, count)
        if not bool(tokens.mask.any(1).all()):
            raise ValueError("A row has no real token. Leave rows without the modality out of the batch.")
        weight = next(self.parameters())
        # Filled, not left alone: attention gives padding the weight 0, and 0 * NaN is NaN.
        return tokens.values.to(weight.dtype).masked_fill(~tokens.mask.unsqueeze(2), 0)


def check_grid(grid: tuple[int, ...] | None, tokens: int, pieces: int = 1) -> int:
    """How many views of `pieces` grids lie in that many tokens; 1 where there is no grid."""
    if grid is None:
        return 1
    places = prod(grid) * pieces
    if len(grid) not in (1, 2, 3) or places < 1 or tokens % places:
        raise ValueError(
            f"A grid of {tuple(grid)} has {prod(grid)} places; {tokens} tokens are no multiple of {places}. "
            "Give the grid of the encoder (mmmed.encoders.grids.token_grid), or None for tokens without one."
        )
    return tokens // places


class MLPAdapter(Adapter):
    """Every token projected by itself: Tokens [n tokens dim] -> Tokens [n tokens width], with the same mask.

    Neither grid nor prompt is used. scale: see `Projector`.
    """

    def __init__(self, dim: int, width: int, scale: float | None = None):
        super().__init__(dim, width)
        self.project = Projector(dim, width, scale)

    def forward(
        self, tokens: Tokens, grid: tuple[int, ...] | None = None, prompt: Tokens | None = None
    ) -> Tokens:
        return Tokens(self.project(self.real(tokens, grid)), tokens.mask)
