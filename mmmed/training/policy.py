"""What a training run does about missing modalities: hide more of them, and weigh the records so that a
pattern is no symptom."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmmed.checks import check_known, check_share, plain

ORDERS = ("fixed", "random", "per record")


@dataclass(frozen=True)
class Policy:
    """Modality dropout and inverse-pattern weights.

    dropout: share of the recorded modalities that is hidden in each epoch, never a record's last one.
    missingness: "ignore" (which modalities are missing must not be read as a symptom: the answer should hold
    where another ward records other things) or "use" (it may be, because it will be the same wherever the
    model is used). reweight: with "ignore", weigh each record by P(y) P(m) / P(y, m), m its pattern after
    dropout. clip: the largest weight. Dropout and weights need each other: see `mmmed.training.weights`.
    order: in which a sequential fusion visits the modalities in training: "fixed" (as the schema lists them),
    "random" (a new order for each batch, the shuffle mode of MultiModN) or "per record" (a new one for each
    record and epoch). A model that has seen many orders answers after any of them.
    """

    dropout: float = 0.3
    reweight: bool = True
    clip: float = 10.0
    missingness: str = "ignore"
    order: str = "fixed"

    def __post_init__(self) -> None:
        check_share(self.dropout, name="dropout")
        check_known(self.missingness, ("ignore", "use"), what="missingness policy")
        check_known(self.order, ORDERS, what="order")
        if not self.clip >= 1:
            raise ValueError(f"clip should be at least 1 (no weight above it), got {plain(self.clip)}.")

    @property
    def weighs(self) -> bool:
        """Whether records get inverse-pattern weights."""
        return self.reweight and self.missingness == "ignore"


def drop_modalities(present: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Hide each recorded modality with probability `rate`, never a record's last one.

    present [batch modality] bool -> the same. If all of a record's modalities fall, one of them, each with
    the same probability, stays. Rate 1 leaves every record with exactly one. Source: modality dropout of 3MT
    (Liu et al., arXiv:2210.00255).
    """
    check_share(rate, name="rate")
    draw = torch.rand(present.shape, generator=generator)
    draw = draw.where(present, -1.0)
    last = torch.zeros_like(present).scatter_(1, draw.argmax(1, keepdim=True), True)
    return present & ((draw >= rate) | last)


def mask_distribution(present: Tensor, rate: float) -> Tensor:
    """Probability of every mask that `drop_modalities` can leave of each pattern.

    present [patterns modality] bool -> [patterns 2**modality]; column c is the mask whose modality k is
    present iff bit k of c is set (see `pattern_code`). Exact, by listing all masks.
    """
    modalities = present.shape[1]
    masks = all_masks(modalities)  # [masks modality]
    kept = masks.sum(1).double()  # [masks]
    here = present.sum(1, keepdim=True).double()  # [patterns 1]
    inside = ~(masks[None] & ~present[:, None]).any(2)  # [patterns masks]: the mask adds nothing
    rate = torch.tensor(rate, dtype=torch.double)
    chance = rate ** (here - kept).clamp(min=0) * (1 - rate) ** kept
    survivor = (kept == 1) * rate**here / here.clamp(min=1)  # all fell, this one was left standing
    nothing = (kept == 0) & (here == 0)
    return torch.where(inside & (kept > 0), chance + survivor, nothing.double())


def all_masks(modalities: int) -> Tensor:
    """[2**modality modality] bool, row c holding the bits of c."""
    codes = torch.arange(2**modalities)[:, None]
    return (codes >> torch.arange(modalities)) % 2 == 1


def pattern_code(present: Tensor) -> Tensor:
    """present [batch modality] bool -> [batch] long, bit k set iff modality k is there."""
    return (present.long() << torch.arange(present.shape[1])).sum(1)
