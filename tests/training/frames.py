"""A small table of patients as three modalities, for the tests of members and studies."""

from __future__ import annotations

import numpy as np
import pandas

from mmmed.data.cohort import Cohort

TABLES = {"demographics": ["age", "weight"], "vitals": ["pulse"], "serum": ["crp", "lactate", "sodium"]}


def make_frame(count: int = 120, gaps: float = 0.2, seed: int = 0) -> pandas.DataFrame:
    """Sickness shows in pulse, crp and lactate; each table is missing now and then; one category."""
    draw = np.random.default_rng(seed)
    sick = (np.arange(count) % 2).astype(float)
    frame = pandas.DataFrame({"id": [f"r{i}" for i in range(count)], "sick": sick.astype(int)})
    for columns in TABLES.values():
        for column in columns:
            trend = {"pulse": 1.2, "crp": 0.9, "lactate": 0.6}.get(column, 0.1)
            frame[column] = draw.normal(size=count) + trend * sick
        frame.loc[draw.random(count) < gaps, columns] = np.nan
    frame["sex"] = draw.choice(["f", "m"], count)
    frame.loc[frame["age"].isna(), "sex"] = None
    return frame


def make_tables(count: int = 120, gaps: float = 0.2, seed: int = 0, target="sick") -> Cohort:
    """The frame as a cohort with the modalities demographics, vitals and serum."""
    tables = {**TABLES, "demographics": [*TABLES["demographics"], "sex"]}
    return Cohort.from_frame(make_frame(count, gaps, seed), tabular=tables, target=target, id="id")
