"""Regions and phrases: regions by hand, the contrast against a slow loop, and that it learns."""

import math

import pytest
import torch

from mmmed.segmentation.matching import SHARP, RegionMatch, contrast, count_taught
from mmmed.types import Tokens


def example(seed=0, pictures=3, phrases=11, regions=4):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(phrases, regions, generator=generator, requires_grad=True)
    right = torch.rand(phrases, regions, generator=generator) < 0.4
    return scores, right, torch.randint(pictures, (phrases,), generator=generator)


def slowly(scores, right, picture):
    """-> sum of the losses, number of them."""
    scores = scores.detach()
    total, count = 0.0, 0
    for one in range(len(scores)):
        for region in range(scores.shape[1]):
            wrong = [
                math.exp(scores[other, region])
                for other in range(len(scores))
                if picture[other] == picture[one] and not right[other, region]
            ]
            if right[one, region] and wrong:
                own = math.exp(scores[one, region])
                total -= math.log(own / (own + sum(wrong)))
                count += 1
    return total, count


@pytest.mark.parametrize("seed", range(6))
def test_the_contrast_is_that_of_a_slow_loop(seed):
    scores, right, picture = example(seed)
    total, count = slowly(scores, right, picture)
    assert contrast(scores, right, picture).item() == pytest.approx(total, abs=1e-4)
    assert count_taught(right, picture) == count


def test_two_phrases_by_hand():
    scores = torch.tensor([[2.0], [0.0]])
    right = torch.tensor([[True], [False]])
    expected = -math.log(math.exp(2) / (math.exp(2) + 1))
    assert contrast(scores, right, torch.tensor([0, 0])).item() == pytest.approx(expected)
    # About different pictures, there is nothing false to tell it from.
    assert contrast(scores, right, torch.tensor([0, 1])).item() == 0.0


def test_a_region_without_a_false_phrase_or_without_a_true_one_teaches_nothing():
    scores = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    right = torch.tensor([[1, 0, 1], [1, 0, 0], [1, 0, 0], [1, 0, 0]]).bool()
    picture = torch.zeros(4, dtype=torch.long)
    contrast(scores, right, picture).backward()
    assert count_taught(right, picture) == 1
    assert (scores.grad[:, :2] == 0).all()
    assert (scores.grad[:, 2] != 0).all()


def test_the_gradient_is_finite_where_nothing_is_taught():
    scores, _, picture = example(0)
    for right in (torch.ones(11, 4).bool(), torch.zeros(11, 4).bool()):
        scores.grad = None
        contrast(scores, right, picture).backward()
        assert (scores.grad == 0).all()
        assert count_taught(right, picture) == 0
    none = torch.zeros(0, 4, requires_grad=True)
    assert contrast(none, torch.zeros(0, 4).bool(), torch.zeros(0).long()).item() == 0
    assert count_taught(torch.zeros(0, 4).bool(), torch.zeros(0).long()) == 0


def test_enormous_scores_stay_finite():
    scores = torch.tensor([[-1e4], [1e4]], requires_grad=True)
    loss = contrast(scores, torch.tensor([[True], [False]]), torch.tensor([0, 0]))
    loss.backward()
    assert loss.item() == pytest.approx(2e4)
    assert scores.grad.isfinite().all()


# ------------------------------------------------------------------------------------------------- regions


class Plain(RegionMatch):
    """A match whose regions are what its layers would be given."""

    def __init__(self, width=1, levels=1):
        super().__init__(width, levels, dim=4)
        self.region = torch.nn.Identity()


def test_mean_and_largest_of_a_region_by_hand():
    summary = torch.tensor([[[[1.0, 2.0], [3.0, -9.0]], [[0.0, 10.0], [20.0, 99.0]]]])  # [1 2 2 2]
    masks = torch.tensor([[[[1.0, 0.5], [0.2, 0.0]], [[0.0, 0.0], [0.0, 0.1]], [[0.0, 0.0], [0.0, 0.0]]]])
    first, second, empty = Plain().regions(summary, masks)[0]
    # The third cell, of which a fifth is inside, counts in the mean and not in the largest.
    mean = [(1 + 1 + 0.6) / 1.7, (0 + 5 + 4) / 1.7]
    torch.testing.assert_close(first, torch.tensor([*mean, 2.0, 10.0]))
    # Of a small thing the cell that holds most of it counts, however little that is.
    torch.testing.assert_close(second, torch.tensor([-9.0, 99.0, -9.0, 99.0]))
    assert (empty == 0).all()


@pytest.mark.parametrize("space", [2, 3])
def test_the_summary_holds_mean_and_largest_of_the_finest_map_and_the_others_as_they_are(space):
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 3, *(side,) * space, generator=generator) for side in (8, 4, 2)]
    summary = RegionMatch(3, 3, 4).summary(maps)
    assert summary.shape == (2, 12, *(4,) * space)
    cell = maps[0][(0, 1, *(slice(2, 4),) * space)]  # the second cell along each axis
    place = (1,) * space
    assert summary[(0, 1, *place)].item() == pytest.approx(cell.mean().item(), abs=1e-6)
    assert summary[(0, 4, *place)].item() == cell.max().item()
    torch.testing.assert_close(summary[:, 6:9], maps[1])


def test_the_score_is_the_sum_of_what_each_word_says():
    match = RegionMatch(2, 2, 5, shared=3)
    generator = torch.Generator().manual_seed(1)
    regions, values = torch.randn(2, 4, 3, generator=generator), torch.randn(2, 3, 5, generator=generator)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    found = match.score(regions, Tokens(values.masked_fill(~mask.unsqueeze(2), torch.nan), mask))
    for phrase in range(2):
        said = sum(match.word(values[phrase, word]) for word in range(3) if mask[phrase, word])
        torch.testing.assert_close(found[phrase], regions[phrase] @ said * SHARP / 3**0.5)


def test_it_learns_which_words_mean_which_region():
    """Two regions that differ in a bright core, two words: after some steps each word finds its own."""
    torch.manual_seed(0)
    match = RegionMatch(2, 1, 4)
    words = Tokens(torch.eye(4)[:2].unsqueeze(1), torch.ones(2, 1).bool())
    optimiser = torch.optim.Adam(match.parameters(), 1e-2)
    masks = torch.zeros(1, 2, 4, 4)
    masks[0, 0, :, :2], masks[0, 1, :, 2:] = 1, 1

    def scores():
        summary = torch.randn(1, 4, 4, 4) * 0.3
        summary[0, 3, 1, 1] += 3
        return match.score(match.regions(summary, masks).expand(2, -1, -1), words)

    for _ in range(40):
        loss = contrast(scores(), torch.eye(2).bool(), torch.zeros(2, dtype=torch.long))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    right = torch.stack([scores().argmax(0) for _ in range(20)])
    assert (right == torch.arange(2)).float().mean() > 0.95
