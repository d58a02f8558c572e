"""What a cohort is made of (files, other schemas, lists of records, series) and how it is shown."""

import json
from dataclasses import replace

import datasets
import numpy as np
import pandas as pd
import pytest
from PIL import Image as Picture

from mmmed.checks import MissingFile, UnsafePath
from mmmed.data.cohort import Cohort
from mmmed.types import (
    Category,
    Image,
    Number,
    Record,
    Schema,
    Series,
    Tabular,
    Text,
    Volume,
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


# ------------------------------------------------------------------------------------------------------ files


def test_paths_that_lead_nowhere_are_an_error_that_counts_them_or_count_as_absent(folder):
    frame = pd.DataFrame({"p": ["images/1.png", "images/no.png", None, "elsewhere/2.png"]})
    with pytest.raises(MissingFile, match=r'2 paths lead to no file, first record "1": images/no\.png'):
        Cohort.from_frame(frame, image="p", root=folder)
    made = Cohort.from_frame(frame, image="p", root=folder, missing_files="absent")
    assert made.present[:, 0].tolist() == [True, False, False, False]


def test_a_view_that_is_gone_does_not_take_the_others_with_it(folder):
    rows = [{"p": ["images/1.png", "images/no.png"]}, {"p": ["images/no.png"]}, {"p": []}]
    made = Cohort.from_records(rows, image="p", root=folder, missing_files="absent")
    assert made[0].inputs["image"] == ["images/1.png"]
    assert made.present[:, 0].tolist() == [True, False, False]


def test_absolute_paths_inside_the_root_become_relative_and_others_are_refused(folder, tmp_path):
    inside = [str(folder / "images/1.png"), str(folder / "images/2.png")]
    assert (
        Cohort.from_frame(pd.DataFrame({"p": inside}), image="p", root=folder).column("p")[0]
        == "images/1.png"
    )
    nested = pd.DataFrame({"p": [inside]})
    assert Cohort.from_frame(nested, image="p", root=folder).column("p") == [["images/1.png", "images/2.png"]]
    for path in ("/etc/hostname", "../secret.png", "images/../../secret.png"):
        with pytest.raises(UnsafePath):
            Cohort.from_frame(pd.DataFrame({"p": [path]}), image="p", root=folder)


def test_lists_of_views_can_be_written_in_a_csv_as_json(folder, tmp_path):
    (tmp_path / "t.csv").write_text('id,p\n1,"[""images/1.png"", ""images/2.png""]"\n2,images/3.png\n3,\n')
    made = Cohort.from_csv(tmp_path / "t.csv", image="p", root=folder)
    assert made.column("p") == [["images/1.png", "images/2.png"], ["images/3.png"], None]
    assert made.collate(list(made)).values["image"]["views"].tolist() == [[True, True], [True, False]]


def test_an_array_that_an_npz_does_not_hold_is_absent(tmp_path):
    voxels = np.zeros((4, 4, 4), np.uint8)
    np.savez(tmp_path / "both.npz", flair=voxels, post=voxels)
    np.savez(tmp_path / "one.npz", flair=voxels)
    volumes = {name: Volume("v", size=(4, 4, 4), key=name) for name in ("flair", "post")}
    made = Cohort.from_frame(
        pd.DataFrame({"v": ["both.npz", "one.npz", None]}), volume=volumes, root=tmp_path
    )
    assert made.present.tolist() == [[True, True], [True, False], [False, False]]
    assert made[1].present == ("flair",)
    assert made.collate(list(made)).rows["post"].tolist() == [0]


def test_pictures_inside_a_dataset_stay_encoded_until_a_batch_needs_them(folder):
    features = datasets.Features({"picture": datasets.Image(), "age": datasets.Value("float32")})
    content = [{"bytes": (folder / f"images/{i}.png").read_bytes(), "path": None} for i in (1, 2)]
    data = datasets.Dataset.from_dict(
        {"picture": [*content, None], "age": [1.0, float("nan"), 3.0]}, features=features
    )
    made = Cohort.from_dataset(data, image="picture", tabular=["age"])
    assert made.present.tolist() == [[True, True], [True, False], [False, True]]
    assert made[0].inputs["image"]["bytes"] == content[0]["bytes"]
    whole = Cohort.from_frame(pd.DataFrame({"p": ["images/1.png", "images/2.png"]}), image="p", root=folder)
    whole = whole.with_schema(
        whole.schema.with_modality("image", replace(made.schema.modalities["image"], column="p"))
    )
    pixels = [c.collate(list(c)).values["image"]["pixels"] for c in (made, whole)]
    assert pixels[0].equal(pixels[1])


# ------------------------------------------------------------------------------------ schema, records, series


def test_a_schema_of_another_cohort_reads_a_table_without_some_of_its_columns(cohort):
    frame = pd.DataFrame({"age": [50, 60], "note": ["a", None]})
    with pytest.warns(UserWarning, match="The table has no column") as caught:
        other = Cohort.from_frame(frame, schema=cohort.schema)
    said = " ".join(str(item.message) for item in caught)
    assert "'path', 'sex', 'ill'" in said
    assert "'exam', 'patient'" in said
    assert other.schema.modalities == cohort.schema.modalities
    assert [record.present for record in other] == [("table", "text"), ("table",)]
    with pytest.raises(ValueError, match="no column"), pytest.warns(UserWarning, match="patient"):
        Cohort.from_frame(pd.DataFrame({"weight": [1]}), schema=cohort.schema)


def test_schema_and_columns_together_are_refused(cohort, folder):
    with pytest.raises(ValueError, match="Both a schema and tabular"):
        Cohort.from_csv(folder / "table.csv", schema=cohort.schema, tabular=["age"])


def test_an_edited_schema_reads_the_same_rows_another_way(cohort):
    schema = cohort.schema.with_modality("image", Image("path", size=(8, 8), channels=3)).without("text")
    schema = schema.with_modality("person", Tabular((Category("sex"),)))
    again = cohort.without("table").with_schema(schema)
    assert again.splits.tolist() == cohort.splits.tolist()
    assert again.schema.modalities["person"].cells[0].levels == ("f", "m")
    assert again[1].present == ("image", "person")  # what was hidden stays hidden
    assert again.collate(list(again)).values["image"]["pixels"].shape[2:] == (3, 8, 8)


def test_a_column_cannot_be_two_things_at_once():
    frame = pd.DataFrame({"x": ["1", "2"]})
    with pytest.raises(ValueError, match="both as level and as text"):
        Cohort.from_frame(frame, tabular=[Category("x")], text="x")


def test_records_go_back_into_an_equal_cohort_whatever_is_missing_or_hidden(cohort):
    hidden = cohort.keep(np.random.default_rng(0).random((ROWS, 3)) < 0.7)
    again = Cohort.from_records(list(hidden), schema=hidden.schema)
    assert list(again) == list(hidden)
    assert np.array_equal(again.present, hidden.present)
    assert again.schema == cohort.schema


def test_records_without_id_and_patient_columns_keep_both():
    schema = Schema({"t": Tabular((Number("x"),)), "p": Image("p", size=(4, 4))})
    records = [
        Record("first", {"t": {"x": 1.0}, "p": np.zeros((4, 4), np.uint8)}, group="anna"),
        Record("second", {}, group="anna"),
    ]
    made = Cohort.from_records(records, schema=schema)
    assert made.ids.tolist() == ["first", "second"]
    assert made.groups.tolist() == ["anna", "anna"]
    assert made[1].present == ()
    assert np.array_equal(made[0].inputs["p"], records[0].inputs["p"])
    with pytest.raises(ValueError, match="needs its schema"):
        Cohort.from_records(records)
    with pytest.raises(ValueError, match="Unknown modality of record 'x'"):
        Cohort.from_records([Record("x", {"scan": 1})], schema=schema)


def test_a_series_may_be_lists_of_steps_or_json_in_a_csv(tmp_path):
    steps = [{"time": 0.0, "pulse": 80.0}, {"time": 2.0, "pulse": None}]
    frame = pd.DataFrame({"s": [steps, None]})
    plain = Cohort.from_frame(frame, series="s")
    pd.DataFrame({"n": [1, 2], "s": [json.dumps(steps), None]}).to_csv(tmp_path / "t.csv", index=False)
    written = Cohort.from_csv(tmp_path / "t.csv", series="s")
    assert plain.schema.modalities["series"] == written.schema.modalities["series"]
    assert isinstance(plain.schema.modalities["series"], Series)
    assert plain.present.tolist() == written.present.tolist() == [[True], [False]]
    assert plain[0].inputs["series"] == written[0].inputs["series"] == steps
    (tmp_path / "t.csv").write_text("n,s\n1,[nonsense\n")
    with pytest.raises(ValueError, match=r'column "s".*no JSON list'):
        Cohort.from_csv(tmp_path / "t.csv", series=Series("s", (Number("pulse"),)))


# ---------------------------------------------------------------------------------------------------- summary


def test_the_summary_counts_what_the_records_show(cohort):
    text = cohort.summary()
    assert "24 records of 12 patients" in text
    assert "ill: 0 12, 1 11, unknown 1" in text
    counts = pd.Series([" + ".join(record.present) or "nothing" for record in cohort]).value_counts()
    for pattern, count in counts.items():
        row = next(line for line in text.splitlines() if line.startswith(f"{pattern}  "))
        assert row.split("  ", 1)[1].split()[0] == str(count)
    assert str(cohort).startswith(str(cohort.schema))


def test_an_unused_column_is_listed_and_html_is_escaped(folder):
    frame = pd.DataFrame({"x": [1, 2], "extra": [3, 4], "note": ["<b>", "&"], "<i>": ["a", "b"]})
    made = Cohort.from_frame(frame, tabular=["x"], text="note")
    assert "columns not used: extra, <i>" in made.summary()
    assert "<i>" not in made._repr_html_()
    assert "&lt;i&gt;" in made._repr_html_()


def test_a_frame_of_a_cohort_holds_the_rows_and_the_split(cohort):
    frame = cohort["val"].to_frame()
    assert frame["exam"].tolist() == cohort["val"].ids.tolist()
    assert set(frame["split"]) == {"val"}
    assert isinstance(cohort.schema.modalities["text"], Text)
