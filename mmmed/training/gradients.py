"""Gradients of several processes, added up as if one process had seen every row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from accelerate import Accelerator


def add_up(parameters: Sequence[nn.Parameter], loss: Tensor, accelerator: Accelerator) -> Tensor:
    """Add up gradients and loss over the processes; -> the whole loss. What moves in none of them has no
    gradient in any, as in one process: a gradient of zero would still decay the weight."""
    if accelerator.num_processes == 1:
        return loss
    has = torch.tensor([p.grad is not None for p in parameters], device=loss.device, dtype=torch.float32)
    for parameter, somewhere in zip(parameters, accelerator.reduce(has, "sum").tolist(), strict=True):
        if somewhere:
            own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = accelerator.reduce(own, "sum")
    return accelerator.reduce(loss, "sum")
