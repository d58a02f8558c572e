"""Cohorts in folders: saved and opened again, prepared with roles in words, published under a name."""

import json
import os
import warnings

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Picture

from mmmed.data.cohort import Cohort
from mmmed.data.folders import load_cohort, role_of
from mmmed.data.published import PUBLISHED
from mmmed.types import Category, Image, Number, Schema, Tabular


@pytest.mark.parametrize(
    ("words", "role"),
    [
        ("LEAK: how the label was verified", "leak"),
        ("LEAK or target: 1,2,3", "leak"),
        ("LEAK for icu_at_exam; target of the patient: 0/1", "leak"),
        ("provenance; confounder", "confounder"),
        ("TCGA institution code; confounder", "confounder"),
        ("from the folder name", "confounder"),
        ("provenance", "provenance"),
        ("licence of this image", "provenance"),
        ("attribution as given by the source", "provenance"),
        ("id", "id"),
        ("id and group", "id"),
        ("group; one image per patient", "group"),
        ("5 patient folds", "split"),
        ("split: fold 0 = test, fold 1 = val", "split"),
        ("image path", "input"),
        ("npz path", "input"),
        ("mask paths of further lesions", "mask"),
        ("image descriptor (read by a radiologist)", "descriptor"),
        ("input tabular; 0/1", "input"),
        ("input omics; cluster number (category)", "input"),
        ("input text: the clinical notes", "input"),
        ("text input for referring segmentation", "input"),
        ("text target; sentences", "text target"),
        ("target: 0/1", "target"),
        ("target or input: 0/1", "target"),
        ("image", "spacing"),
        ("image; after resizing", "spacing"),
        ("days between the sample and the image", "other"),
        ("share of the picture covered", "other"),
        ("0/1; PA or AP", "other"),
        ("identified by hand", "other"),
    ],
)
def test_the_words_of_a_prepared_folder_give_one_role(words, role):
    assert role_of(words) == role


# ------------------------------------------------------------------------------------------- prepared folders


@pytest.fixture
def prepared(tmp_path):
    """A small folder in the prepared form, with every kind of role."""
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


def test_a_prepared_folder_is_read_by_its_roles(prepared):
    cohort = Cohort.from_folder(prepared)
    assert cohort.name == "small"
    image = cohort.schema.modalities["image"]
    assert image == Image("picture", mean=image.mean, scale=image.scale)
    age, cluster = cohort.schema.modalities["table"].cells
    assert (age.name, age.unit) == ("age", "years")
    assert cluster == Category("cluster", ("1", "2", "3"))
    assert cohort.schema.modalities["text"].column == "note"
    assert list(cohort.schema.tasks) == ["ill"]
    assert (cohort.schema.group, cohort.schema.id) == ("person", "case")
    assert cohort.ids[0] == "000"
    assert [len(cohort[name]) for name in ("train", "val", "test")] == [12, 4, 4]
    assert cohort.roles["diagnosis"] == "leak"
    assert cohort.roles["site"] == "confounder"
    assert [fold["test"].column("fold")[0] for fold in cohort.folds()] == list("01234")


def test_another_target_or_text_can_be_asked_for_but_never_a_leak_as_text(prepared):
    cohort = Cohort.from_folder(prepared, target="grade", text="other_note")
    assert cohort.schema.tasks["grade"].levels == ("high", "low", "mid")
    assert cohort.schema.modalities["text"].column == "other_note"
    with pytest.raises(ValueError, match='"diagnosis" is a leak'):
        Cohort.from_folder(prepared, text="diagnosis")
    with pytest.raises(ValueError, match="Unknown text column 'nothing'"):
        Cohort.from_folder(prepared, text="nothing")


