"""Concat: the dense slow form, the running means by hand, and what an absent slot amounts to."""

import pytest
import torch

from mmmed.fusion.concat import Concat
from mmmed.types import Tokens

NAMES = ("a", "b", "c")
PRESENT = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0], [0, 0, 1]]).bool()


def make(names=NAMES, **options):
    torch.manual_seed(0)
    fusion = Concat(names, dim=4, state_dim=3, hidden=6, dropout=0.0, **options)
    fusion.means.normal_()
    return fusion


def values(seed=0, names=NAMES):
    draw = torch.Generator().manual_seed(seed)
    return {name: torch.randn(len(PRESENT), 2, 4, generator=draw) for name in names}


def pack(full, present, names=NAMES):
    rows = {name: present[:, i].nonzero().squeeze(1) for i, name in enumerate(names) if present[:, i].any()}
    tokens = {n: Tokens(full[n][r], torch.ones(len(r), 2, dtype=torch.bool)) for n, r in rows.items()}
    return tokens, rows, present


def test_it_equals_the_dense_form_that_fills_means_into_absent_slots():
    fusion, full = make().eval(), values()
    slots = []
    for index, name in enumerate(NAMES):
        encoded = fusion.norms[name](full[name].mean(1))
        slots.append(torch.where(PRESENT[:, index, None], encoded, fusion.means[index]))
    state = fusion.mix(torch.cat(slots, dim=1))
    nothing = fusion.mix(fusion.means.reshape(1, -1)).expand(len(PRESENT), -1)
    fused = fusion(*pack(full, PRESENT))
    torch.testing.assert_close(fused.state, state, atol=1e-6, rtol=0)
    torch.testing.assert_close(fused.steps, torch.stack([nothing, state], dim=1), atol=1e-6, rtol=0)
    assert fused.step_mask.tolist() == [[True, True], [True, True], [True, True], [True, False], [True, True]]


@pytest.mark.parametrize("gone", NAMES)
def test_an_absent_slot_is_a_smaller_fusion_with_another_bias(gone):
    # mix = W [slots] + b: a slot that always holds its mean adds W_gone mean_gone to b, and nothing else.
    fusion, full = make().eval(), values()
    rest = [name for name in NAMES if name != gone]
    smaller = make(rest).eval()
    index, kept = NAMES.index(gone), [NAMES.index(name) for name in rest]
    columns = fusion.mix[0].weight.reshape(6, 3, 4)
    with torch.no_grad():
        smaller.mix.load_state_dict({**fusion.mix.state_dict(), "0.weight": columns[:, kept].reshape(6, 8)})
        smaller.mix[0].bias += columns[:, index] @ fusion.means[index]
        smaller.means.copy_(fusion.means[kept])
    present = PRESENT.clone()
    present[:, index] = False
    whole = fusion(*pack(full, present)).state
    torch.testing.assert_close(smaller(*pack(full, present[:, kept], rest)).state, whole, atol=1e-5, rtol=0)


def test_the_running_mean_follows_the_rows_that_exist_by_hand():
    fusion = make(momentum=0.25).train()
    before, full = fusion.means.clone(), values()
    fusion(*pack(full, PRESENT))
    encoded = fusion.norms["a"](full["a"].mean(1))  # a is there in rows 0 and 1
    torch.testing.assert_close(fusion.means[0], 0.75 * before[0] + 0.25 * (encoded[0] + encoded[1]) / 2)
    nobody = PRESENT.clone()
    nobody[:, 1] = False
    kept = fusion.means[1].clone()
    fusion(*pack(full, nobody))
    assert torch.equal(fusion.means[1], kept)


def test_evaluation_moves_no_mean():
    fusion = make().eval()
    before = fusion.means.clone()
    fusion(*pack(values(), PRESENT))
    assert torch.equal(fusion.means, before)


