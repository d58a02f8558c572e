"""What is told about a run: every stage, its gap, and nothing that a name could smuggle in."""

import pytest

from mmmed.training.report_run import ReportRun


def line(epoch, stage, **changes):
    return {
        "epoch": epoch, "stage": stage, "train_loss": 1.0 / epoch, "val_loss": None, "val_f1": None,
        "gap": None, "lr": 1e-3, "seconds": 2.0, **changes,
    }  # fmt: skip


@pytest.fixture
def run():
    history = [
        line(1, "findings", val_loss=0.5, val_f1=0.8),
        line(2, "align", val_loss=2.0),
        line(3, "align", val_loss=1.5),
    ]
    return ReportRun(
        history, {"align": (0.05, 0.01, 0.09)}, None, {"train": 1200, "val": 30}, ("<b>look</b>",)
    )


def test_every_stage_has_its_best_numbers_and_its_gap(run):
    text = str(run)
    assert "1,200" in text
    assert "findings: 1 epochs, loss 1.000, validation 0.500, finding F1 0.800" in text
    assert "align: 2 epochs, loss 0.333, validation 1.500" in text
    assert "0.050 [0.010, 0.090] nats per token  (it hardly looks at the patient)" in text
    assert "seconds: 6.0" in text
    assert run.stages == ("findings", "align")
    assert run.grounding == 0.05


def test_a_gap_that_is_large_is_not_remarked_on(run):
    large = ReportRun(run.history, {"align": (0.5, 0.4, 0.6)})
    assert "hardly" not in str(large)


def test_in_the_notebook_text_is_text(run):
    shown = run._repr_html_()
    assert "<b>look</b>" not in shown
    assert "&lt;b&gt;look&lt;/b&gt;" in shown


def test_the_picture_has_one_axis_for_each_stage(run):
    figure = run.plot()
    assert [axes.get_title().split("\n")[0] for axes in figure.axes] == ["findings", "align"]
    drawn = {text.get_label(): text.get_ydata().tolist() for text in figure.axes[1].lines}
    assert drawn == {"training": [0.5, pytest.approx(1 / 3)], "validation": [2.0, 1.5]}


def test_a_run_without_words_has_no_gap():
    assert ReportRun([line(1, "findings")]).grounding is None
