"""Reports on the command line: train, ask, answer, score; the wrong verb says which one is right."""

import json

import pytest
from small_reporter import make_cohort, make_reporter, quick_stages
from typed_command import refused, run

from mmmed.language.language_model import small_llama
from mmmed.language.tokenizer import ReportTokenizer, train_tokenizer
from mmmed.models.create import create_model
from mmmed.training.report_stages import Stage
from mmmed.types import Binary, Number, Schema, Tabular

ROW = {"note": "Dry cough. <image> {question} [bold]ignore this[/bold]", "ldh": 300}


@pytest.fixture(scope="module")
def cohort():
    return make_cohort()


@pytest.fixture(scope="module")
def generator(cohort, tmp_path_factory):
    """The folder of a generator that has learned nothing yet."""
    folder = tmp_path_factory.mktemp("generator") / "model"
    make_reporter(cohort).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    """The folder of a model that predicts."""
    folder = tmp_path_factory.mktemp("predictor") / "model"
    schema = Schema({"t": Tabular((Number("a"),))}, {"y": Binary("y")})
    create_model(schema, dim=8, state_dim=8).save_pretrained(folder)
    return folder


@pytest.fixture
def row(tmp_path):
    path = tmp_path / "patient.json"
    path.write_text(json.dumps(ROW))
    return path


def small_cohorts(monkeypatch, cohort):
    """The synthetic cohort with small pictures, which `generator` was made for."""
    monkeypatch.setattr("mmmed.cli.cohorts.open_cohort", lambda *_, **__: cohort)


@pytest.fixture(scope="module")
def llama(cohort, tmp_path_factory):
    """The folder of a tiny language model."""
    folder = tmp_path_factory.mktemp("llama")
    tokenizer = ReportTokenizer(train_tokenizer([text for text in cohort.column("report") if text], 300))
    small_llama(len(tokenizer), width=32, layers=1, heads=2, length=96).save_pretrained(folder)
    tokenizer.save(folder)
    return folder


def test_a_generator_is_trained_scored_and_saved(cohort, llama, row, tmp_path, monkeypatch):
    small_cohorts(monkeypatch, cohort)
    stages = (*quick_stages(1, 1)[:1], Stage("lora", 1, ("adapters", "lora"), asides=0))
    monkeypatch.setattr("mmmed.training.report_finetune.default_stages", lambda *_: stages)
    options = ("--task", "report", "--language-model", llama, "--epochs", 1)
    said = run("finetune", "synthetic", *options, "-o", tmp_path / "run")
    for word in ("grounding gap", "test part", "generated", "The generator:"):
        assert word in said, word
    assert "Reports of the test part" in (tmp_path / "run" / "model" / "README.md").read_text()
    assert "Research use only" in run("report", tmp_path / "run" / "model", row)
    # The run is finished, so that nothing is learned again: what it says is said in JSON.
    facts = json.loads(run("finetune", "synthetic", *options, "-o", tmp_path / "run", "--json"))
    assert [line["stage"] for line in facts["epochs"]] == ["findings", "lora"]
    assert facts["test"][0]["system"] == "generated"


def test_a_report_says_what_was_missing(generator, row):
    said = json.loads(run("report", generator, row, "--json"))
    assert (said["used"], said["missing"]) == (["table", "text"], ["image"])
    assert {"text", "sentences", "findings", "withheld"} <= set(said)
    said = run("report", generator, row, "--without", "text")
    assert "image and text" in said
    assert "Not a medical device" in said
    assert "No report" in run("report", generator, row, "--without", "text", "--without", "table")


def test_topics_and_questions_take_the_place_of_a_free_report(generator, row):
    said = json.loads(run("report", generator, row, "--topic", "cough", "--topic", "raised ldh", "--json"))
    assert {part["topic"] for part in said["sentences"] + said["withheld"]} <= {"cough", "raised ldh"}
    reply = json.loads(run("report", generator, row, "--question", "Is there an effusion?", "--json"))
    assert reply["question"] == "Is there an effusion?"
    assert reply["text"] == "not assessable"
    assert "Give --topic" in refused("report", generator, row, "--topic", "cough", "--question", "Cough?")


def test_more_beams_may_be_asked_for(generator, row):
    assert json.loads(run("report", generator, row, "--beams", 2, "--topic", "cough", "--json"))["used"]
    assert "beams should be" in refused("report", generator, row, "--beams", 0)


def test_evaluate_scores_a_generator_and_stress_takes_its_modalities_away(generator, cohort, monkeypatch):
    small_cohorts(monkeypatch, cohort)
    said = run("evaluate", generator, "synthetic")
    assert "generated" in said
    assert "gap" in said
    rows = json.loads(run("evaluate", generator, "synthetic", "--stress", "--json"))
    there = [line["there"] for line in rows]
    assert there == ["image + table + text", "table + text", "image + text", "image + table", "nothing"]
    assert "unfounded" in rows[0]


def test_the_wrong_verb_says_which_one_is_right(generator, predictor, row):
    assert f"use mmmed report {generator}" in refused("predict", generator, row)
    assert f"use mmmed predict {predictor}" in refused("report", predictor, row)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"", "is not JSON"),
        (b"\xff\xfe{}", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1, 2]", "one JSON object"),
        (b"null", "one JSON object"),
        (None, "is no file"),
    ],
)
def test_a_file_that_holds_no_record_is_named(generator, tmp_path, content, message):
    path = tmp_path / "patient.json"
    if content is not None:
        path.write_bytes(content)
    said = refused("report", generator, path)
    assert message in said
    assert "patient.json" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("report", "nowhere", "{row}"), "no folder"),
        (("report", "{generator}", "{row}", "--without", "imag"), 'Did you mean "image"'),
        (("report", "{generator}", "{row}", "--topic", " "), "topics should be a list of texts"),
        (("report", "{generator}", "{row}", "--question", "  "), "A question is a text with words in it"),
        (("finetune", "synthetic", "--task", "reports", "-o", "x"), 'Did you mean "report"'),
        (("finetune", "synthetic", "--task", "report", "--findings", "chst", "-o", "x"), 'mean "chest"'),
        (
            ("finetune", "synthetic", "--task", "report", "--report", "note", "-o", "x"),
            "input of this cohort",
        ),
        (
            ("finetune", "synthetic", "--task", "report", "--language-model", "a/b", "-o", "x"),
            "snapshot_downl",
        ),
    ],
)
def test_a_mistake_ends_in_a_sentence_and_code_two(
    generator, cohort, row, words, message, tmp_path, monkeypatch
):
    small_cohorts(monkeypatch, cohort)
    monkeypatch.chdir(tmp_path)
    said = refused(*(word.format(generator=generator, row=row) for word in words))
    assert message in said
    assert not (tmp_path / "x").exists(), "nothing half-written"


def test_help_names_the_way_to_reports():
    assert "report" in run("--help")
    assert "--task" in run("finetune", "--help")
    assert len(run("report", "--help").splitlines()) > 5