def test_the_means_converge_to_the_mean_of_the_encoded_training_rows():
    fusion, full = make().train(), values()
    for _ in range(200):
        fusion(*pack(full, PRESENT))
    wanted = fusion.norms["c"](full["c"].mean(1))[PRESENT[:, 2]].mean(0)
    torch.testing.assert_close(fusion.means[2], wanted, atol=1e-3, rtol=0)


def test_a_training_step_judges_by_the_means_of_the_steps_before():
    fusion, full = make().train(), values()
    prior = fusion.mix(fusion.means.reshape(1, -1))[0]
    fused = fusion(*pack(full, PRESENT))
    torch.testing.assert_close(fused.steps[:, 0], prior.expand(5, -1), atol=1e-6, rtol=0)
    torch.testing.assert_close(fused.steps[3, 1], prior, atol=1e-6, rtol=0)  # record 3 has nothing


def test_the_means_take_no_gradient_and_are_saved():
    fusion = make().train()
    fusion(*pack(values(), PRESENT)).state.sum().backward()
    assert not fusion.means.requires_grad
    assert "means" in fusion.state_dict()


def test_no_order_changes_anything():
    fusion, full = make().eval(), values()
    straight = fusion(*pack(full, PRESENT)).steps
    assert torch.equal(fusion(*pack(full, PRESENT), order=("c", "a", "b")).steps, straight)
    assert fusion(*pack(full, PRESENT)).order == ()


def test_a_further_slot_starts_without_effect_even_where_it_is_there():
    fusion, full = make().eval(), values()
    before = fusion(*pack(full, PRESENT)).state
    fusion.add_modality("d")
    present = torch.cat([PRESENT, torch.ones(5, 1, dtype=torch.bool)], dim=1)
    after = fusion(*pack({**full, **values(1, ("d",))}, present, (*NAMES, "d"))).state
    torch.testing.assert_close(after, before, atol=1e-6, rtol=0)


def test_presence_adds_one_input_per_modality():
    fusion, full = make(presence=True).eval(), values()
    fused = fusion(*pack(full, PRESENT))
    for record, has in enumerate(PRESENT):
        slots = []
        for index, name in enumerate(NAMES):
            encoded = fusion.norms[name](full[name][record].mean(0)) if has[index] else fusion.means[index]
            slots.append(torch.cat([encoded, has[index : index + 1].float()]))
        torch.testing.assert_close(fused.state[record], fusion.mix(torch.cat(slots)), atol=1e-6, rtol=0)
    # norms 8 each; 3*(4+1)*6+6 + 6*3+3
    assert sum(p.numel() for p in fusion.parameters()) == 3 * 8 + 96 + 21


def test_that_something_is_missing_can_be_learned_from(cases):
    # The content is noise; that b is there is what tells the label.
    full, present, label = cases.exclusive()
    present = torch.stack([present[:, 0], label], dim=1)
    torch.manual_seed(0)
    fusion = Concat(["a", "b"], dim=4, state_dim=8, dropout=0.0, presence=True)
    assert cases.learn(fusion, full, present, label, steps=60) > 0.99


def test_a_further_modality_keeps_its_presence_beside_it():
    fusion, full = make(presence=True).eval(), values()
    before = fusion(*pack(full, PRESENT)).state
    fusion.add_modality("d")
    present = torch.cat([PRESENT, torch.zeros(5, 1, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(fusion(*pack(full, present)).state, before, atol=1e-6, rtol=0)
    assert fusion.mix[0].in_features == 4 * 5


def test_a_modality_that_is_listed_but_that_nobody_has_moves_no_mean():
    fusion, full = make().train(), values()
    nobody = PRESENT.clone()
    nobody[:, 1] = False
    kept = fusion.means[1].clone()
    tokens = {name: Tokens(full[name], torch.ones(5, 2, dtype=torch.bool)) for name in NAMES}
    fusion(tokens, dict.fromkeys(NAMES, torch.arange(5)), nobody)
    assert torch.equal(fusion.means[1], kept)
