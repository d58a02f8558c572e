"""Random streams of training: every draw follows from (seed, what it is for, epoch, step), so a resumed run
repeats it."""

from __future__ import annotations

from contextlib import AbstractContextManager
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


def seed_layers(seed: int, device: torch.device | str) -> None:
    """Set the streams that dropout layers draw from, since these know no generator, for the next pass. On a
    GPU they draw from the stream of the card, not from that of the CPU."""
    device = torch.device(device)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def streams_kept(device: torch.device | str) -> AbstractContextManager[None]:
    """A context after which the streams that `seed_layers` sets for this device are as they were before."""
    device = torch.device(device)
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
