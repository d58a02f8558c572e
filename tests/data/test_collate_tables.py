"""Cells of a table: numbers in any spelling, levels by name, and an error that says where and what to do."""

import math

import numpy as np
import pytest
import torch

from mmmed.data.collate import Collator
from mmmed.types import Category, Number, Record, Schema, Tabular

AGE = Number("age", unit="y", low=0, high=120, mean=60.0, scale=20.0)
SCHEMA = Schema(
    {"table": Tabular((AGE, Number("crp", mean=1.0, scale=2.0), Category("sex", levels=("f", "m", "1"))))}
)
collate = Collator(SCHEMA)


def table(**cells):
    return collate([Record("r1", {"table": cells})])


def test_cells_are_standardised_and_categories_are_indices():
    batch = table(age=80, crp=2.0, sex="m")
    assert batch.values["table"]["cells"].tolist() == [[1.0, 0.5, 1.0]]
    assert batch.values["table"]["known"].tolist() == [[True, True, True]]
    assert batch.values["table"]["cells"].dtype == torch.float32


def test_unknown_cells_are_zero_and_marked():
    batch = table(crp=2.0)
    assert batch.values["table"]["cells"].tolist() == [[0.0, 0.5, 0.0]]
    assert batch.values["table"]["known"].tolist() == [[False, True, False]]


@pytest.mark.parametrize("value", ["80", " 80.0 ", "8e1", np.float32(80), np.int64(80), "+80"])
def test_numbers_as_text_and_of_any_kind_are_the_same_number(value):
    assert table(age=value).values["table"]["cells"][0, 0] == 1.0


@pytest.mark.parametrize("value", ["nan", "NaN", " nan "])
def test_nan_as_text_is_an_empty_cell_of_a_number(value):
    batch = table(age=value, crp=1.0)
    assert batch.values["table"]["known"].tolist() == [[False, True, False]]
    assert batch.values["table"]["cells"].isfinite().all()


def test_nan_as_text_is_a_level_like_any_other_in_a_category():
    with pytest.warns(UserWarning, match="'nan' was never seen"):
        table(age=1, sex="nan")


@pytest.mark.parametrize(
    "value", ["<5", "12,5", "12 mg", "five", "1_000", [3], {"a": 1}, "0x10", "−3"], ids=repr
)
def test_what_is_no_number_is_named_with_what_to_do(value):
    with pytest.raises(
        ValueError, match=r'record "r1", column "age": a number in y was expected, got .*Category'
    ):
        table(age=value)


@pytest.mark.parametrize("value", [math.inf, -math.inf, "inf", "-Infinity", 1e300, 1e39, "1e999"])
def test_a_number_that_is_not_finite_is_refused(value):
    with pytest.raises(
        ValueError, match=r'record "r1", column "crp": .* no finite number\. Leave the cell empty'
    ):
        table(crp=value)


def test_a_whole_number_beyond_all_floats_is_refused():
    with pytest.raises(ValueError, match=r'record "r1", column "crp"'):
        table(crp=10**400)


@pytest.mark.parametrize("value", [-1, 120.5, "1000"])
def test_what_is_physically_impossible_is_an_error_of_the_data(value):
    wanted = r'record "r1", column "age": .* outside the possible range 0 to 120 y\. Correct the cell'
    with pytest.raises(ValueError, match=wanted):
        table(age=value)


def test_the_ends_of_the_range_are_possible():
    assert table(age=0).values["table"]["cells"][0, 0] == -3.0
    assert table(age=120).values["table"]["cells"][0, 0] == 3.0


@pytest.mark.parametrize("value", [1, 1.0, "1", " 1 ", "1.0", np.int64(1)])
def test_a_level_has_one_spelling(value):
    assert table(sex=value).values["table"]["cells"][0, 2] == 2.0


def test_a_level_never_seen_counts_as_missing_with_a_note_and_a_warning():
    with pytest.warns(
        UserWarning, match=r'record "r1", column "sex": the category \'mm\' was never seen'
    ) as caught:
        batch = table(age=60, sex="mm")
    assert batch.values["table"]["known"].tolist() == [[True, False, False]]
    (note,) = batch.notes[0]
    assert str(caught[0].message) == note
    assert "Known: f, m, 1. It counts as not recorded." in note


def test_a_level_never_seen_is_an_error_where_the_schema_says_so():
    schema = Schema({"table": Tabular((Category("sex", levels=("f", "m"), unknown="error"),))})
    with pytest.raises(
        ValueError, match=r'record "r1", column "sex".*Correct the cell, empty it, or set unknown='
    ):
        Collator(schema)([Record("r1", {"table": {"sex": "d"}})])


def test_a_table_of_which_nothing_can_be_used_is_absent_and_shifts_nobody():
    records = [
        Record("a", {"table": {"age": 60}}),
        Record("b", {"table": {"sex": "x"}}),
        Record("c", {"table": {"age": 80}}),
    ]
    with pytest.warns(UserWarning, match="never seen"):
        batch = collate(records)
    assert batch.rows["table"].tolist() == [0, 2]
    assert batch.present[:, 0].tolist() == [True, False, True]
    assert batch.values["table"]["cells"][:, 0].tolist() == [0.0, 1.0]
    assert "table counts as not recorded" in batch.notes[1][-1]


def test_a_level_that_is_no_level_is_named():
    with pytest.raises(ValueError, match=r'record "r1", column "sex": .*got \[1\]\. Write one level'):
        table(sex=[1])


def test_a_column_that_the_schema_does_not_have_is_refused():
    with pytest.raises(ValueError, match=r'Record "r1" brings the column \'agee\'.*Did you mean "age"'):
        table(agee=3)


def test_a_table_is_a_mapping():
    with pytest.raises(
        ValueError, match=r'Record "r1": a table should be \{column: cell\}.*age, crp, sex, got \[60\]'
    ):
        collate([Record("r1", {"table": [60]})])
