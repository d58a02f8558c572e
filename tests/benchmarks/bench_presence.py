"""Encoding costs what is there: an epoch with 60 % of the images absent against a complete one, and what
fusion and heads add to the encoders' own step. Process time of one thread, ratios within one run.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_presence.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from mmmed import create_model, load_cohort
from mmmed.data.collate import Collator
from mmmed.types import Batch

PATIENTS, BATCH, REPEATS = 256, 32, 9


def seconds(work: Callable[[], object]) -> float:
    """Median process time of some repeats, after one warm-up."""
    work()
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


def epoch(model: torch.nn.Module, batches: list[Batch]) -> None:
    """Forward and backward over all batches."""
    for batch in batches:
        model.zero_grad(set_to_none=True)
        outputs = model(batch)
        binary_cross_entropy_with_logits(outputs["diagnosis"][:, 0], batch.targets["diagnosis"]).backward()


def encoders_only(model: torch.nn.Module, batch: Batch) -> None:
    """Forward and backward through the encoders alone."""
    model.zero_grad(set_to_none=True)
    sum(tokens.values.square().mean() for tokens in model.encode(batch).values()).backward()


def measure(encoder: str) -> None:
    """Both figures for image + table with one image encoder."""
    cohort = load_cohort("synthetic", patients=PATIENTS, seed=0)
    schema = cohort.schema.without("text")
    model = create_model(schema, encoders={"image": encoder}).train()
    records = list(cohort.with_schema(schema))
    collator = Collator(schema)
    complete = [collator(records[i : i + BATCH]) for i in range(0, len(records), BATCH)]
    generator = torch.Generator().manual_seed(0)
    holed = []
    for batch in complete:
        stays = batch.present.clone()
        stays[:, batch.modalities.index("image")] &= torch.rand(len(batch), generator=generator) > 0.6
        holed.append(batch.keep(stays))
    full, part = seconds(lambda: epoch(model, complete)), seconds(lambda: epoch(model, holed))
    print(
        f"{encoder}: complete epoch {full:.2f} s, 60 % of images absent {part:.2f} s, ratio {part / full:.2f}"
    )
    batch = complete[0]
    whole, own = seconds(lambda: epoch(model, [batch])), seconds(lambda: encoders_only(model, batch))
    print(
        f"{encoder}: step {1000 * whole:.1f} ms, encoders alone {1000 * own:.1f} ms, "
        f"fusion, heads and loss add {100 * (whole / own - 1):.0f} %"
    )


def main() -> None:
    torch.set_num_threads(1)
    print("aims: ratio under 0.5; fusion, heads and loss under 10 %")
    for encoder in ("cnn", "timm:mobilenetv2_050"):
        measure(encoder)


if __name__ == "__main__":
    main()
