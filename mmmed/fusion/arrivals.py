"""Who really has a modality: the rows of a batch, made safe to compute with.

A packed batch lists only the rows that have a modality; a dense one lists them all, so that many models can
be trained side by side (`torch.func.vmap`, where no shape may depend on the data). `present` decides in both:
what a listed row holds is dropped where it says no, before anything is computed from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmmed.checks import check_known, check_shape, listing, plain
from mmmed.types import Fused, Tokens


@dataclass(frozen=True)
class Arrived:
    """One modality of a batch.

    tokens: of the n listed records, zeros in padding and in records that lack the modality; rows [n] long:
    their positions; here [n] bool: who has it. Every record has a token that counts, if only one of zeros, so
    that attention over it is finite. whole: all listed records are known to have it, as in a packed batch,
    which saves asking again.
    """

    tokens: Tokens
    rows: Tensor
    here: Tensor
    whole: bool = False

    def __getitem__(self, some: Tensor) -> Arrived:
        """Some of the n records."""
        return Arrived(self.tokens[some], self.rows[some], self.here[some], self.whole)

    def place(self, whole: Tensor, values: Tensor) -> Tensor:
        """`whole` [batch ...] with `values` [n ...] at the rows of those who have the modality."""
        values = values.to(whole.dtype)  # autocast may compute in bf16
        if not self.whole:
            old = whole[self.rows]
            values = torch.where(self.here.reshape(-1, *[1] * (old.ndim - 1)), values, old)
        return whole.index_copy(0, self.rows, values)


def arrivals(
    tokens: Mapping[str, Tokens], rows: Mapping[str, Tensor], present: Tensor, modalities: tuple[str, ...]
) -> dict[str, Arrived]:
    """Sort out a batch, in the order of `modalities`. present [batch modality] bool.

    Raises ValueError for a modality that the fusion does not know and for a `present` of another width.
    """
    for name in tokens:
        check_known(name, modalities, what="modality")
    hint = f"The fusion has the modalities {listing(modalities)}."
    check_shape(present, "batch modality", name="present", hint=hint, modality=len(modalities))
    result = {}
    for index, name in enumerate(modalities):
        if name in tokens:
            here = present[:, index][rows[name]]
            whole = _all(here)
            result[name] = Arrived(_cleaned(tokens[name], here, whole), rows[name], here, whole)
    return result


def in_slots(
    arrived: Mapping[str, Arrived], modalities: tuple[str, ...], encode: Callable[..., Tensor], blank: Tensor
) -> Tensor:
    """One slot per modality: encode(modality, Arrived) [n dim] where it is, `blank` where it is not.

    blank [batch modality dim] -> [batch modality dim]
    """
    slots = [
        arrived[name].place(slot, encode(name, arrived[name])) if name in arrived else slot
        for name, slot in zip(modalities, blank.unbind(1), strict=True)
    ]
    return torch.stack(slots, dim=1)


def start_and_end(
    nothing: Tensor,
    state: Tensor,
    present: Tensor,
    carry: Tensor | None = None,
    extra: Mapping[str, Tensor] | None = None,
) -> Fused:
    """A way of two steps, where a modality is no step of its own: nothing known, all known; each [batch
    state_dim]. A record without anything stays exactly at `nothing`."""
    any_here = present.any(1, keepdim=True)
    state = torch.where(any_here, state, nothing)
    mask = torch.cat([torch.ones_like(any_here), any_here], dim=1)
    return Fused(state, torch.stack([nothing, state], dim=1), mask, (), carry, extra or {})


def _all(flags: Tensor) -> bool:
    """Are all set? False where looking would make a GPU wait, or where members are trained side by side."""
    if flags.device.type != "cpu":
        return False
    try:
        return bool(flags.all())
    except RuntimeError:  # torch.func.vmap: what holds for one member need not hold for another
        return False


def _cleaned(tokens: Tokens, here: Tensor, whole: bool) -> Tokens:
    if whole and _all(tokens.mask):
        return tokens
    # Filled before use, as 0 * NaN is NaN in the gradient.
    real = tokens.mask & here.unsqueeze(1)
    values = tokens.values.masked_fill(~real.unsqueeze(2), 0)
    return Tokens(values, real | ~real.any(1, keepdim=True))


def check_modalities(modalities: Iterable[str]) -> tuple[str, ...]:
    """Names of modalities as a tuple: at least one, each once."""
    names = (modalities,) if isinstance(modalities, str) else tuple(modalities)
    if not names or len(set(names)) != len(names):
        raise ValueError(f"A fusion needs modality names, each once, got {listing(names)}.")
    return names


def check_new(name: str, modalities: Iterable[str]) -> str:
    """A name that the fusion does not have yet."""
    if name in modalities:
        raise ValueError(f"The fusion already has a modality {name!r}.")
    return name


def check_variant(name: str | None, known: tuple[str, ...]) -> str | None:
    """A named variant of a fusion, or None for the default."""
    return name if name is None else check_known(name, known, what="compat")


def check_part(part: Any, *, name: str, takes: str) -> nn.Module:
    """A module that the caller hands over. name: what it is; takes: its arguments, for the message."""
    if not isinstance(part, nn.Module):
        raise ValueError(f"{name} should be a torch.nn.Module that takes {takes}, got {plain(part)}.")
    return part
