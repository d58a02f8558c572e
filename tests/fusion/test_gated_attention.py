"""Gated attention: the formula by loops, weights that add up to one, and whom not to trust."""

import torch

from mmmed.fusion.gated_attention import GatedAttention
from mmmed.fusion.late import Late


def make(names=("a", "b", "c")):
    torch.manual_seed(0)
    return GatedAttention(names, dim=4, state_dim=3, hidden=5).eval()


def test_it_equals_the_formula_record_by_record(cases):
    fusion, full = make(), cases.values()
    fused = fusion(*cases.pack(full))
    net = fusion.score
    for record, has in enumerate(cases.present):
        embedded = [
            fusion.embed[name](cases.real(full, name, record).mean(0))
            for index, name in enumerate(cases.names)
            if has[index]
        ]
        state = fusion.nothing
        if embedded:
            scores = [
                net.score.weight[0]
                @ (
                    torch.tanh(net.content.weight @ h + net.content.bias)
                    * torch.sigmoid(net.gate.weight @ h + net.gate.bias)
                )
                for h in embedded
            ]
            weights = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
            state = sum(weight * h for weight, h in zip(weights, embedded, strict=True))
        torch.testing.assert_close(fused.state[record], state, atol=1e-6, rtol=0)


def test_the_weights_are_shares_of_what_is_there(cases):
    weights = make().weights(torch.randn(5, 3, 3), cases.present)
    assert (weights[:3][~cases.present[:3]] == 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(5))
    assert weights[2].tolist() == [0, 1, 0]


def test_the_order_of_the_modalities_does_not_matter(cases):
    fusion, full = make(), cases.values()
    straight = fusion(*cases.pack(full)).state
    turned = make(("c", "a", "b"))
    turned.load_state_dict(fusion.state_dict())
    other = {name: full[name] for name in ("c", "a", "b")}
    torch.testing.assert_close(turned(*cases.pack(other, cases.present[:, [2, 0, 1]])).state, straight)


def test_the_number_of_weights():
    # per modality: norm 8, 4*5+5, 5*3+3; score: 3*5+5 twice and 5; the learned embedding of nobody: 3
    assert sum(p.numel() for p in make().parameters()) == 3 * (8 + 25 + 18) + 2 * 20 + 5 + 3


def test_it_learns_whom_to_trust_where_a_mean_cannot(cases):
    # One of the two modalities knows; a flag in it says so. The other one shouts at random.
    full, present, _ = cases.exclusive(256)
    draw = torch.Generator().manual_seed(1)
    label = torch.rand(256, generator=draw) < 0.5
    knows = torch.rand(256, generator=draw) < 0.5
    for name, trusted in (("a", knows), ("b", ~knows)):
        content = full[name][0].clone()
        says = torch.where(trusted, label, torch.rand(256, generator=draw) < 0.5)
        content[:, 0, 0] = (2 * says.float() - 1) * torch.where(trusted, 1.0, 2.0)
        content[:, 0, 1] = trusted.float() * 2
        full[name] = (content, full[name][1])
    torch.manual_seed(0)
    attention = GatedAttention(["a", "b"], dim=4, state_dim=8, dropout=0.0)
    accuracy = cases.learn(attention, full, present, label)
    assert accuracy > 0.95
    # what it attends to: the one that knows
    embedded = torch.stack([attention.embed[name](full[name][0].mean(1)) for name in ("a", "b")], dim=1)
    weights = attention.weights(embedded, present)
    assert (weights[knows, 0].mean() > 0.7) & (weights[~knows, 0].mean() < 0.3)
    late = Late(["a", "b"], dim=4, state_dim=8, dropout=0.0)
    assert cases.learn(late, full, present, label) <= accuracy
