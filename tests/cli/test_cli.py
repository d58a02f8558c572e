"""The command line: every verb works end to end on a small cohort, and mistakes end in a sentence."""

import json

import pytest
from typed_command import run, runner

from mmmed.cli.app import app


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a model that `mmmed finetune` wrote."""
    folder = tmp_path_factory.mktemp("run")
    run("finetune", "synthetic", "-o", folder, "--epochs", 1, "--patients", 80)
    return folder / "model"


@pytest.fixture
def table(tmp_path):
    """A CSV of a user: two columns and a label, some cells empty."""
    lines = ["patient,age,sex,sepsis"]
    lines += [
        f"p{i},{'' if i % 7 == 0 else 40 + i % 30},{'fm'[i % 2]},{int(i % 30 > 14)}" for i in range(120)
    ]
    path = tmp_path / "my.csv"
    path.write_text("\n".join(lines))
    return path


COLUMNS = ("--tabular", "age", "--tabular", "sex", "--target", "sepsis", "--group", "patient")


@pytest.mark.parametrize("verb", ["quickstart", "audit", "finetune", "evaluate", "predict", "env"])
def test_help_of_every_verb_teaches_more_than_one_line(verb):
    assert len(run(verb, "--help").splitlines()) > 5


def test_help_says_that_this_is_no_medical_device():
    assert "Not a medical device" in run("--help")


def test_env_names_versions_and_the_state_of_torchvision():
    facts = json.loads(run("env", "--json"))
    assert facts["packages"]["torch"][0].isdigit()
    assert "torchvision" in facts
    assert "/" not in facts["torchvision"], "no paths in a report that people paste"


def test_audit_of_a_users_csv_finds_its_gaps(table):
    said = run("audit", table, *COLUMNS)
    assert "age" in said
    assert "120" in said


def test_audit_as_json_is_one_document(table):
    assert json.loads(run("audit", table, *COLUMNS, "--json"))


def test_a_csv_can_be_trained_on_and_asked(table, tmp_path):
    run("finetune", table, *COLUMNS, "-o", tmp_path / "run", "--epochs", 1)
    row = tmp_path / "row.json"
    row.write_text(json.dumps({"age": 66, "sex": "f"}))
    said = json.loads(run("predict", tmp_path / "run" / "model", row, "--json"))
    assert said["used"] == ["table"]


def test_evaluate_prints_scores_with_intervals_and_stress_adds_every_subset(trained):
    words = ("evaluate", trained, "synthetic", "--patients", 80, "--seed", 1)
    assert "AUROC" in run(*words)
    assert "image + text" in run(*words, "--stress")


def test_predict_without_a_modality_says_that_it_is_missing(trained, tmp_path):
    row = tmp_path / "row.json"
    row.write_text(json.dumps({"note": "A smoker for twenty years."}))
    said = json.loads(run("predict", trained, row, "--json"))
    assert said["used"] == ["text"]
    assert set(said["missing"]) == {"image", "table"}
    nothing = run("predict", trained, row, "--without", "text")
    assert "Nothing was recorded" in nothing


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("audit", "syntetic"), 'Did you mean "synthetic"'),
        (("audit", "synthetic", "--image", "path"), "CSV"),
        (("evaluate", "nowhere", "synthetic"), "no folder"),
        (("finetune", "synthetic", "-o", "x", "--fusion", "multimodm"), 'Did you mean "multimodn"'),
        (("finetune", "synthetic", "-o", "x", "--encoder", "image"), "modality=name"),
    ],
)
def test_a_mistake_ends_in_a_sentence_and_code_two(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(app, [*words, *(("--patients", "60") if "synthetic" in words else ())])
    assert result.exit_code == 2
    said = " ".join(result.output.split())
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "x").exists(), "nothing half-written"
