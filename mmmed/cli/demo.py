"""`mmmed demo`: find the page, find or train a model, put everything around it, and serve it."""

from __future__ import annotations

import importlib
import importlib.util
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmmed.checks import needs
from mmmed.cli.speaking import console
from mmmed.types.prediction import NOTICE

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort
    from mmmed.models.multimodal import MultimodalModel

PAGE = "mmmed_demo"
QUICKSTART, RUNS = Path("runs/quickstart/model"), Path("runs/demo")
PATIENTS, SEED, EPOCHS = 1200, 0, 30  # of the quickstart, so that its test patients are new to its model
PLACES = {"reports": Path("runs/reports/model"), "masks": Path("runs/masks/model")}


def demo(
    model: Annotated[
        Path | None,
        typer.Option(help=f"A folder with a model that predicts; else {QUICKSTART}, or one is trained."),
    ] = None,
    cohort: Annotated[
        str,
        typer.Option(help="Patients to try: a known cohort, a folder, or a CSV with the model's columns."),
    ] = "",
    reports: Annotated[Path | None, typer.Option(help="A folder with a report generator.")] = None,
    masks: Annotated[Path | None, typer.Option(help="A folder with a model that draws masks.")] = None,
    host: Annotated[
        str, typer.Option(help="Who may open the page; by default this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Where the page is served.", min=1, max=65535)] = 7860,
    share: Annotated[
        bool, typer.Option("--share", help="Also a public link, through a server of Gradio.")
    ] = False,
    no_train: Annotated[bool, typer.Option("--no-train", help="Train nothing, use what is there.")] = False,
) -> None:
    """A page in the browser: take an image, a table or a note away and watch the answer move.

    Without a model a small one is trained first (half a minute), and a report generator and a segmenter
    beside the page (three and six minutes), all on synthetic patients and under runs/demo. Nothing that is
    typed or uploaded leaves this machine, unless --share is given.
    """
    if importlib.util.find_spec("gradio") is None:
        raise needs("gradio", "demo")
    check_port(host, port)
    named = {"reports": reports, "masks": masks}
    with ending_in_order(), tempfile.TemporaryDirectory(prefix="mmmed-demo-") as folder:
        demo_package()
        guard = importlib.import_module(f"{PAGE}.guard")
        guard.prepare_environment(folder)  # before gradio is imported
        cast, lessons = prepare(model, cohort, named, no_train)
        warn_of(host, guard.is_loopback(host), share)
        serve(cast, lessons, host, port, share)


def demo_package() -> ModuleType:
    """The package of the page: the folder demos/ beside mmmed in a checkout, else what is installed.

    The checkout comes first, so that the page and the package are of one release even where another one is
    installed. Raises ImportError if there is neither.
    """
    if PAGE in sys.modules:
        return sys.modules[PAGE]
    root = Path(__file__).resolve().parents[2]
    start = root / "demos" / "__init__.py"
    if not ((root / "pyproject.toml").is_file() and start.is_file()):
        return importlib.import_module(PAGE)
    spec = importlib.util.spec_from_file_location(PAGE, start, submodule_search_locations=[str(start.parent)])
    module = importlib.util.module_from_spec(spec)
    sys.modules[PAGE] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[PAGE]
        raise
    return module


# ---------------------------------------------------------------------------------------------- what is shown


def prepare(
    model: Path | None, source: str, named: dict[str, Path | None], no_train: bool = False
) -> tuple[Any, tuple[Any, ...]]:
    """-> the `Cast` of the page, and the lessons that are to be learned beside it.

    model, named: folders that the user gave, None for the usual places. source: of the cohort, "" for the
    synthetic patients. Raises ValueError if a folder that was named has no model, or the cohort other
    columns.
    """
    cast_of, companions = (importlib.import_module(f"{PAGE}.{name}") for name in ("cast", "companions"))
    for name, folder in named.items():
        if folder is not None and not (folder / "config.json").is_file():
            raise ValueError(
                f"{folder} holds no model. Leave --{name} out, or name the folder of a saved one."
            )
    loaded = cast_of.open_model(model or find_model(no_train))
    usual = {name: (place, RUNS / name / "model") for name, place in PLACES.items()}
    folders = {name: (folder,) if (folder := named[name]) else usual[name] for name in usual}
    cohort = patients_for(loaded, source)
    cast = cast_of.open_cast(loaded, cohort, **folders, output=benchmark_folder(), say=_say)
    for note in cast.notes:
        _say(note, style="yellow")
    synthetic = cohort is not None and cohort.truth is not None  # not any table that is called so
    return cast, companions.missing(cast) if synthetic and not no_train else ()


