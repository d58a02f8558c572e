"""Pictures of the page for the README, made by a real browser from a page that is really served.

python demos/screenshots.py [--model DIR] [--reports DIR] [--masks DIR] [--only desktop ...]

Needs playwright (pip install "mmmed[test]") and Chromium. The tests and the benchmark of the page start from
`serving` and `chromium`, too.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

import mmmed

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--force-color-profile=srgb", "--lang=en-GB",
]  # fmt: skip
PATIENCE = 120  # seconds until the page must be there; a busy machine takes thirty
PAUSE = 0.2  # seconds between two looks
SLOW = 60_000  # milliseconds that an answer may take
MOST = 250_000  # bytes of one picture
DESK, PHONE = {"width": 1366, "height": 1000}, {"width": 390, "height": 844}
TEXT = "() => document.querySelector('{}').innerText"


# ----------------------------------------------------------------------------------- a page and a browser


@contextmanager
def serving(
    model: str | Path, reports: str | Path | None = None, masks: str | Path | None = None, cohort: str = "",
    folder: str | Path | None = None,
) -> Iterator[str]:  # fmt: skip
    """`mmmed demo` as a child process, until the block ends. -> where it is, http://127.0.0.1:PORT

    folder: what the child writes goes there, its words to folder/page.log; None: a temporary one. Raises
    RuntimeError with the end of the log if the page does not come.
    """
    given = {"--model": model, "--reports": reports, "--masks": masks}
    words = [str(word) for name, place in given.items() if place for word in (name, Path(place).resolve())]
    words += ["--cohort", cohort] if cohort else []
    with tempfile.TemporaryDirectory(prefix="mmmed-page-") as own:
        place, port = Path(folder or own), free_port()
        command = [sys.executable, "-m", "mmmed", "demo", *words, "--no-train", "--port", str(port)]
        with (place / "page.log").open("wb") as log:
            child = subprocess.Popen(command, cwd=place, env=_environment(), stdout=log, stderr=log)
        try:
            yield _answering(f"http://127.0.0.1:{port}", child, place / "page.log")
        finally:
            child.terminate()
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser with a profile of its own. Raises ImportError or FileNotFoundError where there is none."""
    from playwright.sync_api import sync_playwright

    if (program := chromium_path()) is None:
        raise FileNotFoundError("There is no Chromium on this machine. Install it, on Debian: chromium.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def chromium_path() -> str | None:
    """Where Chromium is, by any of its names."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


def visitor(browser: Any, **options: Any) -> Any:
    """A context of its own, as of somebody who comes for the first time. options: Playwright's own."""
    context = browser.new_context(**{"viewport": DESK, "reduced_motion": "reduce", **options})
    context.set_default_timeout(SLOW)
    return context


def opened(context: Any, address: str) -> Any:
    """The page in a visitor's context, with an example patient on it."""
    page = context.new_page()
    page.goto(address)
    page.locator("#headline b").wait_for()
    page.locator("#panel-path svg").first.wait_for()
    return page


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _environment() -> dict[str, str]:
    """The child runs this checkout, on one core, and asks nothing outside."""
    home = str(Path(mmmed.__file__).resolve().parents[1])
    settings = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {**os.environ, **settings, "GRADIO_ANALYTICS_ENABLED": "False", "PYTHONPATH": home}


def _answering(address: str, child: subprocess.Popen, log: Path) -> str:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and child.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return address
        except OSError:
            time.sleep(PAUSE)
    raise RuntimeError(f"The page did not come.\n{log.read_text(errors='replace')[-2000:]}")


# ------------------------------------------------------------------------------------------ what is shown


def telling(folder: str | Path) -> tuple[str, str]:
    """The example, and the input without which its answer moves most: what a picture should show.

    The synthetic patients of the page, as `mmmed demo` makes them.
    """
    from mmmed.cli.demo import PATIENTS, SEED, demo_package

    demo_package()
    from mmmed_demo.examples import examples_of

    model = mmmed.load_model(folder)
    cohort = mmmed.load_cohort("synthetic", patients=PATIENTS, seed=SEED).with_schema(model.schema)
    moves = {}
    for name, record in examples_of(model, cohort["test"]).items():
        answer = next(iter(mmmed.predict(model, record).answers.values()))
        for lost in record.present:
            rest = answer.given(*(other for other in record.present if other != lost))
            moves[name, lost] = abs(answer.value - rest.values[answer.leading])
    return max(moves, key=moves.get)


def choose(page: Any, example: str) -> None:
    """Another example patient, once its answer is there."""
    asked = page.get_by_role("radio", name=example, exact=True)
    if not asked.is_checked():
        before = page.evaluate(TEXT.format("#headline"))
        asked.check()
        page.wait_for_function(f"old => ({TEXT.format('#headline')})() !== old", arg=before)


def switch_off(page: Any, name: str) -> None:
    """Take a modality away, and wait until the panels say so."""
    page.get_by_label(f"with {name}", exact=True).uncheck()
    page.locator("#panel-risk .mm-chip-absent").first.wait_for()
    page.locator("#panel-path .mm-absent").first.wait_for()


def write_report(page: Any) -> None:
    """The report, and the mask of the first sentence for which there is one."""
    page.locator("#write").click()
    page.locator("#sentences .mm-report").wait_for()
    lines = page.locator("#sentences button")
    for place in range(lines.count()):
        lines.nth(place).click()
        page.wait_for_function(  # it is shown pressed together with its mask
            "place => document.querySelectorAll('#sentences button')[place]?.ariaPressed === 'true'"
            " || document.querySelector('#problem .mm-problem')", arg=place,
        )  # fmt: skip
        if page.locator("#where .mm-masks-picture path").count():
            break


# ---------------------------------------------------------------------------------------------- pictures


def desktop(browser: Any, address: str, story: tuple[str, str], to: Path, scheme: str = "light") -> None:
    """The top of the page with one input switched off."""
    page = opened(visitor(browser, color_scheme=scheme), f"{address}/?__theme={scheme}")
    choose(page, story[0])
    switch_off(page, story[1])
    page.mouse.move(0, 0)
    saved(page.screenshot(), to)


def dark(browser: Any, address: str, story: tuple[str, str], to: Path) -> None:
    """The same in the dark."""
    desktop(browser, address, story, to, "dark")


def phone(browser: Any, address: str, story: tuple[str, str], to: Path) -> None:
    """A phone, scrolled to the answer: the switches stay in sight."""
    page = opened(visitor(browser, viewport=PHONE, device_scale_factor=2), f"{address}/?__theme=light")
    choose(page, story[0])
    switch_off(page, story[1])
    page.evaluate(
        "() => { const top = document.querySelector('#box-risk').getBoundingClientRect().top;"
        " scrollBy(0, top - document.querySelector('#bar').offsetHeight - 14); }"
    )
    saved(page.screenshot(), to)


def report(browser: Any, address: str, story: tuple[str, str], to: Path) -> None:
    """A drafted report, what each sentence rests on, and the mask of one of them."""
    page = opened(visitor(browser), f"{address}/?__theme=light")
    choose(page, story[0])
    write_report(page)
    page.mouse.move(0, 0)
    saved(page.locator("#box-report").screenshot(), to)


PICTURES = {"desktop": desktop, "dark": dark, "phone": phone, "report": report}


def saved(png: bytes, to: Path) -> None:
    """A PNG of at most MOST bytes: with fewer colours where it would be larger."""
    to.write_bytes(png)
    for colours in (256, 128, 64):
        if to.stat().st_size <= MOST:
            return
        with tempfile.SpooledTemporaryFile() as content:
            content.write(png)
            few = Image.open(content).convert("RGB").quantize(colours, dither=Image.Dither.NONE)
        few.save(to, optimize=True)


def main(words: Sequence[str] | None = None) -> None:
    """Make the pictures that are asked for."""
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="runs/quickstart/model")
    parser.add_argument("--reports", default="runs/reports/model")
    parser.add_argument("--masks", default="runs/masks/model")
    parser.add_argument("--output", type=Path, default=here / "screenshots")
    parser.add_argument("--only", nargs="+", choices=PICTURES, default=list(PICTURES))
    given = parser.parse_args(words)
    given.output.mkdir(parents=True, exist_ok=True)
    story = telling(given.model)
    with serving(given.model, given.reports, given.masks) as address, chromium() as browser:
        for name in given.only:
            told = ("complete", "") if name == "report" else story
            PICTURES[name](browser, address, told, given.output / f"{name}.png")
            sys.stdout.write(f"{name}: {' without '.join(filter(None, told))}\n")


if __name__ == "__main__":
    main()
