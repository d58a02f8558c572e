"""Distances between the surfaces of two masks: Hausdorff 95 and surface Dice, in mm, through MONAI.

Surface: the pixels of a mask that touch its outside by an edge (a face in 3D); the border of the picture
counts as outside. To each of them belongs the distance to the nearest surface pixel of the other mask.
- Hausdorff 95: the 95th percentile of these distances, once from the prediction and once from the truth, and
  the larger of the two. Some tools take one percentile of both sets together, which is smaller or equal.
- surface Dice: the share of all surface pixels, of both masks together, that lie within `tolerance` of the
  other surface (Nikolov et al., arXiv:1809.04430, sec. 4.4; Seidlitz et al., arXiv:2111.05408).
Pixels are counted, not weighted by the area of surface that they stand for, so with unequal spacing the
finely sampled directions weigh more than in DeepMind's `surface-distance`.

Where one side is empty there is no distance: both are NaN, and have to be counted beside the mean of the
rest. (MONAI gives infinity for Hausdorff 95 and 0 for the surface Dice; NaN where both are empty.)
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from mmmed.checks import needs, plain

TOLERANCE = 2.0  # mm


def has_monai() -> bool:
    """Whether MONAI is installed; nothing is imported for it."""
    return importlib.util.find_spec("monai") is not None


def surface_scores(
    prediction: np.ndarray,
    truth: np.ndarray,
    spacing: tuple[float, ...] | None = None,
    tolerance: float = TOLERANCE,
) -> tuple[float, float]:
    """Hausdorff 95 and surface Dice of two masks, both NaN where one side is empty.

    prediction, truth: bool [height width] or [depth height width]. spacing: mm per pixel of each axis, in
    this order; None: distances and tolerance are in pixels. Raises ValueError for shapes, a spacing or a
    tolerance that do not fit, ImportError without MONAI.
    """
    prediction, truth = np.asarray(prediction, dtype=bool), np.asarray(truth, dtype=bool)
    _check(prediction, truth, spacing, tolerance)
    if not prediction.any() or not truth.any():
        return math.nan, math.nan
    hausdorff, surface_dice = _monai()
    ours, theirs = (_tensor(part) for part in _cropped(prediction, truth))
    options: dict[str, Any] = {"include_background": True, "spacing": spacing}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of an argument that MONAI passes to itself
        distance = hausdorff(ours, theirs, percentile=95, **options)
        within = surface_dice(ours, theirs, class_thresholds=[float(tolerance)], **options)
    return float(distance), float(within)


def _check(
    prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...] | None, tolerance: float
) -> None:
    if prediction.shape != truth.shape or prediction.ndim not in (2, 3):
        raise ValueError(
            "Both masks should have the same shape, [height width] or [depth height width], got "
            f"{list(prediction.shape)} and {list(truth.shape)}."
        )
    if spacing is not None and len(spacing) != prediction.ndim:
        raise ValueError(
            f"spacing should have a length in mm for each of the {prediction.ndim} axes of the mask, got "
            f"{plain(spacing)}."
        )
    if not isinstance(tolerance, (int, float)) or not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance should be a length of at least 0, got {plain(tolerance)}.")


def _cropped(prediction: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The box around both masks with a margin of one: the same distances, without the empty rest."""
    places = np.nonzero(prediction | truth)
    box = tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in places)
    return np.pad(prediction[box], 1), np.pad(truth[box], 1)


def _tensor(mask: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(mask[None, None])


def _monai() -> tuple[Callable[..., Any], Callable[..., Any]]:
    from mmmed.backbones.torchvision_guard import torchvision_state

    if not has_monai():
        raise needs("monai", "segmentation")
    torchvision_state()
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    return compute_hausdorff_distance, compute_surface_dice
