"""The command line: one command per verb, each with `--json` for programs. Errors are sentences, never stack
traces."""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from mmmed.catalogue import list_components
from mmmed.types.prediction import NOTICE

app = typer.Typer(
    name="mmmed",
    help=f"Multimodal medical reasoning for records that are rarely complete. {NOTICE}\n\n"
    "Start with: mmmed quickstart",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
console = Console()

FUSIONS = ", ".join(list_components(kind="fusion"))
SOURCE = (
    "A known cohort (synthetic; diabetes, digits, breast-cancer; breast-us, hannover-cxr, covid-cxr,"
    " lgg-mri), a folder with metadata.csv and schema.json, or a CSV file (then name its columns)."
)

Source = Annotated[str, typer.Argument(help=SOURCE, metavar="COHORT")]
Model = Annotated[
    Path, typer.Argument(help="The folder that finetune or save_pretrained wrote.", metavar="MODEL")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]
Patients = Annotated[int, typer.Option(help="Patients of the synthetic cohort.")]
Seed = Annotated[int, typer.Option(help="Same seed, same result.")]
ImageColumn = Annotated[str, typer.Option("--image", help="CSV: the column of image paths.")]
Columns = Annotated[
    list[str] | None, typer.Option("--tabular", help="CSV: a column of the table (repeat it).")
]
TextColumn = Annotated[str, typer.Option("--text", help="CSV: the column of free text.")]
Target = Annotated[str, typer.Option("--target", help="CSV: the column to predict.")]
Group = Annotated[str, typer.Option("--group", help="CSV: the column that names the patient.")]


def speaks_plainly(command: Callable) -> Callable:
    """Wrong input ends in one sentence and exit code 2; warnings are shown without the line of code they came
    from."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> Any:
        warnings.showwarning = lambda message, *_, **__: console.print(
            f"note: {message}", style="yellow", markup=False
        )
        try:
            return command(*arguments, **options)
        except (ValueError, ImportError, OSError) as error:
            Console(stderr=True).print(f"mmmed: {error}", style="red", markup=False, highlight=False)
            raise typer.Exit(2) from error

    return run


def _note(message: Warning | str, *_: Any, **__: Any) -> None:
    Console(stderr=True).print(f"note: {message}", style="yellow", markup=False, highlight=False)


@app.command()
@speaks_plainly
def quickstart(
    output: Annotated[Path, typer.Option(help="Where the results go.")] = Path("runs/quickstart"),
    patients: Patients = 1200,
    epochs: Annotated[int, typer.Option(help="Rounds of training at most.")] = 30,
    seed: Seed = 0,
) -> None:
    """The whole path in under three minutes: cohort, audit, training, stress test, one patient, a saved
    model.

    Synthetic patients with image, table and text; no network, no GPU. For this cohort the best possible score
    of every subset of modalities is known exactly, so the table says how much of it was reached.
    """
    from mmmed.cli.quickstart import run_quickstart

    run_quickstart(output, patients=patients, epochs=epochs, seed=seed, console=console)


@app.command()
@speaks_plainly
def audit(
    source: Source,
    patients: Patients = 600,
    seed: Seed = 0,
    image: ImageColumn = "",
    tabular: Columns = None,
    text: TextColumn = "",
    target: Target = "",
    group: Group = "",
    as_json: Json = False,
) -> None:
    """Gaps, leaks, shortcuts and duplicates of a cohort, before any training.

    Example: mmmed audit my.csv --image path --tabular age --tabular crp --target sepsis --group patient
    """
    from mmmed.cli.cohorts import open_cohort
    from mmmed.evaluation.audit import audit as audit_cohort

    columns = {"image": image, "tabular": tabular, "text": text, "target": target, "group": group}
    found = audit_cohort(open_cohort(source, patients, seed, **columns))
    if as_json:
        tables = {name: table.to_rows() for name, table in found.tables.items()}
        say({"findings": [vars(finding) for finding in found.findings], "tables": tables}, as_json)
    else:
        say(str(found), as_json)


@app.command()
@speaks_plainly
def finetune(
    source: Source,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where checkpoints and the model go.")],
    fusion: Annotated[str, typer.Option(help=f"How modalities are fused: {FUSIONS}.")] = "multimodn",
    encoder: Annotated[
        list[str] | None, typer.Option(help="modality=name, such as image=timm:resnet18 (repeat it).")
    ] = None,
    epochs: Annotated[
        int, typer.Option(help="Rounds of training at most; it stops earlier on its own.")
    ] = 30,
    missingness: Annotated[
        str, typer.Option(help='"ignore": presence must not be read as a symptom. "use": it may be.')
    ] = "ignore",
    patients: Patients = 600,
    seed: Seed = 0,
    image: ImageColumn = "",
    tabular: Columns = None,
    text: TextColumn = "",
    target: Target = "",
    group: Group = "",
    as_json: Json = False,
) -> None:
    """Train a model on a cohort, calibrate it on the validation patients, save it. A killed run goes on where
    it was.

    Example: mmmed finetune my.csv --image path --tabular age --target sepsis --group patient -o runs/first
    """
    from mmmed.cli.cohorts import open_cohort
    from mmmed.evaluation.evaluate import evaluate as evaluate_model
    from mmmed.models.create import create_model
    from mmmed.training.finetune import finetune as train
    from mmmed.training.policy import Policy

    columns = {"image": image, "tabular": tabular, "text": text, "target": target, "group": group}
    cohort = open_cohort(source, patients, seed, **columns)
    model = create_model(cohort.schema, fusion=fusion, encoders=_pairs(encoder), seed=seed)
    policy = Policy(missingness=missingness)
    run = train(model, cohort, epochs=epochs, output=output, policy=policy, seed=seed, progress=not as_json)
    part = "test" if len(cohort["test"]) else "val"
    table = evaluate_model(model, cohort[part])
    if as_json:
        say({"epochs": list(run.history), "best_epoch": run.best_epoch, part: table.to_rows()}, as_json)
    else:
        say(f"{run}\n\nScores on the {part} part\n{table}\n\nThe model: {Path(output) / 'model'}", as_json)


@app.command()
@speaks_plainly
def evaluate(
    model: Model,
    source: Source,
    part: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    stress: Annotated[
        bool, typer.Option(help="Also every subset of modalities and every mechanism.")
    ] = False,
    patients: Patients = 600,
    seed: Seed = 0,
    image: ImageColumn = "",
    tabular: Columns = None,
    text: TextColumn = "",
    target: Target = "",
    group: Group = "",
    as_json: Json = False,
) -> None:
    """Scores of a saved model with intervals by patient; with --stress, under every pattern of missing
    modalities."""
    from mmmed.cli.cohorts import open_cohort
    from mmmed.evaluation.benchmark import missingness_benchmark
    from mmmed.evaluation.evaluate import evaluate as evaluate_model
    from mmmed.models.files import load_model

    columns = {"image": image, "tabular": tabular, "text": text, "target": target, "group": group}
    cohort = open_cohort(source, patients, seed, **columns)[part]
    loaded = load_model(model)
    table = missingness_benchmark(loaded, cohort).table if stress else evaluate_model(loaded, cohort)
    say(table.to_rows() if as_json else str(table), as_json)


@app.command()
@speaks_plainly
def predict(
    model: Model,
    row: Annotated[Path, typer.Argument(help="A JSON file: one record as an object of column to cell.")],
    without: Annotated[list[str] | None, typer.Option(help="Take this modality away (repeat it).")] = None,
    as_json: Json = False,
) -> None:
    """What a saved model says about one record, how each modality moved it, and what was missing.

    Paths in the file are relative to it. Columns that are not there count as not recorded.
    """
    from mmmed.models.files import load_model
    from mmmed.models.predict import predict as ask
    from mmmed.types import Record
    from mmmed.types.record import check_modalities

    loaded = load_model(model)
    try:
        cells = json.loads(row.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{row} is not JSON: {error}") from error
    if not isinstance(cells, dict):
        raise ValueError(f"{row} should hold one JSON object of column to cell.")
    record = Record.from_row(cells, loaded.schema, id=row.stem, folder=str(row.resolve().parent))
    record = record.without(*check_modalities(without or (), loaded.schema))
    prediction = ask(loaded, record)
    say(prediction.to_dict() if as_json else str(prediction), as_json)


@app.command()
@speaks_plainly
def env(as_json: Json = False) -> None:
    """Versions, device and known traps of this machine; paste it into a report of a problem."""
    from mmmed.cli.environment import environment

    facts = environment()
    if as_json:
        say(facts, as_json)
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            console.print(f"{name}:")
            for key, item in value.items():
                console.print(f"  {key:<18}{item}", highlight=False)
        else:
            console.print(f"{name:<20}{value}", highlight=False)


def say(content: Any, as_json: bool) -> None:
    """Text for people, or one JSON document on standard output for programs."""
    if as_json:
        typer.echo(json.dumps(content, indent=1, default=_plain, allow_nan=True))
    else:
        console.print(content, markup=False, highlight=False, soft_wrap=True)


def _plain(value: Any) -> Any:
    """Numbers of numpy as numbers of Python; anything else as text."""
    return value.item() if hasattr(value, "item") else str(value)


def _pairs(options: list[str] | None) -> dict[str, str]:
    pairs = [option.partition("=") for option in options or ()]
    if any(not (name and equals and value) for name, equals, value in pairs):
        raise ValueError(f"--encoder takes modality=name, such as image=timm:resnet18; got {options}.")
    return {name: value for name, _, value in pairs}
