"""Prediction sets: they hold the truth as often as promised, for every pattern, and say when they cannot."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax
from small_model import SCHEMA, SmallCohort, calibrated, make_model, make_records

from mmmed.models import conformal
from mmmed.models.conformal import (
    Conformal,
    _as_large,
    _quantile,
    fit_conformal,
    names_in_set,
    prediction_set,
)
from mmmed.models.inference import encode_cohort, prediction_sets, remarks
from mmmed.models.predict import predict
from mmmed.types import Binary, Multiclass, Multilabel, Regression

BINARY, MULTICLASS, LABELS = Binary("y"), Multiclass("y", levels=("0", "1", "2")), Multilabel(("a", "b"))
DAYS = Regression("days", mean=10.0, scale=2.0)
NOTHING, TABLE, BOTH = (False, False), (False, True), (True, True)


def records_of(task, count, draw, noise):
    """Logits that know the truth up to noise, and the truth."""
    if isinstance(task, Regression):
        return np.zeros((count, 1)), draw.standard_t(4, count) * (0.5 + noise)
    honest = draw.normal(0, 2.0, (count, task.outputs))
    if isinstance(task, Multiclass):
        truth = np.array([draw.choice(3, p=row) for row in softmax(honest, axis=1)])
    else:
        truth = (draw.random(honest.shape) < expit(honest)).astype(float)
    truth = truth[:, 0] if isinstance(task, Binary) else truth
    return 1.7 * honest + draw.normal(0, noise, honest.shape), truth


def fit(task, logits, truth, reduced=None, groups=None, known=None):
    groups = np.arange(len(logits)) if groups is None else groups
    known = np.ones(np.shape(truth), bool) if known is None else known
    return fit_conformal(task, logits, truth, known, groups, 0, reduced)


def held(task, sets, truth):
    """Is the truth in the set? [records] or [records labels]"""
    if isinstance(task, Regression):
        value = truth * task.scale + task.mean
        return (sets[:, 0] <= value) & (value <= sets[:, 1])
    return np.take_along_axis(sets, truth.astype(int)[..., None], axis=-1)[..., 0]


@pytest.mark.parametrize("task", [BINARY, MULTICLASS, LABELS, DAYS], ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("level", [0.8, 0.9])
def test_the_sets_hold_the_promised_share_of_new_records(task, level):
    shares = []
    for seed in range(40):
        draw = np.random.default_rng(seed)
        logits, truth = records_of(task, 120 + 400, draw, noise=0.5)
        fitted = fit(task, logits[:120], truth[:120])
        sets = prediction_set(task, logits[120:], fitted, level=level)
        shares.append(held(task, sets, truth[120:]).mean())
    assert level - 0.015 < np.mean(shares) < level + 0.025


def two_patterns(task, count, draw):
    """The same records seen whole and reduced to a noisy table."""
    logits, truth = records_of(task, count, draw, noise=0.1)
    rows = np.arange(count)
    return {BOTH: (rows, logits), TABLE: (rows, logits + draw.normal(0, 4.0, logits.shape))}, truth


def test_every_pattern_keeps_the_promise_where_one_quantile_for_all_does_not():
    own, pooled = {BOTH: [], TABLE: []}, {BOTH: [], TABLE: []}
    for seed in range(30):
        reduced, truth = two_patterns(DAYS, 150 + 300, np.random.default_rng(seed))
        seen = {key: (rows[:150], logits[:150]) for key, (rows, logits) in reduced.items()}
        fitted = fit(DAYS, reduced[BOTH][1][:150], truth[:150], seen)
        for pattern, (_, logits) in reduced.items():
            sets = prediction_set(DAYS, logits[150:], fitted, np.tile(pattern, (300, 1)))
            own[pattern].append(held(DAYS, sets, truth[150:]).mean())
            general = prediction_set(DAYS, logits[150:], fitted)
            pooled[pattern].append(held(DAYS, general, truth[150:]).mean())
    for shares in own.values():
        assert np.mean(shares) == pytest.approx(0.9, abs=0.02)
    assert np.mean(pooled[TABLE]) < 0.85
    assert np.mean(pooled[BOTH]) > 0.95


def test_nothing_present_keeps_the_promise_although_all_its_scores_are_equal():
    # 30 % are ill and every record gets the same probability: healthy alone would hold 70 %.
    shares = []
    for seed in range(20):
        draw = np.random.default_rng(seed)
        truth, flat = (draw.random(300) < 0.3).astype(float), np.full((300, 1), -0.8)
        fitted = fit(BINARY, flat, truth, {NOTHING: (np.arange(300), flat)})
        noise = 1e-7 * draw.normal(size=(300, 1))  # what another batch size does to float32
        sets = prediction_set(BINARY, flat + noise, fitted, np.tile(NOTHING, (300, 1)))
        shares.append(held(BINARY, sets, truth).mean())
    assert np.mean(shares) >= 0.9


def test_with_all_scores_in_one_fold_it_is_split_conformal_prediction(monkeypatch):
    monkeypatch.setattr(conformal, "FOLDS", 1)  # then the fit has seen no record and leaves the logits as is
    draw = np.random.default_rng(0)
    logits, truth = records_of(MULTICLASS, 150, draw, 0.5)
    fitted = fit(MULTICLASS, logits, truth)
    new, _ = records_of(MULTICLASS, 50, draw, 0.5)
    scores = 1 - softmax(logits, axis=1)
    cuts = []
    for level in range(3):  # every level against the records of which it is true
        own = np.sort(scores[truth == level, level])
        cuts.append(own[int(np.ceil((len(own) + 1) * 0.9)) - 1])
    np.testing.assert_array_equal(
        prediction_set(MULTICLASS, new, fitted), 1 - softmax(new, axis=1) <= np.array(cuts) + 1e-6
    )


def test_the_promise_holds_where_the_label_drives_what_is_recorded():
    """A quarter is ill; the ill lose their picture with .8, the healthy with .05. Those who come with the
    table alone are mostly ill, those who can be reduced to it are not."""

    def made(draw, count):
        truth = (draw.random(count) < 0.25).astype(float)
        gone = draw.random(count) < np.where(truth == 1, 0.8, 0.05)
        table = np.log(1 / 3) + (2 * truth - 1)[:, None] * 1.2 + draw.normal(0, 1.2, (count, 1))
        return truth, gone, table

    shares = []
    for seed in range(20):
        draw = np.random.default_rng(seed)
        truth, _, table = made(draw, 1500)
        fitted = fit(BINARY, table, truth, {TABLE: (np.arange(1500), table)})
        truth, gone, table = made(draw, 4000)
        sets = prediction_set(BINARY, table[gone], fitted, np.tile(TABLE, (gone.sum(), 1)))
        shares.append(held(BINARY, sets, truth[gone]).mean())
    assert np.mean(shares) == pytest.approx(0.9, abs=0.02)


def test_the_range_of_a_regression_by_hand():
    errors = np.arange(1, 20) / 10  # 19 errors: rank 20 * 0.9 = 18 -> 1.8, twice that in the unit
    fitted = fit(DAYS, np.zeros((19, 1)), errors)
    np.testing.assert_allclose(prediction_set(DAYS, np.array([[0.5]]), fitted), [[11 - 3.6, 11 + 3.6]])
    assert _quantile(np.arange(9.0), 0.9) == 8.0  # rank ceil(10 * 0.9) = 9
    assert _quantile(np.arange(8.0), 0.9) == np.inf


@pytest.mark.parametrize("count", [1, 3, 8])
@pytest.mark.parametrize("task", [BINARY, MULTICLASS, LABELS, DAYS], ids=lambda t: type(t).__name__)
def test_with_too_few_records_nothing_is_excluded(task, count):
    logits, truth = records_of(task, count, np.random.default_rng(0), 0.1)
    sets = prediction_set(task, 50 * np.ones((4, task.outputs)), fit(task, logits, truth))
    assert np.isinf(sets).all() if task is DAYS else sets.all()


def test_a_pattern_of_few_records_takes_the_scores_of_all():
    reduced, truth = two_patterns(BINARY, 200, np.random.default_rng(0))
    for count in (99, 100):
        few = {**reduced, TABLE: tuple(part[:count] for part in reduced[TABLE])}
        fitted = fit(BINARY, reduced[BOTH][1], truth, few)
        assert fitted.own(BOTH)
        assert fitted.own(TABLE) == (count == 100)
        assert fitted.records(TABLE) == count
        assert len(fitted.general) == 200 + count
    assert not fitted.own((True, False))
    assert fitted.records((True, False)) == 0


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 60), st.integers(0, 100), st.sampled_from([0.5, 0.8, 0.9, 0.95]))
def test_a_higher_level_excludes_no_more(count, seed, level):
    draw = np.random.default_rng(seed)
    logits, truth = records_of(MULTICLASS, count, draw, 0.5)
    fitted = fit(MULTICLASS, logits, truth)
    new = draw.normal(0, 3, (20, 3))
    assert (
        prediction_set(MULTICLASS, new, fitted, level=level)
        <= prediction_set(MULTICLASS, new, fitted, level=min(level + 0.04, 1.0))
    ).all()
    assert prediction_set(MULTICLASS, new, fitted, level=1.0).all()


def test_scores_are_counted_one_by_one():
    draw = np.random.default_rng(0)
    scores, mine = draw.integers(0, 5, 30) / 5.0, draw.integers(0, 5, 10) / 5.0
    scores[3] = np.nan
    assert _as_large(scores, mine).tolist() == [sum(s >= m for s in scores) for m in mine]


def test_unknown_labels_give_no_score():
    draw = np.random.default_rng(0)
    logits, truth = records_of(LABELS, 300, draw, 0.5)
    known = draw.random((300, 2)) < 0.6
    wrong = np.where(known, truth, 1 - truth)
    a, b = (fit(LABELS, logits, t, known=known) for t in (truth, wrong))
    np.testing.assert_array_equal(a.general.values, b.general.values)
    assert (~np.isnan(a.general.values)).sum() == known.sum()
    assert fit(LABELS, logits, truth, known=np.zeros((300, 2), bool)) is None


def test_no_patient_is_scored_by_a_fit_that_saw_him():
    # A patient's rows all have the same answer; were they split, their fold would know it.
    draw = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 4)
    logits, truth = records_of(BINARY, 120, draw, 0.5)
    fitted = fit(BINARY, logits, truth, groups=groups)
    folds = fitted.general.fold.reshape(30, 4)
    assert (folds == folds[:, :1]).all()
    assert len(np.unique(folds)) == 5
    changed = truth.copy()
    changed[groups == 7] = 1 - changed[groups == 7]
    own = folds[7, 0]
    again = fit(BINARY, logits, changed, groups=groups)
    np.testing.assert_array_equal(again.general.slopes[own], fitted.general.slopes[own])
    assert (np.delete(again.general.slopes, own, 0) != np.delete(fitted.general.slopes, own, 0)).all()


def test_it_survives_json_bit_by_bit():
    reduced, truth = two_patterns(BINARY, 120, np.random.default_rng(0))
    known = np.arange(120) % 7 > 0
    fitted = fit(BINARY, reduced[BOTH][1], truth, reduced, known=known)
    back = Conformal.from_dict(json.loads(json.dumps(fitted.to_dict(), allow_nan=False)))
    for part, other in [
        (fitted.general, back.general),
        *((fitted.patterns[k], back.patterns[k]) for k in reduced),
    ]:
        for name in ("slopes", "shifts", "values", "fold"):
            np.testing.assert_array_equal(getattr(part, name), getattr(other, name))


def test_a_set_in_words():
    assert names_in_set(Binary("y", levels=("no", "yes")), np.array([True, False])) == ("no",)
    assert names_in_set(MULTICLASS, np.array([False, False, False])) == ()
    assert names_in_set(LABELS, np.array([[True, False], [True, True]])) == ("b",)
    assert names_in_set(DAYS, np.array([1.0, 2.0])) is None


# -------------------------------------------------------------------------------------------- with a model


@pytest.fixture(scope="module")
def model():
    return calibrated(make_model(), records=150)


def test_the_sets_of_a_cohort_are_those_of_its_records(model):
    cohort = SmallCohort(make_records(12, seed=8))
    sets = prediction_sets(model, cohort)
    assert {name: part.shape for name, part in sets.items()} == {
        "sick": (12, 2),
        "stage": (12, 3),
        "signs": (12, 2, 2),
        "days": (12, 2),
    }
    for row, record in enumerate(cohort):
        for name, answer in predict(model, record).answers.items():
            assert answer.set == names_in_set(SCHEMA.tasks[name], sets[name][row])


def test_hiding_changes_the_pattern_whose_promise_is_kept(model):
    cohort = SmallCohort(make_records(12, seed=8))
    encoded, stays = encode_cohort(model, cohort), np.tile([False, True, False], (12, 1))
    hidden = SmallCohort(record.only("table") for record in cohort)
    quick, slow = prediction_sets(model, encoded, stays), prediction_sets(model, hidden)
    for name in quick:
        np.testing.assert_allclose(quick[name], slow[name], atol=1e-5)


def test_what_rests_on_few_records_is_said(model):
    everything, none = np.array([True, True, True]), np.array([False, False, False])
    few = model.conformal["sick"].records(everything)
    assert 0 < few < 100
    assert remarks(model, none) == []
    assert any(f"Only {few} validation records" in note for note in remarks(model, everything))
    bare = make_model()
    assert remarks(bare, none) == []
    answer = predict(bare, make_records(1)[0])["sick"]
    assert answer.set is None


def test_a_pattern_that_no_validation_record_had_is_said():
    records = [record.without("note") for record in make_records(40)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmmed.models.calibration.DRAWS", 5)
        from mmmed.models.inference import calibrate

        model = calibrate(make_model(), SmallCohort(records))
    said = predict(model, make_records(9, missing=0.0)[0]).notes
    assert any("No validation record had image + table + note" in note for note in said)
    assert not any("No validation record" in note for note in predict(model, records[0]).notes)
