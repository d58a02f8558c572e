"""Masked token transformer: a class token reads every token of every modality that is there.

Source: the transformer encoder with a class token (Dosovitskiy et al., arXiv:2010.11929, sec. 3.1) over the
tokens of several modalities, each marked by an embedding of its modality; what is missing is masked, never
filled in (Ma et al., arXiv:2204.05454, study how far that carries).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmmed.fusion.arrivals import Arrived, arrivals, check_modalities, check_new, start_and_end
from mmmed.layers.cross_attention import check_heads
from mmmed.layers.named import NamedModules
from mmmed.layers.transformer import Transformer
from mmmed.types import Fused, Tokens


class Marked(nn.Module):
    """Tokens normalised and marked with the embedding of their modality: [n tokens dim] -> the same shape."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)  # the embedding is its bias
        self.embedding = nn.Parameter(0.02 * torch.randn(dim))

    def forward(self, values: Tensor) -> Tensor:
        return self.norm(values) + self.embedding


class TokenTransformer(nn.Module):
    """One transformer over all tokens at once.

    dim: width of the tokens; state_dim: width of the state. layers, heads, dropout: of the transformer. The
    cost grows with the square of the number of tokens: pool the tokens of volumes and long series before.
    """

    def __init__(
        self,
        modalities: Iterable[str],
        dim: int = 64,
        state_dim: int = 64,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.modalities = check_modalities(modalities)
        self.dim, self.state_dim = dim, state_dim
        self.class_token = nn.Parameter(0.02 * torch.randn(dim))
        self.marks = NamedModules({name: Marked(dim) for name in self.modalities})
        self.transformer = Transformer(dim, layers, check_heads(dim, heads), dropout)
        self.project = nn.Linear(dim, state_dim)

    def forward(
        self,
        tokens: Mapping[str, Tokens],
        rows: Mapping[str, Tensor],
        present: Tensor,
        order: Sequence[str] | None = None,
    ) -> Fused:
        """Fuse packed or dense tokens; `order` changes nothing. -> Fused with two steps."""
        arrived = arrivals(tokens, rows, present, self.modalities)
        parts = [self.class_token.expand(len(present), 1, -1)]
        masks = [torch.ones_like(present[:, :1])]  # the class token is always there: no row without any token
        for name, part in arrived.items():
            values, mask = self._placed(name, part, present)
            parts.append(values.to(parts[0].dtype))
            masks.append(mask)
        nothing = self._answer(self.class_token.expand(1, 1, -1), present.new_ones(1, 1))
        state = self._answer(torch.cat(parts, dim=1), torch.cat(masks, dim=1))
        return start_and_end(nothing.expand(len(present), -1), state, present)

    def _placed(self, name: str, part: Arrived, present: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [batch tokens dim] and their mask [batch tokens], zeros and False where absent."""
        values = self.marks[name](part.tokens.values)
        blank = values.new_zeros(len(present), *values.shape[1:])
        nobody = torch.zeros_like(present[:, :1]).expand(-1, values.shape[1])
        return part.place(blank, values), part.place(nobody, part.tokens.mask)

    def _answer(self, values: Tensor, mask: Tensor) -> Tensor:
        return self.project(self.transformer(values, mask)[:, 0])

    def add_modality(self, name: str) -> None:
        """Append a modality with a fresh embedding; records without it are fused exactly as before."""
        self.marks[check_new(name, self.modalities)] = Marked(self.dim).to(self.class_token)
        self.modalities = (*self.modalities, name)
