"""Train in child processes, kill them at random moments, resume until the end. Prints one JSON line.

Started by test_resume.py. This process never computes a gradient, so its children may be forked from it.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import accelerate  # noqa: F401 (imported once, before the forks)
import safetensors.torch  # noqa: F401
import sklearn.linear_model  # noqa: F401
import torch
from tiny import make_cohort, make_model

import mmmed.evaluation.multiclass  # noqa: F401
from mmmed.training.augment import Augmentation
from mmmed.training.finetune import finetune
from mmmed.training.optimisation import Optimisation

EPOCHS = 4


def train(folder: Path) -> int:
    """Start a child that trains, or goes on training, into `folder`. -> its process id"""
    child = os.fork()
    if child:
        return child
    try:
        torch.manual_seed(time.time_ns())  # the global stream differs from run to run and must not matter
        finetune(
            make_model(),
            make_cohort(90),
            epochs=EPOCHS,
            patience=None,
            output=folder,
            optimisation=Optimisation(batch_size=8, checkpoint_every=1),
            augmentation=Augmentation(noise=0.05),
            progress=False,
        )
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def moments(folder: Path) -> list[str]:
    """Names of the checkpoints, "<epoch>-<update>", the newest last."""
    places = folder / "checkpoints"
    return sorted(p.name for p in places.iterdir() if p.name[0] != ".") if places.is_dir() else []


def kill_after(child: int, folder: Path, moment: str, delay: float) -> str | None:
    """Kill the child `delay` seconds after it reached a checkpoint. -> the newest one then, None if it had
    ended"""
    while not os.waitpid(child, os.WNOHANG)[0]:
        if moments(folder)[-1:] > [moment]:
            time.sleep(delay)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return moments(folder)[-1]
        time.sleep(0.001)
    return None


def main(root: Path, kills: int, seed: int) -> None:
    draw = random.Random(seed)
    failed = os.waitpid(train(root / "whole"), 0)[1]
    targets = sorted(draw.sample([(epoch, update) for epoch in range(EPOCHS) for update in range(7)], kills))
    hits = [
        kill_after(
            train(root / "killed"), root / "killed", f"{epoch:06d}-{update:06d}", draw.uniform(0, 0.02)
        )
        for epoch, update in targets
    ]
    failed = failed or os.waitpid(train(root / "killed"), 0)[1]
    print(json.dumps({"failed": failed, "killed at": hits}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
