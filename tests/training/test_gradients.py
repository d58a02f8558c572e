"""Gradients of several processes: added up, and where nothing moves there is none, as in one process."""

import torch
from torch import nn

from mmmed.training.gradients import add_up


class Pair:
    """Two processes of which the other one's tensors are known, in the order in which they are asked for."""

    num_processes = 2

    def __init__(self, *others):
        self.others = list(others)

    def reduce(self, tensor, how):
        assert how == "sum"
        return tensor + self.others.pop(0)


def weights(*gradients):
    found = [nn.Parameter(torch.zeros(2)) for _ in gradients]
    for parameter, gradient in zip(found, gradients, strict=True):
        parameter.grad = None if gradient is None else torch.tensor(gradient)
    return found


def test_gradients_and_losses_add_up():
    parameters = weights([1.0, 2.0], None, [3.0, 3.0], None)
    there = torch.tensor([1.0, 1.0, 0.0, 0.0])  # which of the four move in the other process
    moves = [
        torch.tensor([0.5, 0.5]),
        torch.tensor([7.0, 7.0]),
        torch.zeros(2),
    ]  # of those that move anywhere
    other = Pair(there, *moves, torch.tensor([4.0, 1.0]))
    loss = add_up(parameters, torch.tensor([1.0, 2.0]), other)
    assert loss.tolist() == [5.0, 3.0]
    assert [None if p.grad is None else p.grad.tolist() for p in parameters] == [
        [1.5, 2.5], [7.0, 7.0], [3.0, 3.0], None,
    ]  # fmt: skip
    assert not other.others


def test_one_process_keeps_what_it_has():
    class Alone:
        num_processes = 1

    parameters, loss = weights([1.0, 2.0], None), torch.tensor(3.0)
    assert add_up(parameters, loss, Alone()) is loss
    assert parameters[0].grad.tolist() == [1.0, 2.0]
    assert parameters[1].grad is None
