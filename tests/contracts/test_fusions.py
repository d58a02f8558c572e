"""What every fusion of the catalogue owes a record with holes, whatever its weights.

A new row of kind "fusion" gets these tests without further ado.
"""

from copy import deepcopy

import pytest
import torch
from fusion_cases import (
    DIM,
    FUSIONS,
    NAMES,
    PATTERNS,
    SEQUENTIAL,
    STATE,
    build,
    dense,
    one,
    pack,
    run,
    without_dropout,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from mmmed.types import Tokens


@pytest.fixture(params=FUSIONS, ids=lambda row: row.name)
def row(request):
    return request.param


@pytest.fixture
def fusion(row):
    return build(row)


def test_it_states_its_modalities_and_width(fusion):
    assert tuple(fusion.modalities) == NAMES
    assert fusion.state_dim == STATE
    fused = run(fusion, dense(6), PATTERNS)
    assert fused.state.shape == (6, STATE)
    assert fused.steps.shape[0] == 6
    assert fused.steps.shape[2] == STATE
    assert fused.step_mask.shape == fused.steps.shape[:2]
    assert fused.step_mask.dtype == torch.bool


def test_the_way_starts_at_nothing_known_and_ends_at_the_state(fusion):
    fused = run(fusion, dense(6), PATTERNS)
    assert torch.equal(fused.steps[:, -1], fused.state)
    assert fused.step_mask[:, 0].all()
    assert (fused.steps[:, 0] == fused.steps[:1, 0]).all()
    if fused.order:
        assert len(fused.order) == fused.steps.shape[1] - 1


def test_a_step_counts_only_where_its_modality_is_there(fusion):
    fused = run(fusion, dense(6), PATTERNS)
    if fused.order:
        here = PATTERNS[:, [NAMES.index(name) for name in fused.order]]
        assert torch.equal(fused.step_mask[:, 1:], here)
    else:
        assert torch.equal(fused.step_mask[:, -1], PATTERNS.any(1))


def test_a_step_without_its_modality_leaves_the_state_exactly_as_it_was(fusion):
    fused = run(fusion, dense(6), PATTERNS)
    steps = range(1, fused.steps.shape[1]) if fused.order else ()
    for step in steps:
        skipped = ~fused.step_mask[:, step]
        assert torch.equal(fused.steps[skipped, step], fused.steps[skipped, step - 1])


@settings(deadline=None, max_examples=15)
@given(data=st.data())
@pytest.mark.parametrize("row", FUSIONS, ids=lambda row: row.name)
def test_a_mixed_batch_is_the_same_as_its_records_one_by_one(row, data):
    patterns = data.draw(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=6))
    present, seed = torch.tensor(patterns), data.draw(st.integers(0, 99))
    fusion, full = build(row, seed=seed), dense(len(patterns), seed)
    together = run(fusion, full, present)
    for index in range(len(present)):
        alone = run(fusion, *one(full, present, index))
        torch.testing.assert_close(alone.steps[0], together.steps[index], atol=1e-6, rtol=0)
        assert torch.equal(alone.step_mask[0], together.step_mask[index])


def test_a_record_is_judged_alone_in_training_too(fusion):
    # Without dropout nothing is left that could tell records apart but their neighbours.
    full = dense(6)
    together = run(without_dropout(deepcopy(fusion)).train(), full, PATTERNS)
    for index in range(6):
        alone = run(without_dropout(deepcopy(fusion)).train(), *one(full, PATTERNS, index))
        torch.testing.assert_close(alone.steps[0], together.steps[index], atol=1e-6, rtol=0)


def test_no_gradient_runs_from_one_record_to_another(fusion):
    full = dense(6)
    tokens, rows, present = pack(full, PATTERNS)
    leaves = {name: part.values.clone().requires_grad_() for name, part in tokens.items()}
    tokens = {name: Tokens(leaves[name], part.mask) for name, part in tokens.items()}
    fusion(tokens, rows, present).steps[0].sum().backward()
    for name, leaf in leaves.items():
        own = rows[name] == 0
        assert leaf.grad[own].abs().sum() > 0
        assert (leaf.grad[~own] == 0).all()


def test_the_order_of_the_batch_does_not_matter(fusion):
    full, order = dense(6), torch.tensor([3, 5, 0, 2, 4, 1])
    straight = run(fusion, full, PATTERNS)
    turned = run(fusion, {k: (v[order], m[order]) for k, (v, m) in full.items()}, PATTERNS[order])
    torch.testing.assert_close(turned.steps, straight.steps[order], atol=1e-6, rtol=0)


