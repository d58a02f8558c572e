"""Checkpoints: safetensors and JSON, whole or not at all, and only for the run that they belong to.

A checkpoint is a folder `checkpoints/<epoch>-<update>` with model, best and optimizer (.safetensors) and
state.json. It is written under another name and then moved into place, so a run that is killed at any moment
leaves the one before. No generator states are kept: every draw of training follows from (seed, epoch,
update), see `mmmed.training.chance`.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmmed.checks import listing, plain

FORMAT = 1
MODEL, BEST, OPTIMISER, STATE = "model.safetensors", "best.safetensors", "optimizer.safetensors", "state.json"


@dataclass
class Progress:
    """How far a run is. epoch, update: what comes next, both from 0. losses: of the updates of this epoch so
    far.

    history: one dict per finished epoch. best_epoch: from 1, 0 = none yet. finished: nothing is left to do.
    """

    epoch: int = 0
    update: int = 0
    best_epoch: int = 0
    best_loss: float | None = None
    finished: bool = False
    losses: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Checkpoint:
    """What was saved: weights (state dicts), the optimiser's tensors, and how far the run was."""

    progress: Progress
    model: dict[str, Tensor]
    best: dict[str, Tensor]
    optimiser: dict[str, Tensor]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, fingerprint: Mapping[str, Any]) -> Path:
    """Write into `folder` and remove the checkpoint before. Raises ValueError if the disk does not take it.

    fingerprint: what must be the same for the run to be resumed, JSON-ready (settings, hashes of data).
    """
    from safetensors.torch import save_file

    progress = checkpoint.progress
    place = folder / f"{progress.epoch:06d}-{progress.update:06d}"
    folder.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder))
    state = {"format": FORMAT, "progress": vars(progress), "fingerprint": dict(fingerprint)}
    try:
        save_file(checkpoint.model, part / MODEL)
        save_file(checkpoint.best, part / BEST)
        save_file(checkpoint.optimiser, part / OPTIMISER)
        (part / STATE).write_text(json.dumps(state), encoding="utf-8")
        for file in part.iterdir():
            _to_disk(file)
        if place.exists():  # the same moment was saved before: by the run that this one resumed
            shutil.rmtree(place)
        os.replace(part, place)
    except Exception as error:  # safetensors has its own exception for a full disk
        shutil.rmtree(part, ignore_errors=True)
        raise ValueError(
            f"The checkpoint could not be written to {folder}: {error}. The one before is whole. Make room, "
            "then call finetune again with the same arguments: it goes on from there."
        ) from error
    for other in folder.iterdir():
        if other != place:
            shutil.rmtree(other, ignore_errors=True)
    return place


def load_checkpoint(folder: Path, fingerprint: Mapping[str, Any]) -> Checkpoint | None:
    """The newest checkpoint, or None if there is none. Raises ValueError that says what differs from this
    run."""
    from safetensors.torch import load_file

    places = sorted(p for p in folder.iterdir() if (p / STATE).is_file()) if folder.is_dir() else []
    places = [place for place in places if not place.name.startswith(".")]
    if not places:
        return None
    place = places[-1]
    try:
        state = json.loads((place / STATE).read_text(encoding="utf-8"))
        version, progress, saved = state["format"], Progress(**state["progress"]), state["fingerprint"]
        tensors = [load_file(place / name) for name in (MODEL, BEST, OPTIMISER)]
    except Exception as error:
        raise ValueError(
            f"The checkpoint {place} cannot be read: {error}. Delete it, or start over with resume=False."
        ) from error
    if version != FORMAT:
        raise ValueError(
            f"The checkpoint {place} has format {plain(version)}; this release reads {FORMAT}. "
            "Start over with resume=False."
        )
    check_same_run(saved, fingerprint, folder)
    return Checkpoint(progress, *tensors)


def check_same_run(saved: Mapping[str, Any], fingerprint: Mapping[str, Any], folder: Path) -> None:
    """Raise ValueError that lists what the saved run had and this one has not."""
    now = json.loads(json.dumps(dict(fingerprint)))  # tuples become lists, as in the file
    differences = []
    for name in dict.fromkeys((*saved, *now)):
        before, after = saved.get(name), now.get(name)
        if before != after:
            hashed = isinstance(before, str) and isinstance(after, str) and len(before) == len(after) == 32
            differences.append(name if hashed else f"{name} was {plain(before)} and is {plain(after)}")
    if differences:
        raise ValueError(
            f"{folder} holds a checkpoint of another run. What differs: {listing(differences)}. Use the "
            "same settings and data to resume it, another output folder, or resume=False to start over."
        )


def delete_checkpoints(folder: Path) -> None:
    """Remove all checkpoints of an output folder."""
    shutil.rmtree(folder, ignore_errors=True)


def state_of(model: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of the weights on the CPU; tied weights become two copies, since safetensors stores no ties."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors: "3.exp_avg" belongs to the fourth parameter."""
    state = optimiser.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value).detach().cpu().clone().contiguous()
        for index, entry in state.items()
        for name, value in entry.items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` gave, laid out in memory as the weights are (channels last, for
    example); learning rates and groups are those of this run."""
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        weight = weights[int(index)]
        if tensor.shape == weight.shape:
            tensor = torch.empty_like(weight, device=tensor.device, dtype=tensor.dtype).copy_(tensor)
        state.setdefault(int(index), {})[name] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def claim_output(output: Path, weights: Iterable[Tensor], resume: bool) -> None:
    """Make sure that a run of these weights can be written, and throw old checkpoints away unless it resumes.

    Ten times the weights are asked for: two checkpoints of model, best and two moments each, and the model.
    """
    check_writable(output, 10 * sum(tensor.numel() * tensor.element_size() for tensor in weights))
    if not resume:
        delete_checkpoints(output / "checkpoints")


def check_writable(folder: Path, size: int) -> None:
    """Make the output folder and write a probe. Raises ValueError if it cannot take `size` bytes.

    Folders that were made for the probe are removed again if it fails.
    """
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"\0" * 4096)
        _to_disk(probe)
        free = shutil.disk_usage(folder).free
        if free < size:
            raise OSError(f"{free / 2**20:.0f} MB are free, about {size / 2**20:.0f} MB are needed")
        probe.unlink()
    except OSError as error:
        probe_there = folder.is_dir() and probe.exists()
        if probe_there:
            probe.unlink()
        for parent in made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
        raise ValueError(
            f"The output folder {folder} cannot be used: {error}. Nothing was trained. Choose another place, "
            "or output=None to keep everything in memory."
        ) from error


def _to_disk(file: Path) -> None:
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
