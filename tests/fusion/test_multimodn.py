"""MultiModN: the gated update by its formula, and the published model re-stated in plain torch."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, layer_norm, linear

from mmmed.fusion.multimodn import GatedUpdate, MultiModN, OverwriteUpdate
from mmmed.losses.multimodn import published_multimodn_loss
from mmmed.models.published import published_multimodn
from mmmed.types import Batch, Tokens

FEATURES = {"demographics": 3, "vitals": 4, "labs": 5}
CLASSES = {"sepsis": 2, "stage": 3}


def full_batch(records=8, seed=0):
    draw = torch.Generator().manual_seed(seed)
    rows = torch.arange(records)
    return Batch(
        modalities=tuple(FEATURES),
        values={name: torch.randn(records, width, generator=draw) for name, width in FEATURES.items()},
        rows=dict.fromkeys(FEATURES, rows),
        present=torch.ones(records, len(FEATURES), dtype=torch.bool),
        targets={name: torch.randint(n, (records,), generator=draw) for name, n in CLASSES.items()},
    )


def published_steps(model, inputs):
    """The released model from its formulas: s_k = W [features(x_k); s_{k-1}] + b, features = ReLU after each
    hidden layer; every decoder is sigmoid(linear) and reads every state."""
    batch = len(next(iter(inputs.values())))
    state = model.fusion.init.value.tile(batch, 1)
    states = [state]
    for name, x in inputs.items():
        for layer in model.encoders[name]:
            x = x if isinstance(layer, nn.ReLU) else linear(x, layer.weight, layer.bias).clamp(min=0)
        last = model.fusion.updates[name].linear
        state = linear(torch.cat([x, state], dim=1), last.weight, last.bias)
        states.append(state)
    decoded = {
        task: [torch.sigmoid(linear(s, head.linear.weight, head.linear.bias)) for s in states]
        for task, head in model.heads.items()
    }
    return states, decoded


def published_loss(states, decoded, targets, error, change):
    """err/(D (E+1)) sum CE(sigmoids, y) + 0.01 chg/E sum mean((s_k - s_{k-1})^2), loop by loop."""
    encoders = len(states) - 1
    loss = torch.zeros(())
    for task, steps in decoded.items():
        for step in steps:
            loss = loss + error * cross_entropy(step, targets[task]) / (len(decoded) * (encoders + 1))
    for before, after in pairwise(states):
        loss = loss + 0.01 * change * ((after - before) ** 2).mean() / encoders
    return loss


@pytest.mark.parametrize(("error", "change"), [(1.0, 0.0), (0.7, 0.3)])
@pytest.mark.parametrize("hidden", [(6,), (7, 6)])
def test_the_published_model_is_reproduced_forward_loss_and_gradients(error, change, hidden):
    torch.manual_seed(0)
    model = published_multimodn(FEATURES, CLASSES, state_dim=5, hidden=hidden)
    batch = full_batch()
    outputs = model(batch)
    states, decoded = published_steps(model, batch.values)
    torch.testing.assert_close(outputs.fused.steps, torch.stack(states, dim=1), atol=1e-6, rtol=0)
    for task, steps in decoded.items():
        torch.testing.assert_close(outputs.steps[task], torch.stack(steps, dim=1), atol=1e-6, rtol=0)
    ours = published_multimodn_loss(outputs, batch.targets, error, change)
    theirs = published_loss(states, decoded, batch.targets, error, change)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    weights = tuple(model.parameters())
    for mine, other in zip(
        torch.autograd.grad(ours, weights), torch.autograd.grad(theirs, weights), strict=True
    ):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=0)


def test_the_published_loss_cannot_fall_below_0_313():
    # Cross-entropy over sigmoids: at best softmax(1, 0), that is 0.731.
    steps = torch.tensor([[1.0, 0.0]]).expand(4, 3, 2)
    states = torch.zeros(4, 3, 5)
    outputs = type("Outputs", (), {"steps": {"sepsis": steps}, "fused": type("Fused", (), {"steps": states})})
    loss = published_multimodn_loss(outputs, {"sepsis": torch.zeros(4, dtype=torch.long)})
    assert loss.item() == pytest.approx(0.3133, abs=1e-4)


def test_one_missing_input_changes_its_own_record_and_no_other():
    # In the released code one NaN makes the whole batch skip the encoder: 16 of 16 states change.
    torch.manual_seed(0)
    model = published_multimodn(FEATURES, CLASSES, state_dim=5, hidden=(6,)).eval()
    batch = full_batch()
    stays = batch.present.clone()
    stays[3, 1] = False
    before, after = model(batch).fused.state, model(batch.keep(stays)).fused.state
    changed = ((before - after).abs() > 1e-5).any(1)
    assert changed.tolist() == [index == 3 for index in range(8)]


def test_the_published_model_without_a_hidden_layer_is_refused():
    with pytest.raises(ValueError, match="give one width"):
        published_multimodn(FEATURES, CLASSES, hidden=())


def test_the_gated_update_follows_its_formula():
    torch.manual_seed(0)
    update = GatedUpdate(dim=4, state_dim=3, hidden=5, dropout=0.0)
    state, values = torch.randn(2, 3), torch.randn(2, 3, 4)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]]).bool()
    x = torch.stack([values[0, :2].mean(0), values[1, 0]])  # the mean over real tokens, by hand
    both = torch.cat([layer_norm(x, (4,)), state], dim=1)
    first, _, last = update.change
    inner = linear(both, first.weight, first.bias)
    change = torch.tanh(linear(inner * torch.sigmoid(inner), last.weight, last.bias))
    gate = torch.sigmoid(linear(both, update.gate.weight, update.gate.bias))
    torch.testing.assert_close(update(state, Tokens(values, mask)), state + gate * change, atol=1e-6, rtol=0)


def test_the_gated_update_moves_no_state_by_more_than_one():
    update = GatedUpdate(dim=4, state_dim=3, hidden=5, dropout=0.0)
    state, tokens = torch.randn(5, 3), Tokens(1e6 * torch.randn(5, 2, 4), torch.ones(5, 2, dtype=torch.bool))
    assert ((update(state, tokens) - state).abs() <= 1 + 1e-6).all()


def test_the_variant_of_the_paper_overwrites_and_the_default_does_not():
    assert all(isinstance(u, GatedUpdate) for u in MultiModN(["a", "b"]).updates.values())
    assert all(isinstance(u, OverwriteUpdate) for u in MultiModN(["a"], compat="multimodn").updates.values())
    with pytest.raises(ValueError, match='Did you mean "multimodn"'):
        MultiModN(["a"], compat="multimod")


@pytest.mark.parametrize("compat", [None, "multimodn"])
def test_a_further_modality_changes_no_bit_for_records_without_it(compat):
    fusion = MultiModN(["a", "b"], dim=4, state_dim=3, compat=compat).eval()
    tokens = {name: Tokens(torch.randn(5, 2, 4), torch.ones(5, 2, dtype=torch.bool)) for name in ("a", "b")}
    rows, present = dict.fromkeys(tokens, torch.arange(5)), torch.ones(5, 2, dtype=torch.bool)
    before = fusion(tokens, rows, present).state
    fusion.add_modality("c")
    assert type(fusion.updates["c"]) is type(fusion.updates["a"])
    after = fusion(tokens, rows, torch.cat([present, torch.zeros(5, 1, dtype=torch.bool)], dim=1)).state
    assert torch.equal(before, after)
