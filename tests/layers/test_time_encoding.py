import math

import torch

from mmmed.layers.time_encoding import TimeEncoding


def test_by_hand():
    encoding = TimeEncoding(3, shortest=1.0, longest=4.0)
    expected = [-math.log(3), math.sin(2 * math.pi * -2), math.sin(2 * math.pi / 4 * -2 + math.pi / 2)]
    torch.testing.assert_close(encoding(torch.tensor(-2.0)), torch.tensor(expected), atol=1e-5, rtol=1e-5)


def test_a_day_far_back_is_told_from_two_days_far_back():
    """A plain sine of the index could not: the times are irregular and of any size."""
    encoding = TimeEncoding(16)
    times = torch.tensor([0.0, -0.01, -0.1, -1.0, -10.0, -100.0, -1000.0])
    distances = torch.cdist(encoding(times), encoding(times)) + 9 * torch.eye(len(times))
    assert distances.min() > 0.1


def test_no_component_drowns_the_others():
    assert TimeEncoding(16)(torch.linspace(-1000, 0, 50)).abs().max() < 8


def test_frequencies_are_learned():
    encoding = TimeEncoding(8)
    encoding(torch.linspace(-3, 0, 5)).pow(2).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoding.parameters())
