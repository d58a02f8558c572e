"""The supervised-steps loss: every state on the way is asked, so that any prefix of the modalities can
answer.

Source: MultiModN (Swamy et al., arXiv:2309.14118, section 3), which supervises every step with a shared
decoder. Three differences: the mean goes over the steps that a record really took (the paper divides by all
encoders, so that an incomplete record counts less); unknown labels are left out; heads give logits (the
released code feeds sigmoids to the cross-entropy, which confines a two-class probability to 0.27-0.73).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, smooth_l1_loss

from mmmed.checks import plain
from mmmed.types import Batch, Binary, Multiclass, Multilabel, Outputs, Regression, Task


def task_loss(
    task: Task, logits: Tensor, target: Tensor, known: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Loss of every record at every step; 0 where the label is unknown, whatever stands in its place.

    logits [batch step outputs]; target, known [batch], or [batch labels] for a multilabel task -> [batch
    step]. Binary and multilabel: cross-entropy of each label, for multilabel the mean over the known ones,
    each multiplied by weight [batch labels] if given. Multiclass: cross-entropy. Regression: smooth L1 on the
    standardised target.
    """
    logits = logits.float()  # a loss in bf16 would lose the small differences
    steps = logits.shape[1]
    match task:
        case Multilabel():
            count = known.sum(1, keepdim=True)  # [batch 1]
            weight = known.to(logits) if weight is None else known * weight.to(logits)
            target = torch.where(known, target, 0).to(logits)[:, None].expand_as(logits)
            loss = binary_cross_entropy_with_logits(logits, target, reduction="none")  # [batch step labels]
            loss = (loss * weight[:, None]).sum(2) / count.clamp(min=1)
            return loss.where(count > 0, 0.0)
        case Binary() | Regression():
            target = torch.where(known, target, 0).to(logits)[:, None].expand(-1, steps)
            compare = binary_cross_entropy_with_logits if isinstance(task, Binary) else smooth_l1_loss
            loss = compare(logits.squeeze(2), target, reduction="none")
        case Multiclass():
            target = torch.where(known, target, 0).long()[:, None].expand(-1, steps)
            loss = cross_entropy(logits.transpose(1, 2), target, reduction="none")
        case _:
            raise ValueError(f"There is no loss for {plain(task)}.")
    return loss.where(known[:, None], 0.0)  # [batch step]


def record_losses(
    outputs: Outputs, batch: Batch, tasks: Mapping[str, Task], weights: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Weighted loss of every record: the mean over the steps it took, times its weight. -> {task: [batch]}.

    weights[task]: [batch], or [batch labels] for a multilabel task; a task without weights has weight 1.
    """
    taken = outputs.fused.step_mask.float()  # [batch step]
    share = taken / taken.sum(1, keepdim=True).clamp(min=1)
    losses = {}
    for name, task in tasks.items():
        weight = (weights or {}).get(name)
        inner = weight if isinstance(task, Multilabel) else None
        loss = task_loss(task, outputs.steps[name], batch.targets[name], batch.known[name], inner)
        loss = (loss * share).sum(1)
        losses[name] = loss if weight is None or inner is not None else loss * weight.to(loss)
    return losses


def labelled(known: Tensor) -> Tensor:
    """Records with a known label: known [batch], or [batch labels] for a multilabel task -> [batch] bool."""
    return known.flatten(1).any(1) if known.ndim > 1 else known


def stepwise_loss(
    outputs: Outputs,
    batch: Batch,
    tasks: Mapping[str, Task],
    weights: Mapping[str, Tensor] | None = None,
    totals: Mapping[str, float] | None = None,
) -> dict[str, Tensor]:
    """Mean of `record_losses` over the records whose label is known. -> {task: scalar}; exactly 0 if none is.

    The divisor is the number of records, not the sum of their weights: a sum over few records depends on
    their labels, and dividing by it would bring part of the bias back that the weights take out.
    totals[task]: the number to divide by. Give that of the whole batch when this is a part of it (several
    processes, accumulated gradients): then the parts add up to the loss of the whole.
    """
    losses = record_losses(outputs, batch, tasks, weights)
    if totals is None:
        totals = {name: float(labelled(batch.known[name]).sum()) for name in tasks}
    return {name: loss.sum() / (totals[name] or 1.0) for name, loss in losses.items()}
