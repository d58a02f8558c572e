"""CPU seconds of ten cross-validation members trained together against one of them alone.

Run with OMP_NUM_THREADS=1: python tests/benchmarks/bench_members.py [fusion] [epochs]. Data: scikit-learn's
diabetes as three tables, 5 folds x 2 seeds. Two figures: an epoch (the difference of a long and a short run),
and the whole of `finetune` with reading and calibration, which is done for each member in turn.
"""

import sys
import time

import torch
from sklearn.datasets import load_diabetes

from mmmed.data.cohort import Cohort
from mmmed.models.create import create_model
from mmmed.training.finetune import finetune
from mmmed.training.members import can_train_together, finetune_members

TABLES = {
    "demographics": ["age", "sex"],
    "vitals": ["bmi", "bp"],
    "serum": ["s1", "s2", "s3", "s4", "s5", "s6"],
}


def diabetes() -> Cohort:
    """Progression above its median, from three tables."""
    frame = load_diabetes(as_frame=True).frame
    frame["high"] = (frame.pop("target") > 140.5).astype(int)
    return Cohort.from_frame(frame, tabular=TABLES, target="high")


def seconds(work) -> float:
    """CPU seconds of this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main(fusion: str, epochs: int) -> None:
    cohort = diabetes()
    cohorts = [fold for seed in (0, 1) for fold in cohort.folds(5, seed)]

    def models(count: int) -> list:
        return [
            create_model(cohorts[i].schema, fusion=fusion, dim=32, state_dim=32, seed=i) for i in range(count)
        ]

    def one(length: int) -> float:
        (model,) = models(1)
        return seconds(lambda: finetune(model, cohorts[0], epochs=length, patience=None, progress=False))

    def ten(length: int) -> float:
        members = models(10)
        return seconds(lambda: finetune_members(members, cohorts, epochs=length, patience=None))

    records = len(cohorts[0]["train"])
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread, {fusion}, {records} records")
    print(f"together: {can_train_together(models(10)) or 'yes'}")
    one(1), ten(1)  # everything is imported and warm
    short, long = (one(1), ten(1)), (one(1 + epochs), ten(1 + epochs))
    epoch = [1000 * (b - a) / epochs for a, b in zip(short, long, strict=True)]
    ratio = epoch[1] / epoch[0]
    print(f"an epoch: one {epoch[0]:.1f} ms, ten together {epoch[1]:.1f} ms: {ratio:.2f} times one")
    times = 10 * long[0] / long[1]
    print(f"{1 + epochs} epochs in all: one {long[0]:.2f} s, ten {long[1]:.2f} s: {times:.2f} times faster")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "multimodn", int(sys.argv[2]) if len(sys.argv) > 2 else 29)
