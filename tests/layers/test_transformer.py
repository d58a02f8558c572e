import pytest
import torch
from torch import nn

from mmmed.layers.transformer import SelfAttention, Transformer, TransformerBlock

MASK = torch.tensor([[True] * 5, [True, True, False, True, False]])


def test_attention_equals_the_one_of_torch():
    torch.manual_seed(0)
    ours, theirs = SelfAttention(8, heads=2), nn.MultiheadAttention(8, 2, batch_first=True)
    theirs.in_proj_weight.data.copy_(ours.project.weight)
    theirs.in_proj_bias.data.copy_(ours.project.bias)
    theirs.out_proj.load_state_dict(ours.mix.state_dict())
    values = torch.randn(2, 5, 8)
    expected, _ = theirs(values, values, values, key_padding_mask=~MASK)
    torch.testing.assert_close(ours(values, MASK)[MASK], expected[MASK])


def test_a_block_equals_the_one_of_torch():
    torch.manual_seed(0)
    ours = TransformerBlock(8, heads=2).eval()
    theirs = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True, norm_first=True).eval()
    names = {
        "self_attn.in_proj_weight": ours.attention.project.weight,
        "self_attn.in_proj_bias": ours.attention.project.bias,
        "self_attn.out_proj.weight": ours.attention.mix.weight,
        "self_attn.out_proj.bias": ours.attention.mix.bias,
        "linear1.weight": ours.network[0].weight,
        "linear1.bias": ours.network[0].bias,
        "linear2.weight": ours.network[3].weight,
        "linear2.bias": ours.network[3].bias,
    }
    theirs.load_state_dict(names, strict=False)  # the norms of both are new
    values = torch.randn(2, 5, 8)
    expected = theirs(values, src_key_padding_mask=~MASK)
    torch.testing.assert_close(ours(values, MASK)[MASK], expected[MASK])


def test_padding_changes_no_real_token():
    torch.manual_seed(0)
    network = Transformer(8, layers=2, heads=2).eval()
    values = torch.randn(2, 5, 8)
    altered = torch.where(MASK.unsqueeze(2), values, 1e3)
    torch.testing.assert_close(network(altered, MASK)[MASK], network(values, MASK)[MASK])


def test_without_positions_the_order_of_tokens_means_nothing():
    torch.manual_seed(0)
    network = Transformer(8, layers=2, heads=2).eval()
    values, order = torch.randn(2, 5, 8), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(network(values[:, order], MASK[:, order]), network(values, MASK)[:, order])


def test_dropout_of_attention_ends_with_training():
    torch.manual_seed(0)
    attention, values = SelfAttention(8, heads=2, dropout=0.5), torch.randn(2, 5, 8)
    assert not torch.equal(attention(values, MASK), attention(values, MASK))
    attention.eval()
    assert torch.equal(attention(values, MASK), attention(values, MASK))


@pytest.mark.parametrize("layers", [1, 3])
def test_the_number_of_layers_is_as_asked(layers):
    assert len(Transformer(8, layers=layers, heads=2).blocks) == layers
