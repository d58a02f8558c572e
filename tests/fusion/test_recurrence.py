"""The recurrence: by hand, against the slow dense form, and against a model that never knew the modality."""

import pytest
import torch
from torch import nn

from mmmed.fusion.recurrence import LearnedState, Recurrence, check_modalities, check_variant
from mmmed.types import Tokens

NAMES = ("a", "b", "c")


class Zero(nn.Module):
    """A state of zeros."""

    def forward(self, batch):
        return torch.zeros(batch, 2)


class Shift(nn.Module):
    """s' = 10 s + mean of the tokens: the digits of the state tell who came when."""

    def forward(self, state, tokens):
        return 10 * state + tokens.mean()


class Mix(nn.Module):
    """s' = tanh(W [s; mean]), any smooth update."""

    def __init__(self, dim=4, state_dim=3):
        super().__init__()
        self.linear = nn.Linear(dim + state_dim, state_dim)

    def forward(self, state, tokens):
        return torch.tanh(self.linear(torch.cat([state, tokens.mean()], dim=1)))


def digits(present):
    """Tokens with the value 1 for a, 2 for b, 3 for c."""
    tokens, rows = {}, {}
    for index, name in enumerate(NAMES):
        rows[name] = present[:, index].nonzero().squeeze(1)
        size = len(rows[name])
        if size:
            tokens[name] = Tokens(
                torch.full((size, 1, 2), index + 1.0), torch.ones(size, 1, dtype=torch.bool)
            )
    return tokens, rows, present


def counting():
    return Recurrence(Zero(), {name: Shift() for name in NAMES}, 2)


def random_case(records=7, seed=0):
    draw = torch.Generator().manual_seed(seed)
    present = torch.rand(records, 3, generator=draw) < 0.6
    full = {name: torch.randn(records, 2, 4, generator=draw) for name in NAMES}
    return full, present


def pack(full, present, names=NAMES):
    rows = {name: present[:, i].nonzero().squeeze(1) for i, name in enumerate(names) if present[:, i].any()}
    tokens = {n: Tokens(full[n][r], torch.ones(len(r), 2, dtype=torch.bool)) for n, r in rows.items()}
    return tokens, rows, present


def test_the_state_visits_what_is_there_in_turn_by_hand():
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]]).bool()
    fused = counting()(*digits(present))
    assert fused.steps[..., 0].tolist() == [[0, 1, 12, 123], [0, 1, 1, 13], [0, 0, 2, 2], [0, 0, 0, 0]]
    assert fused.step_mask.tolist() == [
        [True, True, True, True],
        [True, True, False, True],
        [True, False, True, False],
        [True, False, False, False],
    ]
    assert fused.order == NAMES
    assert fused.state[:, 0].tolist() == [123, 13, 2, 0]


def test_another_order_by_hand():
    present = torch.tensor([[1, 1, 1], [1, 0, 1]]).bool()
    fused = counting()(*digits(present), order=("c", "a", "b"))
    assert fused.steps[..., 0].tolist() == [[0, 3, 31, 312], [0, 3, 31, 31]]
    assert fused.step_mask.tolist() == [[True, True, True, True], [True, True, True, False]]
    assert fused.order == ("c", "a", "b")


def test_an_order_per_record_by_hand():
    present = torch.tensor([[1, 1, 1], [1, 1, 1], [1, 0, 1], [0, 1, 0], [1, 1, 0]]).bool()
    orders = torch.tensor([[0, 1, 2], [2, 0, 1], [2, 1, 0], [0, 1, 2], [2, 0, 1]])
    fused = counting()(*digits(present), order=orders)
    assert fused.steps[..., 0].tolist() == [
        [0, 1, 12, 123],
        [0, 3, 31, 312],
        [0, 3, 3, 31],
        [0, 0, 2, 2],
        [0, 0, 1, 12],
    ]
    assert fused.step_mask[2].tolist() == [True, True, False, True]
    assert fused.step_mask[4].tolist() == [True, False, True, True]


