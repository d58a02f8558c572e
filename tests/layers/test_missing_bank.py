"""The bank of missing modalities: looked up by hand, grown without a change, and never exponential."""

from itertools import product

import pytest
import torch

from mmmed.layers.missing_bank import EXACT, MissingBank


def test_every_combination_has_entries_of_its_own():
    bank = MissingBank(3, dim=2)
    assert bank.entries.shape == (8, 3, 2)
    patterns = torch.tensor(list(product([False, True], repeat=3)))
    found = bank(patterns)
    # bit k stands for modality k: image alone is 1, table alone 2, both 3, note alone 4
    for pattern, entry in zip(patterns.tolist(), found, strict=True):
        number = sum(2**index for index, there in enumerate(pattern) if there)
        assert torch.equal(entry, bank.entries[number])
    assert len({tuple(entry.flatten().tolist()) for entry in found}) == 8


def test_the_ninth_modality_adds_instead_of_doubling():
    bank = MissingBank(12, dim=2)
    assert bank.entries.shape == (2**EXACT, 12, 2)
    assert bank.pairs.shape == (4, 12, 2)
    present = torch.zeros(1, 12, dtype=torch.bool)
    present[0, [0, 3, 8, 11]] = True
    wanted = bank.entries[1 + 8] + bank.pairs[0] + bank.pairs[3]
    torch.testing.assert_close(bank(present)[0], wanted)


@pytest.mark.parametrize("modalities", [1, 3, 7, 8, 9])
def test_growing_changes_nothing_for_records_without_the_new_modality(modalities):
    bank = MissingBank(modalities, dim=2)
    present = torch.rand(20, modalities, generator=torch.Generator().manual_seed(0)) < 0.5
    before = bank(present)
    bank.grow()
    fresh = MissingBank(modalities + 1, dim=2)
    assert {n: p.shape for n, p in bank.named_parameters()} == {
        n: p.shape for n, p in fresh.named_parameters()
    }
    for there in (False, True):  # and with it, the old missing ones start from the same
        after = bank(torch.cat([present, torch.full((20, 1), there)], dim=1))
        torch.testing.assert_close(after[:, :modalities], before, atol=1e-7, rtol=0)
