"""The supervised-steps loss: by hand, against slow loops, and with labels that nobody knows."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, smooth_l1_loss

from mmmed.losses.stepwise import labelled, record_losses, stepwise_loss, task_loss
from mmmed.types import Batch, Binary, Fused, Multiclass, Multilabel, Outputs, Regression

TASKS = {
    "binary": Binary("a"),
    "multiclass": Multiclass("b", ("0", "1", "2")),
    "multilabel": Multilabel(("c", "d")),
    "regression": Regression("e"),
}


def make_case(seed=0, records=6, steps=4, unknown=0.3):
    """Random outputs of all four kinds of task, with some labels unknown and some steps not taken."""
    draw = torch.Generator().manual_seed(seed)
    logits = {
        name: torch.randn(records, steps, task.outputs, generator=draw, requires_grad=True)
        for name, task in TASKS.items()
    }
    targets = {
        "binary": torch.randint(2, (records,), generator=draw).float(),
        "multiclass": torch.randint(3, (records,), generator=draw),
        "multilabel": torch.randint(2, (records, 2), generator=draw).float(),
        "regression": torch.randn(records, generator=draw),
    }
    known = {name: torch.rand(t.shape, generator=draw) >= unknown for name, t in targets.items()}
    taken = torch.rand(records, steps, generator=draw) < 0.6
    taken[:, 0] = True
    state = torch.zeros(records, steps, 1)
    outputs = Outputs(logits, Fused(state[:, -1], state, taken))
    return outputs, Batch(("image",), {}, {}, torch.zeros(records, 1, dtype=torch.bool), targets, known)


def slow(outputs, batch, name, weight):
    """The same loss with loops and torch's own functions, one record and one step at a time."""
    above, below = 0.0, 0.0
    for i in range(len(batch)):
        known, target = batch.known[name][i], batch.targets[name][i]
        if not known.any():
            continue
        steps = [k for k in range(outputs.fused.step_mask.shape[1]) if outputs.fused.step_mask[i, k]]
        losses = []
        for k in steps:
            logits = outputs.steps[name][i, k]
            if name == "multilabel":
                labels = [j for j in range(2) if known[j]]
                parts = [
                    weight[i, j] * binary_cross_entropy_with_logits(logits[j], target[j]) for j in labels
                ]
                losses.append(sum(parts) / len(parts))
            elif name == "multiclass":
                losses.append(weight[i] * cross_entropy(logits, target))
            else:
                compare = smooth_l1_loss if name == "regression" else binary_cross_entropy_with_logits
                losses.append(weight[i] * compare(logits[0], target))
        above = above + sum(losses) / len(losses)
        below = below + 1
    return above / below


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.floats(0, 0.8))
def test_the_loss_equals_loops_over_records_and_steps(seed, unknown):
    outputs, batch = make_case(seed, unknown=unknown)
    draw = torch.Generator().manual_seed(seed)
    weights = {name: 0.1 + torch.rand(t.shape, generator=draw) for name, t in batch.targets.items()}
    fast = stepwise_loss(outputs, batch, TASKS, weights)
    for name in TASKS:
        if batch.known[name].any():
            torch.testing.assert_close(fast[name], slow(outputs, batch, name, weights[name]))


def test_two_records_by_hand():
    logits = torch.tensor([[[0.0], [2.0]], [[0.0], [5.0]]])
    mask = torch.tensor(
        [[True, True], [True, False]]
    )  # the second record has no modality: only step 0 counts
    outputs = Outputs({"binary": logits}, Fused(logits[:, -1], logits, mask))
    present = torch.tensor([[True], [False]])
    batch = Batch(
        ("image",),
        {},
        {},
        present,
        {"binary": torch.tensor([1.0, 0.0])},
        {"binary": torch.ones(2, dtype=torch.bool)},
    )
    first = (math.log(2) + math.log(1 + math.exp(-2))) / 2
    loss = stepwise_loss(outputs, batch, {"binary": TASKS["binary"]}, {"binary": torch.tensor([3.0, 1.0])})
    assert float(loss["binary"]) == pytest.approx((3 * first + math.log(2)) / 2)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_whose_labels_are_all_unknown_adds_exactly_nothing_and_no_nan(name):
    outputs, batch = make_case()
    nothing = {key: torch.zeros_like(known) for key, known in batch.known.items()}
    # whatever stands in the place of an unknown label
    targets = {
        key: t if t.dtype == torch.long else torch.full_like(t, torch.nan) for key, t in batch.targets.items()
    }
    targets["multiclass"] = torch.full_like(targets["multiclass"], -7)
    empty = Batch(batch.modalities, {}, {}, batch.present, targets, nothing)
    loss = stepwise_loss(outputs, empty, TASKS)[name]
    assert float(loss.detach()) == 0.0
    loss.backward()
    assert torch.equal(outputs.steps[name].grad, torch.zeros_like(outputs.steps[name]))


