"""3MT: a cascade of transformers, one per modality, through which a few latents pass (Liu et al.,
arXiv:2210.00255).

Each stage lets the latents read the tokens of its modality, and has an auxiliary output of its own; whoever
lacks the modality passes the stage by. The paper's other half, hiding modalities at random, belongs to the
training loop. No code was published, so the shape of a stage is the usual pre-norm block:
self-attention among the latents, cross-attention, a two-layer network, each added to what came in.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from mmmed.checks import check_count
from mmmed.fusion.arrivals import check_modalities
from mmmed.fusion.recurrence import LearnedState, Recurrence
from mmmed.layers.cross_attention import CrossAttention, CrossBlock, LatentReadout
from mmmed.types import Tokens


class CascadeStage(nn.Module):
    """latents [n latents dim], tokens [n tokens dim] -> latents.

    think: latents look at each other first. For a single one (the class token of the paper) that would be a
    linear map of itself, and is left out.
    """

    def __init__(self, dim: int, heads: int, dropout: float, think: bool):
        super().__init__()
        self.norm = nn.LayerNorm(dim) if think else None
        self.think = CrossAttention(dim, heads, dropout) if think else None
        self.dropout = nn.Dropout(dropout)
        self.read = CrossBlock(dim, heads, dropout)

    def forward(self, latents: Tensor, tokens: Tokens) -> Tensor:
        if self.think is not None:
            normed = self.norm(latents)
            everyone = normed.new_ones(normed.shape[:2], dtype=bool)
            latents = latents + self.dropout(self.think(normed, normed, everyone))
        return self.read(latents, tokens.values, tokens.mask)


class Cascade(Recurrence):
    """Cascaded cross-attention in the order of `modalities`, with a readout after each stage.

    dim: width of tokens and latents; state_dim: width of the state. latents: how many pass through; 1 is the
    class token of the paper. self_attention: whether they look at each other at the start of each stage.
    """

    def __init__(
        self,
        modalities: Iterable[str],
        dim: int = 64,
        state_dim: int = 64,
        latents: int = 4,
        heads: int = 4,
        dropout: float = 0.1,
        self_attention: bool = True,
    ):
        self.dim, self.heads, self.dropout = dim, heads, dropout
        self.thinks = self_attention and check_count(latents, name="latents") > 1
        names = check_modalities(modalities)
        super().__init__(
            LearnedState((latents, dim), scale=0.02),
            {name: self._stage() for name in names},
            state_dim,
            readout=LatentReadout(dim, state_dim),
            readouts={name: LatentReadout(dim, state_dim) for name in names},
        )

    def _stage(self) -> CascadeStage:
        return CascadeStage(self.dim, self.heads, self.dropout, self.thinks)

    def add_modality(self, name: str) -> None:
        """Append a stage with its readout; records without it are fused exactly as before."""
        self.add(name, self._stage(), LatentReadout(self.dim, self.state_dim))
