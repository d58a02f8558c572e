"""One record's prediction with all its subsets: median process time of one thread (aim: under 30 ms).

OMP_NUM_THREADS=1 python tests/benchmarks/bench_predict.py
"""

from __future__ import annotations

import statistics
import time

import torch

from mmmed import create_model, load_cohort, predict


def main() -> None:
    torch.set_num_threads(1)
    cohort = load_cohort("synthetic", patients=40, seed=1)
    model, record, times = create_model(cohort.schema), cohort[0], []
    for _ in range(40):
        start = time.process_time()
        predict(model, record)
        times.append(time.process_time() - start)
    print(f"predict, image + table + text, 8 subsets: {1000 * statistics.median(times):.1f} ms")


if __name__ == "__main__":
    main()
