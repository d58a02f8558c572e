"""Skipping per patient without a Python loop over patients: an epoch at the widths of the MIMIC embeddings.

Four tables of 6, 1,024, 768 and 99 numbers, 256 rows, batch 32, 30 % of the modalities missing at random. One
model trains (a) on packed batches; (b) on one patient after the other with the gradients of a batch added up,
the obvious loop, which gives the same step; (c) as the released code of MultiModN must be run to skip per
patient: a batch of one, Python's `any` over the cells to find a gap, an update per patient; and (d) its
encoders alone, with a stand-in loss. Process time of one thread, medians, ratios within one run.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_step.py [--fusion multimodn]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from mmmed.catalogue import list_components
from mmmed.losses.stepwise import stepwise_loss
from mmmed.models.create import create_model
from mmmed.models.multimodal import MultimodalModel
from mmmed.training.optimisation import Optimisation, make_optimiser
from mmmed.types import Batch, Binary, Number, Schema, Tabular

WIDTHS = {"demographics": 6, "image": 1024, "notes": 768, "series": 99}
ROWS, BATCH, MISSING = 256, 32, 0.3
AIMS = "aims: loops at least 30 times slower, whole step at most 1.1 x the encoders alone"


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Median process time, after one warm-up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


def make_schema() -> Schema:
    tables = {
        name: Tabular(tuple(Number(f"{name} {k}") for k in range(width))) for name, width in WIDTHS.items()
    }
    return Schema(tables, {"sick": Binary("sick")})


def make_batches(generator: torch.Generator) -> list[Batch]:
    """Packed batches, as the collator makes them."""
    present = torch.rand(ROWS, len(WIDTHS), generator=generator) >= MISSING
    labels = torch.randint(0, 2, (ROWS,), generator=generator).float()
    batches = []
    for rows in torch.arange(ROWS).split(BATCH):
        values, where = {}, {}
        for index, (name, width) in enumerate(WIDTHS.items()):
            here = present[rows, index].nonzero().squeeze(1)
            cells = torch.randn(len(here), width, generator=generator)
            values[name] = {"cells": cells, "known": torch.ones_like(cells, dtype=torch.bool)}
            where[name] = here
        known = torch.ones(len(rows), dtype=torch.bool)
        batches.append(
            Batch(tuple(WIDTHS), values, where, present[rows], {"sick": labels[rows]}, {"sick": known})
        )
    return batches


def step(model: MultimodalModel, batches: list[Batch], total: int, optimiser: torch.optim.Optimizer) -> None:
    """One update from the patients of some batches together."""
    for batch in batches:
        losses = stepwise_loss(model(batch), batch, model.schema.tasks, totals={"sick": total})
        losses["sick"].backward()
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


def encoders_step(model: MultimodalModel, batch: Batch, optimiser: torch.optim.Optimizer) -> None:
    """One update of the encoders alone."""
    sum(tokens.values.square().mean() for tokens in model.encode(batch).values()).backward()
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


def measure(fusion: str) -> None:
    """Both ratios for one fusion."""
    model = create_model(make_schema(), fusion=fusion).train()
    optimiser = make_optimiser(model, Optimisation())
    batches = make_batches(torch.Generator().manual_seed(0))
    singles = [[batch.only(k) for k in range(len(batch))] for batch in batches]

    def packed() -> None:
        for batch in batches:
            step(model, [batch], len(batch), optimiser)

    def looped() -> None:
        for parts in singles:
            step(model, parts, len(parts), optimiser)

    def released() -> None:
        for part in (part for parts in singles for part in parts):
            for values in part.values.values():
                any(values["cells"].isnan().flatten())  # as released: a loop over cells
            step(model, [part], 1, optimiser)

    def encoders() -> None:
        for batch in batches:
            encoders_step(model, batch, optimiser)

    ours, loop, alone = seconds(packed, 9), seconds(looped, 3), seconds(encoders, 9)
    old = seconds(released, 1)
    print(
        f"{fusion:<18} epoch {1000 * ours:.1f} ms; one by one {1000 * loop:.0f} ms, {loop / ours:.0f} times; "
        f"as released {1000 * old:.0f} ms, {old / ours:.0f} times; encoders alone {1000 * alone:.1f} ms, "
        f"whole / encoders {ours / alone:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fusion", choices=[*list_components(kind="fusion"), "all"], default="multimodn")
    chosen = parser.parse_args().fusion
    torch.set_num_threads(1)
    print(AIMS)
    for fusion in list_components(kind="fusion") if chosen == "all" else [chosen]:
        measure(fusion)


if __name__ == "__main__":
    main()
