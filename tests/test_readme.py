"""The code of the README runs as it stands there, on fewer patients."""

import re
from pathlib import Path

import numpy as np
import pandas
import pytest

BLOCKS = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text(), re.S)


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


def test_the_first_block_trains_stresses_and_asks(place, capsys):
    exec(BLOCKS[0].replace("patients=600", "patients=80").replace("epochs=10", "epochs=1"), {})
    assert "missing: image" in capsys.readouterr().out
    assert (place / "runs/first/model/model.safetensors").is_file()


def test_a_csv_is_read_by_the_names_of_its_columns(place, capsys):
    from PIL import Image

    table = frame().assign(path=[f"{i}.png" if i % 3 else None for i in range(80)])
    for name in table["path"].dropna():
        Image.new("L", (16, 16), 100).save(place / name)
    table.to_csv("my.csv", index=False)
    exec(BLOCKS[1], {"mmmed": __import__("mmmed")})
    assert "sepsis" in capsys.readouterr().out


def test_the_estimator_fits_a_frame(place):
    names = {"frame": frame(), "other": frame()}
    exec(BLOCKS[2].replace('group="patient")', 'group="patient", epochs=1, verbose=False)'), names)
    assert len(names["model"].predict_proba(names["frame"])) == 80


def test_reports_are_written_with_and_without_the_picture(place, capsys):
    quick = (
        BLOCKS[3]
        .replace("patients=2800", "patients=60")
        .replace("cohort, output", "cohort, epochs=1, output")
    )
    exec(quick, {"mmmed": __import__("mmmed")})
    assert "Not available: image." in capsys.readouterr().out
    assert (place / "runs/reports/model/model.safetensors").is_file()


def test_a_phrase_gets_a_mask_or_not_there(place, capsys):
    quick = (
        BLOCKS[4]
        .replace("patients=1150", "patients=60")
        .replace("cohort, output", "cohort, epochs=2, output")
    )
    exec(quick, {"mmmed": __import__("mmmed")})
    assert capsys.readouterr().out.count("the nodule on the") == 2
    assert (place / "runs/masks/model/model.safetensors").is_file()


def test_a_study_shows_what_a_changed_habit_does():
    quick = BLOCKS[5].replace("reweight=False)}", 'reweight=False), "epochs": 1}')
    quick = quick.replace('"defended": "multimodn"', '"defended": {"epochs": 1}')
    names = {"mmmed": __import__("mmmed")}
    exec(quick, names)
    assert set(names["study"].table.column("recipe")) == {"undefended", "defended"}
    assert not names["study"].errors
