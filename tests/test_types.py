"""Records and batches: what is missing is not there; a batch hides, takes apart and moves as a whole."""

from dataclasses import FrozenInstanceError
from decimal import Decimal

import numpy as np
import pandas
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmmed.types import (
    Batch,
    Binary,
    Category,
    Fused,
    Image,
    Multiclass,
    Multilabel,
    Number,
    Outputs,
    Record,
    Regression,
    Schema,
    Series,
    Tabular,
    Text,
    Tokens,
    Volume,
    is_missing,
    spell,
)
from mmmed.types.record import check_modalities

SCHEMA = Schema(
    modalities={
        "image": Image("path", size=(32, 48), channels=3, mean=0.4, scale=0.2),
        "scan": Volume("scan", size=(4, 8, 8), key="arr"),
        "labs": Tabular(
            (Number("crp", "mg/l", low=0, high=900, mean=5, scale=2), Category("sex", ("f", "m")))
        ),
        "note": Text("history", length=32, vocabulary=("[PAD]", "[UNK]", "ä")),
        "vitals": Series("vitals", (Number("hr"), Number("sbp", unit="mmHg")), length=10, time_scale=24.0),
    },
    tasks={
        "sepsis": Binary("sepsis", ("no", "yes")),
        "stage": Multiclass("stage", ("1", "2", "3")),
        "signs": Multilabel(("cough", "fever")),
        "days": Regression("days", unit="d", mean=4.5, scale=2.5),
    },
    group="patient",
    id="exam",
)


# ------------------------------------------------------------------ missing, and spelling


@pytest.mark.parametrize(
    "value",
    [None, float("nan"), np.nan, np.float32("nan"), np.array(np.nan), torch.tensor(torch.nan), Decimal("nan"),
     pandas.NA, pandas.NaT, np.datetime64("NaT"), "", "  \t", [], (), {}, [None, float("nan")], [""]],
    ids=repr,
)  # fmt: skip
def test_every_spelling_of_missing_is_seen(value):
    assert is_missing(value)


@pytest.mark.parametrize(
    "value",
    [
        0,
        0.0,
        False,
        "0",
        "nan",
        "NA",
        [0],
        [None, "a.png"],
        {"a": None},
        np.zeros((2, 2)),
        np.full((2, 2), np.nan),
        -1,
    ],
    ids=repr,
)
def test_no_value_is_mistaken_for_missing(value):
    assert not is_missing(value)


@pytest.mark.parametrize(
    "one", [1, 1.0, "1", " 1 ", "1.0", "1.00", np.int64(1), np.float32(1), np.array(1)], ids=repr
)
def test_one_meaning_has_one_spelling(one):
    assert spell(one) == "1"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.5"),
        (-2.0, "-2"),
        (True, "True"),
        ("007", "007"),
        ("1.05", "1.05"),
        ("a.0", "a.0"),
        (np.bool_(0), "False"),
    ],
)
def test_other_meanings_keep_theirs(value, text):
    assert spell(value) == text


@pytest.mark.parametrize("value", [None, [1], {"a": 1}, np.zeros(2), Decimal("1")], ids=repr)
def test_what_is_neither_text_nor_number_has_no_spelling(value):
    with pytest.raises(ValueError, match="should be text or a number"):
        spell(value)


# ------------------------------------------------------------------ records


def test_what_is_missing_is_not_there():
    record = Record(
        "a", {"image": None, "note": " ", "labs": {"crp": float("nan"), "sex": "f"}, "vitals": [None, {}]}
    )
    assert record.present == ("labs",)
    assert record.inputs == {"labs": {"sex": "f"}}
    assert Record("a", {"labs": {"crp": None}}).present == ()
    assert Record("a", {"image": ["a.png", None, ""]}).inputs == {"image": ["a.png"]}
    assert Record("a", {}, {"sepsis": float("nan"), "days": 0}).targets == {"days": 0}


