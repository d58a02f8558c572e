"""HEALNet: shared latents that visit the modalities in turn, several times over (Hemker et al.,
arXiv:2311.09115), after the Perceiver (Jaegle et al., arXiv:2103.03206).

Differs from the released code: a missing modality is passed by for that record, not only for a whole batch of
which everybody lacks it, and without the thinking step that follows a visit (in the released code the skip
depends on a switch for printing). Positions are the encoders' business; attention is the plain one, without
the temperature of 0.5; a smaller default size.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from mmmed.checks import check_count
from mmmed.fusion.arrivals import check_modalities
from mmmed.fusion.recurrence import LearnedState, Recurrence
from mmmed.layers.cross_attention import CrossBlock, LatentReadout
from mmmed.types import Tokens


class Visit(nn.Module):
    """Latents read one modality: latents [n latents dim], tokens [n tokens dim] -> latents."""

    def __init__(self, dim: int, heads: int, dropout: float):
        super().__init__()
        self.read = CrossBlock(dim, heads, dropout)

    def forward(self, latents: Tensor, tokens: Tokens) -> Tensor:
        return self.read(latents, tokens.values, tokens.mask)


class Perceiver(Recurrence):
    """Latents visit what is there, and think after each visit.

    dim: width of tokens and latents; state_dim: width of the state. latents: how many; depth: rounds over all
    modalities, with the same weights. The thinking step (latents look at each other) is shared by all
    modalities and rounds. With depth 1 every step can be supervised, else only start and end.
    """

    def __init__(
        self,
        modalities: Iterable[str],
        dim: int = 64,
        state_dim: int = 64,
        latents: int = 8,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
    ):
        self.dim, self.heads, self.dropout = dim, heads, dropout
        check_count(latents, name="latents")
        super().__init__(
            LearnedState((latents, dim), scale=1.0),
            {name: Visit(dim, heads, dropout) for name in check_modalities(modalities)},
            state_dim,
            readout=LatentReadout(dim, state_dim),
            passes=check_count(depth, name="depth"),
        )
        self.think = CrossBlock(dim, heads, dropout)

    def apply_update(self, name: str, state: Tensor, tokens: Tokens) -> Tensor:
        """Read the modality, then think: latents [n latents dim] -> [n latents dim]."""
        latents = self.updates[name](state, tokens)
        return self.think(latents, latents, latents.new_ones(latents.shape[:2], dtype=bool))

    def add_modality(self, name: str) -> None:
        """Append a modality with fresh weights; records without it are fused exactly as before."""
        self.add(name, Visit(self.dim, self.heads, self.dropout))
