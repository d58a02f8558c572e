"""The folder demos/ as the package `mmmed_demo`, wherever the tests run, and a page with a visitor on it."""

import pytest

from mmmed.cli.demo import demo_package

demo_package()


@pytest.fixture(scope="session")
def cast():
    """Synthetic patients, and a model that has learned nothing but answers."""
    from mmmed_demo.cast import open_cast

    import mmmed
    from mmmed.models.inference import calibrate

    cohort = mmmed.load_cohort("synthetic", patients=90, seed=0, size=32)
    model = calibrate(mmmed.create_model(cohort.schema, seed=0), cohort["val"])
    return open_cast(model, cohort, reports=(), masks=())


@pytest.fixture(scope="session")
def events(cast):
    """The handlers of a page that is not served."""
    pytest.importorskip("gradio", reason='gradio is missing: pip install "mmmed[demo]"')
    from small_page import wired

    return wired(cast)


@pytest.fixture
def visit(events):
    """A visitor who has opened the page: the first example patient is on it."""
    from mmmed_demo.answers import Visit

    return events.choose(Visit(), "complete")[events.parts.visit]
