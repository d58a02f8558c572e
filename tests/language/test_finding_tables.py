"""Finding tables: values that survive JSON, labels in a fixed order, messages that help."""

import csv
import json
import re
import time

import pytest

from mmmed.data.synthetic import generate
from mmmed.language.finding_tables import NAMES, Cues, Finding, FindingTable, check_pattern, finding_table
from mmmed.language.labeller import Labeller

CHEXPERT = """Enlarged Cardiomediastinum, Cardiomegaly, Lung Lesion, Lung Opacity, Edema, Consolidation,
Pneumonia, Atelectasis, Pneumothorax, Pleural Effusion, Pleural Other, Fracture, Support Devices,
No Finding"""
SYNTHETIC = (
    *(f"nodule, {side} {zone}" for side in ("right", "left") for zone in ("upper", "middle", "lower")),
    *("effusion, right", "effusion, left", "pneumothorax"),
    *("margin lobulated", "margin spiculated", "density part-solid", "density solid"),
    *("size medium", "size large", "cough", "haemoptysis", "raised ldh", "low albumin"),
)
RANKS = ("present", "uncertain", "absent")


def stated(statements):
    """The labels of a label set of the synthetic cohort, written out without the labeller."""
    found = []
    for one in statements:
        if one.finding == "nodule":
            places = [f"nodule, {one.side} {one.zone}"] if one.side else SYNTHETIC[:6]
            found += [(place, one.status) for place in places]
            looks = (f"margin {one.margin}", f"density {one.density}", f"size {one.size}")
            found += [(look, one.status) for look in looks if one.size != "tiny" and look in SYNTHETIC]
        elif one.finding == "effusion":
            found += [
                (f"effusion, {side}", one.status) for side in ([one.side] if one.side else ["right", "left"])
            ]
        elif one.finding == "symptoms":
            found += [("cough", one.status), ("haemoptysis", one.status)]
        elif one.finding != "suspicion":
            found.append((one.finding, one.status))
    return {label: min((s for name, s in found if name == label), key=RANKS.index) for label, _ in found}


@pytest.fixture(scope="module")
def cohort():
    return generate(500, seed=3)


@pytest.mark.parametrize("column", ["report", "note", "findings", "impression"])
def test_every_synthetic_text_is_read_exactly(cohort, column):
    labeller = Labeller("synthetic")
    for text, statements in zip(cohort.table[column], cohort.labels[column], strict=True):
        assert labeller.labels(text) == stated(statements), text


def test_the_labels_are_those_agreed_on():
    assert finding_table("chest").labels == tuple(re.split(r",\s+", CHEXPERT))
    assert finding_table("synthetic").labels == SYNTHETIC


def test_each_label_needs_the_modality_that_tells_it():
    labeller = Labeller("synthetic")
    needs = {label: labeller.needs(label) for label in SYNTHETIC}
    assert needs["cough"] == needs["haemoptysis"] == ("text",)
    assert needs["raised ldh"] == needs["low albumin"] == ("table",)
    assert {needs[label] for label in SYNTHETIC[:15]} == {("image",)} == {labeller.needs("suspicion")}
    assert {Labeller("chest").needs(label) for label in finding_table("chest").labels} == {("image",)}
    with pytest.raises(ValueError, match='Did you mean "cough"'):
        labeller.needs("coug")


def by_descriptor(labels, name):
    """The values of one descriptor that are present, joined as in the table of the cohort."""
    found = [
        label.removeprefix(f"{name} ") for label, status in labels.items() if label.startswith(f"{name} ")
    ]
    return "&".join(value for value in sorted(found) if labels[f"{name} {value}"] == "present")


def yes_no(labels, label, words):
    return words.get(labels.get(label), "")


