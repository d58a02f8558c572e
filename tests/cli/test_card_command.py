"""`mmmed card`: prints, writes in place, and fails where a card and its data disagree."""

import json

import pytest
import typed_command
from typed_command import runner

from mmmed.cli.app import app

COLUMNS = ("--tabular", "age", "--target", "sepsis", "--group", "patient")


def run(*words: object, code: int = 0) -> str:
    return typed_command.run("card", *words, code=code)


@pytest.fixture
def table(tmp_path):
    lines = ["patient,age,sepsis"] + [f"p{i},{'' if i % 5 == 0 else 30 + i},{i % 2}" for i in range(40)]
    path = tmp_path / "my.csv"
    path.write_text("\n".join(lines))
    return path


def test_help_teaches():
    assert len(run("--help").splitlines()) > 5


def test_a_card_of_ones_own_is_written_then_filled_in_then_checked(table, tmp_path):
    card = tmp_path / "card.md"
    run(table, *COLUMNS, "-o", card)
    written = card.read_text(encoding="utf-8")
    assert "| records | 40 |" in written
    card.write_text(
        written.replace("Not written yet.", "My study.", 1).replace("| records | 40 |", "| records | 4 |")
    )
    assert "line records" in run(table, *COLUMNS, "-o", card, "--check", code=1)
    assert "| records | 4 |" in card.read_text(encoding="utf-8"), "a check writes nothing"
    run(table, *COLUMNS, "-o", card)
    assert "My study." in card.read_text(encoding="utf-8")
    assert "agrees with the data" in run(table, *COLUMNS, "-o", card, "--check")


def test_json_and_croissant_are_json(table, tmp_path):
    assert json.loads(run(table, *COLUMNS, "--json"))["counted"]["sizes"]
    assert json.loads(run(table, *COLUMNS, "--croissant"))["@type"] == "sc:Dataset"
    run(table, *COLUMNS, "--croissant", "-o", tmp_path / "my.json")
    assert json.loads((tmp_path / "my.json").read_text())["name"] == "my"
    assert json.loads(run(table, *COLUMNS, "--check", "--json", code=1))["differences"]


def test_a_known_cohort_prints_its_prose_with_fresh_counts():
    said = run("synthetic", "--patients", 60)
    assert "Patients who do not exist" in said
    assert "| records | 60 |" in said


def test_croissant_onto_a_card_would_destroy_its_prose_and_is_refused(table, tmp_path):
    card = tmp_path / "card.md"
    card.write_text("my prose")
    assert "replace its prose" in run(table, *COLUMNS, "--croissant", "-o", card, code=2)
    assert card.read_text() == "my prose"


def test_the_card_of_a_model_that_finetune_wrote_holds_what_was_measured(table, tmp_path):
    words = ["finetune", table, *COLUMNS, "-o", tmp_path / "run", "--epochs", 1]
    result = runner.invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "## Scores of the test part" in card
    assert "| sepsis |" in card
