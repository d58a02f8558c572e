"""Every lecture runs from top to bottom, and the committed notebook is a run of the committed script."""

import importlib.util
from pathlib import Path

import nbformat
import pytest

HERE = Path(__file__).parents[2] / "notebooks"
specification = importlib.util.spec_from_file_location("build", HERE / "build.py")
build = importlib.util.module_from_spec(specification)
specification.loader.exec_module(build)

LECTURES = [pytest.param(path, id=path.stem) for path in build.sources()]


@pytest.mark.parametrize("source", LECTURES)
def test_the_committed_notebook_holds_the_cells_of_its_script(source):
    kept = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert [cell.source for cell in kept.cells] == [cell.source for cell in build.read(source).cells]


@pytest.mark.parametrize("source", LECTURES)
def test_the_committed_outputs_come_from_one_run_without_error(source):
    cells = [
        c for c in nbformat.read(source.with_suffix(".ipynb"), as_version=4).cells if c.cell_type == "code"
    ]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)


@pytest.mark.parametrize("source", LECTURES)
def test_cells_are_short_and_the_first_one_says_what_is_needed(source):
    cells = build.read(source).cells
    assert cells[0].cell_type == "markdown"
    assert "Needed" in cells[0].source
    assert all(len(cell.source.splitlines()) <= 10 for cell in cells if cell.cell_type == "code")
    assert "Limits" in cells[-1].source


@pytest.mark.timeout(600)
@pytest.mark.parametrize("source", LECTURES)
def test_it_runs_from_top_to_bottom(source):
    build.run(source)
