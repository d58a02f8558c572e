"""The recurrence: by hand, against the slow dense form, and against a model that never knew the modality."""

import pytest
import torch
from torch import nn

from mmmed.fusion.arrivals import check_modalities, check_variant
from mmmed.fusion.recurrence import LearnedState, Recurrence
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


class Digits(nn.Module):
    """Inner state [n 2 2] -> its first row, doubled."""

    def forward(self, inner):
        return 2 * inner[:, 0]


class Grid(nn.Module):
    """An inner state of any shape, zeros at first."""

    def forward(self, batch):
        return torch.zeros(batch, 2, 2)


class ShiftGrid(nn.Module):
    """Shift, for an inner state [n 2 2]."""

    def forward(self, inner, tokens):
        return 10 * inner + tokens.mean()[:, None]


PATTERNS = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]]).bool()


def test_the_inner_state_may_have_any_shape_and_is_read_out_by_hand():
    fusion = Recurrence(Grid(), {name: ShiftGrid() for name in NAMES}, 2, readout=Digits())
    fused = fusion(*digits(PATTERNS))
    assert fused.steps[..., 0].tolist() == [[0, 2, 24, 246], [0, 2, 2, 26], [0, 0, 4, 4], [0, 0, 0, 0]]
    assert fused.carry.shape == (4, 2, 2)
    assert fused.carry[:, 1, 1].tolist() == [123, 13, 2, 0]


def test_each_modality_may_have_a_readout_of_its_own_by_hand():
    class Times(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def forward(self, inner):
            return self.factor * inner[:, 0]

    readouts = {"a": Times(1), "b": Times(2), "c": Times(3)}
    updates = {name: ShiftGrid() for name in NAMES}
    fused = Recurrence(Grid(), updates, 2, readout=Times(0), readouts=readouts)(*digits(PATTERNS))
    # a skipped stage says again what the one before said, not its own reading of it
    assert fused.steps[..., 0].tolist() == [[0, 1, 24, 369], [0, 1, 1, 39], [0, 0, 4, 4], [0, 0, 0, 0]]


def test_several_passes_visit_again_by_hand():
    fusion = Recurrence(Zero(), {name: Shift() for name in NAMES}, 2, passes=2)
    fused = fusion(*digits(PATTERNS))
    assert fused.steps[..., 0].tolist() == [[0, 123123], [0, 1313], [0, 22], [0, 0]]
    assert fused.step_mask.tolist() == [[True, True], [True, True], [True, True], [True, False]]
    assert fused.order == ()
    turned = fusion(*digits(PATTERNS), order=torch.tensor([[2, 1, 0]]).expand(4, -1))
    assert turned.state[:, 0].tolist() == [321321, 3131, 22, 0]


def test_a_carried_state_is_gone_on_from_by_hand():
    fusion = counting()
    first = fusion(*digits(PATTERNS & torch.tensor([True, False, False])))
    second = fusion(*digits(PATTERNS & torch.tensor([False, True, True])), state=first.carry)
    assert second.steps[..., 0].tolist() == [[1, 1, 12, 123], [1, 1, 1, 13], [0, 0, 2, 2], [0, 0, 0, 0]]
    assert second.step_mask[0].tolist() == [True, False, True, True]


def test_a_method_of_ones_own_takes_ten_lines():
    class Add(nn.Module):
        def forward(self, state, tokens):
            return state + tokens.mean()

    fusion = Recurrence(LearnedState(2), {name: Add() for name in NAMES}, state_dim=2)
    wanted = fusion.init.value + torch.tensor([6.0, 4.0, 2.0, 0.0])[:, None]
    torch.testing.assert_close(fusion(*digits(PATTERNS)).state, wanted)


class Wide(nn.Module):
    """An update with an output that is too wide."""

    def forward(self, state, tokens):
        return torch.cat([state, state], dim=1)


def test_an_update_of_another_width_is_refused_by_name():
    fusion = Recurrence(Zero(), {"a": Shift(), "b": Wide(), "c": Shift()}, 2)
    with pytest.raises(ValueError, match=r"The update of 'b' should return .* \[3, 2\], got \[3, 4\]"):
        fusion(*digits(torch.ones(3, 3, dtype=torch.bool)))


def test_an_update_that_returns_no_tensor_is_refused_by_name():
    class Pair(nn.Module):
        def forward(self, state, tokens):
            return state, tokens

    with pytest.raises(ValueError, match=r"The update of 'a' should return the new state"):
        Recurrence(Zero(), {"a": Pair()}, 2)(*pack({"a": torch.ones(1, 2, 2)}, PATTERNS[:1, :1], ("a",)))


def test_parts_that_are_no_modules_or_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"The update of 'a' should be a torch\.nn\.Module"):
        Recurrence(Zero(), {"a": lambda state, tokens: state}, 2)
    with pytest.raises(ValueError, match=r"init should be a torch\.nn\.Module"):
        Recurrence(torch.zeros(2), {"a": Shift()}, 2)
    with pytest.raises(ValueError, match="needs modality names"):
        Recurrence(Zero(), {}, 2)
    with pytest.raises(ValueError, match="updates for a, b and readouts for a"):
        Recurrence(Grid(), {"a": Shift(), "b": Shift()}, 2, readout=Digits(), readouts={"a": Digits()})
    with pytest.raises(ValueError, match="readout, which reads the state before"):
        Recurrence(Grid(), {"a": Shift()}, 2, readouts={"a": Digits()})
    with pytest.raises(ValueError, match="need passes=1"):
        Recurrence(Grid(), {"a": Shift()}, 2, readout=Digits(), readouts={"a": Digits()}, passes=2)
    with pytest.raises(ValueError, match=r"first state should have shape .*\[4, 3\], got \[4, 2\]"):
        Recurrence(Zero(), {name: Shift() for name in NAMES}, 3)(*digits(PATTERNS))


def test_a_state_of_another_shape_cannot_be_gone_on_from():
    with pytest.raises(ValueError, match=r"state should have shape \[4, 2\], got \[3, 2\]"):
        counting()(*digits(PATTERNS), state=torch.zeros(3, 2))
