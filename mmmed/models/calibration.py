"""Calibration: what the model's numbers meant on patients it was not trained on.

Classification: the log-odds are stretched and shifted (Platt 1999; temperature scaling, Guo et al.,
arXiv:1706.04599, is the case without shift) to fit the validation patients, with a pull towards "leave as it
is" that matters when they are few. Regression: the interval is the range that held 95 % of the validation
errors (split conformal prediction, Lei et al., arXiv:1604.04173).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmmed.types import Binary, Multiclass, Multilabel, Regression, Task

DRAWS = 200  # bootstrap refits; their spread is the interval of a probability
PULL = 4.0  # prior precision of (log slope, shift): weighs as 16 patients, who inform by p (1 - p) each
LEVEL = 0.95


@dataclass(frozen=True)
class Calibration:
    """How to read the raw outputs of one task.

    kind: of the task. slopes, shifts [1 + DRAWS outputs]: the fit on all validation patients first, then
    bootstrap refits over patients. radius: regression only, half the width of the interval in standardised
    units.
    """

    kind: str
    slopes: np.ndarray
    shifts: np.ndarray
    radius: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready form; unrounded, so that a loaded model gives bit-equal answers."""
        lists = {"slopes": self.slopes.tolist(), "shifts": self.shifts.tolist()}
        return {"kind": self.kind, **lists, "radius": self.radius}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Calibration:
        return cls(data["kind"], np.array(data["slopes"]), np.array(data["shifts"]), float(data["radius"]))


def probabilities(task: Task, logits: np.ndarray, calibration: Calibration | None = None) -> np.ndarray:
    """Raw outputs [... outputs] -> probabilities of the same shape; a regression in its unit. Uncalibrated if
    None."""
    slopes, shifts = (calibration.slopes[0], calibration.shifts[0]) if calibration else (1.0, 0.0)
    return _read(task, logits * slopes + shifts)


def interval(task: Task, logits: np.ndarray, calibration: Calibration) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval (low, high), each [... outputs].

    Probabilities: the spread of the calibration over bootstrap draws of the validation patients; it says how
    well the scale is known, not how much this patient may differ from others with the same record.
    Regression: a prediction interval for this patient's value.
    """
    if isinstance(task, Regression):
        return tuple(_read(task, logits + sign * calibration.radius) for sign in (-1.0, 1.0))
    shape = (-1, *([1] * (logits.ndim - 1)), logits.shape[-1])
    draws = _read(
        task, logits * calibration.slopes[1:].reshape(shape) + calibration.shifts[1:].reshape(shape)
    )
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    low, high = np.quantile(draws, tails, axis=0)
    centre = probabilities(task, logits, calibration)
    return np.minimum(low, centre), np.maximum(high, centre)


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
) -> Calibration | None:
    """Fit on validation records.

    logits [records outputs]; targets, known [records] ([records labels] for multilabel), regression
    standardised; groups [records]: patients, the unit of the bootstrap. None if no label is known.
    """
    if isinstance(task, Regression):
        errors = np.abs(logits[:, 0] - targets)[known]
        if not len(errors):
            return None
        rank = min(int(np.ceil((len(errors) + 1) * LEVEL)), len(errors))
        return Calibration("regression", np.ones((1, 1)), np.zeros((1, 1)), float(np.sort(errors)[rank - 1]))
    if not known.any():
        return None
    counts = _patient_draws(groups, seed)
    if isinstance(task, Multiclass):
        fits = [_fit_temperature(logits, targets, known * weight) for weight in counts]
        slopes = np.repeat(np.array(fits)[:, None], task.outputs, axis=1)
        return Calibration("multiclass", slopes, np.zeros_like(slopes))
    columns, here = targets.reshape(len(logits), -1), known.reshape(len(logits), -1)
    fits = np.array(
        [
            [_fit_line(logits[:, c], columns[:, c], here[:, c] * weight) for c in range(columns.shape[1])]
            for weight in counts
        ]
    )  # [draws outputs 2]
    kind = "binary" if isinstance(task, Binary) else "multilabel"
    return Calibration(kind, fits[..., 0], fits[..., 1])


def _read(task: Task, outputs: np.ndarray) -> np.ndarray:
    if isinstance(task, (Binary, Multilabel)):
        return 1 / (1 + np.exp(-np.clip(outputs, -60, 60)))
    if isinstance(task, Multiclass):
        raised = np.exp(outputs - outputs.max(-1, keepdims=True))
        return raised / raised.sum(-1, keepdims=True)
    return outputs * task.scale + task.mean


def _patient_draws(groups: np.ndarray, seed: int) -> np.ndarray:
    """Weights per record: all ones, then how often its patient was drawn. [1 + DRAWS records]"""
    _, patient = np.unique(groups, return_inverse=True)
    patients = patient.max() + 1
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(patients, np.full(patients, 1 / patients), size=DRAWS)[:, patient]
    return np.concatenate([np.ones((1, len(groups))), drawn])


def _fit_line(logits: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Slope (kept positive through its logarithm) and shift by Newton's method on the penalised log loss."""

    def loss(theta: np.ndarray) -> float:
        outputs = np.exp(theta[0]) * logits + theta[1]
        return float(weights @ (np.logaddexp(0, outputs) - targets * outputs) + PULL * theta @ theta / 2)

    theta = np.zeros(2)  # log slope, shift
    value = loss(theta)
    for _ in range(50):
        slope = np.exp(theta[0])
        p = 1 / (1 + np.exp(-np.clip(slope * logits + theta[1], -60, 60)))
        slopes = np.stack([slope * logits, np.ones_like(logits)])  # d output / d theta
        gradient = slopes @ (weights * (p - targets)) + PULL * theta
        curvature = (slopes * (weights * p * (1 - p))) @ slopes.T + PULL * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        for halving in range(12):  # full steps may swing to and fro for ever: few patients, large logits
            tried = np.clip(theta - step / 2**halving, -3, 3)
            if (lower := loss(tried)) < value:
                break
        else:
            break
        gain, theta, value = value - lower, tried, lower
        if gain < 1e-9 * (1 + value):
            break
    return float(np.exp(theta[0])), float(theta[1])


def _fit_temperature(logits: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> float:
    """One slope for all classes: bounded search for its logarithm on the penalised log loss."""
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(logits))

    def loss(log_slope: float) -> float:
        scaled = logits * np.exp(log_slope)
        top = scaled.max(1)
        total = top + np.log(np.exp(scaled - top[:, None]).sum(1))
        return float((weights * (total - scaled[rows, targets.astype(int)])).sum() + PULL * log_slope**2 / 2)

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))