def test_taking_away_and_adding_leaves_the_record_itself_alone():
    record = Record("a", {"image": "a.png", "note": "cough"}, {"sepsis": 1}, group="p", folder="f")
    assert record.without("image", "labs").present == ("note",)
    assert record.only("image").present == ("image",)
    assert record.with_input("labs", {"crp": 3}).present == ("image", "note", "labs")
    assert record.with_input("note", None).present == ("image",)
    assert record.present == ("image", "note")
    assert record.without("image").targets == {"sepsis": 1}
    assert record.without("image").group == "p"
    with pytest.raises(FrozenInstanceError):
        record.id = "b"


def test_a_row_becomes_a_record():
    row = {
        "path": "a.png",
        "crp": 3.5,
        "sex": None,
        "sepsis": "yes",
        "exam": 12.0,
        "patient": 7,
        "ward": "3B",
    }
    record = Record.from_row(row, SCHEMA, folder="f")
    assert record == Record("12", {"image": "a.png", "labs": {"crp": 3.5}}, {"sepsis": "yes"}, "7", "f")
    assert Record.from_row({}, SCHEMA).id == "record"
    assert Record.from_row({}, SCHEMA, id="x").id == "x"
    assert Record.from_row({}, SCHEMA).group is None
    assert Record.from_row({"exam": "007", "patient": " 1.0 "}, SCHEMA).id == "007"


def test_modalities_are_checked_by_name():
    assert check_modalities("note", SCHEMA) == ("note",)
    with pytest.raises(ValueError, match='Did you mean "note"'):
        check_modalities(["notes"], SCHEMA)


# ------------------------------------------------------------------ batch


def make_batch(present):
    """A batch whose contents are the numbers of their records: 0, 1, 2 and so on."""
    size = len(present)
    present = torch.tensor(present, dtype=torch.bool)
    values, rows = {}, {}
    for index, name in enumerate(("image", "labs", "note")):
        here = present[:, index].nonzero().squeeze(1)
        if len(here):
            rows[name] = here
            number = here.float()[:, None]
            values[name] = {"cells": number, "known": number > -1}
            if name == "note":
                values[name] = Tokens(number[:, None], torch.ones(len(here), 1, dtype=torch.bool))
            if name == "image":
                values[name] = number
    return Batch(
        ("image", "labs", "note"), values, rows, present,
        targets={"y": torch.arange(size).float()},
        known={"y": torch.ones(size, dtype=torch.bool)},
        ids=tuple(f"r{i}" for i in range(size)),
        groups=tuple(f"p{i}" for i in range(size)),
        notes=tuple((f"n{i}",) for i in range(size)),
    )  # fmt: skip


def held(batch):
    """(modality, row, content) of all that a batch holds."""
    found = set()
    for name, rows in batch.rows.items():
        part = batch.values[name]
        part = (
            part["cells"]
            if isinstance(part, dict)
            else part.values[:, 0]
            if isinstance(part, Tokens)
            else part
        )
        found |= {
            (name, row, content) for row, content in zip(rows.tolist(), part[:, 0].tolist(), strict=True)
        }
    return found


patterns = st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=6)


@settings(deadline=None, max_examples=50)
@given(patterns, st.integers(0, 99))
def test_hiding_takes_away_exactly_what_is_asked_and_shifts_no_row(present, seed):
    batch = make_batch(present)
    stays = torch.rand(len(present), 3, generator=torch.Generator().manual_seed(seed)) < 0.5
    kept = batch.keep(stays)
    wanted = stays & batch.present
    assert torch.equal(kept.present, wanted)
    names = batch.modalities
    assert held(kept) == {(names[k], i, float(i)) for i, k in wanted.nonzero().tolist()}
    assert set(kept.values) == set(kept.rows) == {names[k] for k in range(3) if wanted[:, k].any()}
    assert kept.ids == batch.ids
    assert len(kept) == len(batch)


