"""Croissant: valid JSON-LD that keeps what the card has text for, invents nothing, and names its source."""

import json

import pytest

from mmmed.data.cohort import Cohort
from mmmed.data.folders import load_cohort
from mmmed.evaluation.data_card import data_card
from mmmed.evaluation.data_card_headings import RAI, UNKNOWN

NAMES = ("breast-us", "hannover-cxr", "covid-cxr", "lgg-mri", "openi-reports")


@pytest.fixture(scope="module")
def synthetic():
    return data_card(load_cohort("synthetic", patients=40))


@pytest.fixture
def own(tmp_path):
    lines = ["patient,age (years),sepsis"] + [f"p{i},{30 + i},{i % 2}" for i in range(40)]
    (tmp_path / "my.csv").write_text("\n".join(lines))
    return Cohort.from_csv(tmp_path / "my.csv", tabular=["age (years)"], target="sepsis", group="patient")


def nodes(value):
    """Every object of a JSON-LD document."""
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nodes(item)


def check(told):
    """What the format asks for: context, type, version, unique ids, and references that lead somewhere."""
    assert told == json.loads(json.dumps(told, allow_nan=False))
    assert told["@type"] == "sc:Dataset"
    assert "http://mlcommons.org/croissant/1.0" in told["conformsTo"]
    body = {key: value for key, value in told.items() if key != "@context"}
    assert all(
        key.startswith(("@", "rai:")) or ":" not in key
        for node in nodes(body)
        for key in node
        if not key.startswith("records/")
    )
    named = [node["@id"] for node in nodes(body) if "@id" in node and "@type" in node]
    assert len(named) == len(set(named))
    used = {node["@id"] for node in nodes(body) if "@id" in node}
    assert used <= set(named)
    for field in told["recordSet"][0]["field"]:
        assert field["dataType"].startswith("sc:")
        assert ("source" in field) == bool(told.get("distribution"))


def test_the_synthetic_cohort_exports_its_first_records_and_no_file(synthetic):
    told = synthetic.to_croissant()
    check(told)
    assert "distribution" not in told
    assert len(told["recordSet"][0]["data"]) == 3
    fields = {field["@id"] for field in told["recordSet"][0]["field"]}
    assert all(row.keys() == fields for row in told["recordSet"][0]["data"])


def test_no_cell_of_a_patient_is_exported_even_where_the_table_is_not_found():
    rows = [
        {"patient": f"Meier {i}", "note": f"saw Dr. X {i}", "age": 71.5 + i, "sepsis": i % 2}
        for i in range(40)
    ]
    frame = pytest.importorskip("pandas").DataFrame(rows)
    mine = Cohort.from_frame(frame, tabular=["age"], text="note", target="sepsis", group="patient")
    told = data_card(mine).to_croissant()
    check(told)
    assert "data" not in told["recordSet"][0]
    said = json.dumps(told)
    assert not any(secret in said for secret in ("Meier", "Dr. X", "71.5"))


def test_every_rai_key_with_text_is_kept_and_none_is_invented(synthetic):
    told = synthetic.to_croissant()
    written = {f"rai:{key}" for heading, key in RAI.items() if heading in synthetic.sections}
    written -= {"rai:dataCollectionTimeframe"}  # no dates there: its words stand in the story
    assert {key for key in told if key.startswith("rai:")} == written
    assert synthetic.sections["When"] in told["rai:dataCollection"]
    assert UNKNOWN not in json.dumps(told)


def test_a_time_frame_with_dates_is_dates(synthetic):
    text = synthetic.text.replace("At the moment it is asked for.", "From 2020-01-02 to 2020-03-04.")
    told = data_card(synthetic.cohort, text).to_croissant()
    assert told["rai:dataCollectionTimeframe"] == ["2020-01-02", "2020-03-04"]


def test_a_table_of_ones_own_is_its_file_with_a_checksum_and_nothing_else_is_claimed(own):
    told = data_card(own).to_croissant()
    check(told)
    assert told["distribution"][0]["name"] == "my.csv"
    assert len(told["distribution"][0]["sha256"]) == 64
    assert not [key for key in told if key.startswith("rai:") or key in ("license", "url", "isLiveDataset")]
    assert told["recordSet"][0]["field"][1]["@id"] == "records/age%20%28years%29"
    assert told["recordSet"][0]["field"][1]["source"]["extract"] == {"column": "age (years)"}


@pytest.mark.real_data
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")
def test_a_real_cohort_points_to_its_source_and_to_no_file_of_ours(name, real_cohorts):
    told = data_card(load_cohort(name, root=real_cohorts)).to_croissant()
    check(told)
    assert told["license"].startswith("https://creativecommons.org/licenses/")
    for file in told["distribution"]:
        assert file["contentUrl"].startswith("https://") or "containedIn" in file
    assert str(real_cohorts) not in json.dumps(told)
    assert len([key for key in told if key.startswith("rai:")]) >= 12