def test_a_folder_that_lacks_something_says_what_it_has(tmp_path):
    with pytest.raises(ValueError, match="There is no folder"):
        Cohort.from_folder(tmp_path / "none")
    (tmp_path / "metadata.csv").write_text("a\n1\n")
    with pytest.raises(ValueError, match=r"has metadata\.csv\. A CSV alone"):
        Cohort.from_folder(tmp_path)
    (tmp_path / "schema.json").write_text("no json")
    with pytest.raises(ValueError, match="is no JSON"):
        Cohort.from_folder(tmp_path)
    (tmp_path / "schema.json").write_text('{"columns": {"b": "id"}}')
    with pytest.raises(ValueError, match=r"Unknown column of .*schema\.json 'b'"):
        Cohort.from_folder(tmp_path)
    (tmp_path / "schema.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="format 99"):
        Cohort.from_folder(tmp_path)


def test_a_folder_with_a_schema_of_this_package_is_split_if_it_brings_no_split(tmp_path):
    pd.DataFrame({"age": range(20), "y": [0, 1] * 10}).to_csv(tmp_path / "metadata.csv", index=False)
    cohort = Cohort.from_csv(tmp_path / "metadata.csv", tabular=["age"], target="y")
    cohort.schema.save(tmp_path / "schema.json")
    again = Cohort.from_folder(tmp_path)
    assert again.schema == cohort.schema
    assert again.splits.tolist() == cohort.splits.tolist()


# ---------------------------------------------------------------------------------------------------- by name


def test_an_unknown_name_brings_a_suggestion():
    with pytest.raises(ValueError, match='Did you mean "breast-us"'):
        load_cohort("breast_us")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_cohort_that_is_not_there_is_explained_in_six_parts(name, tmp_path, monkeypatch):
    monkeypatch.delenv("MMMED_DATA", raising=False)
    with pytest.raises(ValueError, match="not shipped") as caught:
        load_cohort(name)
    assert "neither root= nor MMMED_DATA is set" in str(caught.value)
    monkeypatch.setenv("MMMED_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="not shipped") as caught:
        load_cohort(name)
    message = str(caught.value)
    facts = PUBLISHED[name]
    for words in (
        facts.what,
        str(tmp_path / name),
        "MMMED_DATA",
        facts.download,
        facts.licence,
        facts.first_file,
    ):
        assert words in message
    assert "CC-BY" in message
    assert f"<root>/{name}/" in message
    assert "original layout" in message
    with pytest.raises(ValueError, match="Unknown option"):
        load_cohort(name, seed=1)


def test_the_synthetic_cohort_shows_what_its_mechanism_left_and_knows_the_answer():
    cohort = load_cohort("synthetic", patients=120, seed=2, missingness="mar")
    made = cohort.truth.made
    assert np.array_equal(cohort.present, made.stays)
    assert cohort.splits.tolist() == list(made.table["split"])
    record = next(record for record in cohort if "image" in record.inputs)
    assert record.inputs["image"].dtype == np.uint8
    assert record.inputs["image"].shape == (64, 64)
    part = cohort["test"]
    rows = np.flatnonzero(cohort.splits == "test")
    assert np.allclose(part.truth.posterior()["diagnosis"], made.posterior(rows))
    blind = part.without("image")
    assert np.allclose(blind.truth.posterior()["diagnosis"], made.posterior(rows, stays=blind.present))
    assert np.allclose(part.truth.posterior(blind.present)["diagnosis"], blind.truth.posterior()["diagnosis"])
    assert np.allclose(part.truth.posterior_of("table"), made.posterior(rows, modalities=["table"]))
    assert cohort.roles["factor_a"] == "truth"
    with pytest.raises(ValueError, match="can never be an input"):
        cohort.with_schema(Schema({"t": Tabular((Number("factor_a"),))}))
    with pytest.raises(ValueError, match='Did you mean "patients"'):
        load_cohort("synthetic", patient=3)


def test_two_views_of_a_synthetic_patient_are_two_views_of_one_record():
    cohort = load_cohort("synthetic", patients=3, views=2)
    batch = cohort.collate(list(cohort))
    assert batch.values["image"]["views"].tolist() == [[True, True]] * 3


# ------------------------------------------------------------------------------------------- the real folders

COUNTS = {
    # rows, patients, train, val, test, positive, known
    "breast-us": (200, 200, 120, 40, 40, 77, 200),
    "hannover-cxr": (243, 71, 145, 49, 49, 150, 243),
    "covid-cxr": (201, 115, 120, 40, 41, 112, 165),
    "lgg-mri": (76, 76, 45, 16, 15, 40, 76),
}
PRESENT = {
    "breast-us": {"image": 200},
    "hannover-cxr": {"image": 243, "labs": 180, "table": 243},
    "covid-cxr": {"image": 201, "text": 201},
    "lgg-mri": {"flair": 76, "pre": 74, "post": 70, "table": 76},
}


@pytest.fixture(params=list(COUNTS))
def real(request):
    root = os.environ.get("MMMED_DATA")
    if not root or not os.path.isdir(os.path.join(root, request.param)):
        pytest.skip(f"MMMED_DATA does not name a folder with {request.param}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return request.param, load_cohort(request.param), os.path.join(root, request.param)


@pytest.mark.real_data
def test_the_real_cohorts_have_the_published_counts(real):
    name, cohort, _ = real
    values, known = cohort.targets()
    counted = (
        len(cohort),
        len(set(cohort.groups)),
        *(len(cohort[part]) for part in ("train", "val", "test")),
        int(values.sum()),
        int(known.sum()),
    )
    assert counted == COUNTS[name]
    shown = dict(zip(cohort.schema.modalities, cohort.present.sum(axis=0).tolist(), strict=True))
    assert {key: shown[key] for key in PRESENT[name]} == PRESENT[name]


@pytest.mark.real_data
def test_missing_cells_of_the_real_cohorts_are_those_counted_beside_them(real):
    _, cohort, folder = real
    for row in pd.read_csv(os.path.join(folder, "missing.csv"), dtype=str).to_dict("records"):
        cells = cohort.column(row["column"])
        assert sum(cell is None for cell in cells) == int(row["missing"]), row["column"]


@pytest.mark.real_data
def test_folds_and_first_batch_of_the_real_cohorts(real):
    _, cohort, _ = real
    folds = cohort.folds()
    assert folds[0].split_origin.startswith('column "fold"')
    assert folds[0].splits.tolist() == cohort.splits.tolist()  # fold 0 = test, fold 1 = val
    assert folds[0].schema == cohort.schema
    batch = cohort.collate(list(cohort[:4]))
    assert np.array_equal(batch.present.numpy(), cohort[:4].present)
