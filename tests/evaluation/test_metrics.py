"""Every score equals scikit-learn's or a by-hand value, ignores unknown labels, and says why it is
undefined.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from mmmed.evaluation import metrics, multiclass
from mmmed.evaluation.weighted import UndefinedMetric

BINARY = [
    metrics.auroc,
    metrics.auprc,
    metrics.sensitivity,
    metrics.specificity,
    metrics.balanced_accuracy,
    metrics.brier,
    metrics.log_loss,
    metrics.ece,
]
SEVERAL = [
    multiclass.macro_auroc,
    multiclass.macro_f1,
    multiclass.macro_recall,
    multiclass.multiclass_brier,
    multiclass.multiclass_log_loss,
    multiclass.top_label_ece,
]
NUMBERS = [metrics.mae, metrics.rmse, metrics.r2]


@st.composite
def predictions(draw, classes=2):
    """Labels of all classes, and probabilities on a coarse grid, so that ties occur."""
    rows = draw(st.integers(classes, 40))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, rows - classes)]).astype(float)
    if classes == 2:
        return labels, rng.integers(0, 11, rows) / 10
    raw = rng.integers(1, 6, (rows, classes)).astype(float)
    return labels, raw / raw.sum(1, keepdims=True)


@settings(max_examples=60, deadline=None)
@given(predictions())
def test_scores_of_two_classes_equal_scikit_learn_with_ties(case):
    y, p = case
    assert metrics.auroc(y, p) == pytest.approx(sk.roc_auc_score(y, p), abs=1e-12)
    assert metrics.auprc(y, p) == pytest.approx(sk.average_precision_score(y, p), abs=1e-12)
    assert metrics.brier(y, p) == pytest.approx(sk.brier_score_loss(y, p), abs=1e-12)
    assert metrics.log_loss(y, p) == pytest.approx(sk.log_loss(y, np.clip(p, 1e-12, 1 - 1e-12)), abs=1e-9)
    said = p >= 0.35
    assert metrics.balanced_accuracy(y, p, threshold=0.35) == pytest.approx(
        sk.balanced_accuracy_score(y, said), abs=1e-12
    )
    assert metrics.sensitivity(y, p, threshold=0.35) == pytest.approx(sk.recall_score(y, said), abs=1e-12)
    assert metrics.specificity(y, p, threshold=0.35) == pytest.approx(
        sk.recall_score(1 - y, ~said), abs=1e-12
    )


@settings(max_examples=40, deadline=None)
@given(predictions(classes=3))
def test_scores_of_several_classes_equal_scikit_learn(case):
    y, p = case
    assert multiclass.macro_auroc(y, p) == pytest.approx(
        sk.roc_auc_score(y, p, multi_class="ovr", average="macro"), abs=1e-12
    )
    best = p.argmax(1)
    present = sorted(set(y.astype(int)) | set(best))
    assert multiclass.macro_f1(y, p) == pytest.approx(
        sk.f1_score(y, best, average="macro", labels=present), abs=1e-12
    )
    assert multiclass.macro_recall(y, p) == pytest.approx(sk.balanced_accuracy_score(y, best), abs=1e-12)
    assert multiclass.multiclass_log_loss(y, p) == pytest.approx(
        sk.log_loss(y, p, labels=[0, 1, 2]), abs=1e-9
    )


def test_scores_of_numbers_equal_scikit_learn():
    rng = np.random.default_rng(0)
    y = 1e4 + rng.normal(size=50)  # far from zero: a difference of large sums would lose the digits
    p = y + rng.normal(size=50)
    assert metrics.mae(y, p) == pytest.approx(sk.mean_absolute_error(y, p))
    assert metrics.rmse(y, p) == pytest.approx(sk.root_mean_squared_error(y, p))
    assert metrics.r2(y, p) == pytest.approx(sk.r2_score(y, p), abs=1e-9)


@pytest.mark.parametrize("metric", [*BINARY, *SEVERAL, *NUMBERS], ids=lambda m: m.__name__)
def test_a_whole_number_as_weight_means_repeating_the_row(metric):
    rng = np.random.default_rng(3)
    classes = 3 if metric in SEVERAL else 2
    y = np.r_[np.arange(classes), rng.integers(0, classes, 30)].astype(float)
    p = rng.dirichlet(np.ones(3), len(y)) if metric in SEVERAL else np.round(rng.random(len(y)), 1)
    times = rng.integers(0, 4, (5, len(y)))
    times[:, :classes] += 1
    together = metric(y, p, times)
    for row, score in zip(times, together, strict=True):
        index = np.repeat(np.arange(len(y)), row)
        assert metric(y[index], p[index]) == pytest.approx(score, abs=1e-9)
        assert metric(y, p, row) == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize("metric", [*BINARY, *SEVERAL, *NUMBERS], ids=lambda m: m.__name__)
def test_a_row_with_an_unknown_label_changes_nothing(metric):
    rng = np.random.default_rng(1)
    y = np.array([0, 1, 0, 1, 1, 0], dtype=float)
    p = rng.dirichlet(np.ones(2), 6) if metric in SEVERAL else rng.random(6)
    longer_y = np.insert(y, [2, 4], np.nan)
    longer_p = np.insert(p, [2, 4], 0.9, axis=0)
    assert metric(longer_y, longer_p) == metric(y, p)
    weights = np.arange(8.0)
    assert metric(longer_y, longer_p, weights) == pytest.approx(metric(y, p, weights[[0, 1, 3, 4, 6, 7]]))


def test_auroc_by_hand_counts_ties_one_half():
    # positives .8, .5; negatives .5, .2: pairs won 1, 1, 1/2, 1 of 4
    assert metrics.auroc([1, 1, 0, 0], [0.8, 0.5, 0.5, 0.2]) == 3.5 / 4


def test_ece_by_hand_with_equal_width_and_equal_mass_bins():
    y, p = [1, 0, 1, 1], [0.05, 0.05, 0.95, 0.85]
    # bins .0-.1: |.05 - .5| * 2/4, .8-.9: |.85 - 1| / 4, .9-1: |.95 - 1| / 4
    assert metrics.ece(y, p) == pytest.approx(0.225 + 0.0375 + 0.0125)
    # two bins of two rows: |.05 - .5| / 2 + |.9 - 1| / 2
    assert metrics.ece(y, p, bins=2, equal_mass=True) == pytest.approx(0.225 + 0.05)


def test_a_probability_of_one_lies_in_the_last_bin():
    assert metrics.ece([0, 1], [1.0, 0.9]) == pytest.approx(
        0.45
    )  # one bin: |0.95 - 0.5|; two would give 0.55
    assert metrics.ece([1, 1], [1.0, 1.0]) == 0
    assert metrics.ece([1, 1], [1.0, 1.0], equal_mass=True) == 0


def test_chance_ece_is_what_a_perfect_model_shows_on_average():
    rng = np.random.default_rng(0)
    p = rng.random(80)
    seen = [metrics.ece(rng.random(80) < p, p) for _ in range(400)]
    assert metrics.ece_by_chance(p, draws=400) == pytest.approx(np.mean(seen), abs=0.004)
    assert metrics.ece_by_chance(rng.random(8000)) < 0.02


@pytest.mark.parametrize("metric", [metrics.auroc, metrics.auprc, metrics.balanced_accuracy])
def test_one_class_gives_nan_and_a_reason_not_an_error(metric):
    with pytest.warns(UndefinedMetric, match="0 positives and 3 negatives"):
        assert np.isnan(metric([0, 0, 0], [0.1, 0.2, 0.3]))


@pytest.mark.parametrize("metric", [*BINARY, *NUMBERS], ids=lambda m: m.__name__)
def test_no_known_label_gives_nan_and_a_reason(metric):
    with pytest.warns(UndefinedMetric):
        assert np.isnan(metric([np.nan, np.nan], [0.1, 0.2]))


@pytest.mark.parametrize("metric", SEVERAL, ids=lambda m: m.__name__)
def test_no_known_class_gives_nan(metric):
    with pytest.warns(UndefinedMetric):
        assert np.isnan(metric([np.nan], [[0.1, 0.9]]))


def test_draws_without_a_class_are_nan_and_others_are_not_touched():
    weights = np.array([[1, 1], [2, 0], [0, 2]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = metrics.auroc([0, 1], [0.2, 0.7], weights)
    np.testing.assert_array_equal(scores, [1, np.nan, np.nan])


def test_r2_of_a_draw_of_equal_labels_is_undefined():
    scores = metrics.r2([1.1, 1.1, 2.3], [1.0, 1.2, 2.0], np.array([[1, 1, 1], [2, 1, 0]]))
    assert np.isfinite(scores[0])
    assert np.isnan(scores[1])


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, 1, 2], [0.1, 0.2, 0.3], "0, 1 or NaN"),
        ([0, 1], [0.1, 1.2], "between 0 and 1"),
        ([0, 1], [0.1, np.nan], "row 1 is not a finite number"),
        ([0, 1], [0.1, 0.2, 0.3], r"\[2\] and \[3\]"),
    ],
)
def test_what_cannot_be_scored_is_named(labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        metrics.auroc(labels, probabilities)


def test_weights_of_another_length_are_named():
    with pytest.raises(ValueError, match=r"\[draws rows=2\], got \[3\]"):
        metrics.auroc([0, 1], [0.1, 0.2], [1, 1, 1])


@settings(max_examples=60, deadline=None)
@given(predictions())
def test_the_chosen_threshold_is_never_beaten_by_another(case):
    y, p = case
    best = metrics.balanced_accuracy(y, p, threshold=metrics.threshold_for(y, p))
    for threshold in np.linspace(0, 1.1, 45):
        assert best >= metrics.balanced_accuracy(y, p, threshold=threshold) - 1e-12


def test_of_equally_good_thresholds_the_one_nearest_to_one_half_is_taken():
    assert metrics.threshold_for([0, 1], [0.1, 0.9]) == 0.5
    # 0.2 finds both ill and one healthy, 0.75 one ill and both healthy: equally good
    assert metrics.threshold_for([0, 1, 0, 1], [0.1, 0.3, 0.6, 0.9]) == 0.75
    with pytest.warns(UndefinedMetric, match=r"0\.5 is used"):
        assert metrics.threshold_for([1, 1], [0.1, 0.9]) == 0.5


def test_the_mean_over_labels_leaves_an_unknown_label_out_for_that_label_only():
    y = np.array([[0, 1], [1, np.nan], [0, 0], [1, 1]])
    p = np.array([[0.1, 0.9], [0.8, 0.0], [0.7, 0.2], [0.6, 0.8]])
    expected = (metrics.auroc(y[:, 0], p[:, 0]) + metrics.auroc([1, 0, 1], [0.9, 0.2, 0.8])) / 2
    assert metrics.mean_over_labels(y, p, metric=metrics.auroc) == pytest.approx(expected)
