"""The README and the guide keep their word: their code runs as it stands there, on fewer patients."""

import re
from pathlib import Path

import numpy as np
import pandas
import pytest
import yaml

import mmmed

ROOT = Path(__file__).parents[1]
README, GUIDE = (ROOT / name for name in ("README.md", "notebooks/README.md"))


def blocks(file: Path) -> list[str]:
    """The Python blocks of a Markdown file."""
    return re.findall(r"```python\n(.*?)```", file.read_text(encoding="utf-8"), re.S)


TEN_LINES, OWN_TABLE = blocks(README)
ONE_PATIENT, ESTIMATOR, STUDY, REPORTS, MASKS = blocks(GUIDE)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def frame(rows: int = 80) -> pandas.DataFrame:
    """The table that the README speaks of."""
    generator = np.random.default_rng(0)
    label = generator.integers(0, 2, rows)
    notes = [
        f"day {i} of a long stay, {'fever and chills' if y else 'no fever'}" for i, y in enumerate(label)
    ]
    age, crp = generator.normal(60, 10, rows), generator.normal(50 + 30 * label, 20)
    patients = [f"p{i}" for i in range(rows)]
    columns = {"age": age, "crp": crp, "note": notes, "patient": patients, "sepsis": label}
    return pandas.DataFrame(columns)


def test_ten_lines_train_stress_and_ask_and_the_guide_goes_on_from_them(place, capsys):
    names = {}
    exec(TEN_LINES.replace("patients=600", "patients=80").replace("epochs=10", "epochs=1"), names)
    assert "missing: image" in capsys.readouterr().out
    assert (place / "runs/first/model/model.safetensors").is_file()
    exec(ONE_PATIENT, names)
    said = capsys.readouterr().out
    assert said.index("+ text") < said.index("+ image") < said.index("+ table") < said.index("would move")


def test_a_csv_is_read_by_the_names_of_its_columns(place, capsys):
    from PIL import Image

    table = frame().assign(path=[f"{i}.png" if i % 3 else None for i in range(80)])
    for name in table["path"].dropna():
        Image.new("L", (16, 16), 100).save(place / name)
    table.to_csv("my.csv", index=False)
    exec(OWN_TABLE, {"mmmed": mmmed})
    said = capsys.readouterr().out.strip()
    assert said in GUIDE.read_text(encoding="utf-8")  # the guide shows this output, to the letter


def test_the_estimator_fits_a_frame(capsys):
    names = {}
    exec(ESTIMATOR.replace("columns=kinds)", "columns=kinds, epochs=1, verbose=False)"), names)
    assert "missing: vitals" in capsys.readouterr().out


def test_reports_are_written_with_and_without_the_picture(place, capsys):
    quick = REPORTS.replace("patients=2800", "patients=60")
    exec(quick.replace("cohort, output", "cohort, epochs=1, output"), {"mmmed": mmmed})
    assert "Not available: image." in capsys.readouterr().out
    assert (place / "runs/reports/model/model.safetensors").is_file()


def test_a_phrase_gets_a_mask_or_not_there(place, capsys):
    quick = MASKS.replace("patients=1150", "patients=60")
    exec(quick.replace("cohort, output", "cohort, epochs=2, output"), {"mmmed": mmmed})
    assert capsys.readouterr().out.count("the nodule on the") == 2
    assert (place / "runs/masks/model/model.safetensors").is_file()


def test_a_study_shows_what_a_changed_habit_does():
    quick = STUDY.replace("reweight=False)}", 'reweight=False), "epochs": 1}')
    names = {"mmmed": mmmed}
    exec(quick.replace('"defended": "multimodn"', '"defended": {"epochs": 1}'), names)
    assert set(names["study"].table.column("recipe")) == {"undefended", "defended"}
    assert not names["study"].errors


def test_the_table_of_the_readme_names_every_command():
    from mmmed.cli.app import app

    row = next(line for line in README.read_text(encoding="utf-8").splitlines() if "| commands |" in line)
    said = set(re.findall(r"`(?:mmmed )?(\w+)`", row))
    assert said == {command.name or command.callback.__name__ for command in app.registered_commands}


def test_the_citation_names_the_version_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == mmmed.__version__
    assert {"cff-version", "message", "title", "authors", "license"} <= set(citation)
