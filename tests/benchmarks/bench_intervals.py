"""How often the 95 % interval of a calibrated probability holds the true one, by number of patients.

Log-odds are drawn, outcomes follow a known line of them; the calibration is fitted as in training.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_intervals.py
"""

from __future__ import annotations

import numpy as np

from mmmed.models.calibration import fit_calibration, interval
from mmmed.types import Binary

RUNS, SLOPE, SHIFT = 60, 0.7, 0.3


def coverage(patients: int) -> float:
    """Share of points between -2 and 2 whose true probability lies inside, over all runs."""
    points, task, held = np.linspace(-2, 2, 9)[:, None], Binary("y"), []
    truth = 1 / (1 + np.exp(-(SLOPE * points + SHIFT)))
    for run in range(RUNS):
        draw = np.random.default_rng(run)
        logits = draw.normal(0, 1.5, (patients, 1))
        labels = draw.random(patients) < 1 / (1 + np.exp(-(SLOPE * logits[:, 0] + SHIFT)))
        known, groups = np.ones(patients, bool), np.arange(patients)
        low, high = interval(task, points, fit_calibration(task, logits, labels.astype(float), known, groups))
        held.append(((low <= truth) & (truth <= high)).mean())
    return float(np.mean(held))


def main() -> None:
    for patients in (30, 60, 240):
        print(f"{patients} validation patients: nominal 95 %, covered {100 * coverage(patients):.0f} %")


if __name__ == "__main__":
    main()