def find_model(no_train: bool) -> Path:
    """The model of the quickstart, that of an earlier demo, or a new one."""
    for folder in (QUICKSTART, RUNS / "model"):
        if (folder / "config.json").is_file():
            return folder
    if no_train:
        raise ValueError(f"There is no model in {QUICKSTART}. Run mmmed quickstart, or leave --no-train out.")
    return train()


def train(patients: int = PATIENTS, epochs: int = EPOCHS) -> Path:
    """The recipe of the quickstart without its audit and figures. -> the folder of the model"""
    import mmmed
    from mmmed.training.augment import Augmentation

    _say(f"There is no model in {QUICKSTART}, so one is trained now, in {RUNS} (about half a minute)")
    cohort = mmmed.load_cohort("synthetic", patients=patients, seed=SEED)
    model = mmmed.create_model(cohort.schema, fusion="multimodn", seed=SEED)
    mirrored = Augmentation(flip=True)  # here the diagnosis does not depend on the side; the default is off
    mmmed.finetune(model, cohort, output=RUNS, epochs=epochs, augmentation=mirrored, seed=SEED)
    return RUNS / "model"


def patients_for(model: MultimodalModel, source: str) -> Cohort | None:
    """The cohort that was named; else the synthetic patients, or None if the model reads other columns."""
    from mmmed.cli.cohorts import open_cohort
    from mmmed.models.inference import check_cohort

    if source:
        columns = {"schema": model.schema} if source.lower().endswith(".csv") else {}
        return open_cohort(source, PATIENTS, SEED, **columns)
    cohort = open_cohort("synthetic", PATIENTS, SEED)
    try:
        check_cohort(model, cohort)
        return cohort.with_schema(model.schema)
    except ValueError:
        _say("This model reads other columns than the synthetic patients have; --cohort names its own")
        return None


def benchmark_folder() -> Path | None:
    """Where the benchmark keeps its answers; None where nothing can be written."""
    folder = RUNS / "benchmark"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder


# --------------------------------------------------------------------------------------------------- the page


def serve(cast: Any, lessons: tuple[Any, ...], host: str, port: int, share: bool) -> None:
    """Serve the page until it is stopped, with the lessons in the background."""
    _say("Building the page")
    app, companions = (importlib.import_module(f"{PAGE}.{name}") for name in ("app", "companions"))
    learning, page = companions.Companions(lessons, RUNS), None
    try:
        if lessons:  # before the page is built: it is opened with what is being learned, and looks for more
            learning.start()
            names = " and ".join(lesson.name for lesson in lessons)
            _say(f"No model for {names} yet: learning beside the page")
        page = app.launch(cast, learning, host, port, share, block=False)
        shown = f"[{host}]" if ":" in host else {"0.0.0.0": "127.0.0.1"}.get(host, host)
        console.print(
            f"\nOpen http://{shown}:{port}   (Ctrl-C ends it)   {NOTICE}", style="bold", soft_wrap=True
        )
        if share:
            console.print(f"Public: {page.share_url}", soft_wrap=True)
        page.block_thread()
    finally:
        learning.close()
        if page is not None:
            page.close(verbose=False)


def warn_of(host: str, loopback: bool, share: bool) -> None:
    """Who else can open the page."""
    if not loopback:
        _say(
            f"Everybody who can reach this machine can open the page, since it listens on {host}",
            style="yellow",
        )
    if share:
        words = (
            "With --share the page is open to everybody who has the link, and all that is typed or uploaded"
        )
        _say(f"{words} leaves this machine, through a server of Gradio", style="yellow")


def check_port(host: str, port: int) -> None:
    """Raises ValueError if nothing can be served there: before a minute is spent on training."""
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(kind, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = error.strerror or str(error)
            raise ValueError(
                f"Nothing can be served on {host}:{port} ({reason}). Try --port {port % 65535 + 1}."
            ) from error


@contextmanager
def ending_in_order() -> Iterator[None]:
    """A kill ends the program as Ctrl-C does, so that children and temporary files go with it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(sentence: str, style: str | None = None) -> None:
    console.print(f"{sentence.rstrip('.')}.", style=style, markup=False, highlight=False, soft_wrap=True)
