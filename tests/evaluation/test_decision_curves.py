"""Decision curves: the published formula, by hand; the defaults; other prevalences; patterns."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmmed.evaluation.decision_curves import THRESHOLDS, decision_curve, net_benefit
from mmmed.evaluation.weighted import UndefinedMetric

Y = np.array([1, 1, 0, 0, 0, 1, 0, 0, 0, 0.0])
P = np.array([0.9, 0.4, 0.6, 0.2, 0.1, 0.25, 0.3, 0.05, 0.0, 0.2])


def test_the_net_benefit_by_hand():
    # From 25 %: treated 0.9, 0.4, 0.25 (ill), 0.6, 0.3 (healthy): 3/10 - 2/10 * 1/3.
    assert net_benefit(Y, P, threshold=0.25) == pytest.approx(0.3 - 0.2 / 3)
    # From 50 %: 0.9 (ill) and 0.6 (healthy), counted alike.
    assert net_benefit(Y, P, threshold=0.5) == pytest.approx(0.0)
    # From 80 %: 0.9 alone.
    assert net_benefit(Y, P, threshold=0.8) == pytest.approx(0.1)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.floats(0.02, 0.98))
def test_it_equals_counting_patients_one_by_one(seed, threshold):
    draw = np.random.default_rng(seed)
    y, p = (draw.random(30) < 0.4).astype(float), draw.random(30).round(1)
    total = 0.0
    for label, chance in zip(y, p, strict=True):
        if chance >= threshold:
            total += 1 if label == 1 else -threshold / (1 - threshold)
    assert net_benefit(y, p, threshold=threshold) == pytest.approx(total / 30)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_treating_all_and_perfect_knowledge_are_the_known_lines(threshold):
    share = Y.mean()
    all_treated = share - (1 - share) * threshold / (1 - threshold)
    assert net_benefit(Y, np.ones(10), threshold=threshold) == pytest.approx(all_treated)
    assert net_benefit(Y, Y, threshold=threshold) == pytest.approx(share)
    assert net_benefit(Y, np.zeros(10), threshold=threshold) == 0


def test_a_whole_weight_is_a_repeated_row_and_unknown_labels_are_left_out():
    weights = np.array([1, 2, 0, 3, 1, 1, 1, 0, 2, 1.0])
    index = np.repeat(np.arange(10), weights.astype(int))
    assert net_benefit(Y, P, weights, threshold=0.3) == pytest.approx(
        net_benefit(Y[index], P[index], threshold=0.3)
    )
    many = net_benefit(Y, P, np.stack([weights, np.ones(10)]), threshold=0.3)
    np.testing.assert_allclose(
        many, [net_benefit(Y, P, weights, threshold=0.3), net_benefit(Y, P, threshold=0.3)]
    )
    unknown = np.append(Y, np.nan)
    assert net_benefit(unknown, np.append(P, 0.99), threshold=0.3) == net_benefit(Y, P, threshold=0.3)


def test_another_prevalence_is_the_same_as_repeating_the_patients_until_it_holds():
    # 3 of 10 are ill; each healthy patient four times over makes 3 of 31.
    index = np.concatenate([np.flatnonzero(Y == 1), np.repeat(np.flatnonzero(Y == 0), 4)])
    wanted = net_benefit(Y[index], P[index], threshold=0.2)
    assert net_benefit(Y, P, threshold=0.2, prevalence=3 / 31) == pytest.approx(wanted)
    assert net_benefit(Y, P, threshold=0.2, prevalence=Y.mean()) == pytest.approx(
        net_benefit(Y, P, threshold=0.2)
    )


def test_one_class_has_a_net_benefit_but_not_at_a_given_prevalence():
    healthy = np.zeros(4)
    assert net_benefit(healthy, [0.9, 0.1, 0.1, 0.1], threshold=0.5) == -0.25
    with pytest.warns(UndefinedMetric):
        assert np.isnan(net_benefit(healthy, [0.9, 0.1, 0.1, 0.1], threshold=0.5, prevalence=0.1))


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.1, 1.5, "high"])
def test_a_threshold_at_the_border_or_beyond_is_refused(threshold):
    with pytest.raises(ValueError, match="threshold should lie between 0 and 1"):
        net_benefit(Y, P, threshold=threshold)


# ------------------------------------------------------------------------------------------ on a cohort


@pytest.fixture(scope="module")
def knowing():
    """Probabilities that know a good deal."""
    return lambda cohort: {"ill": np.clip(0.25 + 0.5 * cohort.targets("ill")[0] + _noise(cohort), 0, 1)}


def _noise(cohort):
    return np.random.default_rng(0).normal(0, 0.2, len(cohort))


def test_the_table_says_what_the_function_says(cohort, knowing):
    curve = decision_curve(knowing, cohort, "ill", thresholds=(0.2, 0.5), draws=50)
    labels, chances = cohort.targets("ill")[0], knowing(cohort)["ill"]
    assert curve.table.column("threshold") == [0.2, 0.5]
    for row in curve.table:
        model = net_benefit(labels, chances, threshold=row["threshold"])
        everybody = net_benefit(labels, np.ones(len(labels)), threshold=row["threshold"])
        assert row["model"].value == pytest.approx(model)
        assert row["treat_all"].value == pytest.approx(everybody)
        assert row["gain"].value == pytest.approx(model - max(everybody, 0))
        assert row["model"].low <= model <= row["model"].high
        assert row["n"] == len(labels)
    frame = curve.to_frame()
    assert {"threshold", "model", "model_low", "model_high", "gain"} <= set(frame.columns)
    assert "Net benefit: ill" in str(curve)


def test_probabilities_themselves_will_do(cohort, knowing):
    ready = knowing(cohort)["ill"]
    wanted = decision_curve(knowing, cohort, "ill", draws=20).to_frame()
    for ready_made in (ready, ready[:, None], {"ill": ready}):
        assert decision_curve(ready_made, cohort, "ill", draws=20).to_frame().equals(wanted)
    with pytest.raises(ValueError, match="3 probabilities for 160 records"):
        decision_curve(ready[:3], cohort, "ill", draws=20)


def test_a_model_that_knows_is_useful_and_one_that_guesses_is_not(cohort, knowing):
    useful = decision_curve(knowing, cohort, "ill", draws=200).useful()
    assert {0.4, 0.45, 0.5} <= set(useful)
    guess = np.full(len(cohort), cohort.targets("ill")[0].mean())
    assert decision_curve(guess, cohort, "ill", draws=200).useful() == ()


def test_intervals_are_by_patient(cohort, knowing):
    def width(curve):
        estimate = curve.table[0]["model"]
        return estimate.high - estimate.low

    wide = decision_curve(knowing, cohort, "ill", (0.3,), draws=400)
    assert wide.table[0]["model"].groups == 80
    four = cohort.where(np.tile(np.arange(len(cohort)), 4))
    again = decision_curve(np.tile(knowing(cohort)["ill"], 4), four, "ill", (0.3,), draws=400)
    assert width(again) == pytest.approx(width(wide), rel=0.15)


def test_each_pattern_is_the_curve_of_its_records(cohort, knowing):
    curve = decision_curve(knowing, cohort, "ill", thresholds=(0.3,), patterns=True, draws=20)
    chances, labels = knowing(cohort)["ill"], cohort.targets("ill")[0]
    names = curve.table.column("rows")
    assert names[0] == "all"
    assert sum(curve.table.column("n")[1:]) == len(cohort)
    only = (cohort.present == np.array([True, True, True])).all(axis=1)
    row = curve.table.where(rows=" + ".join(cohort.schema.modalities))[0]
    assert row["n"] == only.sum()
    assert row["model"].value == pytest.approx(net_benefit(labels[only], chances[only], threshold=0.3))


def test_the_prevalence_of_another_population_is_said(cohort, knowing):
    curve = decision_curve(knowing, cohort, "ill", thresholds=(0.1,), prevalence=0.05, draws=20)
    assert curve.table[0]["treat_all"].value == pytest.approx(0.05 - 0.95 / 9)
    assert any("prevalence of 5 %" in note for note in curve.table.notes)
    with pytest.raises(ValueError, match="prevalence should lie"):
        decision_curve(knowing, cohort, "ill", prevalence=1.0)


@pytest.mark.parametrize("patterns", [False, True])
def test_the_figure_has_a_panel_for_each_pattern(cohort, knowing, patterns):
    curve = decision_curve(knowing, cohort, "ill", patterns=patterns, draws=20)
    figure = curve.plot()
    panels = dict.fromkeys(curve.table.column("rows"))
    assert len(figure.axes) == len(panels)
    assert figure._repr_png_()[:4] == b"\x89PNG"
    line = figure.axes[0].get_lines()[0]
    np.testing.assert_allclose(
        line.get_ydata(), [100 * r["model"].value for r in curve.table if r["rows"] == "all"]
    )
