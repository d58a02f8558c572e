"""`mmmed finetune --task segment --sentences`: sentences of reports, taught and scored beside phrases."""

import json

import typed_command
from small_reporter import make_cohort

import mmmed
from mmmed.data.phrase_truth import report_phrases
from mmmed.data.phrases import phrases_of


def run(*words, code=0):
    said = typed_command.run("finetune", "synthetic", *words, code=code)
    return " ".join(said.split()) if code else said


def test_sentences_are_taught_and_scored_beside_the_short_phrases(tmp_path, monkeypatch):
    monkeypatch.setattr("mmmed.evaluation.masks.has_monai", lambda: False)  # importing it takes seconds
    cohort = make_cohort(20, lesions=2)
    monkeypatch.setattr("mmmed.cli.cohorts.open_cohort", lambda *_, **__: cohort)
    options = ("--task", "segment", "--sentences", "--epochs", 1, "-o", tmp_path / "run")
    said = json.loads(run(*options, "--json"))
    assert said["test"]["scores"]["phrases"] == len(phrases_of(cohort["test"]))
    told = report_phrases(cohort["test"], twins=True)
    assert said["sentences"]["scores"]["phrases"] == len(told)
    model = mmmed.load_model(tmp_path / "run" / "model")
    assert not {
        word for phrase in report_phrases(cohort["train"]) for word in model.reader.unknown(phrase.text)
    }
    assert set(model.card["tables"]) == {"Masks of the test part", "Sentences of the test part"}
    text = run(*options)  # it is finished: nothing is learned again
    assert text.index("Masks of the test part") < text.index("Sentences of the test part")


def test_sentences_are_those_of_the_synthetic_reports_and_for_masks_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cohort = make_cohort(20)
    monkeypatch.setattr("mmmed.cli.cohorts.open_cohort", lambda *_, **__: cohort)
    assert "are for --task segment" in run("--sentences", "-o", "x", code=2)
    segment = ("--task", "segment", "--sentences", "-o", "x")
    assert "give one of them" in run(*segment, "--phrases", "words.csv", code=2)
    cohort = mmmed.load_cohort("diabetes")
    assert "Only the reports of a synthetic cohort" in run(*segment, code=2)
    assert not (tmp_path / "x").exists()
