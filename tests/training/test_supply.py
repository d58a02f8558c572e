"""Where batches come from: cutting a batch out of the packed cohort is the same as collating its records."""

import torch
from tiny import ALL_TASKS, SCHEMA, make_records

from mmmed.data.collate import Collator
from mmmed.training.supply import LazyCohort, PackedCohort, make_supply, trim
from mmmed.types import Image, Number, Schema, Series, Tokens

WIDE = Schema(
    {
        **SCHEMA.modalities,
        "image": Image("path", size=(12, 12)),
        "vitals": Series("vitals", (Number("pulse"), Number("spo2")), length=20),
    },
    ALL_TASKS,
)


def wide_records(count=30):
    """Records with several views and series of different lengths."""
    result = []
    for index, record in enumerate(make_records(count)):
        if "image" in record.inputs and index % 3 == 0:
            record = record.with_input("image", [record.inputs["image"]] * (1 + index % 4))
        if index % 2:
            steps = [
                {"time": t, "pulse": 60.0 + t, "spo2": None if t % 2 else 97.0} for t in range(1 + index % 7)
            ]
            record = record.with_input("vitals", steps)
        result.append(record)
    return result


class Listed(list):
    """Records with the presence table that a cohort has."""

    @property
    def present(self):
        return [[name in record.inputs for name in WIDE.modalities] for record in self]


def same(a, b):
    assert (a.ids, a.groups, a.modalities) == (b.ids, b.groups, b.modalities)
    assert torch.equal(a.present, b.present)
    assert set(a.rows) == set(b.rows) == set(a.values) == set(b.values)
    for name in a.rows:
        assert torch.equal(a.rows[name], b.rows[name])
        for key in b.values[name]:
            assert torch.equal(a.values[name][key], b.values[name][key]), (name, key)
    for name in b.targets:
        assert torch.equal(a.targets[name], b.targets[name])
        assert torch.equal(a.known[name], b.known[name])


def test_a_batch_cut_out_of_the_packed_cohort_is_the_collated_batch():
    records, collator = wide_records(), Collator(WIDE)
    packed = make_supply(Listed(records), collator)
    assert isinstance(packed, PackedCohort)
    draw = torch.Generator().manual_seed(0)
    for _ in range(10):
        rows = torch.randperm(30, generator=draw)[:7]
        same(packed.take(rows), collator([records[i] for i in rows]))


def test_packed_and_lazy_give_the_same_batches_under_the_same_masks():
    records, collator = Listed(wide_records()), Collator(WIDE)
    packed, lazy = make_supply(records, collator), make_supply(records, collator, limit=1000)
    assert isinstance(lazy, LazyCohort)
    for name in ALL_TASKS:
        assert torch.equal(packed.targets[name], lazy.targets[name])
        assert torch.equal(packed.known[name], lazy.known[name])
    assert torch.equal(packed.present, lazy.present)
    assert packed.ids == lazy.ids
    draw = torch.Generator().manual_seed(1)
    order, mask = torch.randperm(30, generator=draw), torch.rand(30, 4, generator=draw) < 0.7
    parts = [(rows, mask[rows]) for rows in order.split(8)]
    before = torch.get_rng_state()
    for a, b in zip(packed.batches(parts), lazy.batches(parts), strict=True):
        same(a, b)
    assert torch.equal(before, torch.get_rng_state())


def test_lazy_batches_read_by_workers_are_the_same():
    records, collator = Listed(wide_records(12)), Collator(WIDE)
    alone, helped = (
        LazyCohort(records, torch.tensor(records.present), collator, workers) for workers in (0, 2)
    )
    parts = [(rows, torch.ones(len(rows), 4, dtype=torch.bool)) for rows in torch.arange(12).split(5)]
    for a, b in zip(alone.batches(parts), helped.batches(parts), strict=True):
        same(a, b)


def test_a_modality_that_nobody_has_and_a_batch_of_none_work():
    records = [record.without("extra") for record in wide_records()]
    packed = make_supply(Listed(records), Collator(WIDE))
    assert "extra" not in packed.take(torch.arange(5)).values
    empty = packed.take(torch.arange(0))
    assert len(empty) == 0
    assert empty.values == {}
    assert make_supply(Listed(), Collator(WIDE)) is None


def test_trimming_takes_padding_only():
    mask = torch.tensor([[True, False, True, False, False], [True, False, False, False, False]])
    words = trim({"ids": torch.arange(10).view(2, 5), "mask": mask})
    assert words["ids"].tolist() == [[0, 1, 2], [5, 6, 7]]
    tokens = trim(Tokens(torch.zeros(2, 5, 4), mask))
    assert tokens.values.shape == (2, 3, 4)
    table = {"cells": torch.zeros(2, 5), "known": torch.zeros(2, 5, dtype=torch.bool)}
    assert trim(table)["cells"].shape == (2, 5)  # unknown cells are no padding
