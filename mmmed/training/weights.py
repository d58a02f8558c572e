"""Inverse-pattern weights: make the target independent of which modalities are there.

    w(y, m) = P(y) P(m) / P(y, m)        m the pattern of present modalities *after* modality dropout

If a label drives what is recorded (the sick get the scan), an unweighted model reads the pattern as a symptom
and fails where that habit differs. Under m independent of x given y the weights are exact, and they make
every prefix of the pattern independent of y too, so one weight per record serves all supervised steps. They
do not cure patterns that are driven by the unseen value itself. Without modality dropout they cannot work:
the cell (class, pattern) that never occurs cannot be weighed up. Source: inverse probability weighting; for
missing modalities ICYM2I (ICLR 2026, github.com/reAIM-Lab/ICYM2I).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mmmed.training.policy import (
    Policy,
    all_masks,
    drop_modalities,
    mask_distribution,
    pattern_code,
)
from mmmed.types import Multiclass, Multilabel, Regression, Task

COUNTED = (
    6  # up to this many modalities all 2**M patterns are counted; beyond, a logistic model estimates P(y|m)
)
BINS = 5  # a regression target is cut into at most this many quantile bins
DRAWS = 8  # dropout draws per record from which the logistic model learns
LOW = 0.3  # share of the records below which the effective sample size is warned about


@dataclass(frozen=True)
class Levels:
    """Cuts a target into the levels that weights are made for.

    Binary and multilabel: no and yes; multiclass: its classes; regression: quantile bins with inner `edges`.
    """

    count: int
    edges: Tensor | None = None

    @classmethod
    def of(cls, task: Task, target: Tensor, known: Tensor) -> Levels:
        """The levels of a task; the bins of a regression come from the known targets [batch]."""
        if isinstance(task, Multiclass):
            return cls(task.outputs)
        if isinstance(task, Regression):
            values = target[known].double()
            bins = max(1, min(BINS, len(values) // 20))
            edges = torch.quantile(values, torch.arange(1, bins).double() / bins) if bins > 1 else values[:0]
            edges = edges.unique()
            return cls(len(edges) + 1, edges)
        return cls(2)

    def __call__(self, target: Tensor, known: Tensor) -> Tensor:
        """target, known [batch] -> [batch] long, -1 where the label is unknown."""
        level = target.long() if self.edges is None else torch.bucketize(target.double(), self.edges)
        return level.where(known, -1)


@dataclass(frozen=True)
class CountedWeights:
    """Weights from exact joint counts. table [levels 2**modality]: the weight of each level under each
    pattern."""

    table: Tensor
    effective: float

    def __call__(self, level: Tensor, mask: Tensor) -> Tensor:
        """level [batch] long, mask [batch modality] bool -> [batch]; 1 where the level is unknown (-1)."""
        weight = self.table[level.clamp(min=0), pattern_code(mask)]
        return weight.where(level >= 0, 1.0)


@dataclass(frozen=True)
class ModelledWeights:
    """Weights P(y) / P(y|m) with P(y|m) from a logistic model on the pattern, for more modalities than can be
    counted.

    coefficient [levels modality], intercept [levels], prior [levels].
    """

    coefficient: Tensor
    intercept: Tensor
    prior: Tensor
    clip: float
    effective: float

    def __call__(self, level: Tensor, mask: Tensor) -> Tensor:
        """level [batch] long, mask [batch modality] bool -> [batch]; 1 where the level is unknown (-1)."""
        weight = self.prior / (mask.to(self.prior) @ self.coefficient.T + self.intercept).softmax(1)
        weight = weight.gather(1, level.clamp(min=0)[:, None])[:, 0].clamp(max=self.clip)
        return weight.where(level >= 0, 1.0).float()


Weights = CountedWeights | ModelledWeights


def pattern_weights(
    present: Tensor,
    level: Tensor,
    levels: int,
    policy: Policy,
    *,
    smoothing: float = 1.0,
    seed: int = 0,
) -> Weights:
    """Weights of one task from the training records.

    present [batch modality] bool: as recorded; level [batch] long, -1 = unknown label. smoothing: records
    added to both the observed and the expected count of each (level, pattern), which draws the weight of a
    hardly seen one to 1 and leaves the others alone. seed: only for more than six modalities, where dropout
    is drawn instead of enumerated.
    """
    present, level = present[level >= 0], level[level >= 0]
    if not len(level):
        blank = torch.zeros(levels, present.shape[1], dtype=torch.double)
        return ModelledWeights(
            blank, blank[:, 0], blank[:, 0] + 1 / levels, policy.clip, 0.0
        )  # all weights 1
    if present.shape[1] > COUNTED:
        return _modelled(present, level, levels, policy, seed)
    joint = joint_counts(present, level, levels, policy.dropout)  # [levels masks]
    expected = joint.sum(1, keepdim=True) * joint.sum(0) / joint.sum()
    weight = (expected + smoothing) / (joint + smoothing)
    weight = torch.nan_to_num(weight, nan=1.0, posinf=policy.clip).clamp(max=policy.clip)
    effective = (joint * weight).sum() ** 2 / (joint * weight**2).sum()
    return CountedWeights(weight.float(), float(effective))


def joint_counts(present: Tensor, level: Tensor, levels: int, rate: float) -> Tensor:
    """Expected number of records with each level and each pattern after dropout. -> [levels 2**modality]
    double."""
    modalities = present.shape[1]
    pairs = level * 2**modalities + pattern_code(present)
    counts = torch.bincount(pairs, minlength=levels * 2**modalities).double()
    return counts.view(levels, -1) @ mask_distribution(all_masks(modalities), rate)


def _modelled(present: Tensor, level: Tensor, levels: int, policy: Policy, seed: int) -> ModelledWeights:
    from sklearn.linear_model import LogisticRegression

    generator = torch.Generator().manual_seed(seed)
    masks = torch.cat([drop_modalities(present, policy.dropout, generator) for _ in range(DRAWS)])
    prior = torch.bincount(level, minlength=levels).double() / len(level)
    coefficient = torch.zeros(levels, present.shape[1], dtype=torch.double)
    intercept = prior.clamp(min=1e-12).log()
    seen = prior.nonzero().squeeze(1)
    if len(seen) > 1:
        # The draws of one record are no independent records: the penalty grows with their number.
        model = LogisticRegression(C=1 / DRAWS, max_iter=500)
        model.fit(masks.double().numpy(), level.repeat(DRAWS).numpy())
        slopes, offsets = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
        if len(seen) == 2:  # scikit-learn gives one row, the log-odds of the second level
            slopes, offsets = torch.cat([0 * slopes, slopes]), torch.cat([0 * offsets, offsets])
        coefficient[seen], intercept[seen] = slopes, offsets
    weights = ModelledWeights(coefficient, intercept, prior, policy.clip, 0.0)
    drawn = weights(level.repeat(DRAWS), masks).double()
    effective = float(drawn.sum() ** 2 / (drawn**2).sum()) / DRAWS
    return ModelledWeights(coefficient, intercept, prior, policy.clip, effective)


@dataclass(frozen=True)
class CohortWeights:
    """The weights of every task of a cohort, learned from its training records."""

    levels: Mapping[str, Levels]
    tables: Mapping[str, tuple[Weights, ...]]  # one per task; a multilabel task has one per label

    @classmethod
    def of(
        cls,
        tasks: Mapping[str, Task],
        present: Tensor,
        targets: Mapping[str, Tensor],
        known: Mapping[str, Tensor],
        policy: Policy,
        seed: int = 0,
    ) -> CohortWeights:
        """present [batch modality]; targets, known as in a `Batch`. Warns about a small effective sample
        size."""
        levels = {name: Levels.of(task, targets[name], known[name]) for name, task in tasks.items()}
        if not policy.weighs:
            return cls(levels, {})
        tables = {}
        for name, task in tasks.items():
            columns = levels[name](targets[name], known[name])
            columns = columns.unbind(1) if isinstance(task, Multilabel) else (columns,)
            tables[name] = tuple(
                pattern_weights(present, column, levels[name].count, policy, seed=seed) for column in columns
            )
        return cls(levels, tables)

    def __call__(
        self, mask: Tensor, targets: Mapping[str, Tensor], known: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Weights of records under a pattern: mask [batch modality] -> {task: [batch], or [batch labels]}."""
        result = {}
        for name, tables in self.tables.items():
            level = self.levels[name](targets[name], known[name])
            if level.ndim == 2:
                columns = zip(tables, level.unbind(1), strict=True)
                result[name] = torch.stack([table(column, mask) for table, column in columns], dim=1)
            else:
                result[name] = tables[0](level, mask)
        return result

    @property
    def effective(self) -> dict[str, float]:
        """Expected effective sample size (sum w)^2 / sum w^2 of each task; of a multilabel task the smallest
        label's."""
        return {name: min(table.effective for table in tables) for name, tables in self.tables.items()}

    def warn(self, known: Mapping[str, Tensor]) -> None:
        """Warn about a small effective sample size. known: of the training records."""
        for name, tables in self.tables.items():
            counts = known[name].sum(0).reshape(-1).tolist()
            for table, count in zip(tables, counts, strict=True):
                if table.effective < LOW * count:
                    warnings.warn(
                        f"Task {name!r}: the weights that make {count} labels independent of the pattern "
                        "of missing modalities leave an effective sample size of "
                        f"{table.effective:.0f}. Results will be noisy. If the pattern will be the same "
                        'wherever the model is used, Policy(missingness="use") does without them; a lower '
                        "Policy(clip=...) is a compromise.",
                        stacklevel=2,
                    )
