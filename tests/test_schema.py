"""The schema: it says the same in every copy, cannot be changed, and refuses what makes no sense by name."""

import copy
import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmmed.types import (
    Binary,
    Category,
    Image,
    Multiclass,
    Multilabel,
    Number,
    Regression,
    Schema,
    Series,
    Tabular,
    Text,
    Volume,
)

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


def test_a_schema_survives_json_copies_and_other_processes(tmp_path):
    SCHEMA.save(tmp_path / "schema.json")
    copies = [
        Schema.from_dict(json.loads(json.dumps(SCHEMA.to_dict()))),
        Schema.load(tmp_path / "schema.json"),
        copy.deepcopy(SCHEMA),
        pickle.loads(pickle.dumps(SCHEMA)),
    ]
    for other in copies:
        assert other == SCHEMA
        assert hash(other) == hash(SCHEMA)
        assert str(other) == str(SCHEMA)
        assert tuple(other.modalities) == tuple(SCHEMA.modalities)
    assert [path.name for path in tmp_path.iterdir()] == ["schema.json"]


numbers = st.floats(-1e6, 1e6)
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=6).filter(
    str.strip
)


@settings(deadline=None, max_examples=40)
@given(names=st.lists(words, min_size=1, max_size=4, unique=True), mean=numbers, scale=st.floats(1e-6, 1e6))
def test_any_column_names_and_statistics_survive_json(names, mean, scale):
    schema = Schema({"t": Tabular(tuple(Number(n, unit=n, mean=mean, scale=scale) for n in names))})
    assert Schema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema


def test_schemas_that_fuse_in_another_order_are_different():
    # Compared without order they would be equal, and columns of `present` would be read as other modalities.
    a, b = {"a": Text("x"), "b": Text("y")}, {"b": Text("y"), "a": Text("x")}
    assert Schema(a) != Schema(b)
    assert Schema(a) == Schema(dict(a))
    assert Schema(a) != "a schema"
    assert len({Schema(a), Schema(b), Schema(a)}) == 2


def test_a_schema_cannot_be_changed_only_made_anew():
    with pytest.raises(TypeError):
        SCHEMA.modalities["image"] = Text("x")
    larger = SCHEMA.with_modality("ecg", Series("ecg", (Number("v"),)))
    assert tuple(larger.modalities) == (*SCHEMA.modalities, "ecg")
    assert tuple(larger.without("image", "ecg").modalities) == tuple(SCHEMA.modalities)[1:]
    assert SCHEMA.with_modality("image", Image("other")).modalities["image"].column == "other"
    with pytest.raises(ValueError, match='Did you mean "note"'):
        SCHEMA.without("notes")


