"""The folds of a study, with something hidden from those who learn; and what is hidden at the test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mmmed.checks import listing
from mmmed.data.splitting import SPLITS
from mmmed.data.statistics import fit_schema
from mmmed.types import Schema

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort
    from mmmed.data.missingness import Mechanism


def hide_from_learning(fold: Cohort, mechanism: Mechanism) -> Cohort:
    """A fold in which training and validation records lost what the mechanism takes; test records are whole.

    What a modality taught (means, levels, words) is learned anew from the training records that still have
    it. Raises ValueError for a modality that no training record has left.
    """
    learning = fold.parts != SPLITS.index("test")
    stays = np.array(fold.present)
    stays[learning] = mechanism.apply(fold.where(learning))
    train = fold.parts == SPLITS.index("train")
    gone = [name for k, name in enumerate(fold.schema.modalities) if not stays[train, k].any()]
    if gone:
        raise ValueError(
            f"No training record has {listing(gone)} left, so nothing can be learned about it. Hide less in "
            f"training ({mechanism.label}), or leave the modality out of the schema."
        )
    hidden = fold.keep(stays)
    lost = (stays != fold.present)[train].any(axis=0)
    if not lost.any():
        return hidden
    modalities = {
        name: _learned(fold, name, train & stays[:, k]) if lost[k] else modality
        for k, (name, modality) in enumerate(fold.schema.modalities.items())
    }
    return hidden.with_schema(replace(fold.schema, modalities=modalities))


def _learned(fold: Cohort, name: str, rows: np.ndarray):
    """One schema entry, its statistics from some records."""
    alone = Schema({name: fold.schema.modalities[name]})
    return fit_schema(alone, fold.source, fold.rows[rows]).modalities[name]


def distinct(mechanisms: Sequence[Mechanism] | Mapping[str, Mechanism]) -> dict[str, Mechanism]:
    """Mechanisms by a label of their own: the one they were given, or their own words; where two would read
    alike, their options are added. One that is listed twice counts once."""
    if isinstance(mechanisms, Mapping):
        return {str(label): mechanism for label, mechanism in mechanisms.items()}
    once = {repr(mechanism.to_dict()): mechanism for mechanism in mechanisms}.values()
    labels = [mechanism.label for mechanism in once]
    result = {}
    for mechanism, label in zip(once, labels, strict=True):
        if labels.count(label) > 1:
            options = ", ".join(f"{name} {value}" for name, value in mechanism.options.items())
            label = f"{label} ({options})" if options else label
        result[label] = mechanism
    return result