def test_the_order_within_a_packed_modality_does_not_matter(fusion):
    tokens, rows, present = pack(dense(6), PATTERNS)
    straight = fusion(tokens, rows, present)
    turned = fusion({k: t[torch.arange(len(t.mask)).flip(0)] for k, t in tokens.items()},
                    {k: r.flip(0) for k, r in rows.items()}, present)  # fmt: skip
    torch.testing.assert_close(turned.steps, straight.steps, atol=1e-6, rtol=0)


def test_what_padding_holds_is_irrelevant_bit_by_bit(fusion):
    full = dense(6)
    results = []
    for filling in (0.0, 1e6, torch.inf, torch.nan):
        filled = {k: (v.masked_fill(~m.unsqueeze(2), filling), m) for k, (v, m) in full.items()}
        results.append(run(fusion, filled, PATTERNS).steps)
    assert all(torch.equal(result, results[0]) for result in results)
    assert results[0].isfinite().all()


def test_nan_in_padding_reaches_no_gradient(fusion):
    fusion = without_dropout(fusion).train()
    run(fusion, dense(6), PATTERNS).steps.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in fusion.parameters() if p.grad is not None)


def test_what_hidden_records_hold_reaches_neither_answer_nor_gradient(fusion):
    # The dense tokens of absent modalities are NaN; packing must be enough to keep them out.
    full = {
        k: (v.masked_fill(~PATTERNS[:, [i], None], torch.nan), m)
        for i, (k, (v, m)) in enumerate(dense(6).items())
    }
    steps = run(fusion, full, PATTERNS).steps
    steps.square().sum().backward()
    assert torch.equal(steps, run(fusion, dense(6), PATTERNS).steps)
    assert all(p.grad.isfinite().all() for p in fusion.parameters() if p.grad is not None)


@pytest.mark.parametrize("earlier", [("image",), ("image", "table"), ()])
@pytest.mark.parametrize("row", SEQUENTIAL, ids=lambda row: row.name)
def test_what_came_at_an_earlier_visit_may_be_carried_on(row, earlier):
    fusion, full = build(row), dense(6)
    whole = run(fusion, full, PATTERNS)
    first = PATTERNS & torch.tensor([name in earlier for name in NAMES])
    carry = run(fusion, full, first).carry
    second = fusion(*pack(full, PATTERNS & ~first), state=carry)
    torch.testing.assert_close(second.state, whole.state, atol=1e-6, rtol=0)
    assert torch.equal(second.carry[3], carry[3])  # record 3 never has anything
    with pytest.raises(ValueError, match=r"state should have shape .*Give the `carry`"):
        fusion(*pack(full, PATTERNS), state=carry[:4])


def test_further_losses_are_scalars_and_for_training_only(fusion):
    assert not run(fusion, dense(6), PATTERNS).extra
    for extra in run(fusion.train(), dense(6), PATTERNS).extra.values():
        assert extra.shape == ()
        assert extra.isfinite()


def test_a_modality_nobody_knows_and_a_narrow_mask_are_refused(fusion):
    tokens, rows, present = pack(dense(6), PATTERNS)
    with pytest.raises(ValueError, match=r"Unknown modality 'tabel'.*Did you mean"):
        fusion({**tokens, "tabel": tokens["table"]}, rows, present)
    with pytest.raises(ValueError, match="present should have shape"):
        fusion(tokens, rows, present[:, :2])


def test_a_record_whose_every_token_is_padding_is_finite(fusion):
    tokens, rows, present = pack(dense(6), PATTERNS)
    blank = {name: Tokens(part.values, torch.zeros_like(part.mask)) for name, part in tokens.items()}
    fused = fusion.train()(blank, rows, present)
    fused.steps.sum().backward()
    assert fused.steps.isfinite().all()
    assert all(p.grad.isfinite().all() for p in fusion.parameters() if p.grad is not None)


def test_with_nothing_recorded_every_record_gets_the_learned_prior(fusion):
    prior = run(fusion, dense(6), PATTERNS).steps[0, 0]
    empty = torch.zeros(4, 3, dtype=torch.bool)
    fused = run(fusion, dense(4), empty)
    torch.testing.assert_close(fused.steps, prior.expand_as(fused.steps), atol=1e-6, rtol=0)
    fused.state.sum().backward()
    assert sum(p.grad.abs().sum() for p in fusion.parameters() if p.grad is not None) > 0  # it can be learned