@pytest.mark.real_data
def test_every_breast_report_gives_back_its_columns(real_cohorts):
    labeller, circumscribed = (
        Labeller("breast-us"),
        {"present": "circumscribed", "absent": "not circumscribed"},
    )
    with open(real_cohorts / "breast-us" / "metadata.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 200
    for row in rows:
        labels = labeller.labels(row["report_templated"])
        lesion = labels["lesion"] == "present"
        margins = sorted(set(by_descriptor(labels, "margin").split("&")) - {"circumscribed", ""})
        found = {
            "shape": by_descriptor(labels, "shape"),
            "margin": yes_no(labels, "margin circumscribed", circumscribed),
            "echogenicity": by_descriptor(labels, "echogenicity"),
            "posterior_features": by_descriptor(labels, "posterior") or ("no" if lesion else ""),
            "halo": yes_no(labels, "halo", {"present": "1", "absent": "0"}),
            "calcifications": by_descriptor(labels, "calcification") or ("no" if lesion else ""),
            "skin_thickening": yes_no(labels, "skin thickening", {"present": "1"}) or "0",
            "birads": by_descriptor(labels, "birads"),
        }
        assert found == {name: row[name] for name in found}
        assert margins == sorted(detail for detail in row["margin_detail"].split("&") if detail)
        assert lesion == (row["classification"] != "normal")


def test_not_circumscribed_denies_nothing_after_it():
    labels = Labeller("breast-us").labels(
        "An oval lesion with not circumscribed margin and posterior shadowing."
    )
    assert labels["margin circumscribed"] == "absent"
    assert labels["posterior shadowing"] == labels["shape oval"] == labels["lesion"] == "present"


@pytest.mark.parametrize("name", NAMES)
def test_a_table_survives_json(name, tmp_path):
    table = finding_table(name)
    (tmp_path / "own.json").write_text(json.dumps(table.to_dict()), encoding="utf-8")
    loaded = finding_table(tmp_path / "own.json")
    assert loaded.labels == table.labels
    assert loaded.to_dict() == table.to_dict() == finding_table(table.to_dict()).to_dict()
    text = "No effusion, possible nodule in the left upper zone, 25 mm. Oval lesion. Cough."
    assert Labeller(loaded).mentions(text) == Labeller(table).mentions(text) != ()


def test_what_unknown_sentences_need_and_how_to_ask_survive_json():
    table = FindingTable("t", (Finding("warm", ("warm",), question="Is it warm?"),), otherwise=("ct", "mri"))
    again = finding_table(json.loads(json.dumps(table.to_dict())))
    assert again == table
    assert (again.otherwise, again.findings[0].question) == (("ct", "mri"), "Is it warm?")
    assert {finding_table(name).otherwise for name in NAMES} == {("image",)}


def test_an_own_table_needs_few_words():
    table = finding_table(
        {"name": "knee", "findings": [{"name": "tear", "patterns": ["tears?"], "by": ["side"]}]}
    )
    assert table.labels == ("tear, right", "tear, left")
    assert Labeller(table).labels("No tear on the left.") == {"tear, left": "absent"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "Unknown field of a finding table \"?'colour"),
        ({"findings": [{"name": "a", "pattern": ["a"]}]}, 'Did you mean "patterns"'),
        ({"findings": [{"patterns": ["a"]}]}, "lacks name"),
        ({"findings": [{"name": "a", "patterns": "a"}]}, "should be a list of texts"),
        ({"findings": [{"name": "a", "patterns": ["("]}]}, "is no regular expression"),
        ({"findings": [{"name": "a", "patterns": ["(a)"]}]}, "captures a group"),
        ({"findings": [{"name": "a", "patterns": ["a*"]}]}, "matches the empty text"),
        ({"findings": [{"name": "a", "patterns": ["(?:a+)+b"]}]}, "repeats a repeat"),
        ({"findings": [{"name": "a", "patterns": [1]}]}, "should be a list of texts"),
        ({"findings": [{"name": "a", "by": ["colour"]}]}, "Unknown attribute of 'a'"),
        ({"findings": [{"name": "a", "of": "b"}]}, "Unknown finding that 'a' describes"),
        ({"findings": [{"name": "a"}, {"name": "a"}]}, "different names"),
        ({"findings": []}, "needs findings"),
        ({"findings": ["a"]}, "should be a dict"),
        ({"cues": {"past": ["["]}}, "cues past"),
        ({"otherwise": "image"}, "otherwise.*should be a list of texts"),
        ({"findings": [{"name": "a", "question": ["b"]}]}, "question of 'a' should be text"),
        ({"cues": {"maybe": ["x"]}}, "Unknown field of cues"),
        ({"attributes": {"side": {"left": ["l("]}}}, "attribute 'left'"),
    ],
)
def test_a_faulty_table_is_refused_in_words(change, message):
    table = {"name": "own", "findings": [{"name": "a", "patterns": ["a"]}]}
    with pytest.raises(ValueError, match=message):
        finding_table({**table, **change})


def test_an_unknown_name_or_file_is_refused_in_words(tmp_path):
    with pytest.raises(ValueError, match='Did you mean "chest"'):
        finding_table("chst")
    with pytest.raises(ValueError, match="cannot be read as JSON"):
        finding_table(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="cannot be read as JSON"):
        finding_table(str(tmp_path / "bad.json"))


def test_tables_are_values_that_share_nothing():
    first, second = (FindingTable("t", (Finding("a", ("a",)),)) for _ in range(2))
    assert first == second
    assert first.cues == Cues()
    with pytest.raises(AttributeError):
        first.name = "other"


@pytest.mark.parametrize("name", NAMES)
def test_no_pattern_of_ours_takes_long_on_a_hostile_sentence(name):
    labeller = Labeller(name)
    for unit in ("heart ", "a ", "pleural ", "no ", "1 x ", "normal mediastinal ", "not ", "or ", "- "):
        start = time.process_time()
        labeller.labels(unit * 400)
        assert time.process_time() - start < 1, unit


def test_a_plain_repeat_is_allowed():
    check_pattern(r"heart (?:\w+ ){0,2}enlarged", "a test")
    check_pattern(r"atelect\w+", "a test")