@settings(deadline=None, max_examples=30)
@given(patterns)
def test_each_record_can_be_taken_out_alone(present):
    batch = make_batch(present)
    for index in range(len(batch)):
        one = batch.only(index)
        assert len(one) == 1
        assert held(one) == {(name, 0, content) for name, row, content in held(batch) if row == index}
        assert one.ids == (f"r{index}",)
        assert (one.groups, one.notes) == ((f"p{index}",), ((f"n{index}",),))
        assert one.targets["y"].tolist() == [index]
        assert torch.equal(one.present, batch.present[index : index + 1])


def test_hiding_never_brings_back_what_is_absent_and_everything_may_go():
    batch = make_batch([[1, 0, 1], [0, 1, 0]])
    assert torch.equal(batch.keep(torch.ones(2, 3, dtype=torch.bool)).present, batch.present)
    empty = batch.hide("image", "labs", "note")
    assert (empty.values, empty.rows) == ({}, {})
    assert not empty.present.any()
    assert batch.present.sum() == 3  # the batch itself is left alone


def test_hiding_asks_for_known_names_and_one_bool_per_record_and_modality():
    batch = make_batch([[1, 0, 1], [0, 1, 0]])
    with pytest.raises(ValueError, match='Did you mean "labs"'):
        batch.hide("lab")
    for wrong in (torch.ones(3, dtype=torch.bool), torch.ones(3, 2, dtype=torch.bool)):
        with pytest.raises(ValueError, match=r"present should have shape \[batch=2 modality=3\]"):
            batch.keep(wrong)


def test_rows_are_counted_from_the_end_and_not_beyond_it():
    batch = make_batch([[1, 0, 1], [0, 1, 0]])
    assert batch.only(-1).ids == ("r1",)
    for index in (2, -3):
        with pytest.raises(IndexError, match="2 rows"):
            batch.only(index)


@pytest.mark.parametrize("places", [[2, 0], [1, 1, 3, 0, 1], [3, 3], [], [0, 1, 2, 3]])
def test_taking_rows_is_taking_each_of_them(places):
    """In this order, and more than once; a modality that none of them has is not there."""
    batch = make_batch([[1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 0]])
    taken = batch.take(torch.tensor(places, dtype=torch.long))
    assert taken.ids == tuple(batch.ids[place] for place in places)
    assert torch.equal(taken.present, batch.present[places])
    assert torch.equal(taken.targets["y"], batch.targets["y"][places])
    assert torch.equal(taken.known["y"], batch.known["y"][places])
    assert set(taken.values) == set(taken.rows)
    assert held(taken) == {
        (name, row, float(place))
        for row, place in enumerate(places)
        for name, here in zip(batch.modalities, batch.present[place].tolist(), strict=True)
        if here
    }


def test_a_batch_moves_as_a_whole():
    moved = make_batch([[1, 1, 1]]).to("meta")
    parts = [moved.present, moved.rows["image"], moved.values["image"], moved.values["labs"]["cells"],
             moved.values["note"].mask, moved.targets["y"], moved.known["y"]]  # fmt: skip
    assert {part.device.type for part in parts} == {"meta"}
    assert moved.ids == ("r0",)


def test_the_mean_of_tokens_is_over_real_ones():
    values = torch.tensor([[[1.0], [3.0], [torch.nan]], [[5.0], [torch.inf], [9.0]], [[7.0], [7.0], [7.0]]])
    values.requires_grad_()
    tokens = Tokens(values, torch.tensor([[1, 1, 0], [1, 0, 1], [0, 0, 0]]).bool())
    assert tokens.mean().tolist() == [[2.0], [7.0], [0.0]]
    tokens.mean().sum().backward()
    assert values.grad.squeeze(2).tolist() == [[0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0, 0]]
    assert tokens[torch.tensor([1])].mean().tolist() == [[7.0]]


def test_the_answer_is_the_last_step():
    steps = torch.arange(12.0).reshape(2, 3, 2)
    outputs = Outputs({"y": steps}, Fused(steps[:, -1], steps, torch.ones(2, 3, dtype=torch.bool)))
    assert torch.equal(outputs["y"], steps[:, 2])
    assert list(outputs) == ["y"]
