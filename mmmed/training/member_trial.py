"""Whether models can be trained side by side: their architecture, and a trial on two made-up records."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from mmmed.checks import listing
from mmmed.models.multimodal import MultimodalModel
from mmmed.training.settings import Settings
from mmmed.training.stacked import Stacked
from mmmed.types import Batch, Image, Number, Series, Tabular, Text, Tokens, Volume

ALIKE = 1e-4  # largest difference of an answer that reordered sums may make


def refusal(models: Sequence[MultimodalModel], settings: Settings) -> str | None:
    """What speaks against it before anything is tried."""
    if not all(isinstance(model, MultimodalModel) and model.schema is not None for model in models):
        return "only models of encoders, fusion and heads, with a schema, can be stacked."
    first, frozen = models[0], settings.frozen
    if any(_shape(model) != _shape(first) for model in models[1:]):
        return "the models differ in their modalities, tasks, or in the shapes of their weights."
    if settings.policy.order != "fixed":
        return f"the order of fusion is {settings.policy.order!r}, so each member would go its own way."
    if settings.optimisation.precision != "fp32":
        return f"the precision is {settings.optimisation.precision}."
    heavy = [
        name
        for name, modality in first.schema.modalities.items()
        if isinstance(modality, (Image, Volume)) and name not in frozen
    ]
    if heavy:
        return (
            f"the encoder of {listing(heavy)} has enough work with one member; freeze it to stack the rest."
        )
    parts = [part for name, part in first.encoders.items() if name not in frozen]
    for module in (m for part in (*parts, first.fusion, first.heads) for m in part.modules()):
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            return "batch normalisation would count rows that stand in for absent ones."
    if not any(parameter.requires_grad for part in (*parts, first.fusion) for parameter in part.parameters()):
        return "nothing is left to be trained."
    return None


def trial(models: Sequence[MultimodalModel], frozen: Sequence[str]) -> str | None:
    """Two records that lack one thing each, as a packed batch to the first model and as a dense one to all.

    The reason why that fails, or why the answers differ; None if they agree.
    """
    model = models[0]
    device = next(model.parameters()).device
    values = {name: _example(m, name in frozen, model) for name, m in model.schema.modalities.items()}
    present = torch.ones(2, len(values), dtype=torch.bool)
    present[0, -1] = present[1, 0] = False
    rows = torch.arange(2)
    whole = Batch(model.modalities, values, dict.fromkeys(values, rows), torch.ones_like(present))
    packed = whole.keep(present).to(device)
    ready = frozenset(name for name, part in values.items() if isinstance(part, Tokens))
    dense = {name: _repeated(part, len(models), device) for name, part in values.items()}
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        with torch.random.fork_rng(), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of operations without a member axis, which are refused anyway
            stacked = Stacked(models, frozen=frozen, device=device)
            here = present.expand(len(models), -1, -1).to(device)
            steps, _ = stacked(dense, here, ready, training=False)
            alone = model(packed)
            extra = deepcopy(model).train()(packed).fused.extra  # a copy: training moves running statistics
            if extra:
                return f"its fusion adds losses of its own ({listing(extra)}) over all rows."
            stacked(dense, here, ready, training=True)
    except (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
        return f"a trial on two records failed: {str(error).strip().splitlines()[0][:200]}"
    finally:
        for part, training in modes:
            part.training = training
    for task, answers in alone.steps.items():
        same = answers.shape == steps[task][0].shape and bool((answers - steps[task][0]).abs().max() < ALIKE)
        if not same:
            return "rows that stand in for absent ones change its answers."
    return None


def _shape(model: MultimodalModel) -> Any:
    weights = [(n, tuple(t.shape)) for n, t in model.state_dict().items()]
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    tasks = [(name, type(task), task.outputs) for name, task in model.schema.tasks.items()]
    return model.modalities, weights, trained, tasks, [type(m) for m in model.modules()]


def _example(modality: Any, frozen: bool, model: MultimodalModel) -> Any:
    """Made-up values of two records."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(2, *shape, generator=generator)

    def known(*shape: int) -> Tensor:
        return torch.ones(2, *shape, dtype=torch.bool)

    if frozen:
        return Tokens(draw(2, model.fusion.dim), known(2))
    match modality:
        case Tabular():
            numbers = torch.tensor([isinstance(cell, Number) for cell in modality.cells])
            return {"cells": draw(len(numbers)) * numbers, "known": known(len(numbers))}
        case Text():
            return {"ids": torch.zeros(2, 3, dtype=torch.long), "mask": known(3)}
        case Series():
            channels = len(modality.channels)
            return {"times": -draw(3).abs(), "values": draw(3, channels), "known": known(3, channels)}
    raise ValueError(f"There is no example of {type(modality).__name__}.")


def _repeated(part: Any, members: int, device: torch.device) -> dict[str, Tensor]:
    tensors = {"values": part.values, "mask": part.mask} if isinstance(part, Tokens) else part
    return {name: tensor.expand(members, *tensor.shape).to(device) for name, tensor in tensors.items()}
