"""Modulation by the mean word: against an obvious form, by hand, and a task that the blind cannot learn."""

import torch
from torch import nn
from torch.nn.functional import conv2d, relu

from mmmed.segmentation import FiLMFusion, PlainFusion
from mmmed.types import Tokens


def case(width=8, dim=6):
    draw = torch.Generator().manual_seed(0)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1]]).bool()
    words = Tokens(torch.randn(3, 3, dim, generator=draw), mask)
    return torch.randn(2, width, 5, 7, generator=draw), words, torch.tensor([1, 0, 1])


def test_it_equals_the_modulated_convolution_written_out():
    fusion, (maps, words, which) = FiLMFusion(8, 6), case()
    for m, picture in enumerate(which.tolist()):
        mean = words.values[m][words.mask[m]].mean(0)
        scale, shift = fusion.modulate(mean).split(8)
        entered = conv2d(maps[picture], fusion.enter.weight[..., None, None], fusion.enter.bias)
        lit = relu((1 + scale)[:, None, None] * entered + shift[:, None, None])
        left = conv2d(lit, fusion.leave.weight[..., None, None], fusion.leave.bias)
        given = fusion(maps, words, which)[m]
        torch.testing.assert_close(given, maps[picture] + left, atol=1e-6, rtol=0)


def test_one_channel_by_hand():
    fusion = FiLMFusion(1, 1)
    with torch.no_grad():
        for parameter, numbers in zip(
            fusion.parameters(), ([[1.0], [0]], [0, -1], [[1]], [0], [[1]], [0]), strict=True
        ):
            parameter.copy_(torch.tensor(numbers))
    # the word 2: scale 2, shift -1. pixels 1, -1 -> relu(3 * 1 - 1) = 2, relu(-3 - 1) = 0 -> added: 3, -1
    words = Tokens(torch.tensor([[[2.0]]]), torch.ones(1, 1, dtype=torch.bool))
    given = fusion(torch.tensor([[[[1.0, -1.0]]]]), words, torch.tensor([0]))
    assert given.flatten().tolist() == [3, -1]


def test_words_that_say_nothing_leave_the_blind_fusion():
    fusion, blind, (maps, words, which) = FiLMFusion(8, 6), PlainFusion(8, 6), case()
    for parameter in fusion.modulate.parameters():
        nn.init.zeros_(parameter)
    blind.load_state_dict({k: v for k, v in fusion.state_dict().items() if "modulate" not in k})
    given = fusion(maps, words, which)
    torch.testing.assert_close(given, blind(maps, words, which), atol=1e-6, rtol=0)


def test_the_first_convolution_is_computed_once_per_picture(monkeypatch):
    from mmmed.segmentation import film_fusion

    rows, original = [], film_fusion.on_pixels
    monkeypatch.setattr(film_fusion, "on_pixels", lambda *a, **k: rows.append(len(a[1])) or original(*a, **k))
    FiLMFusion(8, 6)(*case())
    assert rows == [2, 3]


def test_its_parameters_are_as_many_as_it_says():
    assert sum(p.numel() for p in FiLMFusion(8, 6).parameters()) == 2 * 8 * 9 + 2 * 8 * 7
