import pytest
import torch
from torch import nn

from mmmed.layers.mlp import mlp


def test_it_equals_the_formula_written_out():
    torch.manual_seed(0)
    network = mlp([3, 5, 4, 2])
    first, second, third = (layer for layer in network if isinstance(layer, nn.Linear))
    x = torch.randn(7, 3)
    silu = nn.functional.silu
    torch.testing.assert_close(network(x), third(silu(second(silu(first(x))))))


def test_two_sizes_are_one_linear_layer():
    network = mlp([3, 2], dropout=0.5, norm=True)
    assert [type(layer) for layer in network] == [nn.Linear]


def test_the_output_may_take_any_sign_and_is_never_dropped():
    assert isinstance(mlp([3, 8, 2], dropout=0.5, norm=True)[-1], nn.Linear)


def test_with_norm_a_row_does_not_depend_on_its_neighbours_even_while_learning():
    torch.manual_seed(0)
    network = mlp([3, 8, 2], norm=True).train()
    x = torch.randn(4, 3)
    torch.testing.assert_close(network(x)[:1], network(x[:1]))


@pytest.mark.parametrize("sizes", [[], [3]])
def test_fewer_than_two_sizes_are_refused(sizes):
    with pytest.raises(ValueError, match="input and output"):
        mlp(sizes)
