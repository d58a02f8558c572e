"""HEALNet: record by record and round by round, with a skip that is one."""

import torch

from mmmed.fusion.concat import Concat
from mmmed.fusion.perceiver import Perceiver


def make(depth=2):
    torch.manual_seed(0)
    return Perceiver(["a", "b", "c"], dim=4, state_dim=3, latents=3, depth=depth, heads=2).eval()


def test_it_equals_the_loop_over_records_rounds_and_modalities(cases):
    fusion, full = make(depth=3), cases.values()
    fused = fusion(*cases.pack(full))
    nothing = fusion.readout(fusion.init.value.unsqueeze(0))[0]
    latents_mask = torch.ones(1, 3, dtype=torch.bool)
    for record, has in enumerate(cases.present):
        x = fusion.init.value.unsqueeze(0)
        for _ in range(3):
            for index, name in enumerate(cases.names):
                if has[index]:
                    tokens = cases.real(full, name, record).unsqueeze(0)
                    x = fusion.updates[name].read(x, tokens, torch.ones(1, tokens.shape[1], dtype=torch.bool))
                    x = fusion.think(x, x, latents_mask)
        wanted = torch.stack([nothing, fusion.readout(x)[0]])
        torch.testing.assert_close(fused.steps[record], wanted, atol=1e-6, rtol=0)
        torch.testing.assert_close(fused.carry[record], x[0], atol=1e-6, rtol=0)
    assert fused.order == ()
    assert fused.step_mask[:, 1].tolist() == cases.present.any(1).tolist()


def test_what_is_missing_is_passed_by_thinking_step_and_all(cases):
    # The released code thinks once for every modality, missing or not, unless it is told to print.
    fusion, full = make(), cases.values(records=2)
    thoughts = []
    fusion.think.register_forward_hook(lambda module, inputs, output: thoughts.append(len(output)))
    fusion(*cases.pack(full, torch.tensor([[1, 0, 0], [1, 0, 0]]).bool()))
    assert thoughts == [2, 2]  # two rounds, one modality


def test_one_round_may_be_supervised_at_every_step(cases):
    fused = make(depth=1)(*cases.pack(cases.values()))
    assert fused.order == cases.names
    assert fused.steps.shape == (5, 4, 3)


def test_rounds_share_their_weights():
    # per modality and for thinking: attention 20 + 40 + 20, three norms of 8, network 40 + 36; readout 8 + 15
    block = 80 + 24 + 76
    for depth in (1, 2, 5):
        assert sum(p.numel() for p in make(depth).parameters()) == 3 * 4 + 4 * block + 23


def test_it_finds_the_one_token_that_counts_where_the_mean_does_not(cases):
    full, present, label = cases.marked()
    torch.manual_seed(0)
    perceiver = Perceiver(["a"], dim=4, state_dim=16, latents=4, heads=2, dropout=0.0)
    concat = Concat(["a"], dim=4, state_dim=16, dropout=0.0)
    assert cases.learn(perceiver, full, present, label) > 0.95
    assert cases.learn(concat, full, present, label) < 0.85
