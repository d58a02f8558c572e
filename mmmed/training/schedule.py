"""The learning rate over a run, as a function of the step alone, so that nothing needs to be saved for it."""

from __future__ import annotations

import math

SCHEDULES = ("cosine", "constant")


def rate_factor(step: int, steps: int, warmup: float = 0.05, schedule: str = "cosine") -> float:
    """Share of the full learning rate at `step` (from 0) of `steps`.

    It rises linearly over the first `warmup` (share of the steps) and then stays ("constant") or falls along
    half a cosine ("cosine") to a hundredth. Source of the cosine: Loshchilov and Hutter, arXiv:1608.03983,
    eq. 5, one cycle.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    if schedule == "constant":
        return 1.0
    done = (step - rising) / max(1, steps - rising)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
