"""Processor seconds of the missingness benchmark: 400 records, about 30 masks, 1000 draws of patients.

OMP_NUM_THREADS=1 python tests/benchmarks/bench_benchmark.py
"""

from __future__ import annotations

import time

import numpy as np

import mmmed
from mmmed.data.missingness import Mechanism, standard_mechanisms

RECORDS = 400


def main() -> None:
    cohort = mmmed.load_cohort("synthetic", patients=3000, seed=0)
    test = cohort["test"][:RECORDS]
    more = [Mechanism("mcar", {"share": float(share), "seed": 1}) for share in np.arange(0.05, 0.55, 0.05)]
    rules = [*standard_mechanisms(test), *more]
    models = {f"seed {seed}": mmmed.create_model(cohort.schema, seed=seed) for seed in range(3)}
    for name, some, workers in (
        ("one model", models["seed 0"], 0),
        ("three models", models, 0),
        ("three models, two threads", models, 2),
    ):
        wall, start = time.perf_counter(), time.process_time()
        bench = mmmed.missingness_benchmark(some, test, rules, workers=workers)
        seconds, wall = time.process_time() - start, time.perf_counter() - wall
        masks = len(dict.fromkeys(row["seen"] for row in bench.table))
        print(f"{name}: {len(test)} records, {masks} masks, {seconds:.1f} CPU s, {wall:.1f} s")
    whole = mmmed.missingness_benchmark(
        models, test, mechanisms=[], draws=10, costs=True, subgroups=("sex", "age", "site")
    )
    print(whole.costs)


if __name__ == "__main__":
    main()
