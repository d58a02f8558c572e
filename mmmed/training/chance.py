"""Random streams of training: every draw follows from (seed, what it is for, epoch, step), so a resumed run
repeats it."""

from __future__ import annotations

from hashlib import blake2b

import torch

from mmmed.checks import plain


def stream_seed(seed: int, *parts: int | str) -> int:
    """A 63-bit seed that is the same on every machine: stream_seed(0, "order", epoch)."""
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ValueError(f"seed should be a whole number, got {plain(seed)}.")
    text = repr((seed, *parts)).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little") >> 1


def stream(seed: int, *parts: int | str) -> torch.Generator:
    """A fresh generator for one purpose."""
    return torch.Generator().manual_seed(stream_seed(seed, *parts))
