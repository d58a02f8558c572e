"""Calibration: what the model's numbers meant on patients it was not trained on.

Classification: the log-odds are stretched and shifted (Platt 1999; temperature scaling, Guo et al.,
arXiv:1706.04599, is the case without shift) to fit the validation patients, with a pull towards "leave as it
is" that matters when they are few. Regression: the interval is the range that held 95 % of the validation
errors (split conformal prediction, Lei et al., arXiv:1604.04173).

An answer from a table alone is not as well scaled as one from everything, so every pattern of presence has a
fit of its own: on the records that have at least these modalities, reduced to exactly them. It is pulled
towards the general fit (of the records as they came), as in empirical Bayes (Efron and Morris 1973,
doi:10.1080/01621459.1973.10481350), by a fixed weight of 32 patients. Reducing a record stands for a record
that never had more. That is right where absence is to say nothing, as the training policy "ignore" wants, and
for the same reason the records of a pattern are weighted to the label shares of all; where absence is a
symptom, fit without patterns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmmed.models.calibration_fits import PATTERN_PATIENTS, fit_outputs, fit_pattern, patient_draws
from mmmed.types import Binary, Multilabel, Regression, Task

DRAWS = 200  # bootstrap refits; their spread is the interval of a probability
LEVEL = 0.95

Pattern = tuple[bool, ...]  # which modalities are present, in the order of `model.modalities`
Reduced = Mapping[Pattern, tuple[np.ndarray, np.ndarray]]  # pattern -> rows [n], their logits [n outputs]


@dataclass(frozen=True)
class Calibration:
    """How to read the raw outputs of one task.

    kind: of the task. slopes, shifts [1 + DRAWS outputs]: the fit on all validation patients first, then
    bootstrap refits over patients. radius: regression only, half the width of the interval in standardised
    units. records: how many with a known label it rests on. patterns: the same for each pattern of presence
    that could be made from the validation records; empty in folders saved before there were any.
    """

    kind: str
    slopes: np.ndarray
    shifts: np.ndarray
    radius: float = 0.0
    records: int = 0
    patterns: Mapping[Pattern, Calibration] = field(default_factory=dict)

    def known(self, present: Any) -> bool:
        """Is there a fit for this pattern [modalities]? If not, the general one is used."""
        return matching(self.patterns, present) is not None

    def of(self, present: Any) -> Calibration:
        """The fit of a pattern [modalities], or this general one if the pattern was never seen."""
        pattern = matching(self.patterns, present)
        return self if pattern is None else self.patterns[pattern]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready form; unrounded, so that a loaded model gives bit-equal answers."""
        lists = {"slopes": self.slopes.tolist(), "shifts": self.shifts.tolist()}
        patterns = [{"present": list(key), **fit.to_dict()} for key, fit in self.patterns.items()]
        plain = {"kind": self.kind, **lists, "radius": self.radius, "records": self.records}
        return {**plain, "patterns": patterns} if patterns else plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Calibration:
        patterns = {tuple(item["present"]): cls.from_dict(item) for item in data.get("patterns", ())}
        arrays = np.array(data["slopes"]), np.array(data["shifts"])
        return cls(data["kind"], *arrays, float(data["radius"]), int(data.get("records", 0)), patterns)


def probabilities(
    task: Task,
    logits: np.ndarray,
    calibration: Calibration | None = None,
    present: np.ndarray | None = None,
) -> np.ndarray:
    """Raw outputs [... outputs] -> probabilities of the same shape; a regression in its unit.

    calibration: None leaves the outputs as they are. present [... modalities] bool, broadcast against the
    leading axes of logits: each row is read by the fit of its pattern; None reads all by the general fit.
    Within a pattern the order of rows never changes.
    """
    if calibration is None:
        return read(task, logits)
    result = np.empty(logits.shape)
    for fit, rows in _parts(calibration, present, logits.shape[:-1]):
        result[rows] = read(task, logits[rows] * fit.slopes[0] + fit.shifts[0])
    return result


