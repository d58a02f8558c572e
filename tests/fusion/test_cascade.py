"""The cascade: record by record, stage by stage; the class token; a token that only attention finds."""

import pytest
import torch

from mmmed.fusion.cascade import Cascade
from mmmed.fusion.multimodn import MultiModN
from mmmed.layers.cross_attention import LatentReadout


def make(latents=3, **options):
    torch.manual_seed(0)
    return Cascade(["a", "b", "c"], dim=4, state_dim=3, latents=latents, heads=2, **options).eval()


def stage_by_hand(stage, latents, tokens):
    """One record: latents [latents dim], its real tokens [tokens dim]."""
    everyone = torch.ones(1, len(latents), dtype=torch.bool)
    x = latents.unsqueeze(0)
    if stage.think is not None:
        x = x + stage.think(stage.norm(x), stage.norm(x), everyone)
    read, all_real = stage.read, torch.ones(1, len(tokens), dtype=torch.bool)
    x = x + read.attention(read.latent_norm(x), read.token_norm(tokens.unsqueeze(0)), all_real)
    return (x + read.network(read.network_norm(x)))[0]


@pytest.mark.parametrize("latents", [1, 3])
def test_it_equals_the_loop_over_records_and_stages(cases, latents):
    fusion, full = make(latents), cases.values()
    fused = fusion(*cases.pack(full))
    for record, has in enumerate(cases.present):
        inner = fusion.init.value
        way = [fusion.readout(inner.unsqueeze(0))[0]]
        for index, name in enumerate(cases.names):
            if has[index]:
                inner = stage_by_hand(fusion.updates[name], inner, cases.real(full, name, record))
                way.append(fusion.readouts[name](inner.unsqueeze(0))[0])
            else:
                way.append(way[-1])
        torch.testing.assert_close(fused.steps[record], torch.stack(way), atol=1e-6, rtol=0)


def test_every_stage_has_an_output_of_its_own():
    fusion = make()
    readouts = [fusion.readout, *(fusion.readouts[name] for name in fusion.modalities)]
    assert all(isinstance(readout, LatentReadout) for readout in readouts)
    assert len({id(readout) for readout in readouts}) == 4


def test_the_carried_state_remembers_which_output_came_last(cases):
    # Record 0 came with a and b, then with nothing further: its state is what the output of b said.
    fusion, full = make(), cases.values()
    first = cases.present & torch.tensor([True, True, False])
    one = fusion(*cases.pack(full, first))
    again = fusion(*cases.pack(full, torch.zeros_like(first)), state=one.carry)
    assert torch.equal(again.state, one.state)


def test_a_class_token_alone_has_no_self_attention():
    assert make(latents=1).updates["a"].think is None
    assert make(latents=2).updates["a"].think is not None
    assert make(latents=2, self_attention=False).updates["a"].think is None


def test_the_number_of_weights():
    # per stage: cross-attention 4*4+4 + 4*8+8 + 4*4+4, three norms of 8, network 4*8+8 + 8*4+4
    block = (20 + 40 + 20) + 3 * 8 + (40 + 36)
    think = (20 + 40 + 20) + 8
    readout = 8 + 4 * 3 + 3
    counts = {latents: sum(p.numel() for p in make(latents).parameters()) for latents in (1, 3)}
    assert counts[1] == 1 * 4 + 3 * (block + readout) + readout
    assert counts[3] == 3 * 4 + 3 * (block + think + readout) + readout


def test_the_latents_start_small():
    assert Cascade(["a"], latents=4).init.value.std() < 0.03


def test_it_finds_the_one_token_that_counts_where_the_mean_does_not(cases):
    full, present, label = cases.marked()
    torch.manual_seed(0)
    cascade = Cascade(["a"], dim=4, state_dim=16, heads=2, dropout=0.0)
    sequential = MultiModN(["a"], dim=4, state_dim=16, dropout=0.0)
    assert cases.learn(cascade, full, present, label) > 0.95
    assert cases.learn(sequential, full, present, label) < 0.85


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="heads should divide dim"):
        Cascade(["a"], dim=6, heads=4)
    with pytest.raises(ValueError, match="latents"):
        Cascade(["a"], latents=0)
