"""Calibration: simulated truths are found again, intervals mean what they say, patients are the unit."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, softmax

from mmmed.models import calibration
from mmmed.models.calibration import (
    PULL,
    Calibration,
    _fit_line,
    fit_calibration,
    interval,
    log_odds,
    probabilities,
)
from mmmed.types import Binary, Multiclass, Multilabel, Regression

BINARY, MULTICLASS = Binary("y"), Multiclass("y", levels=("0", "1", "2"))


def simulate(records, slope, shift, seed=0):
    """Logits of a model whose honest log-odds would be slope * logit + shift, and labels drawn from those."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 2, records)
    labels = (draw.random(records) < expit(slope * logits + shift)).astype(float)
    return logits[:, None], labels, np.ones(records, bool), np.arange(records).astype(str)


def fit(task, logits, labels, known, groups, seed=0):
    return fit_calibration(task, logits, labels, known, groups, seed)


@pytest.mark.parametrize(("slope", "shift"), [(1.0, 0.0), (0.4, 1.0), (2.5, -0.7), (0.15, 0.0)])
def test_a_known_slope_and_shift_are_found_again(slope, shift):
    fitted = fit(BINARY, *simulate(4000, slope, shift))
    assert fitted.slopes[0, 0] == pytest.approx(slope, rel=0.12)
    assert fitted.shifts[0, 0] == pytest.approx(shift, abs=0.12)


def test_the_calibrated_probabilities_are_those_of_the_simulation():
    logits, labels, known, groups = simulate(4000, 0.4, 1.0)
    fitted = fit(BINARY, logits, labels, known, groups)
    honest = expit(0.4 * logits + 1.0)
    assert np.abs(probabilities(BINARY, logits, fitted) - honest).max() < 0.03
    assert np.abs(probabilities(BINARY, logits) - honest).max() > 0.3


@settings(deadline=None, max_examples=25)
@given(st.integers(3, 60), st.floats(0.05, 20), st.integers(0, 1000))
def test_the_fit_is_the_minimum_of_the_penalised_loss(records, spread, seed):
    draw = np.random.default_rng(seed)
    logits, labels = draw.normal(0, spread, records), (draw.random(records) < 0.5).astype(float)
    weights = draw.integers(0, 3, records).astype(float)

    def loss(theta):
        outputs = np.exp(theta[0]) * logits + theta[1]
        return weights @ (np.logaddexp(0, outputs) - labels * outputs) + PULL * theta @ theta / 2

    slope, shift = _fit_line(logits, labels, weights)
    starts, bounds = [(0, 0), (-2, 0), (2, 0), (np.log(slope), shift)], [(-3, 3), (-3, 3)]
    best = min(minimize(loss, np.array(start, float), bounds=bounds).fun for start in starts)
    assert loss(np.array([np.log(slope), shift])) <= best + 5e-3 * (1 + abs(best))


def test_without_much_data_the_outputs_are_left_nearly_as_they_are():
    fitted = fit(BINARY, *simulate(2, 3.0, 3.0))
    assert abs(np.log(fitted.slopes[0, 0])) < 0.6
    assert abs(fitted.shifts[0, 0]) < 0.6


def test_perfectly_separated_patients_do_not_run_away():
    logits = np.array([[-3.0], [-2.0], [2.0], [3.0]] * 10)
    fitted = fit(
        BINARY, logits, (logits[:, 0] > 0).astype(float), np.ones(40, bool), np.arange(40).astype(str)
    )
    assert np.isfinite(fitted.slopes).all()
    assert (fitted.slopes <= np.exp(3) + 1e-9).all()
    assert (fitted.slopes > 0).all()  # the order of patients is never turned round


def test_a_model_that_is_wrong_throughout_is_flattened_but_never_turned_round():
    logits, labels, known, groups = simulate(500, 1.0, 0.0)
    fitted = fit(BINARY, logits, 1 - labels, known, groups)
    assert 0 < fitted.slopes[0, 0] < 0.1


def test_unknown_labels_are_left_out_whatever_stands_in_their_place():
    logits, labels, known, groups = simulate(200, 0.5, 0.5)
    known[::3] = False
    wrong = np.where(known, labels, 1 - labels)
    a, b = fit(BINARY, logits, labels, known, groups), fit(BINARY, logits, wrong, known, groups)
    np.testing.assert_array_equal(a.slopes, b.slopes)
    assert fit(BINARY, logits, labels, np.zeros(200, bool), groups) is None


def test_the_interval_contains_the_value():
    logits, labels, known, groups = simulate(60, 0.5, 0.5)
    fitted = fit(BINARY, logits, labels, known, groups)
    low, high = interval(BINARY, logits, fitted)
    value = probabilities(BINARY, logits, fitted)
    assert ((low <= value) & (value <= high)).all()
    assert (high - low > 0.01).mean() > 0.9
    assert ((low >= 0) & (high <= 1)).all()


def test_the_interval_narrows_with_more_patients():
    widths = []
    for records in (50, 500, 5000):
        low, high = interval(BINARY, np.array([[1.0]]), fit(BINARY, *simulate(records, 0.5, 0.5)))
        widths.append(float((high - low)[0, 0]))
    assert widths[0] > 2 * widths[1] > 4 * widths[2] > 0


def test_the_interval_mostly_covers_the_honest_probability(monkeypatch):
    covered = []
    monkeypatch.setattr(calibration, "DRAWS", 40)
    for seed in range(50):
        fitted = fit(BINARY, *simulate(150, 0.8, 0.2, seed), seed=seed)
        low, high = interval(BINARY, np.array([[1.5]]), fitted)
        covered.append(low[0, 0] <= expit(0.8 * 1.5 + 0.2) <= high[0, 0])
    assert np.mean(covered) > 0.75  # the pull and few draws cost some of the nominal 95 %


