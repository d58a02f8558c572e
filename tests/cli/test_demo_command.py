"""`mmmed demo` finds its page and a model, or says in a sentence what is missing; the page is installed."""

import fnmatch
import importlib.util
import runpy
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

import mmmed
from mmmed.cli import demo as command
from mmmed.cli.app import app
from mmmed.types import Binary, Number, Schema, Tabular

ROOT = Path(__file__).parents[2]
runner = CliRunner()


@pytest.fixture
def settings():
    """The packaging part of pyproject.toml."""
    tomllib = pytest.importorskip("tomllib")
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


PICTURES = "screenshots"  # for the README, not for the page


def folders(start, name):
    """Names of the packages that a folder and the folders in it would be."""
    inside = (folder for folder in (start, *start.rglob("*")) if folder.is_dir())
    parts = (folder.relative_to(start).parts for folder in inside)
    return {".".join((name, *part)) for part in parts if not {"__pycache__", PICTURES} & set(part)}


# -------------------------------------------------------------------------------------------------- packaging


def test_every_folder_is_installed_and_nothing_that_is_not_there(settings):
    places = {"mmmed": "mmmed", **settings["package-dir"]}
    there = set().union(*(folders(ROOT / place, name) for name, place in places.items()))
    assert set(settings["packages"]) == there
    assert settings["package-dir"] == {"mmmed_demo": "demos", "mmmed_data_cards": "data_cards"}


def test_every_file_of_the_page_and_of_the_cards_is_installed_with_them(settings):
    for name, place in settings["package-dir"].items():
        kept = ["*.py", *settings["package-data"][name]]
        files = [path for path in (ROOT / place).rglob("*.*") if path.is_file() and path.suffix != ".pyc"]
        assert files
        for path in (path for path in files if PICTURES not in path.parts):
            assert any(fnmatch.fnmatch(path.name, pattern) for pattern in kept), path


def test_python_m_mmmed_is_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mmmed", "demo", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("mmmed", run_name="__main__")
    assert not ended.value.code
    assert "take an image" in capsys.readouterr().out


def forget_the_page(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == command.PAGE]:
        monkeypatch.delitem(sys.modules, name)


