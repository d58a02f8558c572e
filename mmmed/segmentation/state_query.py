"""The language model's state at its mask word, as a question to the picture."""

from __future__ import annotations

from torch import Tensor, nn

from mmmed.checks import check_count, check_shape
from mmmed.types import Tokens


class StateQuery(nn.Module):
    """States of a language model [m width] -> Tokens [m 1 dim]: normalised, then Linear, ReLU, Linear.

    The state is the one at the position that predicts the mask word; m may be 0. Source: LISA (Lai et al.,
    arXiv:2308.00692, "embedding as mask"). Differs: a LayerNorm comes first. Hidden states of language models
    hold a few numbers hundreds of times larger than the rest (Sun et al., arXiv:2402.17762), and their size
    grows with depth; the query must not depend on it.
    """

    def __init__(self, width: int, dim: int):
        super().__init__()
        self.width = check_count(width, name="width")
        check_count(dim, name="dim")
        self.network = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, dim)
        )

    def forward(self, states: Tensor) -> Tokens:
        check_shape(states, "m width", name="states", width=self.width, hint="One state for each phrase.")
        values = self.network(states).unsqueeze(1)  # [m 1 dim]
        return Tokens(values, values.new_ones(values.shape[:2], dtype=bool))
