"""A saved cohort comes back equal, or nothing was written."""

import json
import os

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Picture

from mmmed.data import saving
from mmmed.data.cohort import Cohort
from mmmed.types import Image, Number, Series, Volume


@pytest.fixture
def prepared(tmp_path):
    """A small folder in the prepared form: pictures with gaps, patients with two rows, a leak."""
    said = {
        "case": "id",
        "person": "group; several rows",
        "fold": "5 patient folds",
        "split": "split: fold 0 = test, fold 1 = val",
        "picture": "image path",
        "width": "image",
        "age": "input tabular; years; missing in the source",
        "cluster": "input omics; cluster number (category)",
        "note": "input text: as given",
        "other_note": "input text: another",
        "diagnosis": "LEAK: histology",
        "site": "provenance; confounder",
        "ill": "target: 0/1",
        "grade": "target: low/mid/high",
    }
    rng = np.random.default_rng(0)
    rows = []
    for i in range(20):
        fold = (i // 2) % 5
        Picture.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8)).save(tmp_path / f"{i}.png")
        rows.append(
            {
                "case": f"{i:03d}",
                "person": f"{i // 2:02d}",
                "fold": fold,
                "split": {0: "test", 1: "val"}.get(fold, "train"),
                "picture": f"{i}.png" if i % 4 else "",
                "width": 6,
                "age": 50 + i if i % 3 else "",
                "cluster": i % 3 + 1,
                "note": f"word {i}",
                "other_note": "other",
                "diagnosis": "secret",
                "site": "A",
                "ill": i % 2,
                "grade": ["low", "mid", "high"][i % 3],
            }
        )
    pd.DataFrame(rows).to_csv(tmp_path / "metadata.csv", index=False)
    (tmp_path / "schema.json").write_text(json.dumps({"name": "small", "group": "person", "columns": said}))
    return tmp_path


def assert_equal_cohorts(one, other):
    assert other.schema == one.schema
    assert list(other) == [record for record in one] or _same_but_files(one, other)
    assert np.array_equal(other.present, one.present)
    assert other.splits.tolist() == one.splits.tolist()
    assert other.groups.tolist() == one.groups.tolist()


def _same_but_files(one, other):
    """Equal batches: pictures that were arrays have become files."""
    left, right = one.collate(list(one)), other.collate(list(other))
    assert left.ids == right.ids
    for name, values in left.values.items():
        for key, tensor in values.items():
            assert tensor.equal(right.values[name][key])
    return True


def test_a_saved_cohort_comes_back_equal_with_its_parts_and_its_holes(prepared, tmp_path):
    cohort = Cohort.from_folder(prepared).split(seed=3)
    cohort.save(tmp_path / "saved")
    again = Cohort.from_folder(tmp_path / "saved")
    assert_equal_cohorts(cohort, again)
    assert again.roles["diagnosis"] == "leak"
    assert again.split_origin == cohort.split_origin
    assert (tmp_path / "saved" / "metadata.csv").is_file()
    for name in cohort.source.columns:
        if name != "split":
            assert again.column(name) == cohort.column(name)
    cohort["val"].without("text").save(tmp_path / "part")
    part = Cohort.from_folder(tmp_path / "part")
    assert_equal_cohorts(cohort["val"].without("text"), part)
    assert set(part.column("note")) == {None}