def test_in_a_checkout_the_page_is_the_folder_beside_the_package(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    forget_the_page(monkeypatch)
    found = command.demo_package()
    assert Path(found.__file__).parent == ROOT / "demos"
    assert command.demo_package() is found


def test_where_there_is_no_checkout_the_installed_page_is_taken(monkeypatch, tmp_path):
    installed = tmp_path / "site-packages"
    (installed / "mmmed_demo").mkdir(parents=True)
    (installed / "mmmed_demo" / "__init__.py").write_text('"""installed"""')
    (installed / "demos").mkdir()  # of somebody else
    (installed / "demos" / "__init__.py").write_text("raise RuntimeError('not ours')")
    forget_the_page(monkeypatch)
    monkeypatch.syspath_prepend(installed)
    monkeypatch.setattr(command, "__file__", str(installed / "mmmed" / "cli" / "demo.py"))
    assert command.demo_package().__doc__ == "installed"


# --------------------------------------------------------------------------------------------------- mistakes


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder, few patients, and an environment that stays as it is."""
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("needs gradio")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "PATIENTS", 80)
    command.demo_package()
    from mmmed_demo import guard

    monkeypatch.setattr(guard, "prepare_environment", lambda folder: None)
    return tmp_path


def refused(*words):
    """The one sentence that a wrong call ends in."""
    result = runner.invoke(app, ["demo", "--port", str(free_port()), *map(str, words)])
    assert result.exit_code == 2, result.output + repr(result.exception)
    return " ".join(result.output.split())


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_named_folder_without_a_model_is_refused(here):
    assert "no folder" in refused("--model", here / "nowhere")
    assert "is no model folder" in refused("--model", here)
    assert f"{here} holds no model. Leave --reports out" in refused("--reports", here)
    assert "Leave --masks out" in refused("--masks", here)
    assert not list(here.iterdir()), "nothing was trained or written"


def test_no_train_trains_nothing(here):
    assert "Run mmmed quickstart, or leave --no-train out." in refused("--no-train")
    assert not list(here.iterdir())


def test_a_port_that_is_taken_is_said_before_anything_is_done(here):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = runner.invoke(app, ["demo", "--port", str(port)])
    assert result.exit_code == 2
    assert f"Try --port {port + 1}" in result.output
    assert not list(here.iterdir())


def test_without_gradio_the_sentence_names_what_to_install(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "gradio" else find(name, *a)
    )
    assert 'pip install "mmmed[demo]"' in refused()


# ---------------------------------------------------------------------------------------------- what is shown


def saved(folder):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")


def test_the_model_of_the_quickstart_comes_before_that_of_an_earlier_demo(here, monkeypatch):
    monkeypatch.setattr(command, "train", lambda: "trained")
    assert command.find_model(no_train=False) == "trained"
    saved(here / command.RUNS / "model")
    assert command.find_model(no_train=True) == command.RUNS / "model"
    saved(here / command.QUICKSTART)
    assert command.find_model(no_train=True) == command.QUICKSTART


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which the demo has trained its own model, much too short."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("demo")
    patch.chdir(folder)
    place = folder / command.train(patients=80, epochs=1)
    patch.undo()
    return place


def test_without_a_model_one_is_trained_that_the_page_can_use(trained, here):
    cast, lessons = command.prepare(trained, "", {"reports": None, "masks": None})
    assert "complete" in cast.examples
    assert cast.benchmark.tasks == ("diagnosis",)
    assert [lesson.name for lesson in lessons] == ["reports", "masks"]
    assert (here / command.RUNS / "benchmark" / "answers").is_dir(), "so that the next start is quick"
    _, none = command.prepare(trained, "", {"reports": None, "masks": None}, no_train=True)
    assert none == ()


def test_a_table_that_is_called_synthetic_has_nothing_trained_for_it(trained, here):
    table = here / "synthetic.csv"
    table.write_text("patient,age,ill\n" + "".join(f"p{i},{30 + i},{i % 2}\n" for i in range(40)))
    cohort = mmmed.Cohort.from_csv(table, tabular=["age"], target="ill", group="patient")
    assert cohort.name == "synthetic"
    cast = SimpleNamespace(notes=(), reporter=None, segmenter=None)
    patch = pytest.MonkeyPatch()
    with patch.context() as its:
        its.setattr(command, "patients_for", lambda *_: cohort)
        its.setattr("mmmed_demo.cast.open_cast", lambda *_, **__: cast)
        assert command.prepare(trained, str(table), {"reports": None, "masks": None}) == (cast, ())


def test_a_page_that_cannot_be_served_leaves_no_child(monkeypatch):
    done = []
    learning = SimpleNamespace(start=lambda: None, close=lambda: done.append("children"))

    def launch(*_, **__):
        raise OSError("no port")

    monkeypatch.setitem(sys.modules, "mmmed_demo.app", SimpleNamespace(launch=launch))
    made = SimpleNamespace(Companions=lambda *_: learning)
    monkeypatch.setitem(sys.modules, "mmmed_demo.companions", made)
    with pytest.raises(OSError, match="no port"):
        command.serve(None, (SimpleNamespace(name="reports"),), "127.0.0.1", 7860, False)
    assert done == ["children"]


def test_a_model_of_other_columns_gets_no_synthetic_patients(here, capsys):
    other = mmmed.create_model(Schema({"labs": Tabular((Number("crp"),))}, {"ill": Binary("ill")}))
    assert command.patients_for(other, "") is None
    assert "reads other columns" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------------- serving


def test_who_else_can_open_the_page_is_said(capsys):
    command.warn_of("127.0.0.1", True, False)
    assert capsys.readouterr().out == ""
    command.warn_of("0.0.0.0", False, False)
    assert "Everybody who can reach this machine" in capsys.readouterr().out
    command.warn_of("127.0.0.1", True, True)
    assert "leaves this machine" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("lessons", [(), (SimpleNamespace(name="reports"),)])
def test_however_the_page_ends_children_and_server_end_with_it(monkeypatch, lessons, capsys):
    done = []

    class Learning:
        def __init__(self, *_):
            pass

        def start(self):
            done.append("learning")

        def close(self):
            done.append("children")

    def stop():
        raise SystemExit(143)

    page = SimpleNamespace(block_thread=stop, close=lambda verbose: done.append("server"), share_url=None)
    launch = SimpleNamespace(launch=lambda *given, block: done.append(given[2:]) or page)
    monkeypatch.setitem(sys.modules, "mmmed_demo.app", launch)
    monkeypatch.setitem(sys.modules, "mmmed_demo.companions", SimpleNamespace(Companions=Learning))
    with pytest.raises(SystemExit):
        command.serve(None, lessons, "127.0.0.1", 7860, False)
    assert done == [*["learning"] * len(lessons), ("127.0.0.1", 7860, False), "children", "server"]
    assert "http://127.0.0.1:7860" in capsys.readouterr().out
