"""The MultiModN of the paper, for comparison: same forward pass, same loss (Swamy et al., arXiv:2309.14118).

Trained as published it confines probabilities to 0.27-0.73 (cross-entropy over sigmoids) and overwrites its
state; `create_model(schema)` differs in both. What it shares is the recurrence, so it skips per record like
every other model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import nn

from mmmed.fusion.multimodn import MultiModN
from mmmed.heads.linear import SigmoidClasses
from mmmed.models.multimodal import MultimodalModel


def published_multimodn(
    features: Mapping[str, int],
    classes: Mapping[str, int],
    state_dim: int = 50,
    hidden: Sequence[int] = (32,),
) -> MultimodalModel:
    """Modalities as plain vectors [n features], tasks with their number of classes; loss: `losses.multimodn`.

    hidden: widths before the layer that also takes the state, one at least.
    """
    if not hidden:
        raise ValueError(
            "The published MLP encoder without a hidden layer is a linear map of [x; s]: give one width."
        )
    encoders = {name: _features([width, *hidden]) for name, width in features.items()}
    fusion = MultiModN(features, dim=hidden[-1], state_dim=state_dim, compat="multimodn")
    return MultimodalModel(encoders, fusion, {t: SigmoidClasses(state_dim, n) for t, n in classes.items()})


def _features(sizes: Sequence[int]) -> nn.Sequential:
    """Everything of the published encoder before its last layer: linear and ReLU in turn."""
    return nn.Sequential(*(layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())))
