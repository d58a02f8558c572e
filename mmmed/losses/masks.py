"""What a drawn mask costs, phrase by phrase: cross-entropy of the pixels, soft Dice, presence, coarse copies.

Shapes: logits and target [m ...], the same, with any number of axes behind m (pictures and volumes, with or
without an axis of one channel); present [m] bool: is there such a thing; every loss is [m], so that a caller
may weigh phrases, and m = 0 is answered. The target is 0/1 or a share of 0..1. Sums are taken in float32 at
least, since the pixels of a volume are more than float16 can count.

Sources: LISA (Lai et al., arXiv:2308.00692, "training objectives") for 2 x cross-entropy + 0.5 x Dice; Dice
only where the target exists, as for MIMIC-ILS (arXiv:2511.15186); soft Dice after Milletari et al.,
arXiv:1606.04797, in the form of Wang et al., arXiv:2303.16296, which is the usual one for targets of 0 and 1,
and for a share is least where the probability is that share, which the usual one is not.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, adaptive_avg_pool3d
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from mmmed.checks import check_shape

SMOOTH = 1.0  # pixels added above and below: a lone false pixel in an empty picture then costs 1/2, not 1
_POOL = {2: adaptive_avg_pool2d, 3: adaptive_avg_pool3d}


def dice_loss(logits: Tensor, target: Tensor, smooth: float = SMOOTH) -> Tensor:
    """1 - (2 overlap + smooth) / (pixels drawn + pixels of the target + smooth): [m ...] -> [m], 0 to 1."""
    _check_pair(logits, target)
    probability, target = _wide(logits).sigmoid().flatten(1), _wide(target).flatten(1)
    overlap = torch.minimum(probability, target).sum(1)  # the product, where the target is 0 or 1
    return 1 - (2 * overlap + smooth) / (probability.sum(1) + target.sum(1) + smooth)


def pixel_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy over the pixels: [m ...] -> [m], in nats."""
    _check_pair(logits, target)
    return cross_entropy(_wide(logits), _wide(target), reduction="none").flatten(1).mean(1)


def mask_loss(logits: Tensor, target: Tensor, present: Tensor, bce: float = 2.0, dice: float = 0.5) -> Tensor:
    """bce * pixel_loss + dice * dice_loss, the latter only where present: [m ...] -> [m].

    For an empty target Dice says nothing but "draw less", with a gradient that vanishes once little is drawn.
    """
    check_shape(present, "m", name="present", m=len(logits))
    return bce * pixel_loss(logits, target) + dice * dice_loss(logits, target).where(present.bool(), 0)


def presence_loss(logits: Tensor, present: Tensor) -> Tensor:
    """Cross-entropy of "there is such a thing": logits [m], present [m] -> [m]."""
    check_shape(logits, "m", name="presence logits")
    _check_pair(logits, present)
    return cross_entropy(_wide(logits), _wide(present), reduction="none")


def deep_supervision(
    coarse: Sequence[Tensor], target: Tensor, present: Tensor, bce: float = 2.0, dice: float = 0.5
) -> Tensor:
    """Mean `mask_loss` of coarser drawings: a list of logits [m 1 *smaller], target [m 1 *space] -> [m].

    The target of each is the share of the thing in each coarse pixel (a nearest pixel would lose what is
    small). The entropy of these shares, which nothing could lower, is taken off: perfect coarse logits cost
    0. No coarse logits cost 0 as well. Source: Lee et al., arXiv:1409.5185.
    """
    total = _wide(target).new_zeros(len(target))
    for logits in coarse:
        check_shape(logits, "m channels " + "side " * (target.ndim - 2), name="coarse logits", channels=1)
        share = _POOL[target.ndim - 2](_wide(target), logits.shape[2:])
        total = total + mask_loss(logits, share, present, bce, dice) - bce * _entropy(share)
    return total / max(len(coarse), 1)


def _entropy(share: Tensor) -> Tensor:
    terms = torch.xlogy(share, share) + torch.xlogy(1 - share, 1 - share)
    return -terms.flatten(1).mean(1)


def _wide(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def _check_pair(logits: Tensor, target: Tensor) -> None:
    if logits.shape != target.shape:
        raise ValueError(
            f"Logits and target should have the same shape, got {list(logits.shape)} and "
            f"{list(target.shape)}. Bring the target to the grid of the logits."
        )
