"""The table: age, sex and eight laboratory values with units; two of them carry a factor, two are decoys.

`ldh` carries b and `albumin` carries e: each level has its own range, and the ranges do not touch, so the
factor can be read without error. `tsh` and `vitamin_d` are decoys without any relation to the label. The
others follow age and sex, which have none either.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from mmmed.data.synthetic.truth import COLUMNS as FACTOR_COLUMNS
from mmmed.types import Category, Number

# Level ranges, low to high, in the column's unit.
RANGES = {
    "ldh": ((130.0, 180.0), (220.0, 270.0), (310.0, 360.0)),
    "albumin": ((25.0, 30.0), (34.0, 39.0), (43.0, 48.0)),
}
FACTOR_CELLS = {"ldh": "b", "albumin": "e"}
DECOYS = ("tsh", "vitamin_d")
SEXES = ("female", "male")

NUMBERS = (  # low and high bound what is physically possible
    Number("age", unit="years", low=0, high=120),
    Number("ldh", unit="U/l", low=20, high=20000),
    Number("albumin", unit="g/l", low=5, high=70),
    Number("haemoglobin", unit="g/l", low=20, high=250),
    Number("creatinine", unit="umol/l", low=5, high=2500),
    Number("glucose", unit="mmol/l", low=0.5, high=80),
    Number("cholesterol", unit="mmol/l", low=0.5, high=30),
    Number("tsh", unit="mU/l", low=0.001, high=200),
    Number("vitamin_d", unit="nmol/l", low=2, high=500),
)
COLUMNS = ("age", "sex", *[number.name for number in NUMBERS[1:]])
PATIENT_DRAWS = 2  # uniform numbers per patient: age, sex
VISIT_DRAWS = 8  # per visit: one per laboratory value


def cells(columns: tuple[str, ...] = COLUMNS) -> tuple[Number | Category, ...]:
    """The schema's description of these columns, not yet fitted to any rows."""
    known = {"sex": Category("sex", levels=SEXES), **{number.name: number for number in NUMBERS}}
    return tuple(known[name] for name in columns)


def fill(
    levels: np.ndarray, patient: np.ndarray, visit: np.ndarray, number: np.ndarray
) -> dict[str, np.ndarray]:
    """The table of all rows: column -> [rows].

    levels [rows columns] of the factors; patient [rows 2] and visit [rows 8] uniform numbers; number [rows]
    counts the visits of a patient from 0, half a year apart.
    """
    age = np.floor(25 + 60 * patient[:, 0] + 0.5 * number)
    male = patient[:, 1] < 0.5
    spread = [_bell(visit[:, place]) for place in range(VISIT_DRAWS)]
    carried = {
        name: _level_value(levels[:, FACTOR_COLUMNS.index(factor)], RANGES[name], visit[:, place])
        for place, (name, factor) in enumerate(FACTOR_CELLS.items())
    }
    return {
        "age": age.astype(int),
        "sex": np.where(male, SEXES[1], SEXES[0]),
        "ldh": np.round(carried["ldh"]),
        "albumin": np.round(carried["albumin"], 1),
        "haemoglobin": np.round(132 + 14 * male - 0.2 * (age - 55) + 9 * spread[2]),
        "creatinine": np.round(66 + 14 * male + 0.35 * (age - 55) + 9 * spread[3]),
        "glucose": np.round(5.4 + 0.02 * (age - 55) + 0.5 * spread[4], 1),
        "cholesterol": np.round(5.0 + 0.015 * (age - 55) - 0.2 * male + 0.7 * spread[5], 1),
        "tsh": np.round(0.5 + 3.5 * visit[:, 6], 2),
        "vitamin_d": np.round(25 + 90 * visit[:, 7]),
    }


def read_level(name: str, values: np.ndarray) -> np.ndarray:
    """The factor's level behind a laboratory value of `RANGES`: the borders lie midway between the ranges."""
    ranges = RANGES[name]
    borders = [(low[1] + high[0]) / 2 for low, high in pairwise(ranges)]
    return np.digitize(values, borders) - 1


def _level_value(
    level: np.ndarray, ranges: tuple[tuple[float, float], ...], uniform: np.ndarray
) -> np.ndarray:
    low, high = np.asarray(ranges)[level + 1].T
    return low + (high - low) * uniform


def _bell(uniform: np.ndarray) -> np.ndarray:
    """A bell-shaped number of mean 0 and standard deviation about 1 from one uniform number (logistic, cut
    at 2.5).
    """
    inside = np.clip(uniform, 1e-6, 1 - 1e-6)
    return np.clip(np.log(inside / (1 - inside)) * 0.55, -2.5, 2.5)