@pytest.mark.parametrize("training", [True, False])
def test_a_modality_that_no_record_of_the_batch_has_is_no_trouble(fusion, training):
    present = PATTERNS.clone()
    present[:, 1] = False
    fused = run(fusion.train(training), dense(6), present)
    fused.state.sum().backward()
    assert fused.state.isfinite().all()
    own = [p for name, p in fusion.named_parameters() if ".table." in name]
    assert own, "a fusion has parts of its own for each modality, named after it"
    assert all(p.grad is None or (p.grad == 0).all() for p in own)


def test_a_batch_of_one_and_a_batch_of_none_pass_in_training(fusion):
    fusion.train()
    for size in (1, 0):
        fused = run(fusion, dense(size), PATTERNS[:size])
        assert fused.state.shape == (size, STATE)


def test_a_gradient_reaches_every_parameter_when_all_is_there(fusion):
    fusion = without_dropout(fusion).train()
    run(fusion, dense(6), torch.ones_like(PATTERNS)).steps.square().sum().backward()
    silent = [n for n, p in fusion.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent


def test_the_usual_order_may_be_given_by_name_or_as_a_tensor(fusion):
    full = dense(6)
    usual = run(fusion, full, PATTERNS)
    named = run(fusion, full, PATTERNS, order=NAMES)
    each = run(fusion, full, PATTERNS, order=torch.arange(3).expand(6, 3))
    assert torch.equal(named.steps, usual.steps)
    torch.testing.assert_close(each.steps, usual.steps, atol=1e-6, rtol=0)
    assert torch.equal(each.step_mask, usual.step_mask)


def test_an_order_per_record_is_the_same_as_one_by_one(fusion):
    full = dense(6)
    orders = torch.stack([torch.randperm(3, generator=torch.Generator().manual_seed(i)) for i in range(6)])
    together = run(fusion, full, PATTERNS, order=orders)
    for index in range(6):
        names = tuple(NAMES[i] for i in orders[index])
        alone = run(fusion, *one(full, PATTERNS, index), order=names)
        torch.testing.assert_close(alone.steps[0], together.steps[index], atol=1e-6, rtol=0)
        assert torch.equal(alone.step_mask[0], together.step_mask[index])


def test_a_further_modality_leaves_records_without_it_as_they_were(fusion):
    full = dense(6)
    before = run(fusion, full, PATTERNS).state
    grown = deepcopy(fusion)
    grown.add_modality("volume")
    assert tuple(grown.modalities) == (*NAMES, "volume")
    present = torch.cat([PATTERNS, torch.zeros(6, 1, dtype=torch.bool)], dim=1)
    tokens, rows, _ = pack(full, PATTERNS)
    torch.testing.assert_close(grown(tokens, rows, present).state, before, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="already"):
        grown.add_modality("volume")


def test_a_further_modality_can_be_learned_from(fusion):
    # Its weights may start at zero, so that nothing changes yet; what it holds must steer the first gradient.
    fusion.add_modality("volume")
    names = (*NAMES, "volume")
    full, other = dense(4, names=names), dense(4, seed=1, names=names)
    gradients = []
    for volume in (full["volume"], other["volume"]):
        fusion.zero_grad()
        fusion(
            *pack({**full, "volume": volume}, torch.ones(4, 4, dtype=torch.bool), names)
        ).state.sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in fusion.parameters() if p.grad is not None]))
    assert not torch.equal(*gradients)


def test_loaded_weights_give_bit_equal_states(row, fusion):
    other = build(row, seed=7)
    other.load_state_dict(fusion.state_dict())
    assert torch.equal(run(other, dense(6), PATTERNS).steps, run(fusion, dense(6), PATTERNS).steps)


def test_half_precision_arithmetic_passes(fusion):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fused = run(fusion, dense(6), PATTERNS)
    torch.testing.assert_close(fused.state.float(), run(fusion, dense(6), PATTERNS).state, atol=0.2, rtol=0.2)


@pytest.mark.parametrize("names", [("type", "values"), ("train", "forward")])
def test_modalities_may_be_called_like_a_method_of_torch(row, names):
    fused = build(row, names)(*pack(dense(2, names=names), torch.ones(2, 2, dtype=torch.bool), names))
    assert fused.state.isfinite().all()


@pytest.mark.parametrize("names", [(), ("image", "image")])
def test_modalities_are_named_each_once(row, names):
    with pytest.raises(ValueError, match="each once"):
        row.load()(names, dim=DIM, state_dim=STATE, **row.tiny)
