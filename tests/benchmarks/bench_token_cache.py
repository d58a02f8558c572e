"""An epoch over cached tokens of a frozen encoder against one in which the encoder runs in every step.

Run with OMP_NUM_THREADS=1: python tests/benchmarks/bench_token_cache.py. A frozen resnet18 (random weights)
at 112 pixels, a table beside it, 400 records; CPU seconds of this process, both measured in the same run. The
aim is 20 times.
"""

import time

import numpy as np

from mmmed.data.cohort import Cohort
from mmmed.models.create import create_model
from mmmed.training.finetune import finetune
from mmmed.types import Image


def make_cohort(count: int = 400) -> Cohort:
    """Random pictures and two columns."""
    draw = np.random.default_rng(0)
    rows = [
        {
            "id": f"r{index}",
            "picture": draw.integers(0, 255, (112, 112)).astype(np.uint8),
            **{f"c{k}": float(draw.normal()) for k in range(2)},
            "sick": index % 2,
        }
        for index in range(count)
    ]
    image = Image("picture", size=(112, 112))
    return Cohort.from_records(rows, image=image, tabular=["c0", "c1"], target="sick", id="id")


def seconds(cohort: Cohort, epochs: int, cached: bool) -> float:
    """CPU seconds of a whole fit."""
    model = create_model(cohort.schema, encoders={"image": ("timm", {"name": "resnet18"})})
    frozen = ["image"] if cached else []
    for parameter in model.encoders["image"].parameters():
        parameter.requires_grad_(False)
    start = time.process_time()
    finetune(model, cohort, epochs=epochs, patience=None, frozen=frozen, progress=False)
    return time.process_time() - start


def main() -> None:
    cohort = make_cohort()
    seconds(cohort, 1, cached=True)  # imports and first allocations are no part of either
    first = seconds(cohort, 1, cached=True)
    cached = (seconds(cohort, 41, cached=True) - first) / 40
    encoded = seconds(cohort, 3, cached=False) - seconds(cohort, 1, cached=False)
    print(f"each further epoch: {encoded / 2:.2f} CPU s with the encoder, {cached:.3f} CPU s from the cache")
    print(f"ratio {encoded / 2 / cached:.0f} (aim: 20); first run with filling the cache {first:.1f} CPU s")


if __name__ == "__main__":
    main()