@pytest.mark.parametrize("seed", range(5))
def test_gathering_rows_equals_the_dense_form_with_where(seed):
    full, present = random_case(seed=seed)
    fusion = Recurrence(LearnedState(3), {name: Mix() for name in NAMES}, 3)
    # Dense: every update runs on every record, on zeros where nothing is, and `where` picks afterwards.
    state = fusion.init.value.repeat(len(present), 1)
    steps = [state]
    for index, name in enumerate(NAMES):
        here = present[:, index]
        safe = torch.where(here[:, None, None], full[name], 0.0)
        new = fusion.updates[name](state, Tokens(safe, torch.ones(safe.shape[:2], dtype=torch.bool)))
        state = torch.where(here[:, None], new, state)
        steps.append(state)
    slow = torch.stack(steps, dim=1)
    fast = fusion(*pack(full, present)).steps
    torch.testing.assert_close(fast, slow, atol=1e-6, rtol=0)
    weights = tuple(fusion.parameters())
    for quick, plain in zip(
        torch.autograd.grad(fast.square().sum(), weights),
        torch.autograd.grad(slow.square().sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(quick, plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize("gone", NAMES)
def test_without_a_modality_it_equals_a_fusion_that_never_had_it(gone):
    full, present = random_case()
    fusion = Recurrence(LearnedState(3), {name: Mix() for name in NAMES}, 3)
    rest = [name for name in NAMES if name != gone]
    smaller = Recurrence(LearnedState(3), {name: Mix() for name in rest}, 3)
    smaller.load_state_dict({k: v for k, v in fusion.state_dict().items() if f"updates.{gone}." not in k})
    present[:, NAMES.index(gone)] = False
    kept = [NAMES.index(name) for name in rest]
    assert torch.equal(
        fusion(*pack(full, present)).state, smaller(*pack(full, present[:, kept], tuple(rest))).state
    )


def test_an_update_never_runs_on_a_stand_in():
    seen = []

    class Witness(Shift):
        def forward(self, state, tokens):
            seen.append(len(state))
            return super().forward(state, tokens)

    present = torch.tensor([[1, 0, 1], [1, 0, 0], [1, 0, 1]]).bool()
    Recurrence(Zero(), {name: Witness() for name in NAMES}, 2)(*digits(present))
    assert seen == [3, 2]


@pytest.mark.parametrize("order", [("a", "b"), ("a", "b", "b"), ("a", "b", "d"), ("a", "b", "c", "c")])
def test_an_order_by_name_lists_each_modality_once(order):
    with pytest.raises(ValueError, match="each of a, b, c once"):
        counting()(*digits(torch.ones(2, 3, dtype=torch.bool)), order=order)


@pytest.mark.parametrize(
    "order", [[[0, 1], [0, 1]], [[0, 1, 1], [0, 1, 2]], [[0, 1, 3], [0, 1, 2]], [[0, 1, 2]], [0, 1, 2]]
)
def test_an_order_per_record_lists_each_index_once(order):
    with pytest.raises(ValueError, match="list each index once"):
        counting()(*digits(torch.ones(2, 3, dtype=torch.bool)), order=torch.tensor(order))


def test_the_first_state_is_drawn_from_a_standard_normal_and_shared():
    torch.manual_seed(0)
    init = LearnedState(4000)
    assert abs(init.value.mean()) < 0.05
    assert abs(init.value.std() - 1) < 0.05
    assert torch.equal(init(3), init.value.expand(3, -1))


def test_a_name_is_added_once():
    fusion = counting()
    fusion.add("d", Shift())
    assert fusion.modalities == (*NAMES, "d")
    with pytest.raises(ValueError, match="already has a modality 'd'"):
        fusion.add("d", Shift())


def test_one_name_is_a_list_of_one_and_a_variant_is_known():
    assert check_modalities("image") == ("image",)
    assert check_variant(None, ("x",)) is None
    with pytest.raises(ValueError, match=r'Did you mean "multimodn"'):
        check_variant("multimodm", ("multimodn",))
