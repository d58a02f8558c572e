"""Two experts behind a gate: against a slow form, and what alternating training leaves alone."""

import pytest
import torch
from torch import nn
from torch.nn.functional import layer_norm, softmax

from mmmed.language.mixture_adapter import MixtureAdapter, token_positions
from mmmed.language.perceiver_adapter import place_positions
from mmmed.types import Tokens


def built(gate=0.5):
    torch.manual_seed(0)
    adapter = MixtureAdapter(8, 12, heads=2)
    nn.init.normal_(adapter.gate.weight, std=gate)
    return adapter


def case(views=((True, True), (True, False))):
    """Tokens of a 2 x 3 grid in two views."""
    mask = torch.tensor(views).repeat_interleave(6, dim=1)
    return Tokens(torch.randn(*mask.shape, 8, generator=torch.Generator().manual_seed(1)), mask)


def slow(adapter, tokens, grid):
    """One row and one token at a time, with the attention of PyTorch."""
    attention, resampler = nn.MultiheadAttention(8, 2, batch_first=True), adapter.resampler
    ours = resampler.attention
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key_value.weight]))
        attention.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key_value.bias]))
        attention.out_proj.load_state_dict(ours.mix.state_dict())
    places, rows = place_positions(grid, 8).float(), []
    for values, mask in zip(tokens.values, tokens.mask, strict=True):
        real, where = values[mask], places.repeat(int(mask.sum()) // len(places), 1)
        normed, outputs = layer_norm(real, (8,)), []
        for value, place in zip(real, where, strict=True):
            query = layer_norm(resampler.query, (8,)) + place
            read, _ = attention(query.view(1, 1, 8), (normed + where)[None], normed[None])
            experts = adapter.project(value), adapter.project_resampled(layer_norm(read[0, 0], (8,)))
            shares = softmax(adapter.gate.weight @ value, 0)
            outputs.append(shares[0] * experts[0] + shares[1] * experts[1])
        rows.append(torch.stack(outputs))
    return torch.cat(rows)


@pytest.mark.parametrize("tied", [False, True])
def test_it_equals_a_slow_form_with_projectors_of_their_own_or_one_for_both(tied):
    adapter, tokens = built(), case()
    if tied:  # as in the released code of SliME
        adapter.project_resampled.load_state_dict(adapter.project.state_dict())
    given = adapter(tokens, (2, 3))
    assert torch.equal(given.mask, tokens.mask)
    torch.testing.assert_close(given.values[given.mask], slow(adapter, tokens, (2, 3)), atol=1e-6, rtol=0)


def test_the_blend_is_that_of_both_experts_alone_by_the_shares_of_the_gate():
    adapter, tokens = built(), case()
    shares = adapter.gate_shares(tokens, (2, 3))
    alone = [adapter.use(name)(tokens, (2, 3)).values for name in ("mlp", "resampler")]
    both = adapter.use("both")(tokens, (2, 3)).values
    torch.testing.assert_close(both, shares[..., :1] * alone[0] + shares[..., 1:] * alone[1])
    torch.testing.assert_close(shares.sum(2), torch.ones(shares.shape[:2]))


def test_both_shares_begin_at_one_half():
    assert (MixtureAdapter(8, 12).gate_shares(case()) == 0.5).all()


def touched(adapter):
    return {name.split(".")[0] for name, p in adapter.named_parameters() if p.grad is not None}


def test_a_fixed_gate_teaches_its_expert_alone():
    for used, taught in (
        ("mlp", {"project"}),
        ("resampler", {"resampler", "project_resampled"}),
        ("both", {"gate", "project", "resampler", "project_resampled"}),
    ):
        adapter = built().use(used)
        adapter(case(), (2, 3)).values.sum().backward()
        assert touched(adapter) == taught


def test_the_saved_state_does_not_know_what_is_used():
    fixed, free = built().use("mlp"), built()
    assert list(fixed.state_dict()) == list(free.state_dict())
    free.load_state_dict(fixed.state_dict())
    assert free.used == "both"
    with pytest.raises(ValueError, match=r'part of a mixture adapter \'mpl\'. Did you mean "mlp"'):
        free.use("mpl")


def test_the_mlp_alone_sees_its_token_only_and_the_resampler_sees_all():
    tokens = case(views=((True, True),))
    other = tokens.values.clone()
    other[:, 0, 0] += 1.0
    for used, changed in (("mlp", 1), ("resampler", 12)):
        adapter = built().use(used)
        one, two = (adapter(Tokens(v, tokens.mask), (2, 3)).values for v in (tokens.values, other))
        assert ((one - two).abs().amax(2) > 1e-6).sum() == changed


def test_without_a_grid_a_place_is_the_number_among_the_real_tokens():
    mask = torch.tensor([[True, True, True, False], [False, True, False, True]])
    places = token_positions(torch.zeros(2, 4, 8), mask, None)
    table = place_positions((4,), 8).float()
    assert torch.equal(places[0, :3], table[:3])
    assert torch.equal(places[1, [1, 3]], table[:2])
