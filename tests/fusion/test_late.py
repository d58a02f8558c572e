"""Late fusion: a mean over who is there, which is the mean of their answers."""

import torch

from mmmed.fusion.concat import Concat
from mmmed.fusion.late import Late
from mmmed.heads.linear import make_head
from mmmed.types import Binary


def make(names=("a", "b", "c")):
    torch.manual_seed(0)
    return Late(names, dim=4, state_dim=3, hidden=5).eval()


def test_it_equals_the_loop_over_records(cases):
    fusion, full = make(), cases.values()
    fused = fusion(*cases.pack(full))
    for record, has in enumerate(cases.present):
        alone = [
            fusion.nets[name](cases.real(full, name, record).mean(0)) if has[index] else fusion.nothing
            for index, name in enumerate(cases.names)
        ]
        there = [state for state, here in zip(alone, has, strict=True) if here]
        mean = torch.stack(there).mean(0) if there else fusion.nothing
        wanted = torch.stack([fusion.nothing, *alone, mean])
        torch.testing.assert_close(fused.steps[record], wanted, atol=1e-6, rtol=0)
        assert fused.step_mask[record].tolist() == [True, *has.tolist(), bool(there)]
    assert fused.order == ()


def test_the_answer_is_the_mean_of_the_answers_of_those_who_are_there(cases):
    fusion = make()
    assert fusion.head_norm is False
    head = make_head(Binary("sepsis"), 3, norm=fusion.head_norm)
    fused = fusion(*cases.pack(cases.values()))
    answers = head(fused.steps).squeeze(2)  # [record step]
    for record, has in enumerate(cases.present):
        if has.any():
            torch.testing.assert_close(answers[record, -1], answers[record, 1:4][has].mean())


def test_the_number_of_weights():
    # per modality: norm 8, 4*5+5, 5*3+3; and the learned state of nobody, 3
    assert sum(p.numel() for p in make().parameters()) == 3 * (8 + 25 + 18) + 3


def test_trained_on_whole_records_it_still_answers_from_one_modality(cases):
    # Both modalities tell the label. Late fusion trains each one's own answer; a concatenation need not.
    full, present, _ = cases.exclusive()
    label = full["a"][0][:, 0, 0] > 0
    full["b"] = (full["a"][0] + 0.5 * full["b"][0].flip(0), full["b"][1])
    torch.manual_seed(0)
    late = Late(["a", "b"], dim=4, state_dim=8, dropout=0.0)
    assert cases.learn(late, full, present, label) > 0.9
    for gone in (0, 1):
        fewer = present.clone()
        fewer[:, gone] = False
        fused = late(*cases.pack(full, fewer))
        whole = late(*cases.pack(full, present))
        torch.testing.assert_close(fused.state, whole.steps[:, 2 - gone])  # the one that is left
    concat = Concat(["a", "b"], dim=4, state_dim=8)
    assert concat(*cases.pack(full, present)).steps.shape[1] == 2
