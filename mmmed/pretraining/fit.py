"""A plain loop for a part of a model: epochs of updates, the best weights kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from mmmed.training.chance import seed_layers, stream, stream_seed, streams_kept
from mmmed.training.optimisation import Optimisation, make_optimiser
from mmmed.training.schedule import rate_factor

Score = Callable[[], Mapping[str, float | None]]


def shuffled(rows: Tensor, epoch: int, size: int, seed: int) -> list[Tensor]:
    """Rows in a new order, cut into batches of `size` at most that are equal give or take one."""
    order = rows[torch.randperm(len(rows), generator=stream(seed, "order", epoch))]
    return list(order.tensor_split(math.ceil(len(rows) / size)))


def fit(
    part: nn.Module,
    batches: Callable[[int], Iterable[Any]],
    loss: Callable[[Any, int], Tensor],
    *,
    updates: int,
    epochs: int,
    optimisation: Optimisation,
    seed: int,
    score: Score | None = None,
) -> tuple[list[dict[str, Any]], int]:
    """Train the parameters of `part` in place. -> one line per epoch as in `Run.history`, and the best epoch.

    batches(epoch) gives the items of `updates` updates, loss(item, step) what each is to be lowered by; step
    counts from 0 over the whole run. score(): "val_loss" and whatever else is to be noted, asked in
    evaluation mode after each epoch; the weights of the epoch with the lowest one are kept, without a score
    the last ones. The global random stream is as before afterwards. Raises ValueError for a loss that is no
    number.
    """
    optimiser = make_optimiser(part, optimisation)
    history: list[dict[str, Any]] = []
    best, kept = 0, deepcopy(part.state_dict())
    device = next(part.parameters()).device
    with streams_kept(device):
        for epoch in range(epochs):
            started = time.perf_counter()
            part.train()
            losses, rate = [], 0.0
            for index, item in enumerate(batches(epoch)):
                step = epoch * updates + index
                rate = optimisation.lr * rate_factor(
                    step, epochs * updates, optimisation.warmup, optimisation.schedule
                )
                seed_layers(stream_seed(seed, "layers", step), device)
                losses.append(_update(optimiser, loss(item, step), rate, optimisation.clip, (epoch, index)))
            part.eval()
            line = dict.fromkeys(("val_loss", "val_loss_recorded", "val_loss_hidden", "val_auroc", "ess"))
            line |= {"epoch": epoch + 1, "train_loss": sum(losses) / len(losses), "lr": rate}
            line |= {} if score is None else score()
            line["seconds"] = time.perf_counter() - started
            history.append(line)
            if line["val_loss"] is None or line["val_loss"] <= min(h["val_loss"] for h in history):
                best, kept = epoch + 1, deepcopy(part.state_dict())
    part.load_state_dict(kept)
    return history, best


def _update(
    optimiser: torch.optim.Optimizer, loss: Tensor, rate: float, clip: float, moment: tuple[int, int]
) -> float:
    """One step down. -> the loss."""
    value = float(loss.detach())
    if not math.isfinite(value):
        raise ValueError(
            f"Epoch {moment[0] + 1}, step {moment[1] + 1}: the loss is not finite. Look at the cells for "
            "enormous values; if they are sound, lower Optimisation(lr=...)."
        )
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    if loss.requires_grad:  # nothing in this batch had a label or a teacher's answer
        loss.backward()
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    nn.utils.clip_grad_norm_([p for p in parameters if p.grad is not None], clip or math.inf)
    optimiser.step()
    return value
