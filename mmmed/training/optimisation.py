"""How weights move: the settings of AdamW, and which parameters decay."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from torch import nn

from mmmed.checks import check_count, check_known, check_share, plain
from mmmed.training.schedule import SCHEDULES

PRECISIONS = ("fp32", "bf16")
NEVER_DECAYED = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)


@dataclass(frozen=True)
class Optimisation:
    """Settings of the optimiser (AdamW, Loshchilov and Hutter, arXiv:1711.05101) and of the loop.

    lr: the largest learning rate. batch_size: records of one forward pass, over all processes together.
    warmup: share of the run in which the rate rises. clip: largest norm of the gradient (0 = no clipping).
    accumulate: forward passes per update; batch_size 8 with accumulate 4 learns the same as batch_size 32, up
    to rounding, and but for dropout layers, which draw anew in each pass and in each process.
    precision: "fp32", or "bf16" for autocast. workers: processes that read files, where the cohort is too
    large to be kept in memory. checkpoint_every: updates between two checkpoints inside an epoch (0 = only
    after each epoch).
    """

    lr: float = 1e-3
    weight_decay: float = 0.5
    batch_size: int = 32
    warmup: float = 0.05
    schedule: str = "cosine"
    clip: float = 1.0
    accumulate: int = 1
    precision: str = "fp32"
    workers: int = 0
    checkpoint_every: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulate"):
            check_count(getattr(self, name), name=name)
        for name in ("workers", "checkpoint_every"):
            check_count(getattr(self, name), name=name, least=0)
        for name in ("lr", "weight_decay", "clip"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
                raise ValueError(f"{name} should be a number that is not negative, got {plain(value)}.")
        check_share(self.warmup, name="warmup")
        check_known(self.schedule, SCHEDULES, what="schedule")
        check_known(self.precision, PRECISIONS, what="precision")

    def settings(self) -> dict[str, float | int | str]:
        """The fields that change what is learned (not where files are read and how often one is written)."""
        names = [f.name for f in fields(self) if f.name not in ("workers", "checkpoint_every")]
        return {name: getattr(self, name) for name in names}


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Two groups of the trainable parameters: matrices and filters decay; everything else does not.

    Biases, norms, embeddings and bare parameters (learned states, tokens, positions) are spared: decay would
    pull them towards a value that has no meaning.
    """
    decayed, spared = [], []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            matrix = name.endswith("weight") and parameter.ndim >= 2 and not isinstance(module, NEVER_DECAYED)
            group = decayed if matrix else spared
            if not any(parameter is other for other in (*decayed, *spared)):  # tied weights count once
                group.append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def make_optimiser(model: nn.Module, optimisation: Optimisation) -> torch.optim.AdamW:
    """AdamW over the trainable parameters. Raises ValueError if there are none."""
    groups = parameter_groups(model, optimisation.weight_decay)
    if not groups:
        raise ValueError("The model has no parameter that may be trained: all are frozen.")
    return torch.optim.AdamW(groups, lr=optimisation.lr, fused=_can_fuse(groups))


def _can_fuse(groups: Iterable[dict]) -> bool:
    parameters = [parameter for group in groups for parameter in group["params"]]
    return all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)
