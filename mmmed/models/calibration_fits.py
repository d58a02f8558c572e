"""The fits behind a calibration: one line, or one temperature, for every set of record weights at once.

Every fit is pulled towards a centre by what some patients would say, so few records change little.
Draws of a bootstrap and folds of a cross-fit are nothing but weights, and all of them are fitted together.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mmmed.types import Multiclass, Task

PATIENTS = 16.0  # the pull of a general fit towards "leave as it is" weighs as many patients
# The pull of a pattern towards the general fit. For four kinds of models, 60 to 350 validation records of a
# simulated cohort any weight from 16 to 64 came within .005 of the least distance to the exact posterior;
# more loses with many records, less with few (tests/benchmarks/bench_conformal.py).
PATTERN_PATIENTS = 32.0
LARGEST = 3.0  # bound of |log slope| and |shift| of a general fit, and of their distance from the centre
CELLS = 2_000_000  # numbers held at a time in one array: 16 MB


def fit_outputs(
    task: Task,
    logits: np.ndarray,
    targets: np.ndarray,
    known: np.ndarray,
    weights: np.ndarray,
    centre: tuple[np.ndarray, np.ndarray] | None = None,
    patients: float = PATIENTS,
) -> tuple[np.ndarray, np.ndarray]:
    """Slopes and shifts, each [fits outputs], of a classification task.

    logits [records outputs]; targets, known [records] or [records labels]; weights [fits records]. centre:
    slopes and shifts [fits outputs] that each fit is pulled to; None = leave the logits as they are.
    patients: how many the pull weighs; one informs about (log slope, shift) by p (1 - p), at most 1/4.
    """
    if centre is None:
        centre = np.ones((len(weights), task.outputs)), np.zeros((len(weights), task.outputs))
    if isinstance(task, Multiclass):
        start, classes = np.log(centre[0][:, :1]), targets.astype(int)
        fitted = _in_blocks(fit_temperatures, logits, classes, weights * known, start, patients / 4)
        return np.exp(np.repeat(fitted, task.outputs, axis=1)), centre[1]
    columns, here = (part.reshape(len(logits), -1) for part in (targets, known))
    fits = []
    for k in range(task.outputs):
        start = np.stack([np.log(centre[0][:, k]), centre[1][:, k]], axis=1)
        answer = np.where(here[:, k], columns[:, k], 0.0)
        fits.append(_in_blocks(fit_lines, logits[:, k], answer, weights * here[:, k], start, patients / 4))
    theta = np.stack(fits, axis=1)  # [fits outputs 2]
    return np.exp(theta[..., 0]), theta[..., 1]


def fit_pattern(
    task: Task,
    pattern: tuple[bool, ...],
    reduced: tuple[np.ndarray, np.ndarray],
    targets: np.ndarray,
    known: np.ndarray,
    weights: np.ndarray,
    general: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Slopes and shifts [fits outputs] of the records reduced to one pattern, pulled to the general fit.

    reduced: the rows that have at least these modalities, and their logits when reduced to them; the other
    arguments are those of all records. The rows are weighted to the label shares of all records: where the
    ill are examined more often, those who have everything are iller, and a fit of their own would read
    presence as a symptom.
    """
    rows, logits = reduced
    known = known[rows] * label_weights(targets, known, rows)
    targets, weights = targets[rows], weights[:, rows]
    if isinstance(task, Multiclass) and not any(pattern):
        return _fit_shares(logits[0], targets, weights * known, general)
    return fit_outputs(task, logits, targets, known, weights, general, PATTERN_PATIENTS)