def test_numbers_texts_and_arrays_survive_saving_to_the_last_bit(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        {
            "grey": rng.integers(0, 256, (5, 4), dtype=np.uint8),
            "deep": rng.integers(0, 65536, (5, 4), dtype=np.uint16),
            "real": rng.random((5, 4)).astype(np.float32),
            "colour": rng.integers(0, 256, (5, 4, 3), dtype=np.uint8),
            "views": [rng.integers(0, 256, (5, 4), dtype=np.uint8) for _ in range(i % 3)] or None,
            "ct": rng.random((3, 5, 4)) if i % 2 else None,
            "x": [0.1 + 0.2, 1e-300, 1 / 3, None][i % 4],
            "note": ['a "b", c\r\nd', " blanks ", "007", None][i % 4],
            "steps": [{"time": 0.5, "pulse": 1 / 3}] if i % 2 else None,
            "y": i % 2,
        }
        for i in range(12)
    ]
    pictures = {name: Image(name, size=(5, 4)) for name in ("grey", "deep", "real", "views")}
    cohort = Cohort.from_records(
        rows,
        image={**pictures, "colour": Image("colour", size=(5, 4), channels=3)},
        volume={"ct": Volume("ct", size=(3, 5, 4))},
        tabular=["x"],
        text="note",
        series={"steps": Series("steps", (Number("pulse"),))},
        target="y",
    )
    cohort.save(tmp_path / "saved")
    again = Cohort.from_folder(tmp_path / "saved")
    _same_but_files(cohort, again)
    assert again.column("x") == cohort.column("x")
    assert again.column("note") == cohort.column("note")
    assert again.ids.tolist() == cohort.ids.tolist()


def test_a_csv_is_written_where_it_holds_everything_and_reads_back_every_float(tmp_path):
    values = [0.1 + 0.2, 1e-300, -1 / 3, 123456789.123456789, None]
    cohort = Cohort.from_records([{"x": v, "n": "é\n,;"} for v in values], tabular=["x"], text="n")
    cohort.save(tmp_path / "saved")
    assert (tmp_path / "saved" / "metadata.csv").is_file()
    assert Cohort.from_folder(tmp_path / "saved").column("x") == values


def test_saving_is_whole_or_not_at_all(prepared, tmp_path, monkeypatch):
    cohort = Cohort.from_folder(prepared)
    cohort.save(tmp_path / "saved")
    before = (tmp_path / "saved" / "metadata.csv").read_bytes()

    def broken(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(saving.Schema, "save", broken)
    with pytest.raises(OSError, match="disk full"):
        cohort["test"].save(tmp_path / "saved")
    assert (tmp_path / "saved" / "metadata.csv").read_bytes() == before
    assert not [item for item in tmp_path.iterdir() if ".saved." in item.name]


def test_saving_again_replaces_a_saved_cohort_and_nothing_else(prepared, tmp_path):
    cohort = Cohort.from_folder(prepared)
    for part in (cohort, cohort["test"]):
        part.save(tmp_path / "saved")
    assert len(Cohort.from_folder(tmp_path / "saved")) == 4
    before = sorted(os.listdir(prepared))
    with pytest.raises(ValueError, match="not a saved cohort, and is left alone"):
        cohort.save(prepared)
    assert sorted(os.listdir(prepared)) == before


def test_a_cohort_whose_files_have_moved_is_opened_with_root(prepared, tmp_path):
    Cohort.from_folder(prepared).save(tmp_path / "saved")
    moved = tmp_path / "moved"
    moved.mkdir()
    for picture in prepared.glob("*.png"):
        picture.rename(moved / picture.name)
    with pytest.raises(ValueError, match="Pass root="):
        Cohort.from_folder(tmp_path / "saved")
    assert len(Cohort.from_folder(tmp_path / "saved", root=moved)) == 20


def test_a_column_hidden_from_one_of_two_modalities_cannot_be_saved(tmp_path):
    np.savez(tmp_path / "a.npz", flair=np.zeros((4, 4, 4)), post=np.zeros((4, 4, 4)))
    volumes = {name: Volume("v", key=name) for name in ("flair", "post")}
    cohort = Cohort.from_records([{"v": "a.npz"}], volume=volumes, root=tmp_path)
    with pytest.raises(ValueError, match="hidden from some of them only"):
        cohort.without("post").save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize(
    "facts", ["{}", "[]", '{"format": 99}', '{"format": 1, "roles": [], "split": "split"}', "no"]
)
def test_a_damaged_note_beside_the_table_is_a_value_error(prepared, tmp_path, facts):
    Cohort.from_folder(prepared).save(tmp_path / "saved")
    (tmp_path / "saved" / "cohort.json").write_text(facts)
    with pytest.raises(ValueError, match=r"cohort\.json|newer release|lead to no file"):
        Cohort.from_folder(tmp_path / "saved")
