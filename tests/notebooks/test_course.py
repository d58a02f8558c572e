"""The lectures are one course: each says where it stands, leads on, and shows no folder of a machine."""

import importlib.util
import re
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

HERE = Path(__file__).parents[2] / "notebooks"
specification = importlib.util.spec_from_file_location("build", HERE / "build.py")
build = importlib.util.module_from_spec(specification)
specification.loader.exec_module(build)

SOURCES = build.sources()
LECTURES = [pytest.param(path, id=path.stem) for path in SOURCES]
PLACES = re.compile(r"(?<![\w.~/])/(?:tmp|home|root|work|Users|private|var/folders|mnt|opt)/")


def test_the_lectures_are_counted_from_nought_without_a_gap():
    assert [int(path.stem[:2]) for path in SOURCES] == list(range(len(SOURCES)))


@pytest.mark.parametrize("source", LECTURES)
def test_the_first_cell_says_where_the_lecture_stands(source):
    first = build.read(source).cells[0].source
    assert f"Lecture {int(source.stem[:2])} of 0 to {len(SOURCES) - 1}" in first
    assert "**One question:" in first


@pytest.mark.parametrize(("source", "following"), pairwise(SOURCES))
def test_the_last_cell_leads_to_the_next_lecture(source, following):
    assert f"({following.stem}.ipynb)" in build.read(source).cells[-1].source.split("Next: ")[1]


@pytest.mark.parametrize("source", LECTURES)
def test_links_between_lectures_lead_to_a_lecture(source):
    text = "\n".join(cell.source for cell in build.read(source).cells if cell.cell_type == "markdown")
    linked = set(re.findall(r"\]\((\w+)\.ipynb\)", text))
    assert linked <= {path.stem for path in SOURCES}


def shown(cell):
    """Everything that a cell put out, as text."""
    for output in cell.get("outputs", ()):
        yield from (output.get("text", ""), *map(str, output.get("data", {}).values()))


@pytest.mark.parametrize("source", LECTURES)
def test_no_output_shows_a_place_of_the_machine_that_ran_it(source):
    for cell in nbformat.read(source.with_suffix(".ipynb"), as_version=4).cells:
        assert not any(PLACES.search(text) for text in shown(cell)), cell.source


def test_a_notebook_whose_code_was_not_run_is_not_reworded(tmp_path):
    for suffix in (".py", ".ipynb"):
        (tmp_path / f"00_one{suffix}").write_bytes(SOURCES[1].with_suffix(suffix).read_bytes())
    script = tmp_path / "00_one.py"
    script.write_text(script.read_text(encoding="utf-8") + "\n# %%\n1 + 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="not what was run"):
        build.reword(script)


def test_rewording_keeps_what_was_run_and_takes_over_the_text(tmp_path):
    for suffix in (".py", ".ipynb"):
        (tmp_path / f"00_one{suffix}").write_bytes(SOURCES[1].with_suffix(suffix).read_bytes())
    script = tmp_path / "00_one.py"
    script.write_text(
        script.read_text(encoding="utf-8").replace("## Limits", "## What it does not say"), "utf-8"
    )
    kept, fresh = nbformat.read(script.with_suffix(".ipynb"), as_version=4), build.reword(script)
    assert "What it does not say" in fresh.cells[-1].source
    outputs = [[c.get("outputs") for c in book.cells if c.cell_type == "code"] for book in (kept, fresh)]
    assert outputs[0] == outputs[1]
