"""Heads: a state to the logits of one task, the same head after every step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmmed.layers.mlp import mlp
from mmmed.types import Task


def make_head(
    task: Task, state_dim: int, hidden: int = 0, dropout: float = 0.1, norm: bool = True
) -> nn.Module:
    """[... state_dim] -> [... outputs]: logits of a classification, one standardised number of a regression.

    hidden: width of a hidden layer. The default has none: the updates before it are non-linear already, and
    on 2,000 pictures a linear head learned in a third of the steps. norm: LayerNorm first. Without it (and
    without a hidden layer) the head is linear, so the mean of some states has the mean of their logits: what
    late fusion needs.
    """
    sizes = [state_dim, hidden, task.outputs] if hidden else [state_dim, task.outputs]
    first = [nn.LayerNorm(state_dim)] if norm else []
    return nn.Sequential(*first, *mlp(sizes, dropout=dropout))


class SigmoidClasses(nn.Module):
    """The published MultiModN decoder: linear, then a sigmoid per class (arXiv:2309.14118, released code).

    [... state_dim] -> [... classes] in 0..1. Feeding these to a cross-entropy confines a two-class
    probability to 0.27-0.73; kept for comparison with the published model only.
    """

    def __init__(self, state_dim: int, classes: int = 2):
        super().__init__()
        self.linear = nn.Linear(state_dim, classes)

    def forward(self, state: Tensor) -> Tensor:
        return torch.sigmoid(self.linear(state))
