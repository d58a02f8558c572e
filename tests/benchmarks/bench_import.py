"""`import mmmed` in fresh processes: CPU seconds, and that no torch comes along (aim: under 0.5 s).

python tests/benchmarks/bench_import.py
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys

QUESTION = "import sys, mmmed; print('torch' in sys.modules)"


def main() -> None:
    times = []
    for _ in range(7):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        heavy = subprocess.run(
            [sys.executable, "-c", QUESTION], capture_output=True, text=True, check=True
        ).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    print(
        f"import mmmed: {statistics.median(times):.3f} CPU s with the interpreter's own start, torch: "
        f"{heavy.strip()}"
    )


if __name__ == "__main__":
    main()
