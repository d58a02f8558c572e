"""MedFuse: PyTorch's LSTM over the sequence of what a record has."""

import torch
from torch import nn

from mmmed.fusion.late import Late
from mmmed.fusion.lstm import LSTM


def make():
    torch.manual_seed(0)
    return LSTM(["a", "b", "c"], dim=4, state_dim=3).eval()


def test_it_equals_an_lstm_over_a_packed_sequence_of_what_is_there(cases):
    fusion, full = make(), cases.values()
    lstm = nn.LSTM(3, 3, batch_first=True)
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(fusion.cell.input.weight)
        lstm.bias_ih_l0.copy_(fusion.cell.input.bias)
        lstm.weight_hh_l0.copy_(fusion.cell.recurrent.weight)
        lstm.bias_hh_l0.copy_(fusion.cell.recurrent.bias)
    fused = fusion(*cases.pack(full))
    output, memory = fusion.init.value[:, None, None].unbind(0)
    for record, has in enumerate(cases.present):
        sequence = [
            fusion.updates[name](cases.real(full, name, record).mean(0))
            for index, name in enumerate(cases.names)
            if has[index]
        ]
        if not sequence:
            assert torch.equal(fused.state[record], fusion.init.value[0])
            continue
        outputs, (_, last) = lstm(torch.stack(sequence)[None], (output, memory))
        torch.testing.assert_close(fused.steps[record, 1:][has], outputs[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(fused.carry[record, 1], last[0, 0], atol=1e-6, rtol=0)


def test_every_step_is_there_to_be_supervised(cases):
    fused = make()(*cases.pack(cases.values()))
    assert fused.order == cases.names
    assert fused.step_mask[:, 1:].tolist() == cases.present.tolist()


def test_one_cell_serves_all_modalities():
    # per modality a norm of 8 and 4*3+3; the cell 3*12+12 twice; the first state 2*3
    assert sum(p.numel() for p in make().parameters()) == 3 * 23 + 2 * 48 + 6
    assert sum("cell" in name for name in make().state_dict()) == 4


def test_it_learns_what_no_modality_tells_alone_and_late_fusion_cannot(cases):
    full, present, label = cases.exclusive()
    torch.manual_seed(0)
    names = ["a", "b"]
    assert cases.learn(LSTM(names, dim=4, state_dim=16), full, present, label, rate=1e-2) > 0.95
    assert cases.learn(Late(names, dim=4, state_dim=16, dropout=0.0), full, present, label) < 0.85
