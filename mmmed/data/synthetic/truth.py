"""The known answer: six factors, the label they give, and the best possible score of every subset.

Six independent factors take the levels -1, 0, +1 with probabilities .3, .4, .3. The picture shows a
(margin), r (size) and d (density); the table b and e, each in one laboratory value; the text t (history)
and r (size). With strength k

    logit = k * (-0.6 + 1.1 a + 1.0 b + 0.9 t + 1.2 r + 1.6 d e + s g)         P(y = 1) = sigmoid(logit)

so r is redundant (picture and text), d e is synergy (picture times table), and a, b, t are each known to
one modality only. g is the site (-1, 0, +1 with equal probability) and counts only where the shortcut
strength s is not 0. All 2,187 states fit in one small table; every number here is a sum over it, without
sampling error. The ceilings assume that each factor can be read off its modality without error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mmmed.checks import check_known, plain

FACTORS = ("a", "b", "t", "r", "d", "e")
COLUMNS = (*FACTORS, "g")  # the columns of every array of levels; g is the site
MODALITY_FACTORS = {"image": "ard", "table": "be", "text": "tr"}
MODALITIES = tuple(MODALITY_FACTORS)
LEVELS = (-1, 0, 1)
SHARES = (0.3, 0.4, 0.3)  # of the levels of a factor; the sites have equal shares
WEIGHTS = {"a": 1.1, "b": 1.0, "t": 0.9, "r": 1.2}
SYNERGY = 1.6  # the weight of d times e
BIAS = -0.6


@dataclass(frozen=True)
class Ceiling:
    """What the best possible predictor scores: AUROC, Brier score, log loss (nats), accuracy at one half."""

    auroc: float
    brier: float
    log_loss: float
    accuracy: float


@dataclass(frozen=True)
class Truth:
    """The distribution of factors and label at one strength, enumerated.

    strength: k of the logit, above 0. shortcut: s, the weight of the site, 0 or above. Subsets are named by
    modalities ("image", "table", "text"), by single factors ("b"), and by "site".

        Truth().ceiling("image", "table").auroc      # 0.9092
    """

    strength: float = 2.0
    shortcut: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("strength", 1e-6), ("shortcut", 0.0)):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not math.isfinite(value) or value < least:
                wanted = "a positive number" if least else "a number of at least 0"
                raise ValueError(f"{name} should be {wanted}, got {plain(value)}.")

    @cached_property
    def states(self) -> np.ndarray:
        """Every combination of levels, [states columns] int, columns as in `COLUMNS`."""
        grid = np.meshgrid(*[LEVELS] * len(COLUMNS), indexing="ij")
        return np.stack([axis.ravel() for axis in grid], axis=1)

    @cached_property
    def mass(self) -> np.ndarray:
        """Probability of each state, [states]; they add up to 1."""
        return np.prod(np.asarray(SHARES)[self.states[:, :-1] + 1], axis=1) / 3

    @cached_property
    def joint(self) -> np.ndarray:
        """Probability of each state together with y = 0 and y = 1, [states 2]."""
        return self.weigh(self.risk(self.states))

    @property
    def prevalence(self) -> float:
        """The share of y = 1."""
        return float(self.joint[:, 1].sum())

    def weigh(self, probability: np.ndarray) -> np.ndarray:
        """Split the mass of each state by the probability of y = 1: [states] -> [states 2]."""
        return self.mass[:, None] * np.stack([1 - probability, probability], axis=1)

    def bracket(self, levels: np.ndarray, flipped: bool | np.ndarray = False) -> np.ndarray:
        """The bracket of the logit: levels [... columns] -> [...]. flipped turns the site's effect around."""
        value = BIAS + SYNERGY * levels[..., 4] * levels[..., 5]
        for name, weight in WEIGHTS.items():
            value = value + weight * levels[..., COLUMNS.index(name)]
        if self.shortcut:
            value = value + np.where(flipped, -self.shortcut, self.shortcut) * levels[..., 6]
        return value

    def risk(self, levels: np.ndarray, flipped: bool | np.ndarray = False) -> np.ndarray:
        """P(y = 1) where all factors and the site are known: levels [... columns] -> [...]."""
        return 1 / (1 + np.exp(-self.strength * self.bracket(levels, flipped)))

    def draw(self, rows: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Independent patients: levels [rows columns] int, labels [rows] int of 0 and 1."""
        levels = np.concatenate(
            [levels_from(generator.random((rows, 6))), sites_from(generator.random((rows, 1)))], axis=1
        )
        return levels, (generator.random(rows) < self.risk(levels)).astype(int)

    def posterior(self, levels: np.ndarray, *visible: str) -> np.ndarray:
        """P(y = 1) given only what is visible: levels [rows columns] -> [rows].

        Nothing visible: the prevalence. Columns that are not visible are not looked at and may hold anything.
        """
        seen = visible_factors(visible)
        return self.lookup(seen)[keys(np.asarray(levels), seen)]

    def lookup(self, seen: str, weights: np.ndarray | None = None) -> np.ndarray:
        """P(y = 1) for every combination of the visible levels, [combinations], by a grouped sum.

        weights [states 2]: the mass of every state with y = 0 and y = 1, `joint` if not given.
        """
        joint = self.joint if weights is None else weights
        key = keys(self.states, seen)
        mass = np.stack([np.bincount(key, joint[:, y], 3 ** len(seen)) for y in (0, 1)])
        # a combination that cannot occur has no answer of its own: the prevalence stands in
        return np.divide(
            mass[1], mass.sum(0), out=np.full(mass.shape[1], self.prevalence), where=mass.sum(0) > 0
        )

    def ceiling(self, *visible: str, flipped: bool = False) -> Ceiling:
        """The best possible score of a predictor that sees only these modalities or factors.

        flipped: the same predictor (it learned on the unflipped sites) where the sites' effect is turned
        around.
        """
        return self.score(self.posterior(self.states, *visible), flipped=flipped)

    def score(self, probability: np.ndarray, *, flipped: bool = False) -> Ceiling:
        """The exact score of any probability given per state, [states]."""
        return score(probability, self.weigh(self.risk(self.states, flipped)))

    def late_average(self, *modalities: str) -> Ceiling:
        """The score of the mean log-odds of the best unimodal models: late fusion without joint training."""
        odds = [log_odds(self.posterior(self.states, name)) for name in modalities or MODALITIES]
        return self.score(1 / (1 + np.exp(-np.mean(odds, axis=0))))

    def best_sum(self, *modalities: str) -> Ceiling:
        """The score of the best sum of one function per modality, by log loss: what adding up cannot exceed.

        No such sum can express the product of d (picture) and e (table); a fusion that stays here has not
        found it.
        """
        columns = [_one_hot(keys(self.states, MODALITY_FACTORS[name])) for name in modalities or MODALITIES]
        return self.score(_logistic(np.concatenate(columns, axis=1), self.joint))

    def concordance(self, strength: float = 1.0) -> float:
        """Best concordance of event times whose log-hazard is `strength` times the bracket.

        All factors known, nobody censored. Two patients come in the order of their risks with probability
        sigmoid(difference); equal risks count one half.
        """
        risk, place = np.unique(np.round(strength * self.bracket(self.states), 9), return_inverse=True)
        mass = np.bincount(place.ravel(), self.mass)
        ordered = 1 / (1 + np.exp(-np.abs(risk[:, None] - risk[None, :])))
        return float(mass @ ordered @ mass)


def levels_from(uniform: np.ndarray) -> np.ndarray:
    """Levels -1, 0, +1 of a factor from uniform numbers, any shape."""
    return np.digitize(uniform, np.cumsum(SHARES)[:2]) - 1


def sites_from(uniform: np.ndarray) -> np.ndarray:
    """The site -1, 0, +1 in equal shares from uniform numbers, any shape."""
    return np.minimum((np.asarray(uniform) * 3).astype(int), 2) - 1


def visible_factors(names: Iterable[str]) -> str:
    """The factors behind names of modalities, factors and "site", each once, in the order of `COLUMNS`."""
    known = {**MODALITY_FACTORS, **{name: name for name in COLUMNS}, "site": "g"}
    seen = "".join(known[check_known(name, known, what="modality or factor")] for name in names)
    return "".join(name for name in COLUMNS if name in seen)


def keys(levels: np.ndarray, seen: str) -> np.ndarray:
    """One whole number per combination of the visible levels: levels [rows columns] -> [rows]."""
    key = np.zeros(len(levels), dtype=int)
    for name in seen:
        key = 3 * key + levels[:, COLUMNS.index(name)].astype(int) + 1
    return key


def auroc(scores: np.ndarray, negative: np.ndarray, positive: np.ndarray) -> float:
    """Exact AUROC of a discrete score: scores, mass of negatives and of positives, all [states].

    Scores equal to twelve digits are one: different states can tie, and sums in another order differ in the
    last digit.
    """
    _, place = np.unique(np.round(scores, 12), return_inverse=True)
    below = np.bincount(place.ravel(), negative) / negative.sum()
    above = np.bincount(place.ravel(), positive) / positive.sum()
    return float(np.sum(above * (np.cumsum(below) - below / 2)))


def score(probability: np.ndarray, joint: np.ndarray) -> Ceiling:
    """Score a probability [states] against the joint mass of state and label [states 2]."""
    negative, positive = joint[:, 0], joint[:, 1]
    safe = np.clip(probability, 1e-15, 1 - 1e-15)
    total = joint.sum()
    return Ceiling(
        auroc=auroc(probability, negative, positive),
        brier=float((positive * (1 - probability) ** 2 + negative * probability**2).sum() / total),
        log_loss=float(-(positive * np.log(safe) + negative * np.log1p(-safe)).sum() / total),
        accuracy=float(np.where(probability >= 0.5, positive, negative).sum() / total),
    )


def log_odds(probability: np.ndarray) -> np.ndarray:
    """The logarithm of p / (1 - p)."""
    return np.log(probability) - np.log1p(-probability)


def _one_hot(key: np.ndarray) -> np.ndarray:
    return np.eye(int(key.max()) + 1)[key]


def _logistic(design: np.ndarray, joint: np.ndarray, steps: int = 12) -> np.ndarray:
    """Logistic regression by Newton's method: design [states columns], joint [states 2] -> [states]."""
    weights = np.zeros(design.shape[1])
    mass = joint.sum(1)
    for _ in range(steps):
        probability = 1 / (1 + np.exp(-design @ weights))
        curvature = design.T @ (design * (mass * probability * (1 - probability))[:, None])
        # the one-hot blocks share their sum, so the curvature is singular: the least-norm step solves it
        weights += np.linalg.lstsq(curvature, design.T @ (joint[:, 1] - mass * probability), rcond=1e-10)[0]
    return 1 / (1 + np.exp(-design @ weights))
