"""Out-of-fold predictions never see the patient they are made for."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmmed.evaluation.baselines import linear
from mmmed.evaluation.folds import auroc_within_folds, out_of_fold, out_of_fold_auroc, patient_folds
from mmmed.evaluation.metrics import auroc


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(10, 60), st.integers(1, 4))
def test_patients_stay_whole_and_folds_get_equal_shares_of_patients(seed, patients, rows):
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.arange(patients).repeat(rows))
    labels = rng.integers(0, 2, patients)[groups].astype(float)
    fold = patient_folds(labels, groups, 5, seed)
    assert all(len(set(fold[groups == g])) == 1 for g in range(patients))
    for level in (0, 1):
        sizes = [len(set(groups[(fold == k) & (labels == level)])) for k in range(5)]
        assert max(sizes) - min(sizes) <= 1


def test_the_fit_gets_no_row_of_the_patients_it_judges_and_every_known_row_is_judged_once():
    rng = np.random.default_rng(0)
    groups = np.arange(40).repeat(2)
    labels = rng.integers(0, 2, 40)[groups].astype(float)
    labels[:6] = np.nan
    seen = []

    def fit_predict(train, test):
        assert not set(groups[train]) & set(groups[test])
        assert not np.isnan(labels[train]).any()
        seen.extend(test)
        return np.full(len(test), 0.5)

    predicted, fold = out_of_fold(fit_predict, labels, groups)
    assert (fold[:6] == -1).all()
    assert sorted(seen) == np.flatnonzero(~np.isnan(labels)).tolist()
    assert np.isnan(predicted[:6]).all()


def test_fewer_patients_than_folds_use_fewer_folds_and_one_of_a_class_gives_none():
    groups = np.arange(12)
    labels = np.r_[1, 1, 1, np.zeros(9)]
    calls = []
    out_of_fold(lambda train, test: calls.append(len(test)) or np.zeros(len(test)), labels, groups)
    assert len(calls) == 3
    assert out_of_fold(None, np.r_[1, np.zeros(11)], groups) is None
    assert out_of_fold_auroc(None, np.zeros(12), groups) is None


def test_a_fit_without_any_finding_scores_exactly_one_half():
    labels = np.random.default_rng(0).integers(0, 2, 100).astype(float)
    score = out_of_fold_auroc(lambda train, test: np.full(len(test), 0.5), labels, np.arange(100), draws=20)
    assert (score.value, score.low, score.high) == (0.5, 0.5, 0.5)


def test_pairs_are_counted_within_folds_only():
    labels, said = np.array([1, 0, 1, 0.0]), np.array([0.9, 0.8, 0.2, 0.1])
    assert auroc(labels, said) == 0.75
    assert auroc_within_folds(labels, said, fold=np.array([0, 0, 1, 1])) == 1
    assert auroc_within_folds(labels, said, fold=np.zeros(4)) == 0.75
    two = auroc_within_folds(
        labels, said, np.array([[1, 1, 1, 1], [1, 1, 1, 0]]), fold=np.array([0, 0, 0, 0])
    )
    np.testing.assert_allclose(two, [0.75, 0.5])


def test_a_flag_with_a_known_auroc_is_scored_without_bias_where_one_joint_ranking_is_too_low():
    """Missing with .20 if ill and .55 if not: AUROC .675 exactly."""
    joint, within = [], []
    for seed in range(16):
        rng = np.random.default_rng(seed)
        labels = (rng.random(200) < 0.39).astype(float)
        flag = (rng.random(200) < np.where(labels, 0.20, 0.55))[:, None] - 0.5

        def fit(train, test, x=flag, y=labels):
            return linear(x[train], y[train], x[test], prior=False)

        said, fold = out_of_fold(fit, labels, np.arange(200), seed=seed)
        joint.append(auroc(labels, said))
        within.append(auroc_within_folds(labels, said, fold=fold))
    assert abs(np.mean(within) - 0.675) < 0.03
    assert np.mean(within) - np.mean(joint) > 0.02