def test_levels_are_spelled_as_cells_are():
    assert Category("c", (0.0, 1.0)).levels == ("0", "1")
    assert Category("c", (" f", "m ")).levels == ("f", "m")
    assert Binary("y", (0.0, 1)).levels == ("0", "1")
    assert Multiclass("y", (1.0, 2, "3")).levels == ("1", "2", "3")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Schema({}), "at least one modality"),
        (lambda: Schema({"a": "path"}), "Modality 'a' should be one of image, volume"),
        (lambda: Schema({"": Text("x")}), "needs a name without dots"),
        (lambda: Schema({"a.b": Text("x")}), "needs a name without dots"),
        (lambda: Schema({3: Text("x")}), "needs a name without dots"),
        (lambda: Schema({"a": Text("x")}, {"y.z": Binary("y")}), "A task needs a name without dots"),
        (lambda: Schema({"a": Text("x")}, {"y": "y"}), "Task 'y' should be one of binary"),
        (lambda: Schema({"a": Text("x")}, {"y": Binary("x")}), "Column x is both an input and a target"),
        (lambda: Schema({"a": Text("x")}, {"y": Binary("y")}, group="y"), "cannot be an input or a target"),
        (lambda: Schema({"a": Text("x")}, id="x"), "cannot be an input or a target"),
        (lambda: Number("age", scale=0), "scale positive"),
        (lambda: Number("age", mean=float("nan")), "mean must be finite"),
        (lambda: Number("age", low=2, high=1), "low 2 is above high 1"),
        (lambda: Category("sex", ("f", "f")), "lists a level twice"),
        (lambda: Category("sex", (1, 1.0)), "lists a level twice"),
        (lambda: Category("sex", "fm"), "levels should be a list"),
        (lambda: Category("sex", unknown="ignore"), "policy for unknown levels of 'sex'"),
        (lambda: Tabular(()), "at least one column"),
        (lambda: Tabular((Number("a"), Category("a"))), "lists a column twice"),
        (lambda: Tabular(("a",)), "should be a Number or Category, got 'a'"),
        (lambda: Image("p", size=(0, 3)), "2 positive whole numbers"),
        (lambda: Image("p", size=(3, 3, 3)), "2 positive whole numbers"),
        (lambda: Image("p", channels=4), "1 \\(grey\\) or 3"),
        (lambda: Image("p", scale=0), "scale positive"),
        (lambda: Volume("p", size=(8, 8)), "3 positive whole numbers"),
        (lambda: Volume("p", channels=0), "at least 1"),
        (lambda: Volume("p", scale=-1), "scale positive"),
        (lambda: Text("x", length=0), "at least 1"),
        (lambda: Series("s", ()), "at least one channel"),
        (lambda: Series("s", (Category("c"),)), "should be a Number"),
        (lambda: Series("s", (Number("a"), Number("a"))), "different names"),
        (lambda: Series("s", (Number("time"),)), "different names"),
        (lambda: Series("s", (Number("a"),), length=0), "at least 1"),
        (lambda: Series("s", (Number("a"),), time_scale=0), "time_scale must be positive"),
        (lambda: Binary("y", ("1", "1")), "two different levels"),
        (lambda: Binary("y", ("0", "1", "2")), "two different levels"),
        (lambda: Multiclass("y", ("0",)), "two at least"),
        (lambda: Multiclass("y", ("0", "0")), "different levels"),
        (lambda: Multilabel(()), "at least one column"),
        (lambda: Multilabel(("a", "a")), "lists a column twice"),
        (lambda: Regression("y", scale=0), "scale positive"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_its_name(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_single_number_is_a_square_size():
    assert Image("p", size=8).size == (8, 8)
    assert Volume("p", size=8).size == (8, 8, 8)


def one(**modality):
    """The JSON form of a schema with this modality."""
    return {"modalities": {"a": modality}}


GOOD = {"modalities": {"labs": {"kind": "tabular", "cells": [{"kind": "number", "name": "crp"}]}}}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "JSON object"),
        ({**GOOD, "format": 2}, "format 2; this release reads up to 1"),
        ({**GOOD, "format": "1"}, "format '1'"),
        ({**GOOD, "colour": 1}, "Unknown schema field 'colour'"),
        ({"modalities": []}, "at least one modality"),
        ({"modalities": [1]}, "should be an object of name"),
        (one(kind="imgae", column="p"), 'Did you mean "image"'),
        (one(column="p"), '"kind"'),
        (one(kind="image", column="p", colour=1), "Unknown field of modality 'a' 'colour'"),
        (one(kind="image"), "cannot be read"),
        (one(kind="tabular", cells=["crp"]), "should be a Number or Category"),
        (one(kind="tabular", cells=[{"kind": "image"}]), "Unknown kind of column"),
        (one(kind="tabular", cells=[{"kind": "number", "name": "n", "mean": "x"}]), "cannot be read"),
    ],
    ids=str,
)  # fmt: skip
def test_json_that_is_no_schema_is_refused(data, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        Schema.from_dict(data)
    (tmp_path / "schema.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"schema\.json is not a schema"):
        Schema.load(tmp_path / "schema.json")


def test_a_file_that_is_not_even_json_is_named(tmp_path):
    for content in (b"", b"{", b"\xff\xfe"):
        (tmp_path / "schema.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"schema\.json is not a schema"):
            Schema.load(tmp_path / "schema.json")


def test_a_schema_reads_as_a_table():
    text = str(SCHEMA)
    for part in (
        "32 x 48 px, 3 channels",
        "crp [mg/l], sex (f/m)",
        "yes against no",
        "days [d]",
        "patient: patient; id: exam",
    ):
        assert part in text
