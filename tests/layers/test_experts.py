"""Sparse experts: against a loop over vectors and experts, and the two losses by hand."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import gelu

from mmmed.layers.experts import Experts, Routing, information_loss, load_loss


def routing_of(logits, top_k):
    logits = torch.tensor(logits)
    chosen = logits.topk(top_k, dim=1)
    gates = torch.zeros_like(logits).scatter(1, chosen.indices, chosen.values.softmax(1))
    return Routing(logits, logits.softmax(1), gates, top_k)


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_each_vector_is_answered_by_its_best_experts(top_k):
    torch.manual_seed(0)
    layer, x = Experts(dim=5, hidden=6, experts=4, top_k=top_k), torch.randn(9, 5)
    answer, routing = layer(x)
    for index in range(9):
        logits = layer.router(x[index])
        best = logits.argsort(descending=True)[:top_k]
        gates = logits[best].softmax(0) if top_k > 1 else logits.softmax(0)[best]
        slow = torch.zeros(5)
        for expert, gate in zip(best, gates, strict=True):
            inner = gelu(layer.enter[expert] @ x[index] + layer.enter_bias[expert])
            slow = slow + gate * (layer.leave[expert] @ inner + layer.leave_bias[expert])
        torch.testing.assert_close(answer[index], slow, atol=1e-6, rtol=0)
        assert set(routing.gates[index].nonzero().flatten().tolist()) == set(best.tolist())


def test_an_expert_runs_only_on_what_chose_it(monkeypatch):
    layer, seen = Experts(dim=5, hidden=6, experts=4, top_k=2), []
    plain = layer._expert
    monkeypatch.setattr(layer, "_expert", lambda index, x: seen.append(len(x)) or plain(index, x))
    layer(torch.randn(9, 5))
    assert sum(seen) == 9 * 2


def test_no_vector_is_no_trouble():
    answer, routing = Experts(dim=5, hidden=6)(torch.zeros(0, 5))
    assert answer.shape == (0, 5)
    assert load_loss(routing).item() == 0


def test_the_router_learns_from_the_answer_even_with_one_expert_per_vector():
    layer = Experts(dim=5, hidden=6, experts=3, top_k=1)
    layer(torch.randn(20, 5))[0].square().sum().backward()
    assert layer.router.weight.grad.abs().sum() > 0


def test_the_number_of_weights():
    layer = Experts(dim=5, hidden=6, experts=4)
    # router 5*4+4; each expert 5*6+6 + 6*5+5
    assert sum(p.numel() for p in layer.parameters()) == 24 + 4 * (36 + 35)


def test_more_experts_than_there_are_cannot_be_chosen():
    with pytest.raises(ValueError, match="top_k should be at most the number of experts, got 3 of 2"):
        Experts(5, 6, experts=2, top_k=3)


def test_the_load_loss_is_zero_when_everybody_has_the_same():
    turns = routing_of([[2.0, 0, 0], [0, 2.0, 0], [0, 0, 2.0]], top_k=1)
    assert load_loss(turns).item() == pytest.approx(0, abs=1e-6)
    crowd = routing_of([[2.0, 0, 0]] * 3, top_k=1)
    # importance (3, 0, 0): mean 1, variance 2, CV^2 = 2; the load is nearly the same: beaten by 2 * 3 sigma
    assert load_loss(crowd).item() == pytest.approx(2 + 2, abs=1e-4)


def test_the_load_is_how_often_an_expert_would_be_chosen_with_a_little_noise():
    # The formula re-stated by drawing: fresh noise for one expert at a time, the others as they are.
    routing = routing_of([[0.3, 0.1, 0.0, -0.2], [0.0, 0.25, 0.2, 0.1]], top_k=2)
    draw, load = torch.Generator().manual_seed(0), torch.zeros(4)
    for logits in routing.logits:
        for expert in range(4):
            rival = torch.cat([logits[:expert], logits[expert + 1 :]]).sort(descending=True).values[1]
            noisy = logits[expert] + torch.randn(200_000, generator=draw) / 4
            load[expert] += (noisy > rival).float().mean()
    importance = routing.gates.sum(0)
    wanted = sum(x.var(correction=0) / x.mean() ** 2 for x in (importance, load))
    assert load_loss(routing).item() == pytest.approx(wanted.item(), abs=0.01)


def test_the_load_loss_levels_a_crowded_router():
    torch.manual_seed(0)
    router, x = nn.Linear(5, 4), torch.randn(64, 5)
    with torch.no_grad():
        router.bias.copy_(torch.tensor([3.0, 0, 0, 0]))
    optimizer = torch.optim.Adam(router.parameters(), lr=0.05)
    for _ in range(100):
        logits = router(x)
        chosen = logits.topk(1, dim=1)
        gates = torch.zeros_like(logits).scatter(1, chosen.indices, 1.0)
        optimizer.zero_grad()
        load_loss(Routing(logits, logits.softmax(1), gates, 1)).backward()
        optimizer.step()
    assert torch.bincount(router(x).argmax(1), minlength=4).min() > 5


def test_the_information_loss_by_hand():
    # every group its own expert: I = log 2; both the same: independent, I = 0; an empty group changes nothing
    assert information_loss(torch.tensor([[3.0, 0], [0, 3]])).item() == pytest.approx(-math.log(2), abs=1e-6)
    assert information_loss(torch.tensor([[1.0, 2], [2, 4]])).item() == pytest.approx(0, abs=1e-6)
    assert information_loss(torch.tensor([[3.0, 0], [0, 3], [0, 0]])).item() == pytest.approx(-math.log(2))
    joint = torch.tensor([[0.5, 0.1], [0.1, 0.3]])
    slow = -sum(
        joint[t, e] * math.log(joint[t, e] / (joint[t].sum() * joint[:, e].sum()))
        for t in range(2)
        for e in range(2)
    )
    assert information_loss(10 * joint).item() == pytest.approx(float(slow), abs=1e-6)


def test_nothing_counted_has_no_information_and_a_finite_gradient():
    joint = torch.zeros(2, 3, requires_grad=True)
    loss = information_loss(joint)
    loss.backward()
    assert loss.item() == 0
    assert joint.grad.isfinite().all()
