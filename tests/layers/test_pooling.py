import pytest
import torch

from mmmed.layers.pooling import AttentionPool, masked_mean, mean_and_max

MASK = torch.tensor([[True, True, False], [True, False, False]])


def test_mean_and_max_by_hand():
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[-1.0, -1.0], [-1.0, -5.0]]]])
    torch.testing.assert_close(mean_and_max(maps), torch.tensor([[3.0, -2.0, 6.0, -1.0]]))
    torch.testing.assert_close(mean_and_max(maps.unsqueeze(2)), mean_and_max(maps))  # a volume of one slice


def test_the_masked_mean_is_the_mean_of_what_is_real():
    values = torch.randn(2, 3, 4)
    torch.testing.assert_close(masked_mean(values, MASK), torch.stack([values[0, :2].mean(0), values[1, 0]]))
    assert masked_mean(values, torch.zeros(2, 3, dtype=torch.bool)).eq(0).all()


def test_attention_pooling_begins_as_the_mean():
    values = torch.randn(2, 3, 8)
    torch.testing.assert_close(AttentionPool(8, heads=2)(values, MASK), masked_mean(values, MASK))


def test_attention_pooling_equals_a_loop_over_rows_and_heads():
    torch.manual_seed(0)
    pool = AttentionPool(8, heads=2)
    torch.nn.init.normal_(pool.score.weight)
    values = torch.randn(2, 3, 8)
    expected = torch.zeros(2, 8)
    for row in range(2):
        real = values[row, MASK[row]]
        for head in range(2):
            weights = (real @ pool.score.weight[head]).softmax(0)
            part = slice(4 * head, 4 * head + 4)
            expected[row, part] = weights @ real[:, part]
    torch.testing.assert_close(pool(values, MASK), expected)


@pytest.mark.parametrize("pool", [masked_mean, AttentionPool(8, heads=2)])
def test_padding_has_no_share(pool):
    values = torch.randn(2, 3, 8)
    altered = torch.where(MASK.unsqueeze(2), values, 1e6)
    torch.testing.assert_close(pool(altered, MASK), pool(values, MASK))
