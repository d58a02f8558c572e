"""Cross-attention: against PyTorch's own, and what padding may not do."""

import pytest
import torch
from torch import nn

from mmmed.layers.cross_attention import CrossAttention, CrossBlock, LatentReadout, check_heads


def case():
    draw = torch.Generator().manual_seed(0)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]]).bool()
    return torch.randn(3, 2, 8, generator=draw), torch.randn(3, 5, 8, generator=draw), mask


def test_it_equals_the_attention_of_pytorch():
    ours, theirs = CrossAttention(8, heads=4), nn.MultiheadAttention(8, 4, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key_value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key_value.bias]))
        theirs.out_proj.load_state_dict(ours.mix.state_dict())
    latents, values, mask = case()
    wanted, _ = theirs(latents, values, values, key_padding_mask=~mask)
    torch.testing.assert_close(ours(latents, values, mask), wanted, atol=1e-6, rtol=0)


def test_padding_is_not_read():
    latents, values, mask = case()
    block = CrossBlock(8, heads=2).eval()
    other = values.masked_fill(~mask.unsqueeze(2), 1e6)
    assert torch.equal(block(latents, values, mask), block(latents, other, mask))


def test_a_single_latent_that_looks_at_itself_is_a_linear_map():
    # Why a cascade with one class token leaves self-attention out: softmax over one score is 1.
    attention, (latents, _, _) = CrossAttention(8, heads=4), case()
    one = latents[:, :1]
    weight, bias = attention.key_value.weight[8:], attention.key_value.bias[8:]
    wanted = attention.mix(one @ weight.T + bias)
    mask = torch.ones(3, 1, dtype=torch.bool)
    torch.testing.assert_close(attention(one, one, mask), wanted, atol=1e-6, rtol=0)


def test_a_block_adds_to_what_came_in():
    block, (latents, values, mask) = CrossBlock(8, heads=2).eval(), case()
    for last in (block.attention.mix, block.network[-1]):
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    assert torch.equal(block(latents, values, mask), latents)


def test_a_readout_sees_the_mean_of_the_latents():
    readout, (latents, _, _) = LatentReadout(8, 3), case()
    wanted = readout.linear(nn.functional.layer_norm(latents.mean(1), (8,)))
    torch.testing.assert_close(readout(latents), wanted, atol=1e-6, rtol=0)


def test_heads_share_the_width_evenly():
    assert check_heads(8, 4) == 4
    with pytest.raises(ValueError, match="heads should divide dim: 8 is no multiple of 3"):
        CrossAttention(8, heads=3)
