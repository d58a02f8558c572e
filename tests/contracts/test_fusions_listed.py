"""`present` decides: what a listed row holds counts for nothing where its record lacks the modality, and many
members can therefore be trained side by side on batches that list everybody."""

from copy import deepcopy

import pytest
import torch
from fusion_cases import (
    FUSIONS,
    NAMES,
    PATTERNS,
    SIDE_BY_SIDE,
    build,
    dense,
    list_all,
    pack,
    run,
    without_dropout,
)
from torch.func import functional_call, stack_module_state, vmap

from mmmed.types import Tokens


@pytest.fixture(params=FUSIONS, ids=lambda row: row.name)
def row(request):
    return request.param


@pytest.fixture
def fusion(row):
    return build(row)


@pytest.mark.parametrize("garbage", [0.0, -1e3, torch.inf, torch.nan])
def test_rows_that_are_listed_but_not_present_are_ignored(fusion, garbage):
    full = dense(6)
    packed = run(fusion, full, PATTERNS)
    listed = fusion(*list_all(full, PATTERNS, garbage))
    torch.testing.assert_close(listed.steps, packed.steps, atol=1e-6, rtol=0)
    assert torch.equal(listed.step_mask, packed.step_mask)
    some = {name: torch.tensor([0, 2, 3, 4]) for name in NAMES}  # neither all nor only the present ones
    tokens = {name: part[some[name]] for name, part in list_all(full, PATTERNS, garbage)[0].items()}
    there = PATTERNS.index_fill(0, torch.tensor([1, 5]), False)
    partly = fusion(tokens, some, there)
    torch.testing.assert_close(partly.steps, run(fusion, full, there).steps, atol=1e-6, rtol=0)


def test_listed_rows_that_are_not_present_move_no_buffer_and_no_loss(fusion):
    fusion, full = without_dropout(fusion).train(), dense(6)
    with torch.no_grad():
        for parameter in fusion.parameters():  # no bias that happens to be zero
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    other = deepcopy(fusion)
    packed, listed = run(fusion, full, PATTERNS), other(*list_all(full, PATTERNS))
    for mine, its in zip(fusion.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(mine, its, atol=1e-6, rtol=0)
    torch.testing.assert_close(dict(listed.extra), dict(packed.extra), atol=1e-6, rtol=0)


def test_the_gradient_to_rows_that_are_not_present_is_exactly_zero(fusion):
    fusion, full = without_dropout(fusion).train(), dense(6)
    tokens, rows, present = list_all(full, PATTERNS)
    leaves = {name: part.values.clone().requires_grad_() for name, part in tokens.items()}
    tokens = {name: Tokens(leaves[name], part.mask) for name, part in tokens.items()}
    fused = fusion(tokens, rows, present)
    (fused.steps.square().sum() + sum(fused.extra.values())).backward()
    for index, leaf in enumerate(leaves.values()):
        assert (leaf.grad[~PATTERNS[:, index]] == 0).all()
        assert leaf.grad[PATTERNS[:, index]].abs().sum() > 0


@pytest.mark.parametrize("garbage", [-1e3, torch.inf, torch.nan])
def test_what_rows_that_are_not_present_hold_moves_no_parameter(fusion, garbage):
    fusion, full = without_dropout(fusion).train(), dense(6)
    gradients = []
    for batch in (pack(full, PATTERNS), list_all(full, PATTERNS, garbage)):
        copy = deepcopy(fusion)  # a step moves the buffers
        copy(*batch).steps.square().sum().backward()
        gradients.append({name: p.grad for name, p in copy.named_parameters() if p.grad is not None})
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-5, rtol=1e-5)


def test_an_order_per_record_of_listed_rows_is_the_same_as_packed(fusion):
    full = dense(6)
    orders = torch.stack([torch.randperm(3, generator=torch.Generator().manual_seed(i)) for i in range(6)])
    packed, listed = run(fusion, full, PATTERNS, orders), fusion(*list_all(full, PATTERNS), orders)
    torch.testing.assert_close(listed.steps, packed.steps, atol=1e-6, rtol=0)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("row", SIDE_BY_SIDE, ids=lambda row: row.name)
def test_members_side_by_side_equal_the_members_one_by_one(row, training):
    # In training the buffers must follow, too: each member its own.
    members = [without_dropout(build(row, seed=seed)).train(training) for seed in (0, 1)]
    parameters, buffers = stack_module_state(members)
    batches = [list_all(dense(6, seed), PATTERNS.roll(seed, 0)) for seed in (0, 1)]
    values = {n: torch.stack([tokens[n].values for tokens, _, _ in batches]) for n in NAMES}
    masks = {n: torch.stack([tokens[n].mask for tokens, _, _ in batches]) for n in NAMES}
    present = torch.stack([present for _, _, present in batches])
    rows = torch.arange(6)

    def member(parameters, buffers, values, masks, present):
        tokens = {name: Tokens(values[name], masks[name]) for name in NAMES}
        fused = functional_call(
            members[0], (parameters, buffers), (tokens, dict.fromkeys(NAMES, rows), present)
        )
        return fused.state, fused.steps, fused.step_mask

    state, steps, mask = vmap(member)(parameters, buffers, values, masks, present)
    gradients = torch.autograd.grad(steps.square().sum(), tuple(parameters.values()))
    for index, (one_member, batch) in enumerate(zip(members, batches, strict=True)):
        alone = one_member(*batch)
        torch.testing.assert_close(state[index], alone.state, atol=1e-6, rtol=0)
        torch.testing.assert_close(steps[index], alone.steps, atol=1e-6, rtol=0)
        assert torch.equal(mask[index], alone.step_mask)
        own = torch.autograd.grad(alone.steps.square().sum(), tuple(one_member.parameters()))
        for stacked, gradient in zip(gradients, own, strict=True):
            torch.testing.assert_close(stacked[index], gradient, atol=1e-4, rtol=1e-4)
        for name, buffer in one_member.named_buffers():
            torch.testing.assert_close(buffers[name][index], buffer, atol=1e-6, rtol=0)
