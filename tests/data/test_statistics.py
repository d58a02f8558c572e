"""What is learned comes from the training rows and from nowhere else, and is never learned twice."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mmmed.data.cohort import Cohort
from mmmed.data.sources import read_rows
from mmmed.data.statistics import NONE_SEEN, fit_schema, in_order, mean_and_scale
from mmmed.types import Binary, Category, Image, Number, Regression, Schema, Series, Tabular, Text

ROWS = [
    {
        "age": 10.0,
        "sex": "f",
        "note": "cough cough",
        "dose": 1.0,
        "steps": [{"time": 0, "p": 1.0}, {"time": 4, "p": 3.0}],
    },
    {
        "age": 30.0,
        "sex": None,
        "note": None,
        "dose": 3.0,
        "steps": [{"time": 0, "p": None}, {"time": 8, "p": 5.0}],
    },
    {"age": None, "sex": "m", "note": "cough", "dose": None, "steps": None},
    {"age": 9e9, "sex": "x", "note": "secret secret", "dose": 7e9, "steps": [{"time": 0, "p": 9e9}]},
]
OPEN = Schema(
    {
        "table": Tabular((Number("age"), Category("sex"))),
        "note": Text("note"),
        "series": Series("steps", (Number("p"),)),
    },
    {"dose": Regression("dose", unit="mg")},
)


def test_statistics_are_those_of_the_named_rows_by_hand():
    fitted = fit_schema(OPEN, read_rows(ROWS), np.array([0, 1, 2]))
    age, sex = fitted.modalities["table"].cells
    assert (age.mean, age.scale) == (20.0, 10.0)
    assert sex.levels == ("f", "m")
    assert (fitted.tasks["dose"].mean, fitted.tasks["dose"].scale) == (2.0, 1.0)
    pulse = fitted.modalities["series"].channels[0]
    assert pulse.mean == 3.0
    assert pulse.scale == pytest.approx(np.std([1, 3, 5]))
    assert fitted.modalities["series"].time_scale == pytest.approx(np.quantile([4, 8], 0.9))
    assert "cough" in fitted.modalities["note"].vocabulary
    assert "secret" not in fitted.modalities["note"].vocabulary


def test_a_row_outside_of_training_cannot_change_anything():
    rows = [dict(row) for row in ROWS]
    rows[3] = {"age": -5.0, "sex": "other", "note": "words", "dose": -1.0, "steps": [{"time": 0, "p": 0.0}]}
    train = np.array([0, 1, 2])
    assert fit_schema(OPEN, read_rows(ROWS), train) == fit_schema(OPEN, read_rows(rows), train)


def test_what_the_schema_states_stays_if_only_the_open_is_learned():
    stated = replace(
        OPEN,
        modalities={
            "table": Tabular((Number("age", mean=50.0, scale=2.0), Category("sex", ("m", "f", "d")))),
            "note": Text("note", vocabulary=("[PAD]", "[UNK]", "a")),
            "image": Image("picture", mean=0.1, scale=0.9),
        },
    )
    fitted = fit_schema(
        stated, read_rows([{**row, "picture": None} for row in ROWS]), np.array([0, 1]), only_open=True
    )
    assert fitted.modalities == stated.modalities
    assert (fitted.tasks["dose"].mean, fitted.tasks["dose"].scale) == (2.0, 1.0)


@pytest.mark.parametrize(
    "values", [[], [0.0, 0.0], [-1.0, 1.0], [np.nan], [3.0, 3.0, np.nan], [1e300, 1e300]]
)
def test_what_was_learned_never_looks_as_if_it_were_still_open(values):
    mean, scale = mean_and_scale(np.array(values, float))
    assert (mean, scale) != (0.0, 1.0)
    assert np.isfinite(mean)
    assert scale > 0


def test_a_saved_schema_reads_other_data_without_learning_from_them():
    first = Cohort.from_records(
        [{"a": 0.0, "s": None, "k": "x", "y": i % 2} for i in range(20)], schema=_schema("y")
    )
    assert first.schema.modalities["table"].cells[1].levels == (NONE_SEEN,)
    with pytest.warns(UserWarning, match="no column 'y'"):
        later = Cohort.from_records(
            [{"a": 5.0 + i, "s": "new", "k": "z"} for i in range(20)], schema=first.schema
        )
    assert later.schema == first.schema


def _schema(target):
    return Schema({"table": Tabular((Number("a"), Category("s"), Category("k")))}, {target: Binary(target)})


def test_every_fold_has_the_statistics_of_its_own_training_rows():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"a": rng.normal(size=60), "s": [f"l{i % 20}" for i in range(60)], "y": np.arange(60) % 2}
    )
    for fold in Cohort.from_frame(frame, tabular=["a", "s"], target="y").folds(3):
        train = fold["train"].to_frame()
        number, category = fold.schema.modalities["table"].cells
        assert number.mean == pytest.approx(train["a"].astype(float).mean())
        assert set(category.levels) == set(train["s"])


def test_levels_are_in_the_order_of_numbers_if_all_are_numbers():
    assert in_order(["10", "9", "1"]) == ["1", "9", "10"]
    assert in_order(["10", "9", "b"]) == ["10", "9", "b"]


def test_pictures_are_standardised_by_training_pictures_and_by_no_others():
    dark, bright = np.full((16, 16), 50, np.uint8), np.full((16, 16), 250, np.uint8)
    textured = [np.where(np.arange(16)[:, None] % 2, dark, dark + 20).astype(np.uint8)] * 4
    frame = pd.DataFrame({"p": [*textured, bright], "y": [0, 1, 0, 1, 0], "split": ["train"] * 4 + ["test"]})
    sixteen = Image("p", size=(16, 16))
    image = Cohort.from_frame(frame, image={"image": sixteen}, target="y", split="split").schema.modalities[
        "image"
    ]
    assert image.mean == pytest.approx(60 / 255, abs=1e-3)
    assert image.scale == pytest.approx(10 / 255, abs=1e-3)