def interval(
    task: Task, logits: np.ndarray, calibration: Calibration, present: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval (low, high), each [... outputs]; present as in `probabilities`.

    Probabilities: the spread of the calibration over bootstrap draws of the validation patients; it says how
    well the scale is known, not how much this patient may differ from others with the same record.
    Regression: a prediction interval for this patient's value.
    """
    low, high = np.empty(logits.shape), np.empty(logits.shape)
    for fit, rows in _parts(calibration, present, logits.shape[:-1]):
        low[rows], high[rows] = _spread(task, logits[rows], fit)
    return low, high


def log_odds(probability: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)), with p kept away from 0 and 1."""
    p = np.clip(np.asarray(probability, dtype=float), 1e-7, 1 - 1e-7)
    return np.log(p / (1 - p))


def fit_calibration(
    task: Task,
    logits: np.ndarray,
    targets: np.ndarray,
    known: np.ndarray,
    groups: np.ndarray,
    seed: int = 0,
    reduced: Reduced | None = None,
) -> Calibration | None:
    """Fit on validation records.

    logits [records outputs] of the records as they came; targets, known [records] ([records labels] for
    multilabel), regression standardised; groups [records]: patients, the unit of the bootstrap. reduced:
    pattern -> the rows that have at least these modalities, and their logits when reduced to them. None if no
    label is known.
    """
    if not known.any():
        return None
    reduced = {
        pattern: (rows, part) for pattern, (rows, part) in (reduced or {}).items() if known[rows].any()
    }
    if isinstance(task, Regression):
        return _fit_ranges(logits, targets, known, reduced)
    weights = patient_draws(groups, DRAWS, seed)
    kind, count = type(task).__name__.lower(), _labelled(known)
    slopes, shifts = fit_outputs(task, logits, targets, known, weights)
    patterns = {
        pattern: Calibration(
            kind,
            *fit_pattern(task, pattern, part, targets, known, weights, (slopes, shifts)),
            records=_labelled(known[part[0]]),
        )
        for pattern, part in reduced.items()
    }
    return Calibration(kind, slopes, shifts, records=count, patterns=patterns)


def patterns_to_fit(present: np.ndarray, most: int = 5) -> list[Pattern]:
    """The patterns that records with these modalities [records modalities] can be reduced to.

    All subsets for at most `most` modalities; beyond that the patterns that occur, nothing, every modality
    alone and all together. Only those that some record can be reduced to.
    """
    modalities = present.shape[1]
    if modalities <= most:
        numbers = np.arange(2**modalities)
        flags = (numbers[:, None] >> np.arange(modalities)) & 1 == 1
    else:
        some = [np.zeros((1, modalities)), np.eye(modalities), np.ones((1, modalities)), present]
        flags = np.concatenate(some).astype(bool)
    patterns = sorted({tuple(row) for row in flags.tolist()}, key=lambda row: (sum(row), row[::-1]))
    return [pattern for pattern in patterns if can_show(present, pattern).any()]


def can_show(present: np.ndarray, pattern: Pattern) -> np.ndarray:
    """Which records [records] have at least the modalities of a pattern."""
    return present[:, np.array(pattern, dtype=bool)].all(axis=1)


def matching(patterns: Mapping[Pattern, Any], present: Any) -> Pattern | None:
    """The key of a pattern of presence, None if it is not among them.

    A modality that was added to the model later stands at the end: where it is absent, the pattern is an old
    one.
    """
    flags = tuple(bool(flag) for flag in present)
    width = len(next(iter(patterns), ()))
    key = flags if any(flags[width:]) else flags[:width]
    return key if key in patterns else None


def read(task: Task, outputs: np.ndarray) -> np.ndarray:
    """Scaled outputs -> probabilities, or a regression in its unit."""
    if isinstance(task, (Binary, Multilabel)):
        return 1 / (1 + np.exp(-np.clip(outputs, -60, 60)))
    if isinstance(task, Regression):
        return outputs * task.scale + task.mean
    raised = np.exp(outputs - outputs.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def by_pattern(present: np.ndarray, shape: tuple[int, ...]) -> Iterator[tuple[Pattern, np.ndarray]]:
    """Every pattern in present [... modalities], broadcast to [*shape modalities], with the rows [*shape]
    bool that have it."""
    flags = np.broadcast_to(np.asarray(present, dtype=bool), (*shape, np.shape(present)[-1]))
    codes = flags @ (1 << np.arange(flags.shape[-1]))
    for code in np.unique(codes):
        yield tuple(bool(code >> k & 1) for k in range(flags.shape[-1])), codes == code


# ---------------------------------------------------------------------------------------- inner workings


def _parts(
    calibration: Calibration, present: np.ndarray | None, shape: tuple[int, ...]
) -> Iterator[tuple[Calibration, Any]]:
    """Each fit with the rows that it reads."""
    if present is None or not calibration.patterns:
        yield calibration, ...
        return
    for pattern, rows in by_pattern(present, shape):
        yield calibration.of(pattern), rows


def _spread(task: Task, logits: np.ndarray, fit: Calibration) -> tuple[np.ndarray, np.ndarray]:
    """The interval of rows that one fit reads."""
    if isinstance(task, Regression):
        return tuple(read(task, logits + sign * fit.radius) for sign in (-1.0, 1.0))
    shape = (-1, *([1] * (logits.ndim - 1)), logits.shape[-1])
    draws = read(task, logits * fit.slopes[1:].reshape(shape) + fit.shifts[1:].reshape(shape))
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    centre = read(task, logits * fit.slopes[0] + fit.shifts[0])
    return np.minimum(low, centre), np.maximum(high, centre)


def _labelled(known: np.ndarray) -> int:
    """Records of which any label is known."""
    return int(known.reshape(len(known), -1).any(axis=1).sum())


def _fit_ranges(logits: np.ndarray, targets: np.ndarray, known: np.ndarray, reduced: Reduced) -> Calibration:
    """The radius of a regression, general and per pattern."""
    ones, zeros = np.ones((1, 1)), np.zeros((1, 1))
    general = np.sort(np.abs(logits[:, 0] - targets)[known])
    patterns = {}
    for pattern, (rows, part) in reduced.items():
        errors = np.abs(part[:, 0] - targets[rows])[known[rows]]
        radius = _shrunk_radius(errors, general)
        patterns[pattern] = Calibration("regression", ones, zeros, radius, len(errors))
    return Calibration("regression", ones, zeros, _radius(general), len(general), patterns)


def _radius(errors: np.ndarray) -> float:
    rank = min(int(np.ceil((len(errors) + 1) * LEVEL)), len(errors))
    return float(np.sort(errors)[rank - 1])


def _shrunk_radius(errors: np.ndarray, general: np.ndarray) -> float:
    """The radius of a pattern from its own errors and the general ones, which together weigh as
    PATTERN_PATIENTS."""
    share = PATTERN_PATIENTS / (PATTERN_PATIENTS + len(errors))
    return float((1 - share) * _radius(errors) + share * _radius(general))
