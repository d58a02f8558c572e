"""Figures say what the numbers say; they need no screen and touch no global state."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from mmmed.evaluation.metrics import ece
from mmmed.explain import plot_patterns, plot_reliability, plot_subsets, plot_trajectory
from mmmed.explain.calibration_plot import reliability, wilson
from mmmed.explain.style import spread
from mmmed.types import Answer, Prediction


def prediction(id="p1", path=(("image", 0.6), ("text", 0.8)), missing=("table",), interval=(0.7, 0.9)):
    last = path[-1][1] if path else 0.4
    answer = Answer(
        "binary",
        {"ill": last},
        {"ill": 0.4},
        tuple((name, {"ill": value}) for name, value in path),
        interval={"ill": interval} if interval else {},
    )
    return Prediction(id, {"illness": answer}, tuple(name for name, _ in path), missing)


def line(axes, number=0):
    return axes.lines[number].get_ydata().tolist()


def words(figure):
    return [text.get_text() for text in [*figure.texts, *figure.axes[0].texts]]


def test_the_trajectory_starts_at_the_prior_and_stays_where_a_modality_is_missing():
    figure = plot_trajectory(prediction())
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "nothing known",
        "+ image",
        "+ text",
        "+ table",
    ]
    assert line(axes) == pytest.approx([40, 60, 80, 80])
    points = [mark for mark in axes.lines if mark.get_marker() == "o"]
    assert [mark.get_markerfacecolor() == "white" for mark in points] == [False, False, False, True]
    assert any("open point: not recorded" in text for text in words(figure))
    assert any("80 % [70, 90]" in text for text in words(figure))
    assert "probability [%]" in axes.get_ylabel()


def test_several_records_share_the_steps_of_the_longest_and_are_named_at_their_ends():
    other = prediction("p2", (("table", 0.2),), ("image", "text"), None)
    complete = prediction("p3", (("image", 0.5), ("table", 0.6), ("text", 0.9)), ())
    figure = plot_trajectory([other, complete])
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_xticklabels()][1:] == ["+ image", "+ table", "+ text"]
    lines = [mark.get_ydata().tolist() for mark in axes.lines if len(mark.get_ydata()) == 4]
    np.testing.assert_allclose(lines, [[40, 40, 20, 20], [40, 50, 60, 90]])
    assert any(text.startswith("p2  20 %") for text in words(figure))


def test_a_record_with_nothing_is_a_flat_line_and_too_many_records_are_refused():
    figure = plot_trajectory(prediction(path=(), missing=("image", "text"), interval=None))
    assert line(figure.axes[0]) == pytest.approx([40, 40, 40])
    with pytest.raises(ValueError, match="One to 7 predictions"):
        plot_trajectory([prediction()] * 8)
    with pytest.raises(ValueError, match='Did you mean "illness"'):
        plot_trajectory(prediction(), "ilness")


def test_several_classes_get_a_line_each_and_a_regression_its_unit():
    levels = {"covid": 0.6, "other": 0.4}
    several = Prediction(
        "a", {"cause": Answer("multiclass", levels, levels, (("image", levels),))}, ("image",), ()
    )
    assert len([mark for mark in plot_trajectory(several).axes[0].lines if len(mark.get_ydata()) == 2]) == 2
    number = Answer("regression", {"days": 6.0}, {"days": 4.0}, (("image", {"days": 6.0}),), unit="d")
    axes = plot_trajectory(Prediction("a", {"stay": number}, ("image",), ())).axes[0]
    assert axes.get_ylabel() == "prediction [d]"
    assert line(axes) == [4.0, 6.0]


def test_names_at_the_ends_do_not_overlap_and_keep_their_order():
    placed = spread([50.0, 50.0, 52.0, 10.0], least=8)
    order = np.argsort([50.0, 50.0, 52.0, 10.0], kind="stable")
    assert (np.diff(np.array(placed)[order]) >= 8 - 1e-9).all()
    assert np.mean(placed) == pytest.approx(np.mean([50, 50, 52, 10]))
    assert spread([1.0, 20.0], least=5) == [1.0, 20.0]


def test_reliability_bins_give_the_calibration_error_of_the_metrics():
    rng = np.random.default_rng(0)
    p = np.r_[rng.random(200), 0.0, 1.0]
    y = (rng.random(202) < p).astype(float)
    said, happened, count, patients = reliability(y, p, np.arange(202) // 2)
    assert (count * np.abs(said - happened)).sum() / 202 == pytest.approx(ece(y, p))
    assert count.sum() == 202
    assert (patients <= count).all()
    figure = plot_reliability(np.r_[y, np.nan], np.r_[p, 0.5], name="sepsis")
    assert any(f"expected calibration error {ece(y, p):.3f}" in text for text in words(figure))
    assert any(text.startswith("202 records") for text in words(figure))


def test_the_interval_of_a_share_is_wilsons_and_wider_when_rows_share_patients():
    low, high = wilson(np.array([0.5, 0.0]), np.array([10, 10]))
    np.testing.assert_allclose(
        low, [0.2366, 0.0], atol=1e-4
    )  # statsmodels proportion_confint(5 or 0, 10, "wilson")
    np.testing.assert_allclose(high, [0.7634, 0.2775], atol=1e-4)
    y, p = np.tile([0.0, 1.0], 20), np.full(40, 0.55)

    def length(groups):
        segments = plot_reliability(y, p, groups).axes[0].collections[0].get_segments()
        return segments[0][1, 1] - segments[0][0, 1]

    assert length(np.arange(40) // 4) > 1.5 * length(None)


def test_reliability_refuses_what_is_no_probability():
    for labels, said in (([0, 1], [0.2, 1.4]), ([np.nan], [0.4]), ([0, 1], [0.2])):
        with pytest.raises(ValueError, match=r"between 0 and 1|known label|equally long"):
            plot_reliability(labels, said)


def test_patterns_are_counted_and_the_most_frequent_comes_first():
    present = np.array([[1, 1]] * 5 + [[1, 0]] * 8 + [[0, 0]], dtype=bool)
    cohort = SimpleNamespace(
        present=present, schema=SimpleNamespace(modalities={"image": 1, "text": 1}), name="demo"
    )
    figure = plot_patterns(cohort)
    assert [bar.get_height() for bar in figure.axes[0].patches] == [8, 5, 1]
    assert any("14 records, 36 % complete" in text for text in words(figure))
    assert [text.get_text() for text in figure.axes[1].texts] == ["93 %", "36 %"]
    marks = [mark.get_color() for mark in figure.axes[1].lines if mark.get_marker() == "o"]
    blue = [colour == "#0072B2" for colour in marks]
    assert blue == [True, False, True, True, False, False]


def test_rare_patterns_are_left_out_and_counted():
    present = np.array([[bool(k >> b & 1) for b in range(5)] for k in range(32)])
    names = {f"m{k}": 1 for k in range(5)}
    cohort = SimpleNamespace(present=present, schema=SimpleNamespace(modalities=names), name="all")
    assert any("8 rarer patterns are not shown" in text for text in words(plot_patterns(cohort)))


def test_a_benchmark_draws_itself():
    asked = []
    plot_subsets(SimpleNamespace(plot=asked.append), "sepsis")
    assert asked == ["sepsis"]


def test_a_figure_is_a_picture_in_a_notebook_and_pyplot_is_never_loaded():
    assert plot_trajectory(prediction())._repr_png_()[:8] == b"\x89PNG\r\n\x1a\n"
    code = (
        "import sys, mmmed.explain, mmmed.evaluation.figures;"
        "assert 'matplotlib.pyplot' not in sys.modules;"
        "from mmmed.explain import plot_reliability;"
        "plot_reliability([0, 1], [0.2, 0.9])._repr_png_();"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_figure_is_an_attribute_error():
    import mmmed.explain

    with pytest.raises(AttributeError, match="no attribute 'plot_pie'"):
        mmmed.explain.plot_pie
