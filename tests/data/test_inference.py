"""What a table shows is what the schema says; what cannot be said is an error that names the cell."""

import warnings

import numpy as np
import pandas as pd
import pytest

from mmmed.data.cohort import Cohort
from mmmed.data.inference import Columns, infer_schema
from mmmed.data.sources import read_frame
from mmmed.types import (
    Binary,
    Category,
    Image,
    Multiclass,
    Multilabel,
    Number,
    Regression,
    Series,
    Tabular,
    Text,
    Volume,
)


def schema_of(frame, **columns):
    return infer_schema(read_frame(pd.DataFrame(frame)), Columns(**columns))


def cell_of(values):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return schema_of({"x": values}, tabular=["x"]).modalities["table"].cells[0]


def task_of(values):
    frame = {"x": values, "age": np.arange(len(values))}
    return schema_of(frame, tabular=["age"], target="x").tasks["x"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1.5", "2", None], Number),
        (["0", "1", "0"], Number),
        ([0, 1, 0], Number),
        (["1e3", "nan", " 2 "], Number),
        ([1.5, np.nan, 2.0], Number),
        (["f", "m", "f"], Category),
        ([True, False, True], Category),
        (["G2", "G3", "G2"], Category),
        (["4a", "4b", "2"], Category),
        (["10-20", "20-30", "30-40"], Category),
        (["no", "shadowing", "enhancement"], Category),
        (pd.Categorical(["a", "b", "a"]), Category),
    ],
)
def test_a_column_of_numbers_is_a_number_and_any_other_a_category(values, kind):
    assert type(cell_of(values)) is kind


@pytest.mark.parametrize("odd", ["<5", "12,5", "12 mg", ">= 3", "7 g/dl", "12mg", "5 %"])
def test_text_that_is_nearly_a_number_is_an_error_with_row_column_value_and_cure(odd):
    with pytest.raises(ValueError, match="number was expected") as caught:
        schema_of({"crp": ["1", "2.5", odd, "4"]}, tabular=["crp"])
    message = str(caught.value)
    assert "row 3" in message
    assert '"crp"' in message
    assert odd in message
    assert "decimal point" in message


def test_a_single_slip_among_many_numbers_is_an_error_and_no_category():
    with pytest.raises(ValueError, match="row 21"):
        schema_of({"crp": [str(i) for i in range(20)] + ["?"]}, tabular=["crp"])


def test_ids_that_look_like_numbers_are_not_read_as_numbers():
    assert type(cell_of(["3e461592", "1880e301", "09258248"])) is Category


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["0", "1", "1"], Binary("x", ("0", "1"))),
        ([0.0, 1.0, np.nan], Binary("x", ("0", "1"))),
        (["yes", "no", "yes"], Binary("x", ("no", "yes"))),
        (["Positive", "Negative", "Negative"], Binary("x", ("Negative", "Positive"))),
        (["malignant", "benign", "benign"], Binary("x", ("benign", "malignant"))),
        (["stroke", "normal", "normal"], Binary("x", ("normal", "stroke"))),
        (["alive", "died", "died"], Binary("x", ("alive", "died"))),
        (["a", "b", "b"], Binary("x", ("a", "b"))),
        (["10", "9", "9"], Binary("x", ("9", "10"))),
        ([True, False, True], Binary("x", ("False", "True"))),
        (["low", "mid", "high"], Multiclass("x", ("high", "low", "mid"))),
        (["2", "10", "1"], Multiclass("x", ("1", "2", "10"))),
        ([0, 1, 2], Multiclass("x", ("0", "1", "2"))),
        (["0.5", "1.5", "2.5"], Regression("x")),
        (list(range(20)), Regression("x")),
    ],
)
def test_the_target_decides_the_question(values, expected):
    assert task_of(values) == expected


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["1", "1", None], "'1' in every row"),
        ([None, None, None], "is empty in all 3 rows"),
        (["1.5", "2.5", "<5"], "number was expected"),
        ([f"word {i} and more" for i in range(60)], "60 different texts"),
    ],
)
def test_a_target_that_cannot_be_learned_is_an_error(values, words):
    with pytest.raises(ValueError, match=words):
        task_of(values)


def test_a_column_that_is_not_there_brings_a_suggestion():
    with pytest.raises(ValueError, match='Did you mean "age"'):
        schema_of({"age": [1, 2]}, tabular=["agee"])


