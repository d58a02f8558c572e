"""Gated attention: a weight for every modality that is there, and the weighted mean of their embeddings.

Source: Ilse et al., arXiv:1802.04712, eq. 9; there over the instances of a bag, here over the modalities of a
record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmmed.fusion.arrivals import Arrived, arrivals, check_modalities, check_new, in_slots, start_and_end
from mmmed.layers.mlp import mlp
from mmmed.layers.named import NamedModules
from mmmed.types import Fused, Tokens


class GatedScore(nn.Module):
    """w^T (tanh(V h) * sigmoid(U h)), eq. 9 of the paper: embeddings h [... dim] -> scores [...]."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.content = nn.Linear(dim, hidden)
        self.gate = nn.Linear(dim, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)  # softmax would not see a bias

    def forward(self, embeddings: Tensor) -> Tensor:
        gated = torch.tanh(self.content(embeddings)) * torch.sigmoid(self.gate(embeddings))
        return self.score(gated).squeeze(-1)


class GatedAttention(nn.Module):
    """Attention pooling over the modalities that are there.

    dim: width of the tokens; state_dim: of embeddings and state; hidden: of the embedding networks and of the
    score. A record without anything has a learned embedding.
    """

    def __init__(
        self,
        modalities: Iterable[str],
        dim: int = 64,
        state_dim: int = 64,
        hidden: int = 64,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.modalities = check_modalities(modalities)
        self.dim, self.state_dim, self.hidden, self.dropout = dim, state_dim, hidden, dropout
        self.nothing = nn.Parameter(0.02 * torch.randn(state_dim))
        self.embed = NamedModules({name: self._embedding() for name in self.modalities})
        self.score = GatedScore(state_dim, hidden)

    def _embedding(self) -> nn.Module:
        return nn.Sequential(
            nn.LayerNorm(self.dim), mlp([self.dim, self.hidden, self.state_dim], dropout=self.dropout)
        )

    def forward(
        self,
        tokens: Mapping[str, Tokens],
        rows: Mapping[str, Tensor],
        present: Tensor,
        order: Sequence[str] | None = None,
    ) -> Fused:
        """Fuse packed or dense tokens; `order` changes nothing. -> Fused with two steps."""
        arrived = arrivals(tokens, rows, present, self.modalities)
        nothing = self.nothing.expand(len(present), -1)
        blank = self.nothing.expand(len(present), len(self.modalities), -1)
        embedded = in_slots(arrived, self.modalities, self._embedded, blank)  # [batch modality state_dim]
        mixed = (self.weights(embedded, present).unsqueeze(2) * embedded).sum(1)
        return start_and_end(nothing, mixed, present)

    def _embedded(self, name: str, part: Arrived) -> Tensor:
        return self.embed[name](part.tokens.mean())

    def weights(self, embedded: Tensor, present: Tensor) -> Tensor:
        """Share of each modality: embedded [batch modality dim], present -> [batch modality].

        Zero where absent; one in sum where anything is there.
        """
        # The lowest number instead of -inf: a row without anything stays finite, and is not used.
        scores = self.score(embedded).float()
        return scores.masked_fill(~present, torch.finfo(scores.dtype).min).softmax(1).to(embedded.dtype)

    def add_modality(self, name: str) -> None:
        """Append a modality with a fresh embedding; records without it are fused exactly as before."""
        self.embed[check_new(name, self.modalities)] = self._embedding().to(self.nothing)
        self.modalities = (*self.modalities, name)
