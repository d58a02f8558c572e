"""CPU seconds per epoch of a default fit: 500 records, pictures of 64 pixels of which 30 % are missing, 10
columns.

Run with OMP_NUM_THREADS=1: python tests/benchmarks/bench_fit.py [epochs]. The aim is 0.5 s on one thread,
validation included. Prints what the encoders alone need for the same epoch, so that the rest can be judged.
"""

import sys
import time

import numpy as np
import torch

from mmmed.data.cohort import Cohort
from mmmed.data.collate import Collator
from mmmed.models.create import create_model
from mmmed.training.finetune import finetune
from mmmed.training.optimisation import Optimisation
from mmmed.training.plan import plan_epoch
from mmmed.training.policy import Policy
from mmmed.training.settings import Settings
from mmmed.training.supply import make_supply
from mmmed.training.validate import cohort_weights


def make_cohort(count: int = 500) -> Cohort:
    """Random pictures with a brighter middle in the sick, ten columns with a weak trend."""
    draw = np.random.default_rng(0)
    rows = []
    for index in range(count):
        sick = int(draw.random() < 0.5)
        picture = draw.integers(0, 120, (64, 64)).astype(np.uint8)
        picture[24:40, 24:40] += np.uint8(20 * sick)
        cells = {f"c{k}": float(draw.normal(0.3 * sick)) for k in range(10)}
        rows.append(
            {"id": f"r{index}", "picture": picture if draw.random() < 0.7 else None, **cells, "sick": sick}
        )
    return Cohort.from_records(
        rows, image="picture", tabular=[f"c{k}" for k in range(10)], target="sick", id="id"
    )


def seconds(work) -> float:
    """CPU seconds of this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main(epochs: int) -> None:
    cohort = make_cohort()
    train = make_supply(cohort["train"], Collator(cohort.schema))
    model = create_model(cohort.schema)
    finetune(create_model(cohort.schema), cohort, epochs=1, progress=False)  # everything is imported and warm
    short = seconds(
        lambda: finetune(create_model(cohort.schema), cohort, epochs=1, patience=None, progress=False)
    )
    long = seconds(lambda: finetune(model, cohort, epochs=1 + epochs, patience=None, progress=False))

    tasks, policy = cohort.schema.tasks, Policy()
    settings = Settings(epochs, None, policy, Optimisation(), None, (), 0)
    plan = plan_epoch(train, tasks, cohort_weights(train, tasks, policy, 0), settings, 0)
    batches = list(train.batches((part, plan.mask[part]) for update in plan.updates for part in update.parts))

    def encode() -> None:
        for batch in batches:
            sum(tokens.values.sum() for tokens in model.encode(batch).values()).backward()

    model.train()
    alone = min(seconds(encode) for _ in range(3))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread, {len(train)} training records")
    print(f"reading, one epoch, calibration: {short:.2f} CPU s")
    print(
        f"each further epoch: {(long - short) / epochs:.3f} CPU s, of which encoders {alone:.3f} (aim: 0.5)"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 6)
