"""Make torchvision importable where it was built for CUDA and torch was not.

Package registries offer torchvision for Linux as a CUDA build only. Beside a CPU build of torch its C++
library does not load, so its operators are never declared, and the import ends in "operator torchvision::nms
does not exist" (https://github.com/pytorch/vision/issues/9085,
https://github.com/pytorch/pytorch/issues/122494). timm imports torchvision always and transformers where it
is installed; neither then works. Declaring the two operators by hand is enough: everything but non-maximum
suppression and torchvision's own file reading runs.

Call `torchvision_state` right before timm, torchvision or a class of transformers is imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

OPERATORS = ("nms", "qnms")
SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

_kept: list[Any] = []  # torch takes a declaration back as soon as its Library object is gone


def torchvision_state() -> str:
    """Import torchvision, and mend it if it needs that: "absent", "untouched" or "repaired".

    A sound installation is left alone: the import is tried first. Any other failure of the import is raised
    as it is.
    """
    if importlib.util.find_spec("torchvision") is None:
        return "absent"
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        _forget_half_loaded()
        _declare_operators()
        importlib.import_module("torchvision")
    return "repaired" if _kept else "untouched"


def _forget_half_loaded() -> None:
    for name in list(sys.modules):
        if name == "torchvision" or name.startswith("torchvision."):
            del sys.modules[name]


def _declare_operators() -> None:
    from torch import library

    declared = library.Library("torchvision", "FRAGMENT")
    for operator in OPERATORS:
        declared.define(operator + SIGNATURE)
    _kept.append(declared)
