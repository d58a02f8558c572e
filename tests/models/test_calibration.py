"""Calibration: simulated truths are found again, intervals mean what they say, patients are the unit."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, logsumexp, softmax

from mmmed.models import calibration
from mmmed.models.calibration import (
    Calibration,
    fit_calibration,
    interval,
    log_odds,
    patterns_to_fit,
    probabilities,
)
from mmmed.models.calibration_fits import PATIENTS, fit_lines, fit_temperatures, label_weights
from mmmed.types import Binary, Multiclass, Multilabel, Regression

PULL = PATIENTS / 4
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

    found = fit_lines(logits, labels, weights[None], np.zeros((1, 2)), PULL)[0]
    starts, bounds = [(0, 0), (-2, 0), (2, 0), tuple(found)], [(-3, 3), (-3, 3)]
    best = min(minimize(loss, np.array(start, float), bounds=bounds).fun for start in starts)
    assert loss(found) <= best + 5e-3 * (1 + abs(best))


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


# ------------------------------------------------------------------------------------- patterns of presence

NOTHING, TABLE, BOTH = (False, False), (False, True), (True, True)


def simulate_patterns(records, lines, seed=0, keep=None):
    """Logits of complete records, and of the same ones reduced to other patterns, each with a line (slope,
    shift) of its own; labels follow one hidden log-odds. keep: pattern -> how many records can show it.
    """
    draw = np.random.default_rng(seed)
    honest = draw.normal(0, 1.5, records)
    labels = (draw.random(records) < expit(honest)).astype(float)
    reduced = {}
    for pattern, (slope, shift) in lines.items():
        rows = np.arange(records)[: (keep or {}).get(pattern, records)]
        reduced[pattern] = rows, ((honest - shift) / slope)[rows, None]
    groups = np.arange(records).astype(str)
    return reduced[BOTH][1], labels, np.ones(records, bool), groups, reduced


def fit_patterns(task, logits, labels, known, groups, reduced, seed=0):
    return fit_calibration(task, logits, labels, known, groups, seed, reduced)


def test_every_pattern_finds_its_own_line():
    lines = {BOTH: (0.5, 0.3), TABLE: (2.0, -0.8)}
    fitted = fit_patterns(BINARY, *simulate_patterns(4000, lines))
    for pattern, (slope, shift) in lines.items():
        assert fitted.of(pattern).slopes[0, 0] == pytest.approx(slope, rel=0.1)
        assert fitted.of(pattern).shifts[0, 0] == pytest.approx(shift, abs=0.1)
    logits = np.array([[1.0], [1.0]])
    said = probabilities(BINARY, logits, fitted, np.array([BOTH, TABLE]))
    np.testing.assert_allclose(said[:, 0], expit([0.8, 1.2]), atol=0.03)
    np.testing.assert_array_equal(
        probabilities(BINARY, logits, fitted), expit(logits * fitted.slopes[0] + fitted.shifts[0])
    )


@pytest.mark.parametrize("task", [BINARY, MULTICLASS], ids=["binary", "multiclass"])
def test_a_pattern_with_no_record_takes_the_general_fit_and_is_not_known(task):
    logits, labels, known, groups, reduced = simulate_patterns(300, {BOTH: (0.5, 0.3), TABLE: (2.0, -0.8)})
    if task is MULTICLASS:
        logits = np.hstack([logits, -logits, 0 * logits])
        reduced = {key: (rows, np.hstack([x, -x, 0 * x])) for key, (rows, x) in reduced.items()}
    reduced[TABLE] = (np.array([], int), reduced[TABLE][1][:0])
    fitted = fit_patterns(task, logits, labels, known, groups, reduced)
    assert fitted.known(BOTH)
    assert not fitted.known(TABLE)
    assert fitted.of(TABLE) is fitted
    here = np.tile(TABLE, (300, 1))
    np.testing.assert_array_equal(
        probabilities(task, logits, fitted, here), probabilities(task, logits, fitted)
    )


def test_few_records_stay_near_the_general_fit_and_many_reach_their_own():
    lines, distance = {BOTH: (0.5, 0.3), TABLE: (2.0, -0.8)}, []
    for count in (2, 20, 200, 2000):
        fitted = fit_patterns(BINARY, *simulate_patterns(2000, lines, keep={TABLE: count}))
        own, general = fitted.of(TABLE), np.log(fitted.slopes[0, 0])
        distance.append((np.log(own.slopes[0, 0]) - general) / (np.log(2.0) - general))
        assert own.records == count
    assert abs(distance[0]) < 0.25
    assert distance[0] < distance[1] < distance[2] < distance[3]
    assert distance[3] == pytest.approx(1, abs=0.1)


def test_nothing_present_becomes_the_share_of_positives():
    logits, labels, known, groups, reduced = simulate_patterns(2000, {BOTH: (1.0, 0.0)})
    reduced[NOTHING] = np.arange(2000), np.full((2000, 1), 2.0)  # the model believes in 88 %
    fitted = fit_patterns(BINARY, logits, labels, known, groups, reduced)
    said = probabilities(BINARY, np.array([[2.0]]), fitted, np.array([NOTHING]))[0, 0]
    assert said == pytest.approx(labels.mean(), abs=0.02)


def test_nothing_present_becomes_the_shares_of_several_classes():
    draw = np.random.default_rng(0)
    targets, groups = draw.choice(3, 1000, p=[0.6, 0.3, 0.1]), np.arange(1000)
    logits = draw.normal(size=(1000, 3)) + 2 * np.eye(3)[targets]
    flat = np.tile([0.0, 0.0, 3.0], (1000, 1))
    reduced = {NOTHING: (np.arange(1000), flat), BOTH: (np.arange(1000), logits)}
    fitted = fit_patterns(MULTICLASS, logits, targets, np.ones(1000, bool), groups, reduced)
    said = probabilities(MULTICLASS, flat[:1], fitted, np.array([NOTHING]))[0]
    np.testing.assert_allclose(said, np.bincount(targets) / 1000, atol=0.03)
    # By hand: 32 patients of the general answer are added to the (weighted) counts.
    general = probabilities(MULTICLASS, flat[:1], fitted)[0]
    np.testing.assert_allclose(said, (np.bincount(targets) + 32 * general) / 1032, atol=2e-3)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1000), st.sampled_from([5, 60, 300]))
def test_calibration_never_changes_the_order_within_a_pattern(seed, records):
    lines = {BOTH: (0.5, 0.3), TABLE: (-2.0, 0.5)}  # the table's answers point the wrong way
    case = simulate_patterns(records, lines, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "DRAWS", 2)
        fitted = fit_patterns(BINARY, *case)
    for pattern, (_, logits) in case[4].items():
        said = probabilities(BINARY, logits, fitted, np.array(pattern))[:, 0]
        assert (np.diff(said[np.argsort(logits[:, 0])]) >= 0).all()


def test_rows_of_many_patterns_are_read_as_if_each_were_alone():
    lines = {BOTH: (0.5, 0.3), TABLE: (2.0, -0.8), NOTHING: (1.0, 0.0)}
    fitted = fit_patterns(BINARY, *simulate_patterns(100, lines))
    draw = np.random.default_rng(1)
    present, logits = draw.random((7, 4, 2)) < 0.5, draw.normal(size=(7, 4, 1))
    together = probabilities(BINARY, logits, fitted, present)
    low, high = interval(BINARY, logits, fitted, present)
    for index in np.ndindex(7, 4):
        alone = fitted.of(present[index])
        assert together[index] == probabilities(BINARY, logits[index], alone)
        np.testing.assert_array_equal([low[index], high[index]], interval(BINARY, logits[index], alone))
        assert together[index] == probabilities(BINARY, logits[index], fitted, present[index])
    assert ((low <= together) & (together <= high)).all()


def test_a_modality_added_later_keeps_the_old_patterns_where_it_is_absent():
    fitted = fit_patterns(BINARY, *simulate_patterns(100, {BOTH: (0.5, 0.3), TABLE: (2.0, -0.8)}))
    assert fitted.of((False, True, False)) is fitted.of(TABLE)
    assert not fitted.known((False, True, True))


def test_the_range_of_a_regression_is_wider_where_less_is_seen():
    task, draw = Regression("days", mean=10.0, scale=2.0), np.random.default_rng(0)
    errors, rows = draw.normal(size=800), np.arange(800)
    reduced = {BOTH: (rows, np.zeros((800, 1))), TABLE: (rows, 2 * errors[:, None])}
    fitted = fit_patterns(task, np.zeros((800, 1)), errors, np.ones(800, bool), rows, reduced)
    assert fitted.of(BOTH).radius == pytest.approx(fitted.radius)
    reduced[TABLE] = (rows, 3 * errors[:, None])  # errors twice as large
    wider = fit_patterns(task, np.zeros((800, 1)), errors, np.ones(800, bool), rows, reduced)
    # 800 records against 32: the radius is 2 R (800 / 832) + R (32 / 832).
    assert wider.of(TABLE).radius == pytest.approx(fitted.radius * (1600 + 32) / 832)
    low, high = interval(task, np.zeros((2, 1)), wider, np.array([BOTH, TABLE]))
    assert (high - low)[1, 0] > 1.9 * (high - low)[0, 0]


def test_all_patterns_survive_json_bit_by_bit():
    lines = {BOTH: (0.5, 0.3), TABLE: (2.0, -0.8), NOTHING: (1.0, 0.0)}
    fitted = fit_patterns(BINARY, *simulate_patterns(60, lines))
    back = Calibration.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert list(back.patterns) == list(fitted.patterns)
    present, logits = np.array([BOTH, TABLE, NOTHING, (True, False)]), np.ones((4, 1))
    for ask in (probabilities, interval):
        np.testing.assert_array_equal(
            ask(BINARY, logits, back, present), ask(BINARY, logits, fitted, present)
        )
    assert back.of(TABLE).records == 60


def test_a_calibration_of_before_there_were_patterns_still_loads():
    old = {"kind": "binary", "slopes": [[2.0], [1.9]], "shifts": [[0.0], [0.1]], "radius": 0.0}
    fitted, logits = Calibration.from_dict(old), np.array([[1.0]])
    assert not fitted.known(TABLE)
    assert probabilities(BINARY, logits, fitted, np.array([TABLE])) == expit([[2.0]])


@pytest.mark.parametrize("records", [1, 2])
@pytest.mark.parametrize("task", [BINARY, MULTICLASS, Multilabel(("a", "b")), Regression("days")])
def test_a_patient_or_two_are_enough_not_to_crash(task, records):
    logits, rows = np.ones((records, task.outputs)), np.arange(records)
    shape = (records, 2) if isinstance(task, Multilabel) else (records,)
    case = (np.zeros(shape), np.ones(shape, bool), rows.astype(str))
    fitted = fit_patterns(task, logits, *case, {BOTH: (rows, logits), NOTHING: (rows, logits)})
    said = probabilities(task, logits, fitted, np.tile(BOTH, (records, 1)))
    assert np.isfinite(said).all()
    assert fitted.of(BOTH).records == records
    unknown = (case[0], np.zeros(shape, bool), case[2])
    assert fit_patterns(task, logits, *unknown, {BOTH: (rows, logits)}) is None


def test_all_subsets_are_fitted_for_few_modalities_and_those_that_occur_for_many():
    complete = np.ones((3, 3), bool)
    assert len(patterns_to_fit(complete)) == 8
    assert patterns_to_fit(complete)[0] == (False, False, False)
    some = np.array([[True, False, True], [True, True, False]])
    assert (True, True, True) not in patterns_to_fit(some)  # nobody can show it
    assert len(patterns_to_fit(some)) == 6
    many = np.zeros((2, 7), bool)
    many[0, :3] = many[1, 2:] = True
    found = patterns_to_fit(many)
    assert len(found) == 1 + 7 + 2
    assert patterns_to_fit(np.zeros((4, 2), bool)) == [(False, False)]


def test_one_temperature_is_the_minimum_of_the_penalised_loss():
    draw = np.random.default_rng(0)
    for spread in (0.2, 2.0, 30.0):
        logits, targets = draw.normal(0, spread, (40, 3)), draw.integers(0, 3, 40)
        weights = draw.integers(0, 3, (5, 40)).astype(float)
        centre = draw.normal(0, 0.3, (5, 1))
        found = fit_temperatures(logits, targets, weights, centre, PULL)[:, 0]

        def loss(theta, row, logits=logits, targets=targets, weights=weights, centre=centre):
            outputs = np.exp(theta) * logits
            losses = logsumexp(outputs, axis=1) - outputs[np.arange(40), targets]
            return weights[row] @ losses + PULL * (theta - centre[row, 0]) ** 2 / 2

        for row, value in enumerate(found):
            grid = min(loss(theta, row) for theta in centre[row, 0] + np.linspace(-3, 3, 601))
            assert loss(value, row) <= grid + 1e-3 * (1 + abs(grid))


def test_who_is_examined_more_often_does_not_make_the_examination_a_symptom():
    # The second modality is taken of 90 % of the ill and 20 % of the others: of the complete, 82 % are ill.
    draw = np.random.default_rng(0)
    honest = draw.normal(0, 1.5, 3000)
    labels = (draw.random(3000) < expit(honest)).astype(float)
    complete = np.flatnonzero(draw.random(3000) < np.where(labels == 1, 0.9, 0.2))
    reduced = {BOTH: (complete, honest[complete, None]), TABLE: (np.arange(3000), honest[:, None])}
    fitted = fit_patterns(BINARY, honest[:, None], labels, np.ones(3000, bool), np.arange(3000), reduced)
    assert labels[complete].mean() > 0.75
    for pattern in (BOTH, TABLE):
        assert abs(fitted.of(pattern).shifts[0, 0]) < 0.2


def test_the_weights_of_labels_by_hand():
    targets, known = np.array([1, 1, 0, 0, 0, 0, 1.0]), np.array([True] * 6 + [False])
    rows = np.array([0, 1, 2, 6])  # two ill, one healthy, one unknown; of all known ones 2 of 6 are ill
    # ill (1/3) / (3/5), healthy (2/3) / (2/5), unknown 1
    np.testing.assert_allclose(label_weights(targets, known, rows), [5 / 9, 5 / 9, 5 / 3, 1])
    both = label_weights(np.stack([targets, targets], 1), np.stack([known, known], 1), rows)
    np.testing.assert_allclose(both[:, 1], [5 / 9, 5 / 9, 5 / 3, 1])
