"""Run every lecture from top to bottom and keep its outputs: the `# %%` script is the source.

python notebooks/build.py                 # all
python notebooks/build.py 01_first_patient
python notebooks/build.py --words         # after a change of text cells only: outputs are kept, nothing runs
"""

from __future__ import annotations

import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
TIMEOUT = 600  # seconds for one cell


def sources() -> list[Path]:
    """The scripts of all lectures, in order."""
    return sorted(path for path in HERE.glob("[0-9]*.py"))


def read(source: Path) -> nbformat.NotebookNode:
    """The notebook of a script, without outputs. Cell ids are counted, so that no run changes them."""
    notebook = jupytext.read(source)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = {"kernelspec": kernel}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata = {}
    return notebook


def run(source: Path) -> nbformat.NotebookNode:
    """Execute a script as a notebook, in its folder. Raises CellExecutionError where a cell fails."""
    notebook = read(source)
    NotebookClient(notebook, timeout=TIMEOUT, resources={"metadata": {"path": str(HERE)}}).execute()
    for cell in notebook.cells:
        cell.metadata = {}  # times of execution
        if cell.cell_type == "code":  # warnings name files of this machine
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def reword(source: Path) -> nbformat.NotebookNode:
    """The committed notebook with the text cells of its script. Raises ValueError if code has changed."""
    kept, fresh = nbformat.read(source.with_suffix(".ipynb"), as_version=4), read(source)
    before, after = ([c.source for c in book.cells if c.cell_type == "code"] for book in (kept, fresh))
    if before != after:
        raise ValueError(f"The code of {source.name} is not what was run. Run it: build.py {source.stem}")
    fresh.metadata = kept.metadata
    outputs = iter(cell for cell in kept.cells if cell.cell_type == "code")
    for cell in fresh.cells:
        if cell.cell_type == "code":
            ran = next(outputs)
            cell.outputs, cell.execution_count = ran.outputs, ran.execution_count
    return fresh


def main(words: list[str]) -> None:
    """Run the lectures that are named, or all; with --words take over changed text and run none."""
    names = [word for word in words if word != "--words"]
    make = reword if "--words" in words else run
    for source in sources():
        if not names or source.stem in names:
            print(source.name)
            nbformat.write(make(source), source.with_suffix(".ipynb"))


if __name__ == "__main__":
    main(sys.argv[1:])
