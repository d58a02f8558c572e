"""Intervals by patient: right by construction, narrow only where there are many patients, and quick."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mmmed.evaluation.bootstrap import Estimate, bootstrap, difference, estimates
from mmmed.evaluation.metrics import auroc, brier, ece, mean_over_labels
from mmmed.evaluation.tasks import metrics_for


def sample(rows, seed=0, shift=1.0):
    rng = np.random.default_rng(seed)
    y = (rng.random(rows) < 0.4).astype(float)
    return y, 1 / (1 + np.exp(-(shift * y + rng.normal(size=rows))))


def test_one_row_per_patient_is_the_plain_bootstrap_of_rows():
    y, p = sample(60)
    rng = np.random.default_rng(5)
    slow = []
    for _ in range(200):
        index = rng.integers(0, 60, 60)
        slow.append(roc_auc_score(y[index], p[index]))
    fast = bootstrap(auroc, y, p, groups=None, draws=200, seed=5)
    np.testing.assert_allclose([fast.low, fast.high], np.quantile(slow, [0.025, 0.975]), atol=1e-12)
    assert fast.value == pytest.approx(roc_auc_score(y, p))


def test_names_of_patients_do_not_matter_only_who_belongs_together():
    y, p = sample(40)
    groups = np.arange(40) // 2
    words = np.array([f"patient {k:02d}" for k in groups])
    assert bootstrap(auroc, y, p, groups, 100) == bootstrap(auroc, y, p, words, 100)


@pytest.mark.parametrize("name", ["auroc", "auprc", "balanced_accuracy", "brier", "ece"])
def test_repeating_every_row_of_a_patient_does_not_narrow_the_interval(name):
    y, p = sample(50)
    groups, metric = np.arange(50), metrics_for("binary")[name]
    once = bootstrap(metric, y, p, groups, 200)
    five = bootstrap(metric, np.repeat(y, 5), np.repeat(p, 5), np.repeat(groups, 5), 200)
    np.testing.assert_allclose(
        [five.value, five.low, five.high], [once.value, once.low, once.high], atol=1e-12
    )
    rows = bootstrap(metric, np.repeat(y, 5), np.repeat(p, 5), None, 200)
    assert rows.high - rows.low < 0.7 * (once.high - once.low)  # what sampling rows would pretend


def test_the_interval_covers_the_true_value_as_often_as_it_says():
    # scores N(0, 1) and N(1, 1): the true AUROC is Phi(1 / sqrt 2) = 0.7602
    hits = 0
    for seed in range(200):
        y, p = sample(120, seed)
        interval = bootstrap(auroc, y, p, draws=200, seed=seed)
        hits += interval.low <= 0.7602 <= interval.high
    assert 0.90 <= hits / 200 <= 0.99


def test_patients_with_many_rows_are_covered_too_where_rows_as_units_are_not():
    """Ten rows per patient that share most of their luck; the true AUROC is the same as for one row each."""
    by_patient = by_row = 0
    for seed in range(100):
        y, p = sample(40, seed)
        noise = np.random.default_rng(1000 + seed).normal(scale=0.05, size=400)
        y10 = np.repeat(y, 10)
        p10 = 1 / (1 + np.exp(-(np.repeat(np.log(p / (1 - p)), 10) + noise)))
        a = bootstrap(auroc, y10, p10, np.repeat(np.arange(40), 10), 200, seed)
        b = bootstrap(auroc, y10, p10, None, 200, seed)
        by_patient += a.low <= 0.76 <= a.high
        by_row += b.low <= 0.76 <= b.high
    assert by_patient >= 85
    assert by_row <= 70


def test_a_paired_difference_is_zero_for_the_same_answers_and_narrower_than_two_intervals():
    y, p = sample(100)
    same = difference(auroc, y, p, p, draws=100)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    close = np.clip(p + np.random.default_rng(1).normal(scale=0.02, size=100), 0, 1)
    gap = difference(auroc, y, p, close, draws=300)
    alone = bootstrap(auroc, y, p, draws=300)
    assert gap.value == pytest.approx(auroc(y, p) - auroc(y, close))
    assert gap.low <= gap.value <= gap.high
    assert gap.high - gap.low < 0.4 * (alone.high - alone.low)


def test_several_scores_share_the_draws_and_equal_the_single_ones():
    y, p = sample(50)
    together = estimates(metrics_for("binary"), y, p, draws=100, seed=2)
    assert together["auroc"] == bootstrap(auroc, y, p, draws=100, seed=2)
    assert together["brier"] == bootstrap(brier, y, p, draws=100, seed=2)


def test_any_function_works_and_gives_what_ours_gives():
    y, p = sample(40)
    theirs = bootstrap(roc_auc_score, y, p, draws=50)
    ours = bootstrap(auroc, y, p, draws=50)
    np.testing.assert_allclose([theirs.low, theirs.high], [ours.low, ours.high], atol=1e-12)


def test_a_thousand_draws_of_600_rows_take_less_than_half_a_second():
    y, p = sample(600)
    bootstrap(auroc, y, p, draws=10)
    start = time.process_time()
    bootstrap(auroc, y, p, np.arange(600) // 2, draws=1000)
    assert time.process_time() - start < 0.5


def test_many_rows_are_scored_in_blocks_with_the_same_result(monkeypatch):
    y, p = sample(80)
    whole = bootstrap(auroc, y, p, np.arange(80) // 3, draws=90)
    monkeypatch.setattr("mmmed.evaluation.bootstrap.CELLS", 80 * 7)
    assert bootstrap(auroc, y, p, np.arange(80) // 3, draws=90) == whole


def test_the_interval_of_the_calibration_error_holds_its_value():
    rng = np.random.default_rng(1)
    p = rng.random(300)
    y = (rng.random(300) < p).astype(float)  # perfectly calibrated: plain percentiles lie above the value
    for metric in (ece, partial(ece, bins=5)):
        interval = bootstrap(metric, y, p, draws=300)
        assert interval.low <= interval.value <= interval.high
        assert (interval.low + interval.high) / 2 == pytest.approx(interval.value, abs=0.01)
    many = bootstrap(
        partial(mean_over_labels, metric=ece), np.stack([y, y], 1), np.stack([p, p], 1), draws=300
    )
    assert many.low <= many.value <= many.high


def test_patients_without_a_known_label_are_not_drawn():
    y, p = sample(30)
    longer = bootstrap(auroc, np.r_[y, [np.nan] * 50], np.r_[p, [0.5] * 50], draws=100)
    assert longer == bootstrap(auroc, y, p, draws=100)
    assert (longer.n, longer.groups) == (30, 30)


def test_one_class_and_one_patient_are_said_not_raised():
    one = bootstrap(auroc, [1, 1], [0.2, 0.3])
    assert np.isnan(one.value)
    assert "one class" in one.note
    assert str(one) == "-"
    alone = bootstrap(auroc, [1, 0], [0.2, 0.3], ["a", "a"])
    assert alone.value == 0
    assert np.isnan(alone.low)
    assert alone.note == "one patient: no interval"
    assert str(alone) == "0.000"
    none = bootstrap(auroc, [np.nan], [0.2])
    assert none.note == "no row has a known label"


def test_draws_that_cannot_be_scored_are_counted():
    few = bootstrap(auroc, [1, 0, 0], [0.9, 0.2, 0.1], draws=200)
    assert "of 200 draws could not be scored" in few.note


def test_lengths_that_differ_are_named():
    with pytest.raises(ValueError, match="groups should have 2 rows like labels, got 3"):
        bootstrap(auroc, [0, 1], [0.1, 0.2], ["a", "b", "c"])


def test_an_estimate_reads_as_a_number_with_its_interval():
    estimate = Estimate(0.81234, 0.75, 0.9, 10, 8)
    assert str(estimate) == "0.812 [0.750, 0.900]"
    assert float(estimate) == 0.81234
