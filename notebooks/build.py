"""Run every lecture from top to bottom and keep its outputs: the `# %%` script is the source.

python notebooks/build.py                 # all
python notebooks/build.py 01_first_patient
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


def main(names: list[str]) -> None:
    for source in sources():
        if not names or source.stem in names:
            print(f"running {source.name}")
            nbformat.write(run(source), source.with_suffix(".ipynb"))


if __name__ == "__main__":
    main(sys.argv[1:])
