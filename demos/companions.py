"""Report generator and segmenter for the page, trained beside it if there are none: one child process after
the other, at low priority, so that the page is there at once and stays quick.

A child is the command itself (`mmmed finetune`), which goes on where a killed one was. While one learns, a
lock file is held, also by the child: a second page, or one that was restarted after a crash, waits for it and
trains nothing twice.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import mmmed

PRIORITY = 15  # 19 would learn only while nothing else runs
PATIENCE = 10  # seconds that a child has to end by itself
CLOSELY = 2  # seconds between two looks at what another page is learning


@dataclass(frozen=True)
class Lesson:
    """What is learned, and how far: three to six minutes on one core, on synthetic patients.

    purpose: in the status, "Learning to ...". stages: name of a stage (None: there is one) -> epochs.
    seconds: of all epochs on one core, to guess from before the first one is over. more: further options of
    the command.
    """

    name: str
    task: str
    purpose: str
    patients: int
    stages: dict[str | None, int]
    seconds: float
    more: tuple[str, ...] = ()

    @property
    def epochs(self) -> int:
        """Of all stages."""
        return sum(self.stages.values())

    def command(self, folder: Path) -> list[str]:
        """The command of the child."""
        last = list(self.stages.values())[-1]
        words = ["finetune", "synthetic", "--task", self.task, "--patients", str(self.patients), *self.more]
        return [sys.executable, "-m", "mmmed", *words, "--epochs", str(last), "--json", "-o", str(folder)]


# With as many epochs, the time goes with the number of patients: reports take 275 s for the 2,800 of the
# README, masks with sentences 195 s for 700.
LESSONS = (
    Lesson("reports", "report", "write", 1800, {"findings": 15, "align": 10}, 180),
    # With the sentences of reports, which a visitor can click; it takes a third longer.
    Lesson("masks", "segment", "draw", 1150, {None: 22}, 320, ("--sentences",)),
)
HOW_TO_GET = {  # for who has closed the page before it was done, or trains nothing beside it
    "report": "Train one: mmmed finetune synthetic --task report --patients 2800 -o runs/reports",
    "mask": "Train one: mmmed finetune synthetic --task segment --patients 1150 --sentences -o runs/masks",
}


@dataclass
class Companions:
    """The lessons that are still to be learned, and the child that is at it.

    lessons: in this order. folder: a run goes to folder/NAME, its log to folder/NAME.log. `start` returns at
    once; `close` ends the child, and is called at exit at the latest.
    """

    lessons: Sequence[Lesson] = LESSONS
    folder: Path = Path("runs/demo")
    _thread: threading.Thread | None = field(default=None, repr=False)
    _child: subprocess.Popen | None = field(default=None, repr=False)
    _now: Lesson | None = field(default=None, repr=False)
    _failed: dict[str, str] = field(default_factory=dict, repr=False)
    _guard: Any = field(default_factory=threading.Lock, repr=False)
    _closed: threading.Event = field(default_factory=threading.Event, repr=False)

    def start(self) -> Companions:
        """Begin to learn. -> itself"""
        self._now = next(iter(self.lessons), None)  # told at once, not only when the thread has come to it
        self._thread = threading.Thread(target=self._learn_all, name="companions", daemon=True)
        atexit.register(self.close)
        self._thread.start()
        return self

    @property
    def busy(self) -> bool:
        """Whether something is learned or about to be; False when only failures are left to tell."""
        return self._now is not None

    def status(self) -> str:
        """What is being learned, how far it is, how long it takes; what failed once nothing is; else ""."""
        lesson = self._now
        if lesson is None:
            return " ".join(self._failed.values())
        return progress(lesson, self.folder / lesson.name / "metrics.jsonl")

    def close(self) -> None:
        """End the child, and learn nothing more; the next start goes on where this one was."""
        with self._guard:
            self._closed.set()
            child = self._child
        if child is not None:
            end(child)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(PATIENCE)
        atexit.unregister(self.close)

    def _learn_all(self) -> None:
        for lesson in self.lessons:
            if self._closed.is_set():
                break
            self._now = lesson
            try:
                self._learn(lesson)
            except OSError as error:
                self._failed[lesson.name] = f"Learning to {lesson.purpose} could not start: {error.strerror}."
        self._now = None

    def _learn(self, lesson: Lesson) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{lesson.name}.lock").open("a") as lock:
            while not claim(lock):  # another page is at it
                if self._closed.wait(CLOSELY):
                    return
            # The command saves a model before it scores it; the first of the two is enough.
            if self._closed.is_set() or (self.folder / lesson.name / "model" / "config.json").is_file():
                return
            code = self._run(lesson, lock)
        if code and not self._closed.is_set():
            words = f"Learning to {lesson.purpose} failed. {lesson.name}.log, beside its run, says why."
            self._failed[lesson.name] = words

    def _run(self, lesson: Lesson, lock: IO[str]) -> int:
        """Start the child and wait for its end. -> its exit code"""
        with (self.folder / f"{lesson.name}.log").open("ab") as log:
            with self._guard:
                if self._closed.is_set():
                    return 0
                self._child = start_child(lesson.command(self.folder / lesson.name), log, lock)
            return self._child.wait()


def missing(cast: Any) -> tuple[Lesson, ...]:
    """The lessons whose result a `Cast` does not have yet."""
    there = {"reports": cast.reporter, "masks": cast.segmenter}
    return tuple(lesson for lesson in LESSONS if there[lesson.name] is None)


def progress(lesson: Lesson, metrics: Path) -> str:
    """A sentence on how far a lesson is, from what its run has written so far."""
    lines = _lines(metrics)
    done, stage = len(lines), lines[-1].get("stage") if lines else None
    if done >= lesson.epochs:
        return (
            f"Learning to {lesson.purpose}: all {lesson.epochs} epochs are done; the result is being saved."
        )
    if not lines:
        return f"Learning to {lesson.purpose}: just begun. {_about(lesson.seconds)}"
    name = f" ({stage})" if stage else ""
    return (
        f"Learning to {lesson.purpose}: epoch {done + 1} of {lesson.epochs}{name}. "
        f"{_about(_left(lesson, lines))}"
    )


def _left(lesson: Lesson, lines: Sequence[dict[str, Any]]) -> float:
    """Seconds to go: for a stage that has begun by its own epochs, for a later one by what was foreseen."""
    left = 0.0
    for stage, epochs in lesson.stages.items():
        took = [float(line.get("seconds") or 0) for line in lines if line.get("stage") == stage]
        # Twice the mean of all epochs: the stage of words takes longer per epoch than the stage of findings.
        each = sum(took) / len(took) if took else 2 * lesson.seconds / lesson.epochs
        left += each * max(0, epochs - len(took))
    return left


def _about(seconds: float) -> str:
    minutes = round(seconds / 60)
    return (
        "Less than a minute to go." if minutes < 1 else f"About {minutes} minute{'s' * (minutes > 1)} to go."
    )


def _lines(metrics: Path) -> list[dict[str, Any]]:
    """What a run has written; nothing if there is nothing yet, or nothing whole."""
    try:
        return [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return []


# -------------------------------------------------------------------------------------------------- processes


def start_child(command: Sequence[str], log: IO[bytes], lock: IO[str]) -> subprocess.Popen:
    """A child of low priority, on one core, in a session of its own, so that Ctrl-C in the terminal is the
    page's business; it holds the lock as long as it lives."""
    home = Path(mmmed.__file__).resolve().parents[1]  # the same mmmed, wherever it came from
    paths = [str(home), *filter(None, [os.environ.get("PYTHONPATH")])]
    settings = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    child = subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env={**os.environ, **settings, "PYTHONPATH": os.pathsep.join(paths)},
        start_new_session=True,
        pass_fds=(lock.fileno(),) if os.name == "posix" else (),
    )
    with suppress(OSError, AttributeError):  # no such thing on Windows, or ended already
        os.setpriority(os.PRIO_PROCESS, child.pid, PRIORITY)
    return child


def end(child: subprocess.Popen) -> None:
    """Ask a child to end, and make it if it does not."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def claim(lock: IO[str]) -> bool:
    """Hold a lock file until it is closed by all who have it open; False if another process holds it."""
    try:
        import fcntl
    except ImportError:  # Windows: nobody looks after two pages there
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
