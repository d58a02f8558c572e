"""How a run shows itself: a bar in a terminal or notebook, one log line per epoch elsewhere, TensorBoard if
asked."""

from __future__ import annotations

import importlib.util
import logging
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmmed.checks import check_known, needs
from mmmed.training.run import describe

logger = logging.getLogger("mmmed")
CHOICES = (True, False, "tensorboard")


def check_progress(progress: bool | str, output: Path | None) -> None:
    """True, False or "tensorboard"; the last needs the package and an output folder."""
    check_known(progress, CHOICES, what="kind of progress")
    if progress == "tensorboard":
        if importlib.util.find_spec("tensorboard") is None:
            raise needs("tensorboard", "tracking")
        if output is None:
            raise ValueError('progress="tensorboard" writes files: name an output folder.')


class Reporter:
    """Shows updates and epochs. Silent if `progress` is False or this is not the main process."""

    def __init__(self, progress: bool | str, total: int, done: int, tracker: Any = None):
        self.quiet = progress is False
        self.tracker = tracker
        self.bar = None
        if not self.quiet and (sys.stderr.isatty() or _in_notebook()):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # tqdm warns where a notebook has no widgets, and then works
                from tqdm.auto import tqdm

                self.bar = tqdm(total=total, initial=done, unit="step", desc="training", leave=False)

    def step(self) -> None:
        """One update is done."""
        if self.bar is not None:
            self.bar.update()

    def epoch(self, line: Mapping[str, Any]) -> None:
        """One epoch is done."""
        if self.tracker is not None:
            numbers = {k: v for k, v in line.items() if isinstance(v, (int, float)) and k != "epoch"}
            self.tracker.log(numbers, step=line["epoch"])
        if self.bar is not None:
            self.bar.set_description(describe(line))
        elif not self.quiet:
            logger.info(describe(line))

    def close(self) -> None:
        """Take the bar away and finish the files."""
        if self.bar is not None:
            self.bar.close()
        if self.tracker is not None:
            self.tracker.finish()


def make_tracker(progress: bool | str, output: Path | None) -> Any:
    """An accelerate tracker that writes TensorBoard files to <output>/tensorboard, or None."""
    if progress != "tensorboard":
        return None
    from accelerate.tracking import TensorBoardTracker

    tracker = TensorBoardTracker("tensorboard", logging_dir=str(output))
    if hasattr(tracker, "start"):  # newer releases open the writer here, older ones in the constructor
        tracker.start()
    return tracker


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules and "IPython" in sys.modules