def test_an_empty_column_that_was_asked_for_is_an_error():
    with pytest.raises(ValueError, match=r'Column "x" is empty in all 2 rows'):
        schema_of({"x": [None, ""], "y": [1, 2]}, tabular=["x", "y"])


def test_nothing_named_lists_what_there_is():
    with pytest.raises(ValueError, match="The table has: age, note"):
        schema_of({"age": [1], "note": ["x"]})


def test_nearly_constant_and_id_like_columns_are_warned_about_and_kept():
    frame = {
        "same": ["a"] * 99 + ["b"],
        "code": [f"k{i}" for i in range(100)],
        "patient_id": [i % 9 for i in range(100)],
        "age": np.arange(100) % 7,
    }
    with pytest.warns(UserWarning, match="Columns of the table") as caught:
        schema = schema_of(frame, tabular=list(frame))
    message = str(caught[0].message)
    assert len(caught) == 1
    assert '"same" has one value in 99%' in message
    assert '"code" is different in every row' in message
    assert '"patient_id" is named like an id' in message
    assert '"age"' not in message
    assert schema.columns == tuple(frame)


def test_a_name_a_list_a_dict_and_ready_made_parts_are_all_understood():
    frame = {
        "p": ["a.png", "b.png"],
        "q": ["c.png", None],
        "v": ["x.npz", "y.npz"],
        "n": ["t", "u"],
        "a": [1, 2],
    }
    frame |= {"s": ["f", "m"], "y": [0, 1], "z": [1, 0]}
    one = schema_of(frame, image="p", tabular="a", text="n", target="y")
    assert dict(one.modalities) == {"image": Image("p"), "table": Tabular((Number("a"),)), "text": Text("n")}
    listed = schema_of(frame, image=["p", "q"], target=["y", "z"])
    assert list(listed.modalities) == ["p", "q"]
    assert list(listed.tasks) == ["y", "z"]
    named = schema_of(
        frame,
        image={"scan": Image("p", size=(8, 9), channels=3)},
        volume={"t1": Volume("v", key="t1"), "t2": Volume("v", key="t2")},
        tabular={"labs": ["a"], "person": [Category("s", ("f", "m")), Number("a", unit="years")]},
        target={"ill": "y", "signs": ["y", "z"]},
    )
    assert list(named.modalities) == ["scan", "t1", "t2", "labs", "person"]
    assert named.modalities["person"].cells[1].unit == "years"
    assert named.tasks["signs"] == Multilabel(("y", "z"))


def test_two_modalities_of_one_name_are_refused():
    with pytest.raises(ValueError, match="would be called 'a'"):
        schema_of({"a": ["x"], "b": ["y"]}, image={"a": "b"}, text=["a"])


def test_colour_is_seen_in_the_first_picture_and_grey_stored_as_colour_is_grey():
    grey = [np.full((4, 4), 7, np.uint8)] * 2
    pale = [np.repeat(picture[:, :, None], 3, axis=2) for picture in grey]
    red = [picture.copy() for picture in pale]
    for picture in red:
        picture[..., 0] = 200
    assert schema_of({"p": grey}, image="p").modalities["image"].channels == 1
    assert schema_of({"p": pale}, image="p").modalities["image"].channels == 1
    assert schema_of({"p": red}, image="p").modalities["image"].channels == 3


def test_the_quantities_of_a_series_are_found_in_its_steps():
    steps = [[{"time": 0, "pulse": 80}, {"time": 1, "spo2": 97}], None]
    assert schema_of({"s": steps}, series="s").modalities["series"] == Series(
        "s", (Number("pulse"), Number("spo2"))
    )
    with pytest.raises(ValueError, match='needs "time"'):
        schema_of({"s": [[{"hour": 0, "pulse": 80}]]}, series="s")


def test_the_same_csv_and_frame_give_the_same_schema(tmp_path):
    frame = pd.DataFrame(
        {"id": [f"{i:03d}" for i in range(30)], "a": [i / 4 if i % 3 else None for i in range(30)]}
        | {"s": ["f", "m", None] * 10, "y": [i % 2 for i in range(30)]}
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    columns = {"tabular": ["a", "s"], "target": "y", "id": "id"}
    one = Cohort.from_csv(tmp_path / "t.csv", **columns)
    other = Cohort.from_frame(frame, root=tmp_path, **columns)
    assert one.schema == other.schema
    assert list(one) == list(other)
    assert one.splits.tolist() == other.splits.tolist()
