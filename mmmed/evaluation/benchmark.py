"""The missingness benchmark: the same records and masks for every model, and something hidden each time.

Every subset of modalities, and every mechanism by which records lose them, with intervals by patient.
Encoders run once; only the fusion runs again for each mask. Several models are compared on exactly the same
masks and draws of patients. Where the truth is known (a synthetic cohort), the best possible score stands
beside each line, computed on exactly these records and exactly what is left of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import check_count, check_known, plain
from mmmed.evaluation import contributions
from mmmed.evaluation.asking import Answers, is_cheap
from mmmed.evaluation.benchmark_tables import Benchmark
from mmmed.evaluation.costs import costs as measured_costs
from mmmed.evaluation.evaluate import headed, score_answers, threshold_of, warn_of_training_rows
from mmmed.evaluation.hidden import MOST, Pattern, patterns_to_hide, subset_mask
from mmmed.evaluation.scores import Table, table_of
from mmmed.evaluation.scoring import Scoring, by_task
from mmmed.evaluation.subgroups import Cuts, subgroup_rows
from mmmed.evaluation.tasks import NAMES

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort
    from mmmed.data.missingness import Mechanism

Posterior = Callable[[np.ndarray], Mapping[str, np.ndarray]]
ALONE = "model"  # the name of a model that came without one; it is not shown


def missingness_benchmark(
    model: Any,
    cohort: Cohort,
    mechanisms: Sequence[Mechanism] | None = None,
    metric: str = "auroc",
    draws: int = 1000,
    seed: int = 0,
    output: str | os.PathLike[str] | None = None,
    ceilings: Posterior | None = None,
    subgroups: Sequence[str] | Cuts = (),
    costs: bool = False,
    workers: int = 0,
    progress: bool = False,
) -> Benchmark:
    """How models cope with what may be missing, on records they were not trained on.

    model: of this package, or a function from a cohort to {task: probabilities} (it is asked once per mask),
    or anything with `asker(cohort)`; or {name: such a model}, all compared with the first. mechanisms:
    besides every subset of up to five modalities; None takes `standard_mechanisms`. metric: the score to
    plot. draws: of patients, for the intervals. output: folder for CSV, JSON and PNG, and for every answer as
    soon as it is there: the same call goes on where a killed one was (see `mmmed.evaluation.asking`).
    ceilings: a function from stays [records modality] bool to the best possible {task: probabilities}; a
    synthetic cohort brings its own. subgroups: columns, or column -> cuts (see
    `mmmed.evaluation.subgroups`). costs: measure time, parameters and memory,
    too. workers: threads that score (asking a model is never shared out: it uses
    all threads of torch already). progress: a bar, if it takes more than two seconds.

    Every line scores all records: who has nothing of a subset is answered with the prior. `changed` is the
    share of records that lost something, `complete` the share that has the whole subset.
    """
    from mmmed.data.missingness import standard_mechanisms

    warn_of_training_rows(cohort)
    models = _named(model)
    check_count(workers, name="workers", least=0)
    check_known(metric, NAMES, what="score")
    if mechanisms is None:
        mechanisms = standard_mechanisms(cohort, seed)
    patterns, natural = patterns_to_hide(cohort, mechanisms), np.asarray(cohort.present)
    valued = _is_valued(models, cohort)
    masks = [natural, *(pattern.stays for pattern in patterns), *(_all_subsets(cohort) if valued else ())]
    folder = None if output is None else Path(output) / "answers"
    with _bar(progress, len(models) * len(masks) + len(patterns)) as tick:
        answers = {name: Answers(one, cohort, folder) for name, one in models.items()}
        for one in answers.values():
            one.ask_all(masks, tick)
        said = {name: one(natural) for name, one in answers.items()}
        thresholds = {name: {task: threshold_of(models[name], task) for task in said[name]} for name in said}
        scoring = Scoring(cohort, thresholds, metric, draws, seed, len(models) > 1)
        rows, differences = _score(
            scoring, patterns, answers, ceilings or posterior_of(cohort), workers, tick
        )
    tasks = tuple(scoring.drawn)
    bench = Benchmark(
        cohort.name,
        metric,
        _table(by_task(rows, tasks), f"Missingness benchmark on {cohort.name}"),
        _patterns(said, cohort, thresholds, draws, seed),
        _protocol(cohort, models, patterns, mechanisms, metric, draws, seed),
        differences=_differences(by_task(differences, tasks), next(iter(models))),
        subgroups=_subgroups(
            subgroup_rows(said, cohort, subgroups, thresholds, scoring.drawn), scoring.named
        ),
        shapley=_shapley(
            contributions.contribution_rows(answers, cohort, scoring.drawn) if valued else [], scoring.named
        ),
        costs=_costs(models, cohort) if costs else Table(()),
    )
    if output is not None:
        bench.save(output)
    return bench


def posterior_of(cohort: Cohort) -> Posterior | None:
    """The exact posterior of a synthetic cohort, given what stays; None where the truth is not known."""
    if getattr(cohort, "truth", None) is None:
        return None
    return cohort.truth.posterior


# ----------------------------------------------------------------------------------------------------- asking


def _named(model: Any) -> dict[str, Any]:
    if not isinstance(model, Mapping):
        return {ALONE: model}
    if not model or not all(isinstance(name, str) and name for name in model):
        raise ValueError(f"Several models should come as {{name: model}}, got {plain(model)}.")
    return dict(model)


def _is_valued(models: Mapping[str, Any], cohort: Cohort) -> bool:
    """Are all subsets asked, so that each modality gets its share? Up to five modalities always, up to eight
    if no model has to read everything again for each.
    """
    count = len(cohort.schema.modalities)
    return count <= (contributions.MOST if all(map(is_cheap, models.values())) else MOST)


def _all_subsets(cohort: Cohort) -> Iterator[np.ndarray]:
    names = tuple(cohort.schema.modalities)
    for size in range(len(names) + 1):
        for part in combinations(names, size):
            yield subset_mask(cohort, part)


@contextmanager
def _bar(progress: bool, total: int) -> Iterator[Callable[[], Any]]:
    """A function to call after each piece of work. The bar goes to stderr, after two seconds of work."""
    if not progress:
        yield lambda: None
        return
    from tqdm import tqdm

    with tqdm(total=total, desc="benchmark", unit="mask", delay=2, leave=False) as bar:
        yield bar.update


# ---------------------------------------------------------------------------------------------------- scoring


def _score(
    scoring: Scoring,
    patterns: Sequence[Pattern],
    answers: Mapping[str, Answers],
    ceilings: Posterior | None,
    workers: int,
    tick: Callable[[], Any],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Lines of the table and of the differences, pattern by pattern."""

    def one(pattern: Pattern) -> list[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
        said = {name: ask(pattern.stays) for name, ask in answers.items()}
        best = ceilings(pattern.stays) if ceilings else {}
        tasks = [task for task in scoring.drawn if pattern.only in (None, task)]
        parts = [scoring.lines(pattern, task, said, best.get(task)) for task in tasks]
        tick()
        return parts

    if workers > 1:
        with ThreadPoolExecutor(workers) as pool:
            done = list(pool.map(one, patterns))
    else:
        done = [one(pattern) for pattern in patterns]
    rows = [row for parts in done for lines, _ in parts for row in lines]
    return rows, [row for parts in done for _, lines in parts for row in lines]


def _protocol(
    cohort: Cohort,
    models: Mapping[str, Any],
    patterns: Sequence[Pattern],
    mechanisms: Sequence[Mechanism],
    metric: str,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    return {
        "cohort": cohort.name,
        "records": len(cohort),
        "models": list(models) if len(models) > 1 else [],
        "draws": draws,
        "seed": seed,
        "metric": metric,
        "subsets": [list(pattern.names) for pattern in patterns if pattern.kind == "subset"],
        "mechanisms": [mechanism.to_dict() for mechanism in mechanisms],
    }


# ----------------------------------------------------------------------------------------------------- tables


def _table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    table = headed(rows, title)
    notes = [
        *table.notes,
        "changed: share of records that lost something; complete: share that has the whole subset.",
    ]
    if "ceiling" in table.columns:
        notes.append("best possible: the exact posterior on the same records, given what is left of them.")
    heads = {**table.heads, "ceiling": "best possible", "share_of_way": "share of the way"}
    return replace(table, notes=tuple(notes), heads=heads)


def _patterns(
    said: Mapping[str, Mapping[str, np.ndarray]],
    cohort: Cohort,
    thresholds: Mapping[str, Mapping[str, float]],
    draws: int,
    seed: int,
) -> Table:
    """Scores of the records as they came, per pattern of presence."""
    tables = {
        name: score_answers(answers, cohort, thresholds[name], draws, seed) for name, answers in said.items()
    }
    if len(tables) == 1:
        return next(iter(tables.values()))
    rows = [{"task": row["task"], "model": name, **row} for name, table in tables.items() for row in table]
    return headed(rows, f"Scores on {cohort.name}")


def _differences(rows: Sequence[Mapping[str, Any]], first: str) -> Table:
    table = headed(rows, f"Differences to {first}")
    note = f"Score minus that of {first}, on the same masks, records and draws of patients (paired)."
    return replace(table, notes=(*table.notes, note)) if rows else Table(())


def _subgroups(rows: Sequence[Mapping[str, Any]], named: bool) -> Table:
    if not rows:
        return Table(())
    table = headed(_unnamed(rows, named), "Subgroups, as recorded")
    note = (
        "Sensitivity and specificity at the threshold fixed on validation rows. The groups of a gap were "
        "picked as the best and the worst: of many groups, one gap looks large by luck."
    )
    return replace(table, notes=(*table.notes, note))


def _shapley(rows: Sequence[Mapping[str, Any]], named: bool) -> Table:
    if not rows:
        return Table(())
    table = headed(_unnamed(rows, named), "What each modality adds")
    note = (
        "Shapley values over all subsets: share of the AUROC above 0.5, and of the log-loss (nats) or error "
        "saved; a modality that few records have is worth little."
    )
    return replace(table, notes=(*table.notes, note), heads={**table.heads, "log_loss": "log-loss saved"})


def _unnamed(rows: Sequence[Mapping[str, Any]], named: bool) -> list[dict[str, Any]]:
    return [{key: cell for key, cell in row.items() if named or key != "model"} for row in rows]


def _costs(models: Mapping[str, Any], cohort: Cohort) -> Table:
    rows = [{"model": name, **measured_costs(one, cohort)} for name, one in models.items()]
    heads = {"step_ms": "ms per step", "record_ms": "ms per record", "step_mb": "MiB per step"}
    note = "Processor time on a CPU, wall time on a GPU; see `mmmed.evaluation.costs` for what is counted."
    return replace(table_of(_unnamed(rows, len(models) > 1), "Costs", (note,)), heads=heads)
