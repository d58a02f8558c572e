"""Inverse-pattern weights: the target and the pattern of modalities become independent."""

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmmed.training.policy import Policy, all_masks, drop_modalities, mask_distribution
from mmmed.training.weights import CohortWeights, Levels, ModelledWeights, joint_counts, pattern_weights
from mmmed.types import Binary, Multiclass, Multilabel, Regression

OPEN = Policy(clip=1e12)  # no clipping


def label_driven(records=300, modalities=3, levels=2, seed=0, loss=0.8):
    """The higher the level, the more often modality 1 is missing."""
    draw = torch.Generator().manual_seed(seed)
    level = torch.randint(levels, (records,), generator=draw)
    present = torch.rand(records, modalities, generator=draw) < 0.9
    present[:, 1] &= torch.rand(records, generator=draw) >= loss * level / (levels - 1)
    return present, level


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(2, 4), st.floats(0.05, 0.9), st.integers(0, 1000))
def test_weights_sum_to_one_and_make_label_and_pattern_independent(modalities, levels, rate, seed):
    present, level = label_driven(200, max(2, modalities), levels, seed)
    joint = joint_counts(present, level, levels, rate)
    table = pattern_weights(
        present, level, levels, Policy(dropout=rate, clip=1e12), smoothing=0.0
    ).table.double()
    chance = joint / joint.sum()
    weighted = table * chance
    # Where a level never meets a pattern there is nothing to weigh up: the promise is for the others.
    met = (chance > 0).all(0)
    expected = chance.sum(1, keepdim=True) * chance.sum(0)
    torch.testing.assert_close(weighted[:, met], expected[:, met], rtol=1e-5, atol=1e-9)
    if (met | (chance.sum(0) == 0)).all():
        torch.testing.assert_close(weighted.sum(), torch.tensor(1.0, dtype=torch.double), rtol=1e-6, atol=0)


def test_every_prefix_of_the_pattern_is_independent_of_the_label_too():
    present, level = label_driven(400)
    present[:, 0] = True  # so that after dropout every pattern but the empty one meets both levels
    table = pattern_weights(present, level, 2, OPEN, smoothing=0.0).table.double()
    joint = joint_counts(present, level, 2, OPEN.dropout)
    weighted = (table * joint / joint.sum()).view(2, 2, 2, 2)  # [level, modality 2, modality 1, modality 0]
    for prefix in (weighted.sum((1, 2)), weighted.sum(1).flatten(1)):
        torch.testing.assert_close(prefix, prefix.sum(1, keepdim=True) * prefix.sum(0), atol=1e-7, rtol=1e-5)


def test_counted_patterns_equal_a_loop_over_records_and_masks():
    present, level = label_driven(30)
    slow = torch.zeros(2, 8, dtype=torch.double)
    for row in range(30):
        chances = mask_distribution(present[row : row + 1], 0.3)[0]
        for code in range(8):
            slow[level[row], code] += chances[code]
    torch.testing.assert_close(joint_counts(present, level, 2, 0.3), slow)


def test_four_records_by_hand():
    # Without dropout: (y, m) = (0, image), (0, image), (1, image), (1, nothing).
    present, level = torch.tensor([[True], [True], [True], [False]]), torch.tensor([0, 0, 1, 1])
    table = pattern_weights(present, level, 2, Policy(dropout=0.0, clip=100), smoothing=0.0).table
    # P(0)P(image)/P(0,image) = (1/2)(3/4)/(1/2) = 3/4; (1, image): (1/2)(3/4)/(1/4) = 3/2; (1, nothing): 1/2
    assert table[0, 1] == pytest.approx(0.75)
    assert table[1, 1] == pytest.approx(1.5)
    assert table[1, 0] == pytest.approx(0.5)
    smooth = pattern_weights(present, level, 2, Policy(dropout=0.0, clip=100), smoothing=1.0).table
    assert smooth[1, 1] == pytest.approx((1.5 + 1) / (1 + 1))  # expected 1.5 records, seen 1
    assert smooth[0, 0] == pytest.approx((0.5 + 1) / (0 + 1))  # never seen: close to 1, not infinite


def test_weights_are_about_1_where_missingness_has_nothing_to_do_with_the_label():
    present, level = label_driven(3000, loss=0.0)
    weights = pattern_weights(present, level, 2, Policy())
    counts = joint_counts(present, level, 2, 0.3)
    assert (weights.table[counts > 20] - 1).abs().max() < 0.25
    assert weights.effective > 0.99 * 3000


