"""Small cohorts in memory: a picture, a table and a note for each patient, with known gaps and known
answers.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from mmmed.data.cohort import Cohort

WORDS = ("pain since monday", "no complaints today", "fever and cough", "follow up visit")


def frame_of(rows: int = 160, seed: int = 0, visits: int = 2) -> pd.DataFrame:
    """Two visits per patient. The answer depends on age (table), on the brightness of the picture and on the
    note; a third of the pictures, cells and notes are missing at random.
    """
    rng = np.random.default_rng(seed)
    label = (rng.random(rows // visits) < 0.45).astype(int).repeat(visits)
    age = np.round(50 + 12 * label + rng.normal(scale=14, size=rows))
    crp = rng.lognormal(2, 1, rows).round(1)
    pictures = [
        np.clip(0.35 + 0.12 * y + rng.normal(scale=0.1) + rng.normal(scale=0.03, size=(16, 16)), 0, 1).astype(
            "float32"
        )
        for y in label
    ]
    notes = [
        f"{WORDS[rng.integers(4)]} {'night sweats' if rng.random() < 0.2 + 0.4 * y else 'sleeps well'}"
        for y in label
    ]
    hide = rng.random((rows, 3)) < 0.33
    return pd.DataFrame(
        {
            "patient": [f"p{k // visits:03d}" for k in range(rows)],
            "scan": [None if h else x for h, x in zip(hide[:, 0], pictures, strict=True)],
            "age": np.where(hide[:, 1], np.nan, age),
            "crp": np.where(hide[:, 1], np.nan, crp),
            "sex": [None if h else s for h, s in zip(hide[:, 1], rng.choice(["f", "m"], rows), strict=True)],
            "note": [None if h else x for h, x in zip(hide[:, 2], notes, strict=True)],
            "device": rng.choice(["A", "B"], rows),
            "ill": label,
        }
    )


def cohort_of(frame: pd.DataFrame, **options) -> Cohort:
    columns = {
        "image": "scan",
        "tabular": ["age", "crp", "sex"],
        "text": "note",
        "target": "ill",
        "group": "patient",
        "roles": {"device": "confounder"},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Cohort.from_frame(frame, **{**columns, **options})
