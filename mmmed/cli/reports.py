"""Reports on the command line: training a generator, scoring it, and asking it about one record."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmmed.checks import listing

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort
    from mmmed.evaluation.scores import Table
    from mmmed.models.report_generator import ReportGenerator
    from mmmed.types import Record, Reply, Report, Schema


def train_reports(
    cohort: Cohort, output: Path, epochs: int | None, seed: int, as_json: bool, **made: Any
) -> Any:
    """Train, score beside the most common report and the nearest neighbour on the test part (the validation
    part if there is none), and say it: text, or plain data."""
    from mmmed.evaluation.reports import evaluate_reports
    from mmmed.models.report_generator import ReportGenerator
    from mmmed.training.finetune import finetune

    reporter = ReportGenerator.from_cohort(cohort, seed=seed, **made)
    run = finetune(reporter, cohort, epochs=epochs, output=output, seed=seed, progress=not as_json)
    part = next((name for name in ("test", "val") if has_reports(cohort[name], reporter.target)), None)
    if part is None:
        said = {"epochs": list(run.history), "gaps": dict(run.gaps)}
        return said if as_json else f"{run}\n\nNothing was scored: no test or validation record has a report."
    table = evaluate_reports({"generated": reporter, **baselines(cohort["train"], reporter)}, cohort[part])
    reporter.card["tables"] = {f"Reports of the {part} part": table.to_markdown()}
    reporter.save_pretrained(output / "model")
    if as_json:
        return {"epochs": list(run.history), "gaps": dict(run.gaps), part: table.to_rows()}
    return f"{run}\n\n{part} part\n{table}\n\nThe generator: {output / 'model'}"


def has_reports(cohort: Cohort, target: str) -> bool:
    """Whether any record of a part has a report."""
    from mmmed.data.targets import rows_with_text

    return bool(len(cohort) and rows_with_text(cohort.column(target)))


def baselines(train: Cohort, reporter: ReportGenerator) -> dict[str, Any]:
    """What a generator must beat, from the same training reports."""
    from mmmed.models.nearest_reporter import NearestReporter
    from mmmed.models.plain_reporters import ConstantReporter
    from mmmed.types import Image

    told = {"labeller": reporter.labeller, "target_filter": reporter.filter}
    found: dict[str, Any] = {"most common report": ConstantReporter.fit(train, reporter.target, **told)}
    if any(isinstance(modality, Image) for modality in train.schema.modalities.values()):
        found["nearest neighbour"] = NearestReporter.fit(train, reporter.target, **told)
    return found


def score_saved(loaded: Any, cohort: Cohort, stress: bool) -> Table:
    """The scores of a saved model, of either kind; stress: under every pattern of missing modalities."""
    from mmmed.evaluation.benchmark import missingness_benchmark
    from mmmed.evaluation.evaluate import evaluate
    from mmmed.evaluation.reports import stress_reports

    if not stress:
        return evaluate(loaded, cohort)
    if hasattr(loaded, "generate"):
        return stress_reports(loaded, cohort)
    return missingness_benchmark(loaded, cohort).table


def ask_about(
    reporter: ReportGenerator, record: Record, topics: Sequence[str] | None, question: str, beams: int
) -> Report | Reply:
    """A report, parts of one about some topics, or the answer to a question."""
    if question and beams != 1:
        raise ValueError("--beams is for reports; an answer is written greedily.")
    if question and topics:
        raise ValueError("Give --topic for a report about it, or --question for an answer, but not both.")
    if question:
        return reporter.answer(record, question)
    return reporter.generate(record, topics or None, beams=beams)


def read_record(row: Path, schema: Schema, without: Sequence[str] | None) -> Record:
    """One record from a JSON file; paths in it are relative to it. Raises ValueError if there is none."""
    from mmmed.types import Record
    from mmmed.types.record import check_modalities

    if not row.is_file():
        raise ValueError(f"{row} is no file. Give a JSON file that holds one record.")
    try:
        cells = json.loads(row.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or brackets without end
        raise ValueError(f"{row} is not JSON: {error}.") from error
    if not isinstance(cells, dict):
        raise ValueError(f"{row} should hold one JSON object of column to cell.")
    if cells and not set(cells) & set(schema.columns):
        raise ValueError(f"{row} names none of the columns of this model: {listing(schema.columns)}.")
    record = Record.from_row(cells, schema, id=row.stem, folder=str(row.resolve().parent))
    return record.without(*check_modalities(without or (), schema))
