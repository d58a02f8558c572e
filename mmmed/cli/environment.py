"""What this machine offers: versions, device, memory, and whether torchvision fits its torch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from typing import Any

PACKAGES = (
    *("mmmed", "torch", "torchvision", "timm", "datasets", "accelerate", "safetensors", "scikit-learn"),
    *("transformers", "peft", "open_clip_torch", "pydicom", "nibabel", "tensorboard", "gradio"),
)
GUARD = {
    "untouched": "sound",
    "repaired": "of another kind than torch; mmmed works round it. To cure it, install both from one index.",
    "absent": "not installed; image models of timm need it: python -m pip install torchvision",
}


def environment() -> dict[str, Any]:
    """Facts to paste into a report of a problem; no path, no user name, no host."""
    import torch

    from mmmed.backbones.torchvision_guard import torchvision_state

    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "memory": _memory(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "threads": torch.get_num_threads(),
        "torchvision": GUARD[torchvision_state()],
        "packages": {name: _version(name) for name in PACKAGES},
        "real cohorts": "MMMED_DATA is set" if os.environ.get("MMMED_DATA") else "MMMED_DATA is not set",
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (AttributeError, ValueError, OSError):
        return "unknown"
