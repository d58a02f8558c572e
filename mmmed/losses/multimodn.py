"""The published MultiModN objective (Swamy et al., arXiv:2309.14118, eq. of section 3 and released code)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn.functional import cross_entropy

from mmmed.types import Outputs


def published_multimodn_loss(
    outputs: Outputs,
    targets: Mapping[str, Tensor],
    error_penalty: float = 1.0,
    change_penalty: float = 0.0,
) -> Tensor:
    """error/(tasks (E+1)) sum CE(decoder(s_k), y) + 0.01 change/E sum mean((s_k - s_{k-1})^2).

    On complete batches.

    outputs.steps[task] [batch step classes] as the published decoder gives them (sigmoids, not logits);
    targets[task] [batch] long. The denominators are fixed, as published: a skipped step would not lower them.
    """
    states = outputs.fused.steps  # [batch step dim]
    encoders = states.shape[1] - 1
    errors = sum(
        cross_entropy(steps[:, k], targets[task])
        for task, steps in outputs.steps.items()
        for k in range(encoders + 1)
    )
    changes = sum(((states[:, k + 1] - states[:, k]) ** 2).mean() for k in range(encoders))
    return (
        error_penalty * errors / (len(outputs.steps) * (encoders + 1))
        + 0.01 * change_penalty * changes / encoders
    )
