"""Batches of one acquisition each, which take turns, for pictures that nobody has in both.

Source: MulModSeg (Li et al., arXiv:2411.15576, alternating training): a step on CT, a step on MR, and so on.
Differs: any number of acquisitions; the shorter ones are gone through again, so that no picture is lost. A
model does not depend on it: the acquisition is said for each picture, so mixed batches are as good to answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mmmed.checks import check_count


def alternating_batches(groups: Sequence[int], size: int, generator: torch.Generator) -> list[list[int]]:
    """One epoch: groups[i] is the acquisition of picture i -> batches of at most `size` positions.

    The acquisitions take turns in ascending order, each with equally many batches, as many as the largest
    needs; its pictures come exactly once, those of the others at least once. A smaller one is shuffled anew
    for each pass, so no batch holds a picture twice, and between the pictures of an acquisition the counts
    differ by one at most. The batches of a pass are of equal size, give or take one. Same generator, same
    batches. Raises ValueError for size < 1.
    """
    check_count(size, name="size")
    members = {
        group: [i for i, other in enumerate(groups) if other == group] for group in sorted(set(groups))
    }
    turns = max((-(-len(rows) // size) for rows in members.values()), default=0)
    queues = [_passes(torch.tensor(rows), size, turns, generator) for rows in members.values()]
    return [batch for turn in zip(*queues, strict=True) for batch in turn]


def _passes(rows: torch.Tensor, size: int, turns: int, generator: torch.Generator) -> list[list[int]]:
    """`turns` batches out of shuffled passes over the rows."""
    batches: list[list[int]] = []
    while len(batches) < turns:
        order = rows[torch.randperm(len(rows), generator=generator)]
        batches += [part.tolist() for part in order.tensor_split(-(-len(rows) // size))]
    return batches[:turns]
