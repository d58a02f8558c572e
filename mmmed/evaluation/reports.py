"""How good are generated reports: scores with intervals by patient, baselines beside, and whether the model
looks.

    table = evaluate_reports({"ours": reporter, "template": template, "blind": blind}, cohort["test"])
    print(table)                             # finding F1 first; BLEU and ROUGE-L last, for what they are
    print(stress_reports(reporter, cohort["test"]))     # what is said when a modality is missing
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.data.targets import rows_with_text
from mmmed.evaluation.bootstrap import Draws
from mmmed.evaluation.grounding import ALL, grounding
from mmmed.evaluation.report_metrics import HEADLINE, difference_table, report_table
from mmmed.evaluation.scores import Table
from mmmed.models.report_generator import ReportGenerator
from mmmed.types import Report

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort

GAP_NOTE = (
    "gap: nats per token by which a true report becomes less likely with another patient's inputs; "
    "near 0, the model does not look."
)


def evaluate_reports(
    reporters: Mapping[str, Any],
    cohort: Cohort,
    target: str | None = None,
    labeller: Any = None,
    *,
    scores: Sequence[str] = HEADLINE,
    draws: int = 1000,
    seed: int = 0,
) -> Table:
    """A line per reporter, all on the same records that have a report.

    reporters: name -> anything with `generate(records)`, or ready reports. target, labeller: by default those
    of the first generator among them. scores: names of `mmmed.evaluation.report_metrics.score_reports`. A
    generator's line has its grounding gap too. Raises ValueError if there is no report to compare with.
    """
    texts, some, labeller = references_of(reporters, cohort, target, labeller)
    told = {name: written_by(reporter, some) for name, reporter in reporters.items()}
    table = report_table(told, texts, labeller, np.asarray(some.groups), draws, seed, scores)
    gaps = {
        name: grounding(reporter, some, target, modalities=()).gap(ALL, draws, seed)
        for name, reporter in reporters.items()
        if isinstance(reporter, ReportGenerator)
    }
    if not gaps:
        return table
    rows = [{**row, "gap": gaps.get(row["system"])} for row in table]
    return Table(tuple(rows), table.title, (*table.notes, GAP_NOTE))


def compare_reporters(
    reporters: Mapping[str, Any],
    cohort: Cohort,
    baseline: str,
    target: str | None = None,
    labeller: Any = None,
    *,
    scores: Sequence[str] = HEADLINE,
    draws: int = 1000,
    seed: int = 0,
) -> Table:
    """Every reporter minus `baseline`, on the same draws of patients."""
    texts, some, labeller = references_of(reporters, cohort, target, labeller)
    told = {name: written_by(reporter, some) for name, reporter in reporters.items()}
    groups = np.asarray(some.groups)
    return difference_table(told, texts, labeller, baseline, groups, draws, seed, scores)


def stress_reports(
    reporter: ReportGenerator,
    cohort: Cohort,
    *,
    patterns: Sequence[Sequence[str]] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> Table:
    """What is written when only some modalities are there.

    patterns: names of what is there, by default everything, everything but one, and nothing. For each:
    finding F1 against what these modalities can show; unfounded: share of reports that state as present
    something that only a missing modality could show, before anything is withheld; abstained.
    """
    names = reporter.modalities
    if patterns is None:
        without = [tuple(n for n in names if n != gone) for gone in names]
        patterns = [names, *(one for one in dict.fromkeys(without) if one), ()]
    texts, some, labeller = references_of({"": reporter}, cohort, None, None)
    rows = []
    for pattern in patterns:
        hidden = some.only(*pattern) if pattern else some.without(*names)
        reports = reporter.generate(hidden, evidence=False)
        row = {"there": " + ".join(pattern) or "nothing"}
        row |= _stressed(reporter, reports, texts, labeller, np.asarray(some.groups), draws, seed)
        rows.append(row)
    notes = (
        "unfounded: states as present what only a missing modality could show, withheld sentences included.",
        "In brackets: 95 % intervals, patients drawn with replacement.",
    )
    return Table(tuple(rows), f"Reports under missing modalities, {len(texts)} records", notes)


def _stressed(
    reporter: ReportGenerator,
    reports: Sequence[Report],
    texts: Sequence[str],
    labeller: Any,
    groups: np.ndarray,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """The scores of one pattern."""
    kept = [
        reporter.filter(text, report.used) if reporter.filter else text
        for text, report in zip(texts, reports, strict=True)
    ]
    scored = report_table({"": reports}, kept, labeller, groups, draws, seed)
    return {
        "finding_f1_micro": scored[0]["finding_f1_micro"] if any(report.used for report in reports) else None,
        "unfounded": _share([is_unfounded(report, labeller) for report in reports], groups, draws, seed),
        "abstained": _share([report.abstained for report in reports], groups, draws, seed),
    }


def _share(flags: Sequence[bool], groups: np.ndarray, draws: int, seed: int) -> Any:
    """The share that is true, with an interval by patient."""
    many = Draws(np.zeros(len(flags)), groups, draws, seed)
    return many.estimate(many.scores({"share": _mean}, np.asarray(flags, dtype=float))["share"])


def is_unfounded(report: Report, labeller: Any) -> bool:
    """Whether a report states as present what only a missing modality could show; what is withheld counts."""
    return any(
        status == "present" and not labeller.can_show(label, report.used)
        for sentence in (*report.sentences, *report.withheld)
        for label, status in sentence.findings.items()
    )


def written_by(reporter: Any, cohort: Cohort) -> list[Any]:
    """The reports of a reporter about a cohort, or reports that are there already."""
    if isinstance(reporter, ReportGenerator):
        return reporter.generate(cohort, evidence=False)
    if hasattr(reporter, "generate"):
        return reporter.generate(list(cohort))
    if len(reporter) != len(cohort):
        raise ValueError(f"There are {len(cohort)} records with a report, but {len(reporter)} ready reports.")
    return list(reporter)


def references_of(
    reporters: Mapping[str, Any], cohort: Cohort, target: str | None, labeller: Any
) -> tuple[list[str], Cohort, Any]:
    """The true reports, the records that have one, and the labeller."""
    first = next((one for one in reporters.values() if isinstance(one, ReportGenerator)), None)
    target = target or (None if first is None else first.target)
    labeller = labeller or (None if first is None else first.labeller)
    if target is None or labeller is None:
        raise ValueError(
            "Findings are read by a table, and no generator here has one. Name the column of true reports "
            'and a labeller: mmmed.evaluation.evaluate_reports({...}, cohort, target="report", '
            'labeller=mmmed.language.Labeller("chest")).'
        )
    texts = cohort.column(target)
    rows = rows_with_text(texts)
    if not rows:
        raise ValueError(
            f"No record has a text in the column {target!r}, so there is nothing to compare with."
        )
    return [str(texts[row]) for row in rows], cohort.where(np.array(rows)), labeller


def _mean(labels: np.ndarray, values: np.ndarray, weights: np.ndarray | None = None) -> Any:
    if weights is None:
        return float(values.mean())
    return weights @ values / weights.sum(-1)
