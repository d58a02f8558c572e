"""Pixel-word attention: against the paper's steps written out with PyTorch's own parts, and by learning."""

import torch
from torch import nn
from torch.nn.functional import gelu, relu

from mmmed.segmentation import PlainFusion, PWAMFusion
from mmmed.types import Tokens


def case():
    draw = torch.Generator().manual_seed(0)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1]]).bool()
    words = Tokens(torch.randn(3, 3, 6, generator=draw), mask)
    return torch.randn(2, 8, 5, 7, generator=draw), words, torch.tensor([1, 0, 1])


def test_it_equals_the_steps_of_the_paper_one_phrase_at_a_time():
    fusion, (maps, words, which) = PWAMFusion(8, 6), case()
    given, attention = fusion(maps, words, which), fusion.attention
    for m, picture in enumerate(which.tolist()):
        pixels = maps[picture].flatten(1).T  # [pixels width]
        real = words.values[m][words.mask[m]]
        query = nn.InstanceNorm1d(8)(attention.query(pixels).T.unsqueeze(0))[0].T
        read = (query @ attention.key(real).T / 8**0.5).softmax(1) @ attention.value(real)
        fused = gelu(fusion.mix(gelu(fusion.look(pixels)) * read))
        gate = fusion.gate_leave(relu(fusion.gate_enter(fused))).tanh()
        expected = (pixels + gate * fused).T.view(8, 5, 7)
        torch.testing.assert_close(given[m], expected, atol=1e-6, rtol=0)


def test_a_word_that_says_zero_shuts_a_channel():
    fusion, (maps, words, which) = PWAMFusion(8, 6), case()
    for parameter in (*fusion.attention.value.parameters(), fusion.mix.bias):
        nn.init.zeros_(parameter)
    # nothing read -> the product is 0 -> gelu(0) = 0 -> nothing is added
    torch.testing.assert_close(fusion(maps, words, which), maps[which], atol=0, rtol=0)


def learned(fusion, steps=60):
    """Loss at the end of: mark the pixels where the channel that the word names is bright."""
    draw = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head, names = nn.Conv2d(8, 1, 1), nn.Embedding(2, 6)
    parts = nn.ModuleList([fusion, head, names])
    optimiser, losses = torch.optim.Adam(parts.parameters(), lr=1e-2), []
    for _ in range(steps):
        maps, named = torch.randn(4, 8, 4, 4, generator=draw), torch.tensor([0, 1]).repeat(4)
        which = torch.arange(4).repeat_interleave(2)
        words = Tokens(names(named).unsqueeze(1), torch.ones(8, 1, dtype=torch.bool))
        logits = head(fusion(maps, words, which))[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, (maps[which, named] > 0).float())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return sum(losses[-10:]) / 10


def test_it_learns_which_channel_a_word_names_and_the_blind_fusion_does_not():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        reads, blind = PWAMFusion(8, 6), PlainFusion(8, 6)
    assert learned(reads) < 0.35
    assert learned(blind) > 0.45  # even where both channels agree half of the time


def test_its_parameters_are_as_many_as_it_says():
    assert sum(p.numel() for p in PWAMFusion(8, 6).parameters()) == 8 * (5 * 8 + 2 * 6 + 3)
