"""A cohort is a view of a table: selecting, hiding and reading never change what a record says."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from mmmed.data.cohort import Cohort
from mmmed.types import (
    Binary,
    Multiclass,
    Multilabel,
    Number,
    Record,
    Regression,
    Schema,
    Tabular,
)

ROWS = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of pictures and a CSV with holes of every kind."""
    place = tmp_path_factory.mktemp("cohort")
    (place / "images").mkdir()
    rng = np.random.default_rng(0)
    for i in range(ROWS):
        Picture.fromarray(rng.integers(0, 256, (9, 7), dtype=np.uint8)).save(place / f"images/{i}.png")
    frame = pd.DataFrame(
        {
            "exam": [f"{i:03d}" for i in range(ROWS)],
            "patient": [f"0{i // 2}" for i in range(ROWS)],
            "path": [f"images/{i}.png" if i % 3 else None for i in range(ROWS)],
            "age": [None if i % 4 == 0 else 40.5 + i for i in range(ROWS)],
            "sex": [None if i % 4 == 0 else "fm"[i % 2] for i in range(ROWS)],
            "note": [None if i % 5 == 0 else f"note {i}, no pain" for i in range(ROWS)],
            "ill": [None if i == 7 else i % 2 for i in range(ROWS)],
            "device": ["A", "B"] * (ROWS // 2),
        }
    )
    frame.astype({"ill": "Int64"}).to_csv(place / "table.csv", index=False)
    return place


@pytest.fixture
def cohort(folder):
    return Cohort.from_csv(
        folder / "table.csv",
        image="path",
        tabular=["age", "sex"],
        text="note",
        target="ill",
        group="patient",
        id="exam",
        roles={"device": "confounder"},
    )


# ---------------------------------------------------------------------------------------------------- reading


def test_a_record_is_the_row_read_one_by_one(cohort, folder):
    raw = pd.read_csv(folder / "table.csv", dtype=str, keep_default_na=False)
    for i, record in enumerate(cohort):
        row = raw.iloc[i].to_dict() | {"age": float(raw.iloc[i]["age"] or "nan")}
        assert record == Record.from_row(row, cohort.schema, folder=str(folder))
    assert [cohort[i] for i in range(ROWS)] == list(cohort)


def test_ids_and_patients_keep_their_zeros_and_agree_with_the_records(cohort):
    assert cohort[5].id == cohort.ids[5] == "005"
    assert cohort[5].group == cohort.groups[5] == "02"
    codes = cohort.group_codes()
    assert all((codes[i] == codes[j]) == (i // 2 == j // 2) for i in range(ROWS) for j in range(ROWS))


def test_presence_says_what_the_records_have_and_what_the_batch_holds(cohort):
    names = list(cohort.schema.modalities)
    assert names == ["image", "table", "text"]
    for record, here in zip(cohort, cohort.present, strict=True):
        assert record.present == tuple(n for n, there in zip(names, here, strict=True) if there)
    batch = cohort.collate(list(cohort))
    assert np.array_equal(batch.present.numpy(), cohort.present)


def test_presence_opens_no_file(cohort, monkeypatch):
    monkeypatch.setattr("mmmed.data.readers.read_image", None)
    assert cohort.present.sum() > 0


def test_batches_hold_every_record_once_in_order_or_shuffled_by_the_generator(cohort):
    ids = [name for batch in cohort.batches(5) for name in batch.ids]
    assert ids == cohort.ids.tolist()
    assert [len(batch) for batch in cohort.batches(5)] == [5, 5, 5, 5, 4]

    def shuffled(seed):
        return [n for b in cohort.batches(5, generator=torch.Generator().manual_seed(seed)) for n in b.ids]

    assert sorted(shuffled(0)) == sorted(ids)
    assert shuffled(0) == shuffled(0) != ids
    assert shuffled(1) != shuffled(0)


def test_a_data_loader_reads_a_cohort_directly(cohort):
    loader = torch.utils.data.DataLoader(cohort, batch_size=7, collate_fn=cohort.collate)
    assert [name for batch in loader for name in batch.ids] == cohort.ids.tolist()


def test_columns_come_in_view_order_with_none_where_missing(cohort):
    view = cohort.where([3, 0, 4])
    assert view.column("age") == [43.5, None, None]
    assert view.column("device") == ["B", "A", "A"]
    with pytest.raises(ValueError, match='Did you mean "age"'):
        cohort.column("agee")


# ---------------------------------------------------------------------------------------- choosing and hiding


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_any_chain_of_choices_equals_the_same_choice_of_a_list(data):
    rows = [{"k": str(i), "a": i if i % 3 else None, "b": "x" if i % 2 else None} for i in range(20)]
    view = Cohort.from_records(rows, tabular={"one": ["a"]}, text="b", id="k")
    expected = list(view)
    for _ in range(data.draw(st.integers(1, 4))):
        if not expected:
            break
        n = len(expected)
        kind = data.draw(st.sampled_from(["slice", "mask", "numbers", "keep", "without"]))
        if kind == "slice":
            part = data.draw(st.slices(n))
            view, expected = view[part], expected[part]
        elif kind == "mask":
            mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
            view, expected = view.where(mask), [r for r, m in zip(expected, mask, strict=True) if m]
        elif kind == "numbers":
            index = data.draw(st.lists(st.integers(-n, n - 1), max_size=8))
            view, expected = view.where(index), [expected[i] for i in index]
        elif kind == "keep":
            stays = np.array(
                data.draw(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=n, max_size=n))
            )
            view = view.keep(stays)
            names = list(view.schema.modalities)
            expected = [
                record.without(*(m for m, s in zip(names, here, strict=True) if not s))
                for record, here in zip(expected, stays, strict=True)
            ]
        else:
            view, expected = view.without("one"), [record.without("one") for record in expected]
    assert list(view) == expected
    assert view.present.tolist() == [[name in r.inputs for name in view.schema.modalities] for r in expected]
    assert view.ids.tolist() == [record.id for record in expected]


def test_what_is_hidden_is_gone_from_records_presence_columns_and_batches(cohort):
    view = cohort.without("table")
    assert not view.present[:, 1].any()
    assert all("table" not in record.inputs for record in view)
    assert set(view.column("age")) == {None}
    assert set(cohort.column("age")) != {None}
    assert "table" not in view.collate(list(view)).values
    assert list(view.only("image", "table").schema.modalities) == ["image", "table", "text"]
    assert not view.only("image", "table").present[:, 1:].any()
    with pytest.raises(ValueError, match='Did you mean "image"'):
        cohort.without("imag")


def test_a_view_shares_the_table(cohort):
    assert cohort["train"].table is cohort.table
    assert cohort.keep(np.zeros((ROWS, 3), bool)).source is cohort.source
    assert len(cohort["test"].table) == ROWS


def test_parts_by_name_and_wrong_choices_are_explained(cohort):
    assert sum(len(cohort[name]) for name in ("train", "val", "test")) == ROWS
    assert set(cohort["val"].splits) == {"val"}
    with pytest.raises(ValueError, match="Known: train, val, test"):
        cohort["validation"]
    with pytest.raises(IndexError, match="has 24 records"):
        cohort[24]
    with pytest.raises(ValueError, match="mask of 24 bools"):
        cohort.where([0, 99])
    with pytest.raises(ValueError, match=r"records=24 modality=3"):
        cohort.keep(np.ones((ROWS, 2), bool))
    assert cohort[-1].id == "023"


def test_a_cohort_can_be_sent_to_another_process(cohort):
    again = pickle.loads(pickle.dumps(cohort.without("text")["train"]))
    assert list(again) == list(cohort.without("text")["train"])


# ---------------------------------------------------------------------------------------------------- targets


def test_targets_are_numbers_with_what_is_known_of_them():
    rows = [
        {"x": 1, "b": "yes", "c": "mid", "u": 1, "v": True, "r": 1.5},
        {"x": 2, "b": None, "c": "low", "u": 0, "v": None, "r": None},
        {"x": 3, "b": "no", "c": None, "u": None, "v": False, "r": -2},
    ]
    target = {
        "b": "b",
        "c": Multiclass("c", ("low", "mid", "high")),
        "l": Multilabel(("u", "v")),
        "r": Regression("r", unit="mm"),
    }
    cohort = Cohort.from_records(rows, tabular=["x"], target=target)
    assert [part.tolist() for part in cohort.targets("b")] == [[1.0, 0.0, 0.0], [True, False, True]]
    assert [part.tolist() for part in cohort.targets("c")] == [[1, 0, 0], [True, True, False]]
    values, known = cohort.targets("l")
    assert values.tolist() == [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    assert known.tolist() == [[True, True], [True, False], [False, True]]
    assert [part.tolist() for part in cohort.targets("r")] == [[1.5, 0.0, -2.0], [True, False, True]]
    assert cohort.targets()[0].tolist() == [1.0, 0.0, 0.0]
    batch = cohort.collate(list(cohort))
    for task in ("b", "c", "l"):
        assert batch.targets[task].tolist() == cohort.targets(task)[0].tolist()
        assert batch.known[task].tolist() == cohort.targets(task)[1].tolist()
    with pytest.raises(ValueError, match="Unknown task"):
        cohort.targets("z")


@pytest.mark.parametrize("written", [[0, 1, None], [0.0, 1.0, None], ["0", "1", ""], ["0.0", "1.0", " "]])
def test_a_label_has_one_spelling(written):
    rows = [{"x": i, "y": label} for i, label in enumerate(written)]
    cohort = Cohort.from_records(rows, tabular=["x"], schema=None, target={"y": Binary("y")})
    assert cohort.column("y") == ["0", "1", None]


def test_a_label_outside_of_the_schema_names_record_column_value_and_levels():
    schema = Schema({"t": Tabular((Number("x"),))}, {"y": Multiclass("y", ("low", "high"))}, id="k")
    with pytest.raises(ValueError, match=r'record "b", column "y": the label \'hihg\'.*Did you mean "high"'):
        Cohort.from_records([{"k": "a", "x": 1, "y": "low"}, {"k": "b", "x": 2, "y": "hihg"}], schema=schema)


def test_a_number_outside_its_possible_range_names_the_record():
    age = Number("age", unit="years", low=0, high=120)
    with pytest.raises(ValueError, match=r'record "1", column "age": 950 is outside .* 0 to 120 years'):
        Cohort.from_records([{"age": 3}, {"age": 950}], tabular=[age])


# ---------------------------------------------------------------------------------------------- ids and roles


def test_ids_that_repeat_or_are_empty_are_refused():
    with pytest.raises(ValueError, match=r"1 ids in more than one row: a\. .*group="):
        Cohort.from_records([{"k": "a", "x": 1}, {"k": "a", "x": 2}], tabular=["x"], id="k")
    with pytest.raises(ValueError, match="empty in 1 rows, first in row 2"):
        Cohort.from_records([{"k": "a", "x": 1}, {"k": "", "x": 2}], tabular=["x"], id="k")


@pytest.mark.parametrize("role", ["leak", "truth", "confounder", "provenance", "split", "id", "group"])
def test_a_column_that_must_never_be_an_input_is_refused_however_it_is_asked_for(cohort, role):
    frame = pd.DataFrame({"x": [1, 2], "z": [3, 4]})
    with pytest.raises(ValueError, match=r'Column "z" .* can never be an input'):
        Cohort.from_frame(frame, tabular=["x", "z"], roles={"z": role})
    open_cohort = Cohort.from_frame(frame, tabular=["x"], roles={"z": role})
    with pytest.raises(ValueError, match="can never be an input"):
        open_cohort.with_schema(Schema({"t": Tabular((Number("z"),))}))
    assert open_cohort.roles == {"x": "input", "z": role}


def test_a_leak_may_be_a_target_if_asked_for():
    frame = pd.DataFrame({"x": [1, 2, 3], "z": [0, 1, 0]})
    assert Cohort.from_frame(frame, tabular=["x"], target="z", roles={"z": "leak"}).schema.tasks


def test_roles_follow_from_the_schema_and_unknown_ones_are_refused(cohort):
    assert cohort.roles == {
        "exam": "id",
        "patient": "group",
        "path": "input",
        "age": "input",
        "sex": "input",
        "note": "input",
        "ill": "target",
        "device": "confounder",
    }
    with pytest.raises(ValueError, match="Unknown role"):
        Cohort.from_frame(pd.DataFrame({"x": [1, 2]}), tabular=["x"], roles={"x": "imput"})
