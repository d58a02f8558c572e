"""The command line: one command per verb, each with `--json` for programs. Errors are sentences, never stack
traces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmmed.catalogue import list_components
from mmmed.checks import check_known
from mmmed.cli.demo import demo
from mmmed.cli.options import (
    Columns,
    Group,
    ImageColumn,
    Json,
    Model,
    Patients,
    Phrases,
    Seed,
    Source,
    Target,
    TextColumn,
)
from mmmed.cli.speaking import console, say, speaks_plainly
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

FUSIONS = ", ".join(list_components(kind="fusion"))
WORDS = ", ".join(list_components(kind="word-pixel fusion"))


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


app.command()(speaks_plainly(demo))


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
    fusion: Annotated[
        str, typer.Option(help=f"How modalities are fused: {FUSIONS}; masks: {WORDS}.")
    ] = "multimodn",
    encoder: Annotated[
        list[str] | None, typer.Option(help="modality=name, such as image=timm:resnet18 (repeat it).")
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="Rounds of training at most: 30, of masks 20, or of the last stage of reports."),
    ] = None,
    task: Annotated[
        str, typer.Option(help='"predict": the targets. "report": reports, in stages. "segment": masks.')
    ] = "predict",
    report: Annotated[str, typer.Option(help="Reports: the column that holds them.")] = "",
    findings: Annotated[
        str,
        typer.Option(help="Reports: the findings: chest, breast-us, synthetic, a JSON file, or none."),
    ] = "",
    language_model: Annotated[
        str, typer.Option(help="Reports: small (from scratch), smollm2-135m, a folder, or a cached hub name.")
    ] = "small",
    phrases: Phrases = "",
    sentences: Annotated[
        bool, typer.Option(help="Masks: also teach sentences of the synthetic reports, true and false ones.")
    ] = False,
    pyramid: Annotated[str, typer.Option(help="Masks: small, or timm:NAME.")] = "small",
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
    Reports: mmmed finetune synthetic --task report -o runs/reports
    Masks: mmmed finetune breast-us --task segment -o runs/masks
    """
    from mmmed.cli.cohorts import open_cohort
    from mmmed.evaluation.evaluate import evaluate as evaluate_model
    from mmmed.models.create import create_model
    from mmmed.training.finetune import finetune as train
    from mmmed.training.policy import Policy

    columns = {"image": image, "tabular": tabular, "text": text, "target": target, "group": group}
    cohort = open_cohort(source, patients, seed, **columns)
    check_known(task, ("predict", "report", "segment"), what="task")
    if task != "report" and (report or findings or language_model != "small"):
        raise ValueError("--report, --findings and --language-model are for --task report.")
    if task != "segment" and (phrases or sentences or pyramid != "small"):
        raise ValueError("--phrases, --sentences and --pyramid are for --task segment.")
    if task == "segment":
        from mmmed.cli.segment import train_masks

        if encoder or missingness != "ignore":
            raise ValueError("--encoder and --missingness are not for --task segment; --pyramid sees.")
        made = {"pyramid": pyramid, "fusion": "film" if fusion == "multimodn" else fusion}
        say(train_masks(cohort, output, epochs, seed, as_json, phrases, sentences, **made), as_json)
        return
    if task == "report":
        from mmmed.cli.reports import train_reports

        if (fusion, missingness) != ("multimodn", "ignore"):
            raise ValueError(
                "--fusion and --missingness are for --task predict; a report fuses in its prompt."
            )
        made = {"report": report or None, "findings": None, "language_model": language_model}
        made["findings"] = False if findings == "none" else findings or None
        made["encoders"] = _pairs(encoder)
        say(train_reports(cohort, output, epochs, seed, as_json, **made), as_json)
        return
    model = create_model(cohort.schema, fusion=fusion, encoders=_pairs(encoder), seed=seed)
    policy = Policy(missingness=missingness)
    run = train(model, cohort, epochs=epochs, output=output, policy=policy, seed=seed, progress=not as_json)
    part = "test" if len(cohort["test"]) else "val"
    table = evaluate_model(model, cohort[part])
    model.card["tables"] = {f"Scores of the {part} part": table.to_markdown()}
    model.save_pretrained(output / "model")
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
    phrases: Phrases = "",
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
    modalities. A generator's reports and a segmenter's masks are scored against the true ones."""
    from mmmed.cli.cohorts import open_cohort
    from mmmed.cli.reports import score_saved
    from mmmed.cli.segment import score_masks
    from mmmed.models.files import load_model

    columns = {"image": image, "tabular": tabular, "text": text, "target": target, "group": group}
    cohort = open_cohort(source, patients, seed, **columns)[part]
    loaded = load_model(model)
    if hasattr(loaded, "segment"):
        if stress:
            raise ValueError("--stress takes away the modalities of a prediction or report, not of masks.")
        scores = score_masks(loaded, cohort, phrases or None)
        say(scores.to_dict() if as_json else str(scores), as_json)
        return
    if phrases:
        raise ValueError(f"--phrases is for a model that draws masks; {model} does not.")
    table = score_saved(loaded, cohort, stress)
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
    from mmmed.cli.reports import read_record
    from mmmed.cli.verbs import check_verb
    from mmmed.models.files import load_model
    from mmmed.models.predict import predict as ask

    loaded = load_model(model)
    check_verb(loaded, "predict", model, row)
    record = read_record(row, loaded.schema, without)
    prediction = ask(loaded, record)
    say(prediction.to_dict() if as_json else str(prediction), as_json)


@app.command()
@speaks_plainly
def report(
    model: Model,
    row: Annotated[Path, typer.Argument(help="A JSON file: one record as an object of column to cell.")],
    without: Annotated[list[str] | None, typer.Option(help="Take this modality away (repeat it).")] = None,
    topic: Annotated[
        list[str] | None, typer.Option(help="Write about this topic instead of a free report (repeat it).")
    ] = None,
    question: Annotated[str, typer.Option(help="Answer this question instead of writing a report.")] = "",
    beams: Annotated[int, typer.Option(help="Beginnings that are kept while writing; 1 = greedy.")] = 1,
    as_json: Json = False,
) -> None:
    """What a saved generator writes about one record, what each sentence rests on, and what was missing.

    Example: mmmed report runs/reports/model patient.json --without image
    """
    from mmmed.cli.reports import ask_about, read_record
    from mmmed.cli.verbs import check_verb
    from mmmed.models.files import load_model

    loaded = load_model(model)
    check_verb(loaded, "report", model, row)
    record = read_record(row, loaded.schema, without)
    said = ask_about(loaded, record, topic, question, beams)
    say(said.to_dict() if as_json else str(said), as_json)


@app.command()
@speaks_plainly
def segment(
    model: Model,
    source: Annotated[
        str,
        typer.Argument(
            help="A picture or volume, a JSON file with one record, or a cohort.", metavar="FILE-or-COHORT"
        ),
    ],
    phrase: Annotated[list[str] | None, typer.Option(help="What to look for (repeat it).")] = None,
    record: Annotated[str, typer.Option(help="A cohort: the id of the record.")] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for masks, overlays and masks.json.")
    ] = None,
    spacing: Annotated[str, typer.Option(help="mm per pixel: row,column or depth,row,column.")] = "",
    threshold: Annotated[
        float | None, typer.Option(help="The presence from which on a thing counts as there.")
    ] = None,
    patients: Patients = 600,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Where in a picture the thing is that a phrase asks for, or that there is no such thing.

    Example: mmmed segment runs/masks/model scan.png --phrase "the lesion on the left" -o found
    """
    from mmmed.cli.segment import ask_for_masks, describe, write_masks
    from mmmed.cli.verbs import check_verb
    from mmmed.models.files import load_model

    loaded = load_model(model)
    check_verb(loaded, "segment", model, source)
    options = {"record": record, "spacing": spacing, "threshold": threshold}
    masks = ask_for_masks(loaded, source, phrase, patients=patients, seed=seed, **options)
    told = {"masks": [mask.to_dict() for mask in masks]}
    if output is not None:
        told = write_masks(masks, output)
    written = f"\n\nMasks, overlays and masks.json: {output}" if output is not None else ""
    say(told if as_json else f"{describe(masks)}{written}", as_json)


