"""A million rows: time and memory to open a table, read every record, and build every batch.

    python tests/benchmarks/bench_cohort.py [rows] [csv|parquet]

Writes a table of 15 columns (30 % of the cells of ten numeric columns empty, two rows per patient) to a
temporary folder. Times are processor time, memory is the largest resident set of this process, torch
included.
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

NUMBERS = [f"lab{k}" for k in range(10)]


def write(path: Path, rows: int) -> None:
    rng = np.random.default_rng(0)
    columns = {"id": [f"r{i:07d}" for i in range(rows)], "patient": [f"p{i // 2:06d}" for i in range(rows)]}
    for name in NUMBERS:
        columns[name] = pa.array(np.round(rng.normal(50, 10, rows), 2), mask=rng.random(rows) < 0.3)
    columns |= {"sex": rng.choice(["f", "m"], rows), "ward": rng.choice(list("ABCDE"), rows)}
    columns["label"] = rng.integers(0, 2, rows)
    table = pa.table(columns)
    pa.csv.write_csv(table, path) if path.suffix == ".csv" else pa.parquet.write_table(table, path)


def measure(path: Path) -> None:
    import torch

    from mmmed.data.cohort import Cohort

    def say(what: str, since: float) -> None:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{what:<28} {time.process_time() - since:6.1f} s   {memory:6.0f} MiB at most", flush=True)

    say("torch and mmmed imported", 0.0)
    start = time.process_time()
    cohort = Cohort.from_csv(
        path, tabular=[*NUMBERS, "sex", "ward"], target="label", group="patient", id="id"
    )
    say("opened, split, fitted", start)
    start = time.process_time()
    assert sum(1 for _ in cohort) == len(cohort)
    say("every record read", start)
    start = time.process_time()
    assert sum(len(batch) for batch in cohort.batches(1024)) == len(cohort)
    say("every batch of 1024 built", start)
    start = time.process_time()
    batches = cohort["train"].batches(64, generator=torch.Generator().manual_seed(0))
    assert sum(len(batch) for batch, _ in zip(batches, range(500), strict=False)) == 500 * 64
    say("500 shuffled batches of 64", start)


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    ending = sys.argv[2] if len(sys.argv) > 2 else "csv"
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / f"table.{ending}"
        if len(sys.argv) > 3:  # the table is written by another process, whose memory does not count
            write(Path(sys.argv[3]), count)
        else:
            import subprocess

            subprocess.run([sys.executable, __file__, str(count), ending, str(place)], check=True)
            measure(place)