def label_weights(targets: np.ndarray, known: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Weights P(label) / P(label | one of these rows), as P(y) P(m) / P(y, m) in training, at most 10.

    targets, known [records] or [records labels] -> [rows] or [rows labels]. One patient of each label is
    added to the counts of the rows.
    """
    columns, here = (part.reshape(len(targets), -1) for part in (targets, known))
    weights = np.ones((len(rows), columns.shape[1]))
    for k in range(columns.shape[1]):
        labels = np.unique(columns[here[:, k], k])
        for label in labels:
            has = here[:, k] & (columns[:, k] == label)
            share = has.sum() / here[:, k].sum()
            own = (has[rows].sum() + 1) / (here[rows, k].sum() + len(labels))
            weights[has[rows], k] = min(share / own, 10.0)
    return weights.reshape(len(rows), *targets.shape[1:])


def fit_lines(
    logits: np.ndarray, targets: np.ndarray, weights: np.ndarray, centre: np.ndarray, pull: float
) -> np.ndarray:
    """(log slope, shift) [fits 2] that minimise the penalised log loss; the logarithm keeps slopes positive.

    logits, targets [records]; weights [fits records]; centre [fits 2]; pull: precision of the prior.
    """

    def loss(theta: np.ndarray, fits: np.ndarray) -> np.ndarray:
        outputs = np.exp(theta[:, :1]) * logits + theta[:, 1:]
        losses = np.maximum(outputs, 0) + np.log1p(np.exp(-np.abs(outputs))) - targets * outputs
        return (weights[fits] * losses).sum(1) + pull * ((theta - centre[fits]) ** 2).sum(1) / 2

    def step(theta: np.ndarray, fits: np.ndarray) -> np.ndarray:
        stretched, w = np.exp(theta[:, :1]) * logits, weights[fits]
        p = 1 / (1 + np.exp(-np.clip(stretched + theta[:, 1:], -60, 60)))
        error, information = w * (p - targets), w * p * (1 - p)
        gradient = np.stack([(error * stretched).sum(1), error.sum(1)], axis=1) + pull * (
            theta - centre[fits]
        )
        across = (information * stretched).sum(1)
        rows = [[(information * stretched**2).sum(1) + pull, across], [across, information.sum(1) + pull]]
        curvature = np.moveaxis(np.array(rows), 2, 0)  # [fits 2 2]
        return np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]

    return _descend(centre, loss, step)


def fit_temperatures(
    logits: np.ndarray, targets: np.ndarray, weights: np.ndarray, centre: np.ndarray, pull: float
) -> np.ndarray:
    """Logarithm [fits 1] of the one slope of all classes that minimises the penalised log loss.

    logits [records classes]; targets [records] class numbers; weights [fits records]; centre [fits 1];
    pull: precision of the prior.
    """
    ranked = logits - logits.max(1, keepdims=True)  # the best class at 0: nothing below overflows
    true = ranked[np.arange(len(logits)), targets]

    def raised(theta: np.ndarray) -> np.ndarray:
        return np.exp(np.exp(theta)[:, :, None] * ranked)  # [fits records classes]

    def loss(theta: np.ndarray, fits: np.ndarray) -> np.ndarray:
        losses = np.log(raised(theta).sum(2)) - np.exp(theta) * true
        return (weights[fits] * losses).sum(1) + pull * ((theta - centre[fits]) ** 2).sum(1) / 2

    def step(theta: np.ndarray, fits: np.ndarray) -> np.ndarray:
        p = raised(theta)
        p /= p.sum(2, keepdims=True)
        mean, square = (p * ranked).sum(2), (p * ranked**2).sum(2)
        slope, w = np.exp(theta), weights[fits]
        gradient = (w * slope * (mean - true)).sum(1) + pull * (theta - centre[fits])[:, 0]
        curvature = (w * slope**2 * (square - mean**2)).sum(1) + pull
        return (gradient / curvature)[:, None]

    return _descend(centre, loss, step)


def patient_draws(groups: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Weights per record: all ones, then how often its patient was drawn. [1 + draws records]"""
    _, patient = np.unique(groups, return_inverse=True)
    patients = patient.max() + 1
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(patients, np.full(patients, 1 / patients), size=draws)[:, patient]
    return np.concatenate([np.ones((1, len(groups))), drawn])


def patient_folds(groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of each record [records], patients never split; fewer folds if there are fewer patients."""
    _, patient = np.unique(groups, return_inverse=True)
    patients = patient.max(initial=-1) + 1
    return (np.random.default_rng(seed).permutation(patients) % folds)[patient]


def _fit_shares(
    logits: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    centre: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Shifts that give the shares of the classes, where nothing is present and all logits [classes] are the
    same.

    One temperature cannot move a constant answer to the prevalence. The centre counts as PATTERN_PATIENTS.
    """
    slopes, shifts = centre
    outputs = slopes * logits + shifts
    prior = np.exp(outputs - outputs.max(1, keepdims=True))
    prior /= prior.sum(1, keepdims=True)
    counts = weights @ (targets.astype(int)[:, None] == np.arange(len(logits)))
    shares = (counts + PATTERN_PATIENTS * prior) / (counts.sum(1, keepdims=True) + PATTERN_PATIENTS)
    return slopes, np.log(np.maximum(shares, 1e-12)) - slopes * logits


def _in_blocks(
    fit: Callable[..., np.ndarray],
    logits: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    centre: np.ndarray,
    pull: float,
) -> np.ndarray:
    """The same fit with no more than CELLS numbers in one array."""
    size = max(1, CELLS // max(logits.size, 1))
    starts = range(0, len(weights), size)
    return np.concatenate(
        [fit(logits, targets, weights[s : s + size], centre[s : s + size], pull) for s in starts]
    )


def _descend(
    centre: np.ndarray,
    loss: Callable[[np.ndarray, np.ndarray], np.ndarray],
    step: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Newton's method with halved steps, every row of theta [fits parameters] for itself.

    loss, step: of (theta [some parameters], the numbers of these fits [some]). Starts at the centre.
    """
    theta, fits = centre.copy(), np.arange(len(centre))
    value = loss(theta, fits)
    for _ in range(50):
        move, waiting, gain = step(theta[fits], fits), np.arange(len(fits)), np.zeros(len(fits))
        for halving in range(12):  # full steps may swing to and fro for ever: few patients, large logits
            chosen = fits[waiting]
            limits = centre[chosen] - LARGEST, centre[chosen] + LARGEST
            tried = np.clip(theta[chosen] - move[waiting] / 2**halving, *limits)
            lower = loss(tried, chosen)
            better = lower < value[chosen]
            gain[waiting[better]] = (value[chosen] - lower)[better]
            theta[chosen[better]], value[chosen[better]] = tried[better], lower[better]
            waiting = waiting[~better]
            if not len(waiting):
                break
        fits = fits[gain > 1e-9 * (1 + value[fits])]
        if not len(fits):
            break
    return theta
