"""Modality dropout: what it may and may not do, and the exact distribution of what it leaves."""

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import make_cohort, make_model

from mmmed.data.collate import Collator
from mmmed.training.finetune import finetune
from mmmed.training.optimisation import Optimisation
from mmmed.training.plan import plan_epoch
from mmmed.training.policy import Policy, all_masks, drop_modalities, mask_distribution, pattern_code
from mmmed.training.settings import Settings
from mmmed.training.supply import make_supply
from mmmed.training.validate import cohort_weights

PRESENT = st.tuples(st.integers(1, 40), st.integers(1, 8), st.integers(0, 10_000))


def draw_present(shape):
    records, modalities, seed = shape
    return torch.rand(records, modalities, generator=torch.Generator().manual_seed(seed)) < 0.6


@settings(deadline=None, max_examples=50)
@given(PRESENT, st.floats(0, 1), st.integers(0, 100))
def test_dropout_never_adds_and_never_takes_the_last(shape, rate, seed):
    present = draw_present(shape)
    kept = drop_modalities(present, rate, torch.Generator().manual_seed(seed))
    assert not (kept & ~present).any()
    assert torch.equal(kept.any(1), present.any(1))


@given(PRESENT)
@settings(deadline=None, max_examples=20)
def test_rate_0_changes_nothing_and_rate_1_leaves_exactly_one(shape):
    present = draw_present(shape)
    assert torch.equal(drop_modalities(present, 0.0, torch.Generator()), present)
    alone = drop_modalities(present, 1.0, torch.Generator())
    assert torch.equal(alone.sum(1), present.any(1).long())


def test_the_same_generator_gives_the_same_masks_and_the_global_stream_is_left_alone():
    present, before = torch.ones(50, 4, dtype=torch.bool), torch.get_rng_state()
    first, second = (drop_modalities(present, 0.5, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.9, 1.0])
def test_the_listed_distribution_is_that_of_the_draws(rate):
    patterns = all_masks(3)
    exact = mask_distribution(patterns, rate)
    torch.testing.assert_close(exact.sum(1), torch.ones(8, dtype=torch.double))
    draws, generator = 20_000, torch.Generator().manual_seed(0)
    for pattern, chances in zip(patterns, exact, strict=True):
        kept = drop_modalities(pattern.expand(draws, -1), rate, generator)
        seen = torch.bincount(pattern_code(kept), minlength=8) / draws
        assert (seen - chances).abs().max() < 0.015


def test_two_modalities_by_hand():
    # Both there, rate 0.4: both stay 0.36; one falls 0.24 each; both would fall 0.16, then either stays.
    chances = mask_distribution(torch.tensor([[True, True]]), 0.4)[0]
    torch.testing.assert_close(chances, torch.tensor([0.0, 0.32, 0.32, 0.36], dtype=torch.double))


@pytest.mark.parametrize("settings", [{"dropout": 1.5}, {"clip": 0.5}, {"missingness": "ignor"}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings)).replace("missingness", "ignore")):
        Policy(**settings)


# ------------------------------------------------------------------------------------------ order of fusion


def plan(order, records=40, epoch=0, seed=0):
    cohort = make_cohort(records)
    model = make_model()
    facts = Settings(1, None, Policy(order=order), Optimisation(batch_size=8), None, (), seed)
    supply = make_supply(cohort["train"], Collator(model.schema))
    weights = cohort_weights(supply, model.schema.tasks, facts.policy, seed)
    return plan_epoch(supply, model.schema.tasks, weights, facts, epoch)


def test_a_fixed_order_is_that_of_the_schema():
    assert plan("fixed").orders is None


def test_a_random_order_is_one_permutation_for_each_batch():
    drawn = plan("random")
    seen = set()
    for update in drawn.updates:
        rows = torch.cat(update.parts)
        assert (drawn.orders[rows] == drawn.orders[rows[0]]).all()
        assert sorted(drawn.orders[rows[0]].tolist()) == [0, 1, 2]
        seen.add(tuple(drawn.orders[rows[0]].tolist()))
    assert len(seen) > 1


def test_an_order_per_record_differs_inside_a_batch_and_from_epoch_to_epoch():
    drawn, again, later = plan("per record"), plan("per record"), plan("per record", epoch=1)
    assert torch.equal(drawn.orders, again.orders)
    assert not torch.equal(drawn.orders, later.orders)
    rows = torch.cat(drawn.updates[0].parts)
    assert len(drawn.orders[rows].unique(dim=0)) > 1
    assert (drawn.orders.sort(1).values == torch.arange(3)).all()


@pytest.mark.parametrize("order", ["random", "per record"])
def test_a_model_trained_in_many_orders_answers_alike_in_all_of_them(order):
    """Trained in one order only, the answers after another order lie further apart."""
    cohort = make_cohort(120)
    gaps = {}
    for kind in ("fixed", order):
        model = make_model(dropout=0.0)
        how = {"optimisation": Optimisation(lr=5e-3, weight_decay=0.0), "policy": Policy(order=kind)}
        finetune(model, cohort, epochs=8, augmentation=None, progress=False, **how)
        batch = Collator(model.schema)(list(cohort["test"]) or list(cohort["val"]))
        with torch.no_grad():
            answers = [
                model(batch, order=names)["sick"].sigmoid() for names in permutations(model.modalities)
            ]
        gaps[kind] = float(torch.stack(answers).std(0).mean())
    assert gaps[order] < gaps["fixed"]
