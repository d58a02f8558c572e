"""Contrast: learn `CrossModal` from pairs of inputs and reports, with frozen features on both sides.

Source: symmetric InfoNCE, Radford et al., arXiv:2103.00020, fig. 3 (van den Oord et al., arXiv:1807.03748).
Differs: patients with the same report (one `group`) are not each other's negatives. Normal reports repeat
word for word, and pushing a normal picture away from another patient's equal report is a wrong lesson; they
are not made positives either, since their pictures still differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mmmed.checks import check_count, check_shape
from mmmed.models.cross_modal import HOTTEST, CrossModal


def info_nce(similarity: Tensor, groups: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE of scaled similarities [batch batch]: pairs are on the diagonal. -> scalar.

    groups [batch] long: rows of one group are left out of each other's negatives. A batch in which all are of
    one group has loss 0, and no gradient.
    """
    check_shape(similarity, "batch batch", name="similarity", batch=len(similarity))
    if groups is not None:
        own = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
        twins = (groups[:, None] == groups[None, :]) & ~own
        similarity = similarity.masked_fill(twins, float("-inf"))
    target = torch.arange(len(similarity), device=similarity.device)
    return (cross_entropy(similarity, target) + cross_entropy(similarity.T, target)) / 2


def fit_cross_modal(
    inputs: Any,
    texts: Any,
    groups: Sequence[Any] | None = None,
    *,
    dim: int = 64,
    epochs: int = 60,
    batch: int = 256,
    lr: float = 2e-3,
    weight_decay: float = 0.1,
    generator: torch.Generator,
) -> CrossModal:
    """Fit on training pairs: inputs [n inputs_dim] and texts [n texts_dim], row by row of one patient.

    groups [n]: what makes two reports the same, for example the report's text or its set of labels; None =
    all differ. Nothing is held out: choose epochs on validation pairs. Raises ValueError for fewer than two
    rows, different lengths or values that are not finite.
    """
    inputs, texts = (_matrix(values, name) for values, name in ((inputs, "inputs"), (texts, "texts")))
    check_shape(texts, "n dim", name="texts", n=len(inputs), hint="One text per row of inputs.")
    check_count(len(inputs), name="The number of pairs", least=2)
    check_count(epochs, name="epochs")
    check_count(batch, name="batch", least=2)
    codes = _codes(groups, len(inputs))
    model = _start(inputs, texts, dim, generator)
    decayed = [model.inputs.weight, model.texts.weight]
    rest = [model.inputs.bias, model.texts.bias, model.log_scale]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}], lr=lr
    )
    for _ in range(epochs):
        for rows in torch.randperm(len(inputs), generator=generator).split(batch):
            if len(rows) < 2:  # one pair has nothing to be told from
                continue
            loss = info_nce(model(inputs[rows], texts[rows]), codes[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            with torch.no_grad():  # clamped here as in CLIP: inside `forward` it could never come back
                model.log_scale.clamp_(max=HOTTEST)
    return model.eval()


def _start(inputs: Tensor, texts: Tensor, dim: int, generator: torch.Generator) -> CrossModal:
    """Weights drawn from the generator alone, so that the same generator gives the same model."""
    with torch.random.fork_rng(devices=[]):  # layers draw their first weights from the global chance
        model = CrossModal(inputs.shape[1], texts.shape[1], dim)
    with torch.no_grad():
        for layer in (model.inputs, model.texts):
            layer.weight.normal_(0, layer.in_features**-0.5, generator=generator)
            layer.bias.zero_()
    model.standardise(inputs, texts)
    return model


def _matrix(values: Any, name: str) -> Tensor:
    values = torch.as_tensor(values, dtype=torch.float32).detach()
    check_shape(values, "n dim", name=name)
    if not torch.isfinite(values).all():
        raise ValueError(
            f"{name} holds values that are not finite. Pool the tokens of what is there (`pooled_inputs`)."
        )
    return values


def _codes(groups: Sequence[Any] | None, rows: int) -> Tensor:
    if groups is None:
        return torch.arange(rows)
    if len(groups) != rows:
        raise ValueError(f"groups should have {rows} entries like inputs, got {len(groups)}.")
    place: dict[Any, int] = {}
    return torch.tensor([place.setdefault(_key(group), len(place)) for group in groups], dtype=torch.long)


def _key(group: Any) -> Any:
    """A group as something that can be looked up: tensors and arrays hash by identity, so by value here."""
    return group.item() if hasattr(group, "item") else group
