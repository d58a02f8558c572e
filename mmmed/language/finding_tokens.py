"""What the finding head saw, as tokens of the language model: one per finding that a modality can show.

A report is easier to write for whoever knows what there is to say. Each finding gives one token: the vector
that its attention gathered, the finding's name as a learned vector, and how likely it is along a learned
direction. They stand in the slot of their modality, behind the adapter's tokens, so they come and go with it,
and what a sentence rests on can still be measured by taking the modality away. Source: predicted findings in
the prompt, as words, in RaDialog (Pellegrini et al., arXiv:2311.18681); as vectors they keep how sure the
head was.
"""

from __future__ import annotations

import torch
from torch import nn

from mmmed.heads.findings import FindingAttention
from mmmed.types import Tokens

START = 0.5  # spread of names and directions: near that of the adapters' tokens


class FindingTokens(nn.Module):
    """One part of a finding head and the tokens it reads -> Tokens [n labels width], all of them real."""

    def __init__(self, labels: int, dim: int, width: int):
        super().__init__()
        self.project = nn.Linear(dim, width)
        self.name = nn.Parameter(START * torch.randn(labels, width))
        self.likely = nn.Parameter(START * torch.randn(labels, width))

    def forward(self, head: FindingAttention, tokens: Tokens) -> Tokens:
        values = head.norm(tokens.values)
        maps = head.maps(values, tokens.mask)  # [n tokens labels]
        logits = (maps * head.score(values)).sum(1)  # [n labels]
        seen = self.project(maps.transpose(1, 2) @ values)  # [n labels width]
        # tanh(l / 2) = 2 p - 1: from -1, surely absent, to 1, surely present
        values = seen + self.name + torch.tanh(logits / 2).unsqueeze(2) * self.likely
        return Tokens(values, values.new_ones(values.shape[:2], dtype=torch.bool))


def side_by_side(first: Tokens, second: Tokens) -> Tokens:
    """The tokens of both, row by row: [n first + second width]."""
    return Tokens(torch.cat([first.values, second.values], 1), torch.cat([first.mask, second.mask], 1))