def test_weights_are_clipped_and_unknown_labels_weigh_1():
    present, level = label_driven(500)
    level[:100] = -1
    weights = pattern_weights(present, level, 2, Policy(clip=1.5))
    assert weights.table.max() <= 1.5
    assert torch.equal(weights(level, present)[:100], torch.ones(100))


def test_the_effective_sample_size_is_that_of_the_drawn_weights():
    present, level = label_driven(500)
    weights = pattern_weights(present, level, 2, Policy())
    draws = torch.Generator().manual_seed(0)
    drawn = torch.cat([weights(level, drop_modalities(present, 0.3, draws)) for _ in range(100)]).double()
    assert weights.effective == pytest.approx(float(drawn.sum() ** 2 / (drawn**2).sum()) / 100, rel=0.01)


def test_the_logistic_model_for_many_modalities_agrees_with_counting():
    present, level = label_driven(4000, modalities=3)
    wide = torch.cat([present, torch.ones(4000, 4, dtype=torch.bool)], dim=1)
    counted = pattern_weights(present, level, 2, Policy(dropout=0.2))
    modelled = pattern_weights(wide, level, 2, Policy(dropout=0.2))
    assert isinstance(modelled, ModelledWeights)
    kept = drop_modalities(wide, 0.2, torch.Generator().manual_seed(1))
    here = kept[:, :3].any(1)
    gap = (counted(level, kept[:, :3]) - modelled(level, kept)).abs()[here]
    assert gap.mean() < 0.12
    assert modelled.effective == pytest.approx(counted.effective, rel=0.1)


def test_a_class_without_any_record_does_no_harm():
    present, level = label_driven(200)
    for width in (3, 8):
        wide = present[:, :1].repeat(1, width) if width > 3 else present
        weights = pattern_weights(wide, level, 4, Policy())  # levels 2 and 3 never occur
        assert weights(torch.tensor([2, 3, -1]), wide[:3]).isfinite().all()
        nothing = pattern_weights(wide, torch.full_like(level, -1), 2, Policy())
        assert torch.equal(nothing(level, wide), torch.ones(200))


def test_regression_targets_are_cut_at_their_quantiles():
    target = torch.arange(100).float()
    levels = Levels.of(Regression("y"), target, torch.ones(100, dtype=torch.bool))
    assert torch.bincount(levels(target, target >= 0)).tolist() == [20] * 5
    assert int(levels(torch.tensor([3.0]), torch.tensor([False]))) == -1
    same = Levels.of(Regression("y"), torch.zeros(100), torch.ones(100, dtype=torch.bool))
    assert same.count <= 2  # a constant has no quantiles worth the name


def test_each_label_of_a_multilabel_task_gets_its_own_weights():
    present, level = label_driven(400)
    other = torch.randint(2, (400,), generator=torch.Generator().manual_seed(5))
    tasks = {"signs": Multilabel(("driven", "free")), "stage": Multiclass("s", ("0", "1"))}
    targets = {"signs": torch.stack([level, other], 1).float(), "stage": level}
    known = {name: torch.ones_like(target, dtype=torch.bool) for name, target in targets.items()}
    weights = CohortWeights.of(tasks, present, targets, known, Policy())(present, targets, known)
    assert weights["signs"].shape == (400, 2)
    torch.testing.assert_close(weights["signs"][:, 0], weights["stage"])
    assert (weights["signs"][:, 1] - 1).abs().mean() < 0.2 < (weights["signs"][:, 0] - 1).abs().mean()


@pytest.mark.parametrize("policy", [Policy(missingness="use"), Policy(reweight=False)])
def test_no_weights_where_the_pattern_may_be_used(policy):
    present, level = label_driven(100)
    known = {"y": torch.ones(100, dtype=torch.bool)}
    weights = CohortWeights.of({"y": Binary("y")}, present, {"y": level.float()}, known, policy)
    assert weights(present, {"y": level.float()}, known) == {}
    assert weights.effective == {}


def test_a_small_effective_sample_size_is_warned_about():
    draw = torch.Generator().manual_seed(0)
    level = (torch.rand(600, generator=draw) < 0.5).long()
    present = torch.ones(600, 2, dtype=torch.bool)
    present[:, 0] = (level == 0) | (torch.rand(600, generator=draw) < 0.01)
    known = {"y": torch.ones(600, dtype=torch.bool)}
    arguments = ({"y": Binary("y")}, present, {"y": level.float()}, known)
    with pytest.warns(UserWarning, match="effective sample size"):
        CohortWeights.of(*arguments, Policy(dropout=0.01, clip=1000)).warn(known)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CohortWeights.of(*arguments, Policy(missingness="use")).warn(known)


def test_all_masks_list_the_bits():
    assert all_masks(2).tolist() == [[False, False], [True, False], [False, True], [True, True]]
