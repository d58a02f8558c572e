"""What makes two runs the same run: settings, architecture, and the data, each in few characters."""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import blake2b

import torch
from torch import Tensor, nn

from mmmed.training.supply import PackedCohort, Supply
from mmmed.types import Schema, Tokens


def digest(parts: Iterable[str | bytes | Tensor]) -> str:
    """32 hexadecimal digits of any mixture of texts and tensors."""
    total = blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, Tensor):
            part = part.detach().cpu().contiguous()
            total.update(f"{part.dtype}{tuple(part.shape)}".encode())
            flat = part.as_strided(
                (part.numel(),), (1,)
            )  # a single number may call itself flat with stride 0
            part = flat.view(torch.uint8).numpy() if len(flat) else b""
        total.update(part.encode() if isinstance(part, str) else part)
        total.update(b"\0")
    return total.hexdigest()


def supply_fingerprint(supply: Supply | None, name: str) -> dict[str, str]:
    """Hashes of ids, presence, targets and, if the records are in memory, of everything in them."""
    if supply is None:
        return {f"{name} records": digest([])}
    result = {
        f"{name} records": digest(supply.ids),
        f"{name} presence": digest([supply.present]),
        f"{name} targets": digest([*supply.targets.values(), *supply.known.values()]),
    }
    if isinstance(supply, PackedCohort):
        for modality, values in supply.whole.values.items():
            tensors = (values.values, values.mask) if isinstance(values, Tokens) else values.values()
            result[f"{name} content of {modality}"] = digest(tensors)
    return result


def schema_fingerprint(schema: Schema) -> str:
    """Hash of everything in a schema."""
    return digest([json.dumps(schema.to_dict(), sort_keys=True)])


def architecture_fingerprint(model: nn.Module) -> str:
    """Hash of the names and shapes of the weights, and of which of them are trained."""
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return digest(f"{name} {tuple(t.shape)} {name in trained}" for name, t in model.state_dict().items())