def test_more_rows_of_the_same_patients_do_not_narrow_the_interval():
    logits, labels, known, groups = simulate(80, 0.5, 0.5)
    four = [np.concatenate([part] * 4) for part in (logits, labels, known, groups)]
    once, often = fit(BINARY, logits, labels, known, groups), fit(BINARY, *four)
    strangers = fit(BINARY, *four[:3], np.arange(320).astype(str))  # as if they were 320 patients

    def width(fitted):
        low, high = interval(BINARY, np.array([[1.0]]), fitted)
        return float((high - low)[0, 0])

    assert width(often) > 0.95 * width(once)
    assert width(strangers) < 0.7 * width(once)


def test_the_same_seed_gives_the_same_calibration_and_another_seed_another():
    case = simulate(60, 0.5, 0.5)
    a, b, c = fit(BINARY, *case, seed=1), fit(BINARY, *case, seed=1), fit(BINARY, *case, seed=2)
    np.testing.assert_array_equal(a.slopes, b.slopes)
    np.testing.assert_array_equal(a.slopes[0], c.slopes[0])  # the fit itself is not drawn
    assert not np.array_equal(a.slopes[1:], c.slopes[1:])


def test_one_temperature_for_all_classes_is_found_again():
    draw = np.random.default_rng(0)
    honest = draw.normal(0, 1.5, (4000, 3))
    labels = np.array([draw.choice(3, p=row) for row in softmax(honest, axis=1)])
    logits = 3.0 * honest  # a model three times too sure
    fitted = fit(MULTICLASS, logits, labels, np.ones(4000, bool), np.arange(4000).astype(str))
    np.testing.assert_allclose(fitted.slopes[0], 1 / 3, rtol=0.08)
    assert (fitted.slopes == fitted.slopes[:, :1]).all()
    assert (fitted.shifts == 0).all()
    calibrated = probabilities(MULTICLASS, logits, fitted)
    np.testing.assert_allclose(calibrated.sum(1), 1)
    assert (calibrated.argmax(1) == logits.argmax(1)).all()
    np.testing.assert_allclose(calibrated, softmax(honest, axis=1), atol=0.05)


def test_each_label_of_several_is_calibrated_by_itself():
    logits_a, labels_a, known, groups = simulate(2000, 0.4, 1.0, seed=1)
    logits_b, labels_b, _, _ = simulate(2000, 2.0, -1.0, seed=2)
    both = (
        np.hstack([logits_a, logits_b]),
        np.stack([labels_a, labels_b], axis=1),
        np.stack([known, known], 1),
    )
    fitted = fit(Multilabel(("a", "b")), *both, groups)
    alone = fit(BINARY, logits_b, labels_b, known, groups)
    np.testing.assert_allclose(fitted.slopes[:, 1], alone.slopes[:, 0])
    np.testing.assert_allclose(fitted.slopes[0], [0.4, 2.0], rtol=0.15)


def test_the_range_of_a_regression_holds_the_promised_share_of_new_patients():
    task, shares = Regression("days", unit="d", mean=10.0, scale=4.0), []
    for seed in range(200):
        draw = np.random.default_rng(seed)
        errors = draw.standard_t(4, 60)  # heavy tails: a normal interval would be too narrow
        fitted = fit(task, np.zeros((60, 1)), errors, np.ones(60, bool), np.arange(60).astype(str))
        low, high = interval(task, np.zeros((1, 1)), fitted)
        new = 10 + 4 * draw.standard_t(4, 200)
        shares.append(np.mean((new >= low[0, 0]) & (new <= high[0, 0])))
    assert 0.945 < np.mean(shares) < 0.975


def test_the_range_of_a_regression_by_hand():
    task = Regression("days", mean=10.0, scale=2.0)
    errors = np.arange(1, 40) / 10  # 39 errors: rank ceil(40 * 0.95) = 38 -> 3.8
    fitted = fit(task, np.zeros((39, 1)), errors, np.ones(39, bool), np.arange(39).astype(str))
    assert fitted.radius == pytest.approx(3.8)
    low, high = interval(task, np.array([[0.5]]), fitted)
    assert (low[0, 0], high[0, 0]) == (pytest.approx(11 - 7.6), pytest.approx(11 + 7.6))
    assert probabilities(task, np.array([[0.5]]), fitted)[0, 0] == pytest.approx(11.0)
    assert fit(task, np.zeros((2, 1)), np.zeros(2), np.zeros(2, bool), np.array(["a", "b"])) is None


def test_extreme_outputs_stay_finite():
    logits = np.array([[1e6], [-1e6], [0.0]])
    p = probabilities(BINARY, logits)
    assert np.isfinite(p).all()
    assert np.isfinite(log_odds(p)).all()
    assert np.isfinite(probabilities(MULTICLASS, np.array([[1e6, -1e6, 0.0]]))).all()
    assert log_odds(np.array(0.5)) == 0
    assert log_odds(np.array(0.9)) == pytest.approx(np.log(9))


def test_it_survives_json_bit_by_bit():
    fitted = fit(BINARY, *simulate(60, 0.5, 0.5))
    back = Calibration.from_dict(json.loads(json.dumps(fitted.to_dict())))
    np.testing.assert_array_equal(back.slopes, fitted.slopes)
    np.testing.assert_array_equal(back.shifts, fitted.shifts)
    assert (back.kind, back.radius) == (fitted.kind, fitted.radius)
