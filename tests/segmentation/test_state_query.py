"""From a language model's state to a query."""

import pytest
import torch
from torch.nn.functional import layer_norm

from mmmed.segmentation.state_query import StateQuery


def states(m=3, width=8):
    return torch.randn(m, width, generator=torch.Generator().manual_seed(0))


def test_it_is_linear_relu_linear_of_the_normalised_state():
    maker, given = StateQuery(8, 5), states()
    _, first, _, second = maker.network
    hidden = (layer_norm(given, (8,)) @ first.weight.T + first.bias).clamp(min=0)
    tokens = maker(given)
    torch.testing.assert_close(tokens.values[:, 0], hidden @ second.weight.T + second.bias)
    assert tokens.values.shape == (3, 1, 5)
    assert tokens.mask.all()
    assert tokens.mask.shape == (3, 1)


def test_the_size_of_the_state_does_not_matter():
    maker, given = StateQuery(8, 5), states()
    torch.testing.assert_close(maker(given * 1000).values, maker(given).values, atol=1e-4, rtol=1e-4)


def test_a_phrase_is_asked_alone_and_none_is_no_query():
    maker, given = StateQuery(8, 5), states()
    torch.testing.assert_close(maker(given[1:2]).values, maker(given).values[1:2])
    assert maker(states(0)).values.shape == (0, 1, 5)


def test_gradients_reach_the_state():
    given = states().requires_grad_()
    StateQuery(8, 5)(given).values.square().sum().backward()
    assert (given.grad.abs().sum(1) > 0).all()


def test_states_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"states should have shape .m width=8., got .3, 7.. One state for"):
        StateQuery(8, 5)(states(width=7))
