"""Flex-MoE: slot by slot, stand-ins from the bank, losses from their formulas, and who serves whom."""

import torch

from mmmed.fusion.late import Late
from mmmed.fusion.moe import KEPT, MixtureOfExperts
from mmmed.layers.experts import information_loss


def make(names=("a", "b", "c"), **options):
    torch.manual_seed(0)
    options = {"experts": 3, "hidden": 5, "dropout": 0.0, **options}
    return MixtureOfExperts(names, dim=4, state_dim=3, **options).eval()


def test_it_equals_the_loop_over_records_and_slots(cases):
    fusion, full = make(), cases.values()
    fused = fusion(*cases.pack(full))
    for record, has in enumerate(cases.present):
        combination = sum(2**index for index in range(3) if has[index])
        slots = []
        for index, name in enumerate(cases.names):
            slot = fusion.bank.entries[combination, index]
            if has[index]:
                slot = fusion.norms[name](cases.real(full, name, record).mean(0))
            slots.append(slot + fusion.experts(slot.unsqueeze(0))[0][0])
        torch.testing.assert_close(fused.state[record], fusion.mix(torch.cat(slots)), atol=1e-6, rtol=0)


def test_a_stand_in_depends_on_what_is_there_instead(cases):
    fusion, full = make(), cases.values(records=2)
    present = torch.tensor([[1, 0, 0], [1, 0, 1]]).bool()
    before = fusion(*cases.pack(full, present)).state
    with torch.no_grad():
        fusion.bank.entries[1, 1] += 1  # only a is there, b is missing
    after = fusion(*cases.pack(full, present)).state
    assert (before[0] - after[0]).abs().max() > 1e-3
    assert torch.equal(before[1], after[1])


def test_the_losses_follow_their_formulas(cases):
    fusion, full = make(balance=0.5, information=2.0).train(), cases.values()
    extra = fusion(*cases.pack(full)).extra
    joint, gates, loads = torch.zeros(3, 3), torch.zeros(3), torch.zeros(3)
    normal = torch.distributions.Normal(0, 1)
    for record, has in enumerate(cases.present):
        combination = sum(2**index for index in range(3) if has[index])
        for index, name in enumerate(cases.names):
            slot = fusion.bank.entries[combination, index]
            if has[index]:
                slot = fusion.norms[name](cases.real(full, name, record).mean(0))
            logits = fusion.experts.router(slot)
            best = logits.argsort(descending=True)
            gates[best[:2]] += logits[best[:2]].softmax(0)
            rival = logits[best[2]].repeat(3)
            rival[best[2]] = logits[best[1]]
            loads += normal.cdf(3 * (logits - rival))
            if has[index]:
                joint[index] += logits.softmax(0)
    wanted = sum(x.var(correction=0) / x.mean() ** 2 for x in (gates, loads))
    torch.testing.assert_close(extra["expert_load"], 0.5 * wanted, atol=1e-5, rtol=1e-5)
    joint = joint / joint.sum()
    ratio = joint / (joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True))
    torch.testing.assert_close(extra["expert_information"], -2 * (joint * ratio.log()).sum())


def test_the_table_counts_who_served_whom_in_training_and_is_saved(cases):
    fusion, full = make(), cases.values()
    assert (fusion.expert_table() == 0).all()
    fusion(*cases.pack(full))
    assert (fusion.routed == 0).all()  # evaluation counts nothing
    present = cases.present & torch.tensor([True, True, False])
    batch = cases.pack(full, present)
    fusion.train()(*batch)
    first = fusion.routed.clone()
    slots = fusion.norms["a"](torch.stack([cases.real(full, "a", record).mean(0) for record in (0, 1)]))
    torch.testing.assert_close(first[0], fusion.experts(slots)[1].gates.sum(0))
    fusion(*batch)
    torch.testing.assert_close(fusion.routed, KEPT * first + first)
    table = fusion.expert_table()
    torch.testing.assert_close(table.sum(1), torch.tensor([1.0, 1.0, 0.0]))
    other = make()
    other.load_state_dict(fusion.state_dict())
    assert torch.equal(other.expert_table(), table)


def test_the_information_loss_makes_modalities_keep_to_experts_of_their_own(cases):
    full, present, label = cases.exclusive()
    full["b"][0][..., 3] += 2  # encoders leave a trace of where a token comes from
    shared = []
    for information in (0.0, 1.0):
        fusion = make(("a", "b"), experts=4, top_k=2, balance=0.0, information=information)
        cases.learn(fusion, full, present, label, steps=100)
        shared.append(-information_loss(fusion.expert_table()).item())
    assert shared[1] > shared[0] + 0.25  # of log 2 = 0.69; the table remembers the first steps, too


def test_many_modalities_do_not_double_the_bank(cases):
    names = tuple("abcdefghijkl")
    fusion, full = make(names), cases.values(names=names)
    present = torch.rand(5, 12, generator=torch.Generator().manual_seed(0)) < 0.5
    assert fusion.bank.entries.shape[0] == 256
    before = fusion(*cases.pack(full, present)).state
    fusion.add_modality("m")
    wider = torch.cat([present, torch.zeros(5, 1, dtype=torch.bool)], dim=1)
    after = fusion(*cases.pack({**full, **cases.values(1, ("m",))}, wider)).state
    torch.testing.assert_close(after, before, atol=1e-6, rtol=0)
    grown, built = fusion.state_dict(), make((*names, "m")).state_dict()
    assert {n: v.shape for n, v in grown.items()} == {n: v.shape for n, v in built.items()}


def test_the_number_of_weights():
    # norms 8 each; bank 2^3*3*4; router 4*3+3; experts (4*5+5 + 5*4+4) each; mix 12*5+5 + 5*3+3
    count = sum(p.numel() for p in make().parameters())
    assert count == 3 * 8 + 96 + 15 + 3 * 49 + 65 + 18


def test_it_learns_what_no_modality_tells_alone_and_late_fusion_cannot(cases):
    full, present, label = cases.exclusive()
    names = ("a", "b")
    moe = make(names, hidden=16)
    assert cases.learn(moe, full, present, label) > 0.95
    torch.manual_seed(0)
    assert cases.learn(Late(names, dim=4, state_dim=16, dropout=0.0), full, present, label) < 0.85
