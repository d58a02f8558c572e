"""No patient on two sides, labels and patterns alike in all parts, the same result on every machine."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmmed.data import splitting
from mmmed.data.cohort import Cohort
from mmmed.data.splitting import deal, label_codes, pattern_codes

quick = settings(deadline=None, max_examples=40)


def cohort_of(rows=60, visits=2, seed=0, **options):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "patient": [f"p{i // visits}" for i in range(rows)],
            "age": np.where(rng.random(rows) < 0.3, np.nan, rng.normal(60, 9, rows)),
            "note": [None if hide else "words" for hide in rng.random(rows) < 0.4],
            "y": rng.integers(0, 2, rows),
        }
    )
    return Cohort.from_frame(frame, tabular=["age"], text="note", target="y", group="patient", **options)


@quick
@given(
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=40),
    labels=st.randoms(use_true_random=False),
    shares=st.sampled_from([(0.7, 0.15, 0.15), (0.5, 0.5, 0.0), (0.2,) * 5, (1.0, 0.0, 0.0)]),
    seed=st.integers(0, 5),
)
def test_a_patient_is_never_in_two_parts_and_parts_without_a_share_stay_empty(sizes, labels, shares, seed):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    strata = [
        np.array([labels.randrange(3) for _ in groups]),
        np.array([labels.randrange(2) for _ in groups]),
    ]
    parts = deal(groups, [str(i) for i in range(len(sizes))], strata, shares, seed)
    for patient in range(len(sizes)):
        assert len(set(parts[groups == patient])) == 1
    assert {shares[part] > 0 for part in parts} == {True}


@quick
@given(rows=st.integers(30, 120), share=st.floats(0.05, 0.95), seed=st.integers(0, 100))
def test_each_part_gets_its_share_of_every_label_within_three_patients(rows, share, seed):
    rng = np.random.default_rng(seed)
    label = (rng.random(rows) < share).astype(int)
    pattern = pattern_codes(rng.random((rows, 3)) < 0.7)
    for shares in [(0.7, 0.15, 0.15), (0.2,) * 5]:
        parts = deal(np.arange(rows), [str(i) for i in range(rows)], [label, pattern], shares, seed)
        for part, wanted in enumerate(shares):
            assert abs((parts == part).sum() - wanted * rows) <= 3
            for value in (0, 1):
                here = label == value
                assert abs((here & (parts == part)).sum() - wanted * here.sum()) <= 3


@quick
@given(seed=st.integers(0, 100), order=st.permutations(range(30)))
def test_the_order_of_the_rows_does_not_matter_and_the_seed_does(seed, order):
    rng = np.random.default_rng(seed)
    names = np.array([f"patient {i // 2}" for i in range(30)])
    label = rng.integers(0, 2, 30)

    def parts_of(index, seed):
        known, groups = np.unique(names[index], return_inverse=True)
        return deal(groups, known, [label[index]], (0.6, 0.2, 0.2), seed)

    plain = parts_of(np.arange(30), 0)
    assert np.array_equal(parts_of(np.array(order), 0), plain[order])
    assert any(not np.array_equal(parts_of(np.arange(30), other), plain) for other in range(1, 6))


def test_dealing_in_bulk_ends_where_dealing_one_by_one_ends(monkeypatch):
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 3, 3000)
    groups = np.repeat(np.arange(3000), sizes)
    label = rng.integers(0, 2, 3000)[groups]
    names = [str(i) for i in range(3000)]
    fast = deal(groups, names, [label], (0.7, 0.15, 0.15), 0)
    monkeypatch.setattr(splitting, "MANY", 10**9)
    slow = deal(groups, names, [label], (0.7, 0.15, 0.15), 0)
    for part in range(3):
        for value in (0, 1):
            counts = [((parts == part) & (label == value)).sum() for parts in (fast, slow)]
            assert abs(counts[0] - counts[1]) <= 3


def test_the_spread_over_folds_is_no_worse_than_that_of_scikit_learn():
    from sklearn.model_selection import StratifiedGroupKFold

    ours, theirs = [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        sizes = rng.integers(1, 12, 60)
        groups = np.repeat(np.arange(60), sizes)
        label = (rng.random(60) < 0.3).astype(int)[groups]
        parts = deal(groups, [str(i) for i in range(60)], [label], (0.2,) * 5, seed)
        ours.append(np.std([label[parts == part].sum() for part in range(5)]))
        splits = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(label, label, groups)
        theirs.append(np.std([label[test].sum() for _, test in splits]))
    assert np.mean(ours) <= np.mean(theirs) + 0.2


def test_numbers_are_balanced_in_quarters_and_unknown_labels_are_a_stratum():
    values, known = np.arange(100.0), np.arange(100) % 5 > 0
    codes = label_codes(values, known, continuous=True)[0]
    assert sorted(np.unique(codes)) == [-1, 0, 1, 2, 3]
    assert (codes[~known] == -1).all()
    assert np.ptp(np.bincount(codes[known])) <= 1
    both = label_codes(np.array([[0, 1], [1, 0]]), np.array([[True, False], [True, True]]), continuous=False)
    assert [code.tolist() for code in both] == [[0, 1], [-1, 0]]


def test_a_cohort_always_has_a_split_by_patient():
    cohort = cohort_of(200)
    splits = pd.DataFrame({"patient": cohort.groups, "split": cohort.splits})
    assert splits.groupby("patient")["split"].nunique().max() == 1
    assert [len(cohort[name]) for name in ("train", "val", "test")] == [140, 30, 30]
    assert set(cohort.split(seed=1).splits) == {"train", "val", "test"}
    assert not np.array_equal(cohort.split(seed=1).splits, cohort.splits)
    assert np.array_equal(cohort.split(seed=0).splits, cohort.splits)


def test_folds_cover_every_record_once_and_the_next_fold_is_for_validation():
    cohort = cohort_of(120)
    folds = cohort.folds(4, seed=2)
    assert sorted(name for fold in folds for name in fold["test"].ids) == sorted(cohort.ids)
    for one, other in zip(folds, folds[1:] + folds[:1], strict=True):
        assert sorted(one["val"].ids) == sorted(other["test"].ids)
        assert not set(one["train"].groups) & set(one["test"].groups)


def test_a_fold_column_with_the_role_of_a_split_is_used_as_it_is():
    frame = cohort_of(40, visits=1).to_frame().assign(fold=np.arange(40) % 4)
    columns = {"tabular": ["age"], "target": "y", "split": "split"}
    folds = Cohort.from_frame(frame, roles={"fold": "split"}, **columns).folds(4)
    assert [fold["test"].column("fold") for fold in folds] == [[i] * 10 for i in range(4)]
    own = Cohort.from_frame(frame, roles={"fold": "split"}, **columns).folds(3)
    assert "seed 0" in own[0].split_origin


def test_a_given_split_is_kept_and_a_torn_patient_named():
    frame = cohort_of(12).to_frame().drop(columns="split")
    words = ["Training", "validation", "TEST"]
    good = frame.assign(part=[words[(i // 2) % 3] for i in range(12)])
    columns = {"tabular": ["age"], "target": "y", "group": "patient"}
    cohort = Cohort.from_frame(good, split="part", **columns)
    assert cohort.splits.tolist() == ["train", "train", "val", "val", "test", "test"] * 2
    assert cohort.roles["part"] == "split"
    with pytest.raises(
        ValueError, match=r'"part" puts the records of one patient in different parts: p0, p1'
    ):
        Cohort.from_frame(frame.assign(part=[words[i % 2] for i in range(12)]), split="part", **columns)
    with pytest.raises(ValueError, match=r"row 3.*got 'somewhere'"):
        Cohort.from_frame(
            good.assign(part=["train", "train", "somewhere"] + ["test"] * 9), split="part", **columns
        )


def test_a_split_column_that_nobody_named_is_mentioned():
    with pytest.warns(UserWarning, match='pass split="split"'):
        Cohort.from_frame(cohort_of(20).to_frame(), tabular=["age"], target="y")


def test_too_many_folds_for_a_rare_class_is_an_error_that_says_how_many():
    frame = pd.DataFrame({"age": np.arange(30), "y": [1] * 4 + [0] * 26})
    cohort = Cohort.from_frame(frame, tabular=["age"], target="y")
    with pytest.raises(ValueError, match=r"only 4 patients have y = 1.*Ask for 4 folds at most"):
        cohort.folds(5)
    assert all(fold["test"].targets("y")[0].sum() == 1 for fold in cohort.folds(4))
    with pytest.raises(ValueError, match="here are 30"):
        cohort.folds(40)


def test_a_split_that_leaves_a_part_without_a_class_is_an_error_only_if_asked_for():
    frame = pd.DataFrame({"age": np.arange(30), "y": [1] + [0] * 29})
    cohort = Cohort.from_frame(frame, tabular=["age"], target="y")
    with pytest.raises(ValueError, match="No record with y = 1 came into"):
        cohort.split()


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.8, 0.3, -0.1), (0.5, 0.1, 0.1), (0, 0.5, 0.5)])
def test_fractions_are_three_shares_that_add_up_to_one(fractions):
    with pytest.raises(ValueError, match="three shares"):
        cohort_of().split(fractions)


def test_validation_alone_can_be_asked_for():
    cohort = cohort_of(100).split((0.8, 0.2, 0.0))
    assert [len(cohort[name]) for name in ("train", "val", "test")] == [80, 20, 0]


def test_rows_without_a_patient_are_patients_of_their_own():
    frame = pd.DataFrame({"patient": ["a", "a", None, None], "age": [1, 2, 3, 4]})
    with pytest.warns(UserWarning, match="2 rows have no patient"):
        cohort = Cohort.from_frame(frame, tabular=["age"], group="patient")
    assert cohort.groups.tolist() == ["a", "a", "2", "3"]
    assert cohort[2].group is None
