"""A real page in a real browser: small models, `mmmed demo` as a child process, Chromium without a network.

Whoever asks for `visit` gets pages that keep account: a test fails if its page asked anything of another
machine, or if the console of the browser showed an error.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from mmmed.cli.demo import demo_package

demo_package()  # the folder demos/ as mmmed_demo

ARTEFACTS = Path(__file__).parent / "artefacts"
LOOPBACK = ("127.0.0.1", "localhost")


class Models(NamedTuple):
    """Folders of saved models, in the order of the options of `mmmed demo`."""

    model: Path
    reports: Path
    masks: Path


def pytest_itemcollected(item):
    """Time for a busy machine. Whatever worker gets some of these tests serves a page of its own."""
    if Path(item.path).parent == Path(__file__).parent:
        item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def browser():
    """Chromium, or a skip that says what is missing."""
    for package in ("playwright", "gradio"):
        pytest.importorskip(package, reason=f'{package} is missing: pip install "mmmed[demo,test]"')
    from mmmed_demo.screenshots import SLOW, chromium, chromium_path
    from playwright.sync_api import expect

    if chromium_path() is None:
        pytest.skip("there is no Chromium on this machine: apt-get install chromium")
    expect.set_options(timeout=SLOW)
    with chromium() as found:
        yield found


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A predictor that has learned a little, a reporter with words, a segmenter that draws for any phrase."""
    import small_reporter
    import small_segmenter
    import torch

    import mmmed
    from mmmed.training.report_finetune import finetune_reports
    from mmmed.types import Schema

    folder = tmp_path_factory.mktemp("models")
    places = Models(folder / "predictor" / "model", folder / "reports", folder / "masks")
    cohort = mmmed.load_cohort("synthetic", patients=160, seed=0)
    model = mmmed.create_model(cohort.schema, fusion="multimodn", seed=0)
    mmmed.finetune(model, cohort, output=folder / "predictor", epochs=4, seed=0, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has hardly learned to write is true, and intended
        few = small_reporter.make_cohort(40)
        reporter = small_reporter.make_reporter(few)
        finetune_reports(reporter, few, stages=small_reporter.quick_stages(1, 20), progress=False)
        reporter.threshold = None
        reporter.save_pretrained(places.reports)
    kinds = {"image": cohort.schema.modalities["image"]}
    segmenter = small_segmenter.make_segmenter(Schema(kinds), seed=2)
    decoder = segmenter.network.decoder
    with torch.no_grad():  # sure enough to draw at a threshold of 0.5, not at one of 0.95
        for layer in (decoder.doubt[-1], decoder.match.word):
            layer.weight.zero_()
            layer.bias.zero_()
        decoder.doubt[-1].bias.fill_(1.0)
    segmenter.save_pretrained(places.masks)
    return places


@pytest.fixture(scope="session")
def site(browser, models, tmp_path_factory):
    """The address of the page, and a folder with the log of its process."""
    from mmmed_demo.screenshots import serving

    folder = tmp_path_factory.mktemp("page")
    with serving(*models, folder=folder) as address:
        yield address, folder / "page.log"


@pytest.fixture
def visit(browser, site):
    """Opens the page for one more visitor, with an example patient on it."""
    from mmmed_demo.screenshots import opened, visitor

    contexts, asked, said = [], [], []

    def come(query="", **options):
        context = visitor(browser, **options)
        contexts.append(context)
        context.on("request", lambda request: asked.append(request.url))
        context.on("weberror", lambda error: said.append(str(error.error)))
        context.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        return opened(context, f"{site[0]}/{query}")

    yield come
    for context in contexts:
        context.close()
    outside = [url for url in asked if not is_inside(url)]
    assert asked, "no page was opened"
    assert not outside, "the page asked another machine"
    assert not said, "the console of the browser shows errors"


@pytest.fixture
def page(visit):
    """The page, for a test that needs one visitor."""
    return visit()


@pytest.fixture(scope="session")
def picture():
    """Keeps a picture of what a test sees, to be looked at by people: picture(page, name)."""
    ARTEFACTS.mkdir(exist_ok=True)
    return lambda what, name: what.screenshot(path=ARTEFACTS / f"{name}.png")


def is_inside(url):
    """Whether an address stays in the browser or on this machine."""
    return url.startswith(("data:", "blob:", "about:")) or urlsplit(url).hostname in LOOPBACK