@pytest.mark.parametrize("name", TASKS)
def test_unknown_labels_change_nothing(name):
    outputs, batch = make_case(unknown=0.5)
    changed = {key: t.where(batch.known[key], 1) for key, t in batch.targets.items()}
    other = Batch(batch.modalities, {}, {}, batch.present, changed, batch.known)
    assert torch.equal(stepwise_loss(outputs, batch, TASKS)[name], stepwise_loss(outputs, other, TASKS)[name])


def test_steps_that_were_not_taken_get_no_gradient():
    outputs, batch = make_case()
    sum(stepwise_loss(outputs, batch, TASKS).values()).backward()
    for logits in outputs.steps.values():
        assert torch.equal(
            logits.grad[~outputs.fused.step_mask], torch.zeros_like(logits.grad[~outputs.fused.step_mask])
        )


def test_parts_with_the_totals_of_the_whole_add_up_to_the_whole():
    outputs, batch = make_case(records=8)
    weights = {
        name: 0.5 + torch.rand(t.shape, generator=torch.Generator().manual_seed(1))
        for name, t in batch.targets.items()
    }
    totals = {n: float(labelled(batch.known[n]).sum()) for n in TASKS}
    whole = stepwise_loss(outputs, batch, TASKS, weights)
    added = dict.fromkeys(TASKS, 0.0)
    for part in (slice(0, 3), slice(3, 8)):
        fused = Fused(outputs.fused.state[part], outputs.fused.steps[part], outputs.fused.step_mask[part])
        piece = Outputs({n: v[part] for n, v in outputs.steps.items()}, fused)
        few = Batch(
            batch.modalities, {}, {}, batch.present[part],
            {n: t[part] for n, t in batch.targets.items()}, {n: k[part] for n, k in batch.known.items()},
        )  # fmt: skip
        losses = stepwise_loss(piece, few, TASKS, {n: w[part] for n, w in weights.items()}, totals)
        added = {n: added[n] + losses[n] for n in TASKS}
    for name in TASKS:
        torch.testing.assert_close(added[name], whole[name])


def test_an_incomplete_record_counts_as_much_as_a_complete_one():
    logits = torch.full((2, 3, 1), 1.0)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    outputs = Outputs({"binary": logits}, Fused(logits[:, -1], logits, mask))
    batch = Batch(
        ("a", "b"),
        {},
        {},
        mask[:, 1:],
        {"binary": torch.zeros(2)},
        {"binary": torch.ones(2, dtype=torch.bool)},
    )
    losses = record_losses(outputs, batch, {"binary": TASKS["binary"]})["binary"]
    torch.testing.assert_close(losses[0], losses[1])


@pytest.mark.parametrize(("name", "logits", "target"), [
    ("binary", [[40.0]], 1.0), ("multiclass", [[0.0, 60.0, 0.0]], 1),
    ("multilabel", [[40.0, -40.0]], [1.0, 0.0]), ("regression", [[0.7]], 0.7),
])  # fmt: skip
def test_the_loss_is_zero_at_the_perfect_answer(name, logits, target):
    target = torch.tensor([target])
    loss = task_loss(TASKS[name], torch.tensor([logits]), target, torch.ones_like(target, dtype=torch.bool))
    assert float(loss) == pytest.approx(0, abs=1e-7)


def test_bf16_logits_give_a_loss_in_full_precision():
    outputs, batch = make_case()
    low = Outputs({n: v.bfloat16() for n, v in outputs.steps.items()}, outputs.fused)
    for name, loss in stepwise_loss(low, batch, TASKS).items():
        assert loss.dtype == torch.float32, name
