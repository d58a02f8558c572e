"""A guess of what a table's columns are must be right on plain cases and say why it left something out."""

import numpy as np
import pandas
import pytest

from mmmed.data.guessing import guess_columns

ROWS = 40
NOTES = [f"patient number {i} has a cough since {i} days" for i in range(ROWS)]


@pytest.fixture
def frame():
    generator = np.random.default_rng(0)
    return pandas.DataFrame(
        {
            "case_id": np.arange(ROWS),
            "path": [f"images/{i}.png" if i % 3 else None for i in range(ROWS)],
            "scan": [f"scans/{i}.nii.gz" for i in range(ROWS)],
            "picture": [np.zeros((8, 8), np.uint8)] * ROWS,
            "views": [[f"a{i}.jpg", f"b{i}.jpg"] if i % 2 else None for i in range(ROWS)],
            "note": NOTES,
            "age": generator.normal(60, 10, ROWS),
            "stage": generator.integers(0, 4, ROWS),
            "sex": generator.choice(["f", "m"], ROWS),
            "weight": [str(50 + i) for i in range(ROWS)],
            "name": [f"name{i}" for i in range(ROWS)],
            "seen": pandas.date_range("2020", periods=ROWS),
            "country": ["CH"] * ROWS,
            "empty": [None] * ROWS,
            "split": ["train"] * ROWS,
            "label": generator.integers(0, 2, ROWS),
        }
    )


def test_each_kind_of_column_is_recognised_by_its_cells(frame):
    guess = guess_columns(frame, exclude={"label"})
    assert guess.image == ("path", "picture", "views")
    assert guess.volume == ("scan",)
    assert guess.text == ("note",)
    assert guess.tabular == ("age", "stage", "sex", "weight")


def test_columns_that_are_left_out_come_with_a_reason(frame):
    ignored = guess_columns(frame, exclude={"label"}).ignored
    assert set(ignored) == {"case_id", "name", "seen", "country", "empty", "split"}
    assert "id" in ignored["case_id"]
    assert "another word" in ignored["name"]
    assert ignored["country"] == "constant"
    assert "no cell" in ignored["empty"]


def test_the_target_is_never_guessed_as_an_input(frame):
    assert "label" in guess_columns(frame).tabular
    assert "label" not in str(guess_columns(frame, exclude={"label"}))
