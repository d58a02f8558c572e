"""Batches of one acquisition each, taking turns."""

from collections import Counter

import pytest
import torch

from mmmed.data.alternating import alternating_batches

GROUPS = [0] * 11 + [1] * 5 + [2]


def batches(groups=GROUPS, size=4, seed=0):
    return alternating_batches(groups, size, torch.Generator().manual_seed(seed))


def test_a_batch_is_of_one_acquisition_and_they_take_turns():
    made = batches()
    assert all(len({GROUPS[i] for i in batch}) == 1 for batch in made)
    assert [GROUPS[batch[0]] for batch in made] == [0, 1, 2] * 3


def test_nothing_is_lost_and_the_largest_comes_exactly_once():
    for seed in range(10):
        counts = Counter(i for batch in batches(seed=seed) for i in batch)
        assert set(counts) == set(range(len(GROUPS)))
        assert all(counts[i] == 1 for i in range(11))


def test_short_ones_are_gone_through_again_evenly_and_never_twice_in_a_batch():
    made = batches([0] * 40 + [1] * 6, size=4)
    counts = Counter(i for batch in made for i in batch)
    repeats = {counts[i] for i in range(40, 46)}
    assert min(repeats) >= 1
    assert max(repeats) - min(repeats) <= 1
    assert all(len(set(batch)) == len(batch) for batch in made)


def test_batches_are_of_nearly_equal_size_so_that_none_is_a_leftover():
    assert sorted(len(batch) for batch in batches([0] * 9, size=4)) == [3, 3, 3]


def test_the_generator_decides_and_nothing_else():
    assert batches() == batches()
    assert batches() != batches(seed=1)


def test_nobody_at_all_is_no_batch_and_size_is_a_count():
    assert batches([]) == []
    with pytest.raises(ValueError, match="size should be a whole number of at least 1, got 0"):
        batches(size=0)
