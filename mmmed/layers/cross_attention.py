"""Latents that read tokens, of which some are only padding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmmed.checks import check_count


class CrossAttention(nn.Module):
    """Multi-head attention from latents to tokens: latents [n latents dim], values [n tokens dim], mask
    [n tokens] bool -> [n latents dim].

    Every row needs a real token. Source: Vaswani et al., arXiv:1706.03762, sec. 3.2. Written out, because the
    fused kernel cannot be run for many models side by side (`torch.func.vmap`).
    """

    def __init__(self, dim: int, heads: int = 4, dropout: float = 0.0):
        super().__init__()
        self.heads = check_heads(dim, heads)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.mix = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, latents: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        query = self.query(latents).unflatten(2, (self.heads, -1)).transpose(1, 2)  # [n heads latents part]
        parts = self.key_value(values).unflatten(2, (2, self.heads, -1))
        key, value = parts.permute(2, 0, 3, 1, 4)  # each [n heads tokens part]
        scores = query @ key.transpose(2, 3) / query.shape[3] ** 0.5  # [n heads latents tokens]
        weights = scores.masked_fill(~mask[:, None, None], -torch.inf).softmax(3)
        read = self.dropout(weights) @ value
        return self.mix(read.transpose(1, 2).flatten(2))


class CrossBlock(nn.Module):
    """Latents read the tokens, then a two-layer network; each on normalised latents and added to them.

    Shapes as in `CrossAttention`. The norms come first (Xiong et al., arXiv:2002.04745).
    """

    def __init__(self, dim: int, heads: int = 4, dropout: float = 0.1, widen: int = 2):
        super().__init__()
        self.latent_norm = nn.LayerNorm(dim)
        self.token_norm = nn.LayerNorm(dim)
        self.attention = CrossAttention(dim, heads, dropout)
        self.network_norm = nn.LayerNorm(dim)
        self.network = nn.Sequential(
            nn.Linear(dim, widen * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(widen * dim, dim)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, latents: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        read = self.attention(self.latent_norm(latents), self.token_norm(values), mask)
        latents = latents + self.dropout(read)
        return latents + self.dropout(self.network(self.network_norm(latents)))


class LatentReadout(nn.Module):
    """All latents in one vector: [n latents dim] -> [n state_dim], the mean, normalised, then linear."""

    def __init__(self, dim: int, state_dim: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.linear = nn.Linear(dim, state_dim)

    def forward(self, latents: Tensor) -> Tensor:
        return self.linear(self.norm(latents.mean(1)))


def check_heads(dim: int, heads: int) -> int:
    """Heads that share the width evenly."""
    check_count(heads, name="heads")
    if dim % heads:
        raise ValueError(f"heads should divide dim: {dim} is no multiple of {heads}.")
    return heads
