"""What the finding head saw stands in the slot of its modality, one token per finding."""

import torch

from mmmed.heads.findings import FindingAttention
from mmmed.language.finding_tokens import FindingTokens, side_by_side
from mmmed.types import Tokens


def make(labels=3, dim=8, width=6, places=4):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return FindingAttention(labels, dim, places), FindingTokens(labels, dim, width)


def tokens(n=5, count=4, dim=8):
    return Tokens(
        torch.randn(n, count, dim, generator=torch.Generator().manual_seed(1)),
        torch.ones(n, count, dtype=bool),
    )


def test_there_is_one_token_per_finding_and_rows_are_judged_alone():
    head, module = make()
    some = tokens()
    whole = module(head, some)
    assert whole.values.shape == (5, 3, 6)
    assert whole.mask.all()
    torch.testing.assert_close(module(head, some[2:3]).values, whole.values[2:3])


def test_tokens_differ_between_patients_by_what_is_seen_and_how_likely_it_is():
    head, module = make()
    some = tokens(2)
    values, mask = head.norm(some.values), some.mask
    maps = head.maps(values, mask)
    logits = head(some)
    for row in range(2):
        for label in range(3):
            seen = module.project((maps[row, :, label, None] * values[row]).sum(0))
            share = 2 * torch.sigmoid(logits[row, label]) - 1
            by_hand = seen + module.name[label] + share * module.likely[label]
            torch.testing.assert_close(module(head, some).values[row, label], by_hand)


def test_every_weight_learns():
    head, module = make()
    module(head, tokens()).values.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_side_by_side_keeps_order_and_padding():
    first, second = tokens(2, 3), tokens(2, 2)
    first.mask[1, 2] = False
    both = side_by_side(first, second)
    assert both.values.shape == (2, 5, 8)
    assert both.mask.tolist() == [[True] * 5, [True, True, False, True, True]]
    torch.testing.assert_close(both.values[:, 3:], second.values)
