"""Overlap of masks by hand, and means over phrases that take "not there" for what it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import jaccard_score, roc_auc_score

from mmmed.evaluation.mask_metrics import columns_of, dice, draws_of, estimate, iou, score_mask


def mask(text):
    return np.array([[letter == "1" for letter in row] for row in text.split()])


FULL, NONE = mask("11 11"), mask("00 00")


@pytest.mark.parametrize(
    ("ours", "truth", "expected"),
    [
        ("11 00", "10 10", 1 / 2),  # one pixel of two and two: 2 * 1 / 4
        ("11 10", "10 00", 1 / 2),  # 2 * 1 / (3 + 1)
        ("10 00", "10 00", 1),
        ("10 00", "01 00", 0),
        ("00 00", "10 00", 0),  # there, and not found
        ("10 00", "00 00", 0),  # found, and not there
    ],
)
def test_four_pixels_by_hand(ours, truth, expected):
    assert dice(mask(ours), mask(truth)) == expected
    assert iou(mask(ours), mask(truth)) == pytest.approx(expected / (2 - expected))  # for any two masks
    assert dice(mask(truth), mask(ours)) == expected


def test_two_empty_masks_have_no_overlap_to_measure():
    assert math.isnan(dice(NONE, NONE))
    assert math.isnan(iou(NONE, NONE))
    assert math.isnan(score_mask(NONE, NONE).dice)


@pytest.mark.parametrize("shape", [(7,), (5, 6), (3, 4, 5)])
def test_any_number_of_axes_gives_what_scikit_learn_gives(shape):
    rng = np.random.default_rng(len(shape))
    ours, truth = rng.random(shape) < 0.5, rng.random(shape) < 0.4
    assert iou(ours, truth) == pytest.approx(jaccard_score(truth.ravel(), ours.ravel()))


def test_masks_on_two_grids_are_refused_with_both_named():
    with pytest.raises(ValueError, match=r"\[2, 2\].*\[2, 3\]"):
        dice(FULL, mask("110 000"))


def scored(*pairs, groups=None):
    groups = groups or range(len(pairs))
    return [
        score_mask(mask(ours), mask(truth), presence, group=str(group))
        for (ours, truth, presence), group in zip(pairs, groups, strict=True)
    ]


def values_of(scores, draws=20):
    drawn = draws_of(scores, draws, 0)
    found = {name: estimate(drawn, column) for name, column in columns_of(scores).items()}
    return {name: None if one is None else one.value for name, one in found.items()}


def test_every_mean_over_phrases_by_hand():
    scores = scored(
        ("1110", "1111", 0.9),  # Dice 6/7, IoU 3/4
        ("1000", "1111", 0.6),  # Dice 2/5, IoU 1/4
        ("0000", "1100", 0.2),  # missed: 0, 0
        ("0000", "0000", 0.1),  # rightly nothing
        ("0011", "0000", 0.4),  # two pixels of nothing
    )
    values = values_of(scores)
    assert values["dice"] == pytest.approx((6 / 7 + 2 / 5 + 0) / 3)
    assert values["miou"] == pytest.approx((3 / 4 + 1 / 4 + 0) / 3)
    assert values["oiou"] == pytest.approx((3 + 1) / (4 + 4 + 2 + 0 + 2))
    assert values["giou"] == pytest.approx((3 / 4 + 1 / 4 + 0 + 1 + 0) / 5)
    assert [values[f"precision_{t}"] for t in (50, 70, 90)] == pytest.approx([1 / 3, 1 / 3, 0])
    assert values["kept"] == pytest.approx(2 / 3)
    assert values["empty_accuracy"] == pytest.approx(1 / 2)
    # of 3 x 2 pairs only (.2 there, .4 not there) stands the wrong way round
    assert values["auroc"] == pytest.approx(5 / 6)
    assert values["auroc"] == pytest.approx(roc_auc_score([1, 1, 1, 0, 0], [0.9, 0.6, 0.2, 0.1, 0.4]))


def test_an_iou_of_exactly_the_level_counts():
    assert values_of(scored(("10", "11", 1.0)))["precision_50"] == 1


def test_without_present_or_without_empty_targets_the_rest_is_scored():
    there = values_of(scored(("10", "11", 0.9), ("11", "11", 0.8)))
    assert there["empty_accuracy"] is None
    assert there["auroc"] is None
    assert there["giou"] == there["miou"] == 0.75
    absent = values_of(scored(("00", "00", 0.1), ("00", "00", 0.2)))
    assert {name for name, value in absent.items() if value is not None} == {"giou", "empty_accuracy"}
    assert absent["giou"] == 1


def test_what_a_score_is_about_is_counted_with_its_patients():
    scores = scored(("10", "11", 0.9), ("11", "11", 0.9), ("01", "11", 0.9), ("00", "00", 0.1), groups="aabc")
    drawn, columns = draws_of(scores, 50, 0), columns_of(scores)
    assert (estimate(drawn, columns["dice"]).n, estimate(drawn, columns["dice"]).groups) == (3, 2)
    alone = estimate(drawn, columns["empty_accuracy"])
    assert (alone.value, alone.n, alone.groups) == (1, 1, 1)
    assert math.isnan(alone.low)


def test_the_interval_is_that_of_drawing_patients_by_hand():
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(8), 3)
    scores = [score_mask(rng.random(9) < 0.6, rng.random(9) < 0.5, group=str(g)) for g in groups]
    found = estimate(draws_of(scores, 300, 7), columns_of(scores)["oiou"])
    rng, slow = np.random.default_rng(7), []
    for _ in range(300):
        chosen = [s for g in rng.integers(0, 8, 8) for s in scores if s.group == str(g)]
        slow.append(sum(s.intersection for s in chosen) / sum(s.union for s in chosen))
    np.testing.assert_allclose([found.low, found.high], np.quantile(slow, [0.025, 0.975]), atol=1e-12)


def test_a_difference_is_paired():
    rng = np.random.default_rng(0)
    truths = [rng.random(16) < rng.uniform(0.2, 0.8) for _ in range(30)]
    ours = [truth ^ (rng.random(16) < rng.uniform(0, 0.5)) for truth in truths]
    close = [one.copy() for one in ours]
    for one in close[::2]:
        one[0] ^= True
    first, second = (
        [score_mask(m, t, group=str(k)) for k, (m, t) in enumerate(zip(masks, truths, strict=True))]
        for masks in (ours, close)
    )
    drawn, one, other = draws_of(first, 200, 0), columns_of(first), columns_of(second)
    gap, alone = estimate(drawn, one["dice"], other["dice"]), estimate(drawn, one["dice"])
    assert gap.value == pytest.approx(alone.value - estimate(drawn, other["dice"]).value)
    assert gap.high - gap.low < 0.5 * (alone.high - alone.low)
    same = estimate(drawn, one["giou"], one["giou"])
    assert (same.value, same.low, same.high) == (0, 0, 0)
