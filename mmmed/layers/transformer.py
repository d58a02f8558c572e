"""A small transformer over tokens of which some are only padding."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class SelfAttention(nn.Module):
    """Multi-head attention: values [n tokens dim], mask [n tokens] bool -> [n tokens dim].

    Nobody looks at padding; what stands in its own place afterwards has no meaning. Source: Vaswani et al.,
    arXiv:1706.03762, sec. 3.2.
    """

    def __init__(self, dim: int, heads: int, dropout: float = 0.0):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.project = nn.Linear(dim, 3 * dim)
        self.mix = nn.Linear(dim, dim)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        parts = self.project(values).unflatten(2, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each [n heads tokens part]
        rate = self.dropout if self.training else 0.0
        read = scaled_dot_product_attention(query, key, value, mask[:, None, None], dropout_p=rate)
        return self.mix(read.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """Attention, then a two-layer network, each on the normalised tokens and added to them; shapes as above.

    The norm comes first (Xiong et al., arXiv:2002.04745), which learns without a warm-up.
    """

    def __init__(self, dim: int, heads: int, dropout: float = 0.1, widen: int = 2):
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, heads, dropout)
        self.network_norm = nn.LayerNorm(dim)
        self.network = nn.Sequential(
            nn.Linear(dim, widen * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(widen * dim, dim)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        values = values + self.dropout(self.attention(self.attention_norm(values), mask))
        return values + self.dropout(self.network(self.network_norm(values)))


class Transformer(nn.Module):
    """A stack of blocks and a last norm: values [n tokens dim], mask [n tokens] bool -> [n tokens dim]."""

    def __init__(self, dim: int, layers: int = 2, heads: int = 4, dropout: float = 0.1):
        super().__init__()
        self.blocks = nn.ModuleList(TransformerBlock(dim, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        for block in self.blocks:
            values = block(values, mask)
        return self.norm(values)
