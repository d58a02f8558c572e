"""A script of this folder under torchrun, in two processes on one machine."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def in_two_processes(script: str, *words: object, within: int = 110) -> None:
    """Run it to its end, within so many seconds; what it said is shown if it fails."""
    places = os.pathsep.join([str(HERE), str(HERE.parent), *sys.path])
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        str(HERE / script), *(str(word) for word in words),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=within, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
