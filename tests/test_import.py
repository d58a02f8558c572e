"""Importing mmmed does nothing: no torch, output, warning or network; each public name loads when asked."""

import subprocess
import sys

import pytest

import mmmed

HEAVY = (
    "torch",
    "numpy",
    "pandas",
    "sklearn",
    "datasets",
    "PIL",
    "matplotlib",
    "timm",
    "transformers",
    "typer",
)


def run(program):
    """A fresh interpreter in which every warning is an error and every socket a crash."""
    guard = (
        "import socket, sys\n"
        "def refuse(*_, **__): raise SystemExit('a socket was opened')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
    )
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", guard + program], capture_output=True, text=True, check=False
    )


def test_importing_is_silent_light_and_offline():
    answer = run(f"import mmmed\nprint([name for name in {HEAVY!r} if name in sys.modules])")
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    assert answer.stdout == "[]\n"


def test_importing_loads_no_other_file_of_the_package():
    answer = run("import mmmed\nprint(sorted(name for name in sys.modules if name.startswith('mmmed')))")
    assert answer.stdout == "['mmmed']\n"


def test_importing_changes_nothing_of_the_process():
    program = (
        "import os, random, warnings, signal, logging\n"
        "def state(): return (dict(os.environ), random.getstate(), list(warnings.filters), os.getcwd(),\n"
        "                     list(sys.path), logging.getLogger().handlers[:], sys.excepthook)\n"
        "before = state()\nimport mmmed\nprint(state() == before)"
    )
    assert run(program).stdout == "True\n"


def test_the_light_nouns_need_no_torch():
    program = (
        "import mmmed\n"
        "mmmed.Schema({'note': __import__('mmmed.types').types.Text('note')}); mmmed.Record('a', {})\n"
        "mmmed.list_components(); mmmed.Prediction('a', {}, (), ())\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    answer = run(program)
    assert (answer.stdout, answer.stderr) == ("[]\n", "")


@pytest.mark.parametrize("name", [name for name in mmmed.__all__ if name != "__version__"])
def test_every_public_name_can_be_loaded(name):
    value = getattr(mmmed, name)
    assert callable(value)
    assert value.__doc__, f"{name} has no docstring"
    assert name in dir(mmmed)
    assert getattr(mmmed, name) is value


def test_the_public_names_are_few_and_the_same_everywhere():
    assert sorted(mmmed.__all__) == sorted({"__version__", *mmmed._PLACES})
    assert len(mmmed.__all__) <= 21
    assert mmmed.__version__.count(".") == 2


def test_a_wrong_name_is_answered_with_the_right_one():
    with pytest.raises(
        AttributeError, match=r"mmmed has no 'create_modell'\. Did you mean \"create_model\"\?"
    ):
        mmmed.create_modell
    with pytest.raises(AttributeError, match="mmmed has no 'xyzzy'"):
        mmmed.xyzzy
    with pytest.raises(ImportError):
        from mmmed import xyzzy  # noqa: F401


def test_loading_the_public_names_prints_and_warns_nothing():
    names = ["create_model", "load_model", "predict", "Cohort", "load_cohort"]
    quiet = (
        "import warnings; warnings.simplefilter('default')\n"  # of other packages; ours are looked for below
    )
    answer = run(f"{quiet}import mmmed\nfor name in {names!r}: getattr(mmmed, name)")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == ""
    assert "mmmed" not in answer.stderr