@app.command()
@speaks_plainly
def card(
    source: Source,
    croissant: Annotated[bool, typer.Option(help="Print Croissant (JSON-LD) instead of the card.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Recount; exit code 1 with a sentence for each difference.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The card: its counted parts are written anew.")
    ] = None,
    patients: Patients = 600,
    seed: Seed = 0,
    image: ImageColumn = "",
    tabular: Columns = None,
    text: TextColumn = "",
    target: Target = "",
    group: Group = "",
    as_json: Json = False,
) -> None:
    """The data card of a cohort: what it is, what is missing and why, what leaks; every count is counted now.

    Example: mmmed card breast-us
    One's own: mmmed card my.csv --tabular age --target sepsis --group patient -o my_card.md
    """
    from mmmed.cli.card import compare, deliver, make_card
    from mmmed.cli.cohorts import open_cohort

    columns = {"image": image, "tabular": tabular, "text": text, "target": target, "group": group}
    made = make_card(source, open_cohort(source, patients, seed, **columns), output)
    said, code = compare(made, as_json) if check else (deliver(made, croissant, as_json, output), 0)
    say(said, as_json or (croissant and output is None))
    if code:
        raise typer.Exit(code)


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


def _pairs(options: list[str] | None) -> dict[str, str]:
    pairs = [option.partition("=") for option in options or ()]
    if any(not (name and equals and value) for name, equals, value in pairs):
        raise ValueError(f"--encoder takes modality=name, such as image=timm:resnet18; got {options}.")
    return {name: value for name, _, value in pairs}
