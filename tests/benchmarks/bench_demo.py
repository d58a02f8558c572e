"""How quickly the page of `mmmed demo` answers a switch: one user, and twenty at once (aims: p95 of one user
under 300 ms, no error).

OMP_NUM_THREADS=1 python tests/benchmarks/bench_demo.py

One page in a child process, on one core, with the model of the quickstart if it is in runs/, else with one
that has learned for three epochs. A client sends what the browser sends for a switch and reads every panel;
the browser is timed from the click until the answer in the bar has changed. All share the cores of the
machine.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mmmed
from mmmed.cli.demo import PATIENTS, QUICKSTART, SEED, demo_package

USERS, EACH, ALONE = 20, 10, 100
CLICK = """(patience) => new Promise((done, failed) => {
  const bar = document.querySelector('#headline');
  const told = () => bar.querySelector('.mm-bar-answer')?.innerText;
  const before = told(), start = performance.now();
  const watch = new MutationObserver(() => {
    if (told() && told() !== before) { watch.disconnect(); done(performance.now() - start); }
  });
  watch.observe(bar, {subtree: true, childList: true, characterData: true});
  setTimeout(() => failed('no answer'), patience);
  document.querySelector('#switch-0 input').click();
})"""


class User:
    """A client with a session of its own, on whose page the first example stands."""

    def __init__(self, address: str, modalities: Sequence[str], task: str):
        from gradio_client import Client

        self.client = Client(address, verbose=False)
        self.asked = (task, list(modalities), *[None] * len(modalities))
        known = self.client.view_api(print_info=False, return_format="dict")["named_endpoints"]
        inputs = len(known["/look"]["parameters"]) - len(self.asked)
        told = self.client.predict("complete", *self.asked, api_name="/choose")
        self.values = list(told[3 : 3 + inputs])  # after the problem, the headline and the stale report

    def switch(self) -> float:
        """Seconds until every panel is there. Raises RuntimeError if the page tells of a problem."""
        self.values[0] = not self.values[0]
        start = time.perf_counter()
        problem, headline, *_ = self.client.predict(*self.asked, *self.values, api_name="/look")
        took = time.perf_counter() - start
        if "mm-problem" in str(problem) or "mm-bar-answer" not in str(headline):
            raise RuntimeError(f"{problem} {headline}")
        return took


def tried(ask: Callable[[], float], times: int) -> list[float]:
    """Seconds of each request; NaN for one that failed."""
    took = []
    for _ in range(times):
        try:
            took.append(ask())
        except Exception as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            took.append(float("nan"))
    return took


def crowd(address: str, *about: Any) -> list[float]:
    """All users at once, each with a session of its own."""
    ready = threading.Barrier(USERS)

    def come(_: int) -> list[float]:
        user = User(address, *about)
        ready.wait()
        return tried(user.switch, EACH)

    with ThreadPoolExecutor(USERS) as pool:
        return [took for one in pool.map(come, range(USERS)) for took in one]


def clicks(browser: Any, address: str) -> list[float]:
    """One user in a browser, from the click to the new answer in the bar."""
    from mmmed_demo.screenshots import opened, visitor

    page = opened(visitor(browser), address)
    tried(lambda: page.evaluate(CLICK, 30_000) / 1000, 3)
    return tried(lambda: page.evaluate(CLICK, 30_000) / 1000, ALONE)


def predictions(model: Any, record: Any) -> list[float]:
    """The bare question behind a switch: what the page adds is seen by comparison."""

    def ask() -> float:
        start = time.perf_counter()
        mmmed.predict(model, record)
        return time.perf_counter() - start

    tried(ask, 5)
    return tried(ask, ALONE)


def line(name: str, took: Sequence[float], bare: float) -> str:
    """One row of the table."""
    good = np.array([value for value in took if not np.isnan(value)]) * 1000
    p50, p95 = np.percentile(good, [50, 95])
    return (
        f"{name:<34}{len(took):>9}{len(took) - len(good):>8}{p50:>8.0f}{p95:>8.0f}{good.max():>8.0f}"
        f"{p50 / bare:>10.1f}"
    )


def small_model(folder: Path) -> Path:
    """A model that has hardly learned: it answers as quickly as any other."""
    cohort = mmmed.load_cohort("synthetic", patients=200, seed=SEED)
    model = mmmed.create_model(cohort.schema, seed=SEED)
    mmmed.finetune(model, cohort, output=folder, epochs=3, seed=SEED, progress=False)
    return folder / "model"


def main() -> None:
    torch.set_num_threads(1)
    demo_package()
    from mmmed_demo.screenshots import chromium, chromium_path, serving

    with tempfile.TemporaryDirectory() as folder:
        place = QUICKSTART if (QUICKSTART / "config.json").is_file() else small_model(Path(folder))
        model = mmmed.load_model(place)
        about = (model.modalities, next(iter(model.schema.tasks)))
        record = mmmed.load_cohort("synthetic", patients=PATIENTS, seed=SEED)["test"][0]
        with serving(place) as address:
            rows = {"mmmed.predict alone": predictions(model, record)}
            user = User(address, *about)
            tried(user.switch, 3)
            rows["one user, client"] = tried(user.switch, ALONE)
            if chromium_path():
                with chromium() as browser:
                    rows["one user, browser"] = clicks(browser, address)
            rows[f"{USERS} users at once, client"] = crowd(address, *about)
    bare = 1000 * float(np.nanmedian(rows["mmmed.predict alone"]))
    print(f"{'milliseconds':<34}{'requests':>9}{'errors':>8}{'p50':>8}{'p95':>8}{'max':>8}{'p50/bare':>10}")
    print("\n".join(line(name, took, bare) for name, took in rows.items()))


if __name__ == "__main__":
    main()
