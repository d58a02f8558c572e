"""What a model costs: time of a training step and of an answer, parameters, memory; measured here and now."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import check_count
from mmmed.evaluation.tasks import answers_of

if TYPE_CHECKING:
    import torch

    from mmmed.data.cohort import Cohort

REPEATS = 5  # of each measurement, after one to warm up


def costs(model: Any, cohort: Cohort, batch_size: int = 32, seed: int = 0) -> dict[str, Any]:
    """Measure one model on records drawn from a cohort; what a kind of model does not have is None.

    step_ms: forward and backward of the supervised-steps loss on a batch, without the optimiser, from a
    collated batch. record_ms: one answer, files and cells read. Both are processor time of all threads
    (process_time) on a CPU, wall time after synchronising on a GPU; medians of five. parameters, trainable:
    numbers learned, and those that training changes. step_mb: memory of a training step in MiB. On a CPU it
    is counted: weights, their gradients, and every tensor that autograd keeps for the backward pass, each
    storage once. That is too much by the tensors that are freed before the last gradient is there, and too
    little by what a layer needs only for a moment and by the optimiser (the default model: 4 % above the peak
    that torch.profiler saw). On CUDA it is the peak of the allocator during the step, without the optimiser.
    A copy is measured, so the model is not changed.
    """
    check_count(batch_size, name="batch_size")
    check_count(len(cohort), name="The number of records to measure on")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(cohort))[:batch_size])
    part = cohort.where(chosen)
    result: dict[str, Any] = {"records": len(part)}
    if hasattr(model, "encode"):
        model = copy.deepcopy(model)
        weights = list(model.parameters())
        counts = [sum(w.numel() for w in weights), sum(w.numel() for w in weights if w.requires_grad)]
        device = weights[0].device
        step_ms, step_mb = _training_step(model, part, device)
    else:
        device, step_ms, step_mb = None, None, None
        counts = [getattr(model, "parameters_count", None)] * 2
    record_ms = _median_ms(lambda: answers_of(model, part), device) / len(part)
    return {
        **result,
        "device": "cpu" if device is None else str(device),
        "step_ms": step_ms,
        "record_ms": record_ms,
        "parameters": counts[0],
        "trainable": counts[1],
        "step_mb": step_mb,
    }


def _training_step(model: Any, part: Cohort, device: torch.device) -> tuple[float | None, float | None]:
    """Milliseconds and MiB of forward and backward; None if nothing can be trained."""
    import torch

    from mmmed.losses.stepwise import stepwise_loss

    trained = [weight for weight in model.parameters() if weight.requires_grad]
    if not trained:
        return None, None
    batch = part.with_schema(model.schema).collate(list(part)).to(device)
    model.train()

    def loss() -> torch.Tensor:
        outputs = model(batch)
        extra = getattr(outputs.fused, "extra", None) or {}
        return sum(stepwise_loss(outputs, batch, model.schema.tasks).values()) + sum(extra.values())

    def step() -> None:
        loss().backward()
        model.zero_grad(set_to_none=True)

    devices = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=devices),
        torch.enable_grad(),
    ):  # dropout draws, the caller's chance stays
        milliseconds = _median_ms(step, device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            step()
            return milliseconds, torch.cuda.max_memory_allocated(device) / 2**20
        return milliseconds, _counted_bytes(model, loss) / 2**20


def _counted_bytes(model: Any, loss: Callable[[], torch.Tensor]) -> int:
    """Weights and buffers, gradients, and what autograd keeps between forward and backward."""
    from torch.autograd.graph import saved_tensors_hooks

    own = [*model.parameters(), *model.buffers()]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in own}
    gradients = sum(w.numel() * w.element_size() for w in model.parameters() if w.requires_grad)

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        held = loss()  # holds the graph, so that no address is used twice while we count
    del held
    return sum(storages.values()) + gradients


def _median_ms(work: Callable[[], Any], device: Any) -> float:
    """Processor milliseconds of a call, or wall milliseconds on a GPU."""
    on_gpu = getattr(device, "type", "cpu") == "cuda"

    def once() -> float:
        clock = time.perf_counter if on_gpu else time.process_time
        start = clock()
        work()
        if on_gpu:
            import torch

            torch.cuda.synchronize(device)
        return 1000 * (clock() - start)

    once()
    return statistics.median(once() for _ in range(REPEATS))
