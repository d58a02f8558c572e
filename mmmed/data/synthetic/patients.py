"""Patients and their visits: streams of chance, factors that stay, luck that is shared, a split by patient.

Everything about a patient is drawn from generators that know only (seed, patient number, part, visit). So
100 patients are the first 100 of 600, processes can share the work, and asking for another picture size or
another mechanism of missingness changes nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmmed.data.synthetic.truth import Truth, levels_from, sites_from

PARTS = (
    "factors",
    "person",
    "table",
    "anatomy",
    "visit",
    "noise",
    "text",
    "gaps",
    "event",
    "phrases",
    "questions",
    "slices",
    "background",
)
SPLITS = ("train", "val", "test")
SITES = ("A", "B", "C")  # in the order of the site's levels -1, 0, +1
GOLDEN = 0.6180339887498949


def stream(seed: int, patient: int, part: str, visit: int = 0) -> np.random.Generator:
    """The generator of one part of one patient (and visit)."""
    return np.random.default_rng((seed, patient, PARTS.index(part), visit))


@dataclass(frozen=True, eq=False)
class Rows:
    """One row per visit: patient, visit, label [rows] whole numbers; levels [rows columns]; split [rows]."""

    patient: np.ndarray
    visit: np.ndarray
    levels: np.ndarray
    label: np.ndarray
    split: np.ndarray

    @property
    def test(self) -> np.ndarray:
        """Which rows are in the test part, [rows] bool."""
        return self.split == "test"

    def uniform(self, seed: int, part: str, count: int, *, per_patient: bool = False) -> np.ndarray:
        """Uniform numbers [rows count] from each row's own stream; per_patient: one stream for all visits."""
        if per_patient:
            numbers = [
                stream(seed, int(one), part).random(count) for one in self.patient[_firsts(self.patient)]
            ]
            return np.repeat(numbers, np.bincount(self.patient), axis=0)
        pairs = zip(self.patient.tolist(), self.visit.tolist(), strict=True)
        return np.array([stream(seed, one, part, visit).random(count) for one, visit in pairs])


def draw_rows(
    truth: Truth,
    patients: int,
    seed: int,
    visits: tuple[int, int],
    keep: float,
    shares: tuple[float, float, float],
    shift: bool,
) -> Rows:
    """Factors, site and label of every visit.

    visits: fewest and most per patient. keep: chance that a factor at a later visit is as at the first.
    Each patient has one uniform number u, and y = 1 where u < P(y = 1) at each visit: a single row keeps
    exactly the distribution of the truth, but the rows of one patient share luck. shift: the site's effect
    is turned around in the test part.
    """
    own, later = [], []
    for patient in range(patients):
        generator = stream(seed, patient, "factors")
        own.append(generator.random(3))  # luck, site, number of visits
        later.append(generator.random((visits[1], 12)))
    own, later = np.array(own), np.array(later)
    least, most = visits
    count = least + np.minimum((own[:, 2] * (most - least + 1)).astype(int), most - least)
    patient = np.repeat(np.arange(patients), count)
    visit = np.concatenate([np.arange(number) for number in count])
    split = split_patients(patients, seed, shares)[patient]
    factors = follow(later, keep)[patient, visit]
    levels = np.concatenate([factors, sites_from(own[patient, 1])[:, None]], axis=1)
    flipped = (split == "test") if shift else np.zeros(len(patient), dtype=bool)
    label = (own[patient, 0] < truth.risk(levels, flipped)).astype(int)
    return Rows(patient, visit, levels, label, split)


def follow(uniform: np.ndarray, keep: float) -> np.ndarray:
    """Levels of the six factors over visits: uniform numbers [patients visits 12] -> [patients visits 6].

    The first six numbers of a visit are fresh levels; with chance `keep`, by the last six, the first
    visit's stays.
    """
    fresh = levels_from(uniform[..., :6])
    return np.where(uniform[..., 6:] < keep, fresh[:, :1], fresh)


def split_patients(patients: int, seed: int, shares: tuple[float, float, float]) -> np.ndarray:
    """The part of every patient, [patients] text. It does not change when more patients follow.

    Multiples of the golden ratio fill the unit interval evenly, so that small cohorts also get their shares.
    """
    start = stream(seed, 0, "factors", 1).random()
    place = (start + GOLDEN * np.arange(patients)) % 1
    # the last border is left out: shares that add up to .9999999 must not open a fourth part
    return np.array(SPLITS)[np.digitize(place, np.cumsum(shares)[:2])]


def _firsts(patient: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.diff(patient, prepend=-1))
