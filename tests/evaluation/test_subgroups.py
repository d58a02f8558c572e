"""Subgroups: who is in which, what they score by hand, and how far the best and the worst lie apart."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from small_cohorts import cohort_of, frame_of

from mmmed.evaluation.benchmark import missingness_benchmark
from mmmed.evaluation.bootstrap import Draws
from mmmed.evaluation.metrics import auroc, sensitivity
from mmmed.evaluation.subgroups import GAP, OTHER, UNKNOWN, members, subgroup_rows

# six patients of each ward, and what a model said of them
LABELS = [1, 1, 0, 0, 0, 1] * 2
SAID = [0.9, 0.7, 0.3, 0.2, 0.1, 0.6, 0.8, 0.2, 0.4, 0.6, 0.1, 0.3]
# north: all right: AUROC 1, sensitivity 1, specificity 1
# south: positives .8 .2 .3, negatives .4 .6 .1: above: .8 > all 3, .2 > 1, .3 > 1: 5 of 9;
#        at .5: 1 of 3 positives found, 2 of 3 negatives kept


@pytest.fixture(scope="module")
def wards():
    frame = frame_of(12, visits=1)
    frame["ill"], frame["said"] = LABELS, SAID
    frame["ward"] = ["north"] * 6 + ["south"] * 6
    frame["years"] = [20, 30, 40, 50, 60, 70, 20, 30, 40, 50, 60, None]
    return cohort_of(frame, split=None)


def rows_of(cohort, subgroups, threshold=0.5, draws=40):
    drawn = {"ill": Draws(cohort.targets("ill")[0], cohort.groups, draws, 0)}
    said = {"m": {"ill": np.array(cohort.column("said"), dtype=float)}}
    return subgroup_rows(said, cohort, subgroups, {"m": {"ill": threshold}}, drawn)


def test_the_scores_of_each_group_and_the_gap_by_hand(wards):
    north, south, gap = rows_of(wards, ["ward"])
    assert [row["group"] for row in (north, south, gap)] == ["north", "south", GAP]
    values = [
        (row["auroc"].value, row["sensitivity"].value, row["specificity"].value) for row in (north, south)
    ]
    assert values[0] == (1, 1, 1)
    assert values[1] == pytest.approx((5 / 9, 1 / 3, 2 / 3))
    assert (north["n"], north["patients"], north["positive"]) == (6, 6, 0.5)
    assert gap["auroc"].value == pytest.approx(4 / 9)
    assert gap["sensitivity"].value == pytest.approx(2 / 3)
    assert gap["note"].startswith("auroc: north - south")


def test_the_gap_has_an_interval_over_draws_of_all_patients(wards):
    _, _, gap = rows_of(wards, ["ward"], draws=60)
    y, p = np.array(LABELS, float), np.array(SAID)
    rng = np.random.default_rng(0)
    patients = np.unique(wards.groups, return_inverse=True)[1]
    chosen = rng.integers(0, 12, size=(60, 12))
    slow = []
    for draw in chosen:
        rows = np.concatenate([np.flatnonzero(patients == g) for g in draw])
        north, south = rows[rows < 6], rows[rows >= 6]
        positives = (y[north].sum(), y[south].sum())
        slow.append(
            sensitivity(y[north], p[north]) - sensitivity(y[south], p[south]) if min(positives) else np.nan
        )
    low, high = np.nanquantile(slow, [0.025, 0.975])
    assert (gap["sensitivity"].low, gap["sensitivity"].high) == pytest.approx((low, high))


def test_the_threshold_is_the_given_one_for_all_groups(wards):
    _, south, _ = rows_of(wards, ["ward"], threshold=0.25)
    assert south["sensitivity"].value == pytest.approx(2 / 3)  # .8 and .3, not .2
    assert south["auroc"].value == pytest.approx(5 / 9)


def test_numbers_are_cut_at_thirds_or_where_it_is_said(wards):
    thirds = members(wards, "years")
    assert list(thirds) == ["below 33.33", "33.33 to below 50", "50 and above", UNKNOWN]
    assert [int(part.sum()) for part in thirds.values()] == [4, 2, 5, 1]
    cut = members(wards, "years", (40,))
    assert [int(part.sum()) for part in cut.values()] == [4, 7, 1]
    assert np.sum(list(cut.values()), axis=0).tolist() == [1] * 12
    with pytest.raises(ValueError, match="rising numbers"):
        members(wards, "years", (50, 40))
    with pytest.raises(ValueError, match="numeric column"):
        members(wards, "ward", (1, 2))


def test_few_values_are_levels_and_many_levels_are_put_together():
    frame = frame_of(60, visits=1)
    frame["grade"] = [1, 2, 3] * 20
    frame["town"] = [f"t{k % 20:02d}" for k in range(40)] + ["t00"] * 20
    cohort = cohort_of(frame)
    assert list(members(cohort, "grade")) == ["1", "2", "3"]
    towns = members(cohort, "town")
    assert len(towns) == 13
    assert towns["t00"].sum() == 22
    assert towns[OTHER].sum() == 16


def test_who_has_no_group_is_shown_but_makes_no_gap(wards):
    frame = pd.DataFrame(wards.to_frame()).drop(columns="split")
    frame.loc[6:, "ward"] = None
    rows = rows_of(cohort_of(frame), ["ward"])
    assert [row["group"] for row in rows] == ["north", UNKNOWN]


def test_a_group_of_one_class_says_so_and_leaves_the_gap_to_the_others(wards):
    rows = rows_of(wards.where([2, 3, 4, *range(6, 12)]), ["ward"])
    north = rows[0]
    assert np.isnan(north["auroc"].value)
    assert "one class" in north["note"]
    assert "auroc" not in rows[-1]
    assert "specificity" in rows[-1]


def test_the_benchmark_has_them_and_knows_the_worst(cohort):
    part = cohort["test"]
    model = lambda seen: {"ill": seen.present @ np.array([0.1, 0.3, 0.5]) + 0.05}  # noqa: E731
    bench = missingness_benchmark(model, part, draws=20, subgroups={"device": None, "crp": (5.0,)})
    device = bench.subgroups.where(column="device", group="A")[0]
    inside = np.array(part.column("device")) == "A"
    labels = part.targets("ill")[0][inside]
    assert device["auroc"].value == pytest.approx(auroc(labels, model(part)["ill"][inside]))
    assert "model" not in bench.subgroups.columns
    worst = bench.worst.where(where="hidden")[0]
    line = min(bench.table, key=lambda row: row["auroc"].value)  # every line rests on all patients, 12
    assert worst["auroc"] == line["auroc"]
    assert worst["worst"] == (f"only {line['seen']}" if line["kind"] == "subset" else line["seen"])
    brier = missingness_benchmark(model, part, metric="brier", draws=20)
    assert brier.worst[0]["brier"].value == max(row["brier"].value for row in brier.table)
    with pytest.raises(ValueError, match='Did you mean "device"'):
        missingness_benchmark(model, part, draws=5, subgroups=["devise"])
