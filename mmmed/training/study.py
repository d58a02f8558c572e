"""The missingness study: recipes x what is missing in training x what is missing at the test x folds.

One trained model under many test masks is a benchmark; whether a way of training holds up is only seen when
the masks of training and test differ, on several folds, with the same masks and patients for every recipe.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmmed.checks import check_count, check_known, listing
from mmmed.evaluation.evaluate import HEADS
from mmmed.evaluation.scores import Table, table_of, write_figure, write_whole
from mmmed.training.checkpoint import check_writable
from mmmed.training.recipe import Recipe
from mmmed.training.study_folds import distinct
from mmmed.training.study_jobs import Job, Outcome, Work, run_groups
from mmmed.training.study_scores import Scorer, estimate, mean_of, score_rows

if TYPE_CHECKING:
    from typing import TypeAlias

    import pandas
    from matplotlib.figure import Figure

    from mmmed.data.cohort import Cohort
    from mmmed.data.missingness import Mechanism

    Masks: TypeAlias = Sequence[Mechanism] | Mapping[str, Mechanism]

AGGREGATION = (
    "Scores: mean over members, each scored on its own test fold (nothing is pooled); sd: over members. In "
    "brackets: 95 % intervals of that mean, patients drawn with replacement inside the folds of the first "
    "seed, the same draws for every recipe. They do not hold what another training sample would change: for "
    "that look at the sd."
)
HIDDEN = "changed: share of test records that lost something. cpu s: of one job, trained and asked."


@dataclass(frozen=True)
class Study:
    """table: a row per task, recipe, training mask and test mask. members: the same for every fold and seed.
    jobs: what each training run took, and what it remarked. errors: job -> why it failed. protocol: all
    settings, JSON-ready."""

    table: Table
    members: Table
    jobs: Table
    errors: Mapping[str, str]
    protocol: Mapping[str, Any]
    scorer: Scorer = field(repr=False, compare=False)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in the order of the table."""
        return tuple(self.scorer.work.cohort.schema.tasks)

    @property
    def recipes(self) -> tuple[str, ...]:
        """Names of the recipes."""
        return tuple(self.scorer.work.recipes)

    def differences(self, to: str | None = None, metric: str | None = None) -> Table:
        """Score of every recipe minus that of `to` (None: the first), on the same members and draws of
        patients. metric: None takes the first of each task (AUROC for two classes)."""
        to = self.recipes[0] if to is None else check_known(to, self.recipes, what="recipe")
        if metric is not None:
            scores = dict.fromkeys(name for task in self.tasks for name in self.scorer.metrics(task))
            check_known(metric, scores, what="score")
        rows = [self._difference(row, to, metric) for row in self.table if row["recipe"] != to]
        rows = [row for row in rows if row is not None]
        notes = ("In brackets: 95 % intervals of the paired difference. " + AGGREGATION,)
        heads = {**HEADS, "trained_on": "trained on", "tested_on": "tested on"}
        return Table(tuple(rows), f"Differences to {to}", notes, heads)

    def _difference(self, row: Mapping[str, Any], to: str, metric: str | None) -> dict[str, Any] | None:
        task, train, test = row["task"], row["trained_on"], row["tested_on"]
        names = self.scorer.metrics(task)
        name = names[0] if metric is None else metric
        if name not in names:  # a score of another kind of task
            return None
        pairs = [
            (mine, replace(mine, recipe=to))
            for mine in self.scorer.jobs(row["recipe"], train)
            if replace(mine, recipe=to) in self.scorer.jobs(to, train)
        ]
        result = {key: row[key] for key in ("task", "recipe", "trained_on", "tested_on")}
        if not pairs:
            return {**result, "score": name, "members": 0, "difference": None}
        own, other = (
            self.scorer.scores(jobs, test, task, [name])[name].values for jobs in zip(*pairs, strict=True)
        )
        n, patients = self.scorer.sizes([mine for mine, _ in pairs], task)
        gap = estimate(mean_of(own - other), False, n, patients)
        return {**result, "score": name, "members": len(pairs), "difference": gap}

    def side_by_side(self, task: str | None = None, metric: str | None = None) -> Table:
        """One score, a row per recipe and training mask, a column per test mask. None: as for `plot`."""
        task = self.tasks[0] if task is None else check_known(task, self.tasks, what="task")
        names = self.scorer.metrics(task)
        metric = names[0] if metric is None else check_known(metric, names, what="score")
        lines: dict[tuple[str, str], dict[str, Any]] = {}
        for row in self.table.where(task=task):
            line = lines.setdefault((row["recipe"], row["trained_on"]), {"recipe": row["recipe"]})
            if len(self.scorer.work.train) > 1:
                line["trained_on"] = row["trained_on"]
            line[row["tested_on"]] = row.get(metric)
        title = f"{task}: {HEADS.get(metric, metric)} by what is missing at the test"
        return replace(table_of(list(lines.values()), title, self.table.notes[:1]), heads=self.table.heads)

    def plot(self, task: str | None = None, metric: str | None = None) -> Figure:
        """Recipes by test mask, a panel for each training mask. None: the first task, its first score."""
        from mmmed.training.study_figure import plot_study

        task = self.tasks[0] if task is None else check_known(task, self.tasks, what="task")
        names = self.scorer.metrics(task)
        metric = names[0] if metric is None else check_known(metric, names, what="score")
        some = max(self.table.where(task=task), key=lambda row: row["members"])
        sizes = f"{some['n']} records, {some['patients']} patients"
        what = f"{sizes}; mean of {some['members']} members, bars: 95 % interval by patient"
        return plot_study(self.table, task, metric, what)

    def to_frame(self) -> pandas.DataFrame:
        """The table as a pandas DataFrame."""
        return self.table.to_frame()

    def to_markdown(self) -> str:
        """The table and its notes, for a README."""
        return self.table.to_markdown()

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write tables (CSV, JSON), protocol (JSON) and one figure per task (PNG), each whole or not at
        all."""
        folder = Path(folder)
        for name in ("table", "members", "jobs"):
            getattr(self, name).save(folder / ("study" if name == "table" else name))
        if len(self.recipes) > 1:
            self.differences().save(folder / "differences")
        content = {**self.protocol, "errors": dict(self.errors)}
        write_whole(folder / "protocol.json", json.dumps(content, indent=1).encode())
        for k, task in enumerate(self.tasks):
            if any(row["members"] for row in self.table.where(task=task)):
                write_figure(folder / ("study.png" if k == 0 else f"study-{k + 1}.png"), self.plot(task))
        return folder

    def __str__(self) -> str:
        return str(self.table)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


def missingness_study(
    recipes: Mapping[str, Recipe | str | Mapping[str, Any]],
    cohort: Cohort,
    train: Masks = (),
    test: Masks | None = None,
    folds: int = 5,
    seeds: int | Sequence[int] = 1,
    output: str | os.PathLike[str] | None = None,
    workers: int = 0,
    progress: bool = True,
    draws: int = 1000,
) -> Study:
    """Train every recipe under every training mask on every fold, and ask it under every test mask.

    recipes: name -> `Recipe`, its fields as a mapping, or the name of a fusion. train: what is hidden from
    training and validation records; () = nothing. test: what is hidden from test records; None takes
    `standard_mechanisms`. Both are mechanisms, or label -> mechanism for names of one's own. folds: by
    patient, statistics learned anew in each. seeds: how often (or with which seeds) the cross-validation is
    repeated with other folds, weights and order. output: folder in which every finished job is kept,
    and tokens of frozen encoders for all recipes; the same
    study goes on from there after it was stopped. workers: processes, each on one thread (0 = this process
    alone); the numbers are the same. A script needs the usual `if __name__ == "__main__":` for them.
    progress: a bar over jobs on stderr. draws: of patients.

    A job that fails does not stop the others: see `Study.errors`. Raises ValueError for recipes, mechanisms
    or folds that cannot be.
    """
    work = _work(recipes, cohort, train, test, folds, seeds, output)
    check_count(workers, name="workers", least=0)
    check_count(draws, name="draws")
    outcomes = _outcomes(work, workers, progress)
    return _study(work, outcomes, draws)


def _work(
    recipes: Mapping[str, Recipe | str | Mapping[str, Any]],
    cohort: Cohort,
    train: Masks,
    test: Masks | None,
    folds: int,
    seeds: int | Sequence[int],
    output: str | os.PathLike[str] | None,
) -> Work:
    from mmmed.data.missingness import Mechanism, standard_mechanisms

    if not isinstance(recipes, Mapping) or not recipes:
        raise ValueError("recipes should be {name: recipe}, one at least, such as {'gated': Recipe()}.")
    if not cohort.schema.tasks:
        raise ValueError("This cohort asks nothing: name a target when it is opened.")
    test = distinct(standard_mechanisms(cohort) if test is None else test)
    train = distinct(train or [Mechanism("natural")])
    if not test:
        raise ValueError("test should list one mechanism at least, or be None for the standard ones.")
    for mechanism in (*train.values(), *test.values()):
        mechanism.apply(cohort)  # a rule that does not fit these records says so now, not in every job
    known = [task for task in cohort.schema.tasks if cohort.targets(task)[1].any()]
    if not known:
        raise ValueError(f"No record has a known label of {listing(cohort.schema.tasks)}.")
    seeds = tuple(range(check_count(seeds, name="seeds"))) if isinstance(seeds, int) else tuple(seeds)
    output = None if output is None else Path(output)
    if output is not None:
        check_writable(output, 10 * 2**20)
    made = {str(name): Recipe.of(given) for name, given in recipes.items()}
    return Work(
        cohort,
        made,
        train,
        test,
        check_count(folds, name="folds", least=3),
        seeds,
        output,
    )


def _outcomes(work: Work, workers: int, progress: bool) -> dict[Job, Outcome]:
    """Outcome of every job, in the order of the groups; what a former run finished is read."""
    groups = work.groups()
    held = {job: work.load(job) for group in groups for job in group}
    waiting = [group for group in groups if any(held[job] is None for job in group)]
    done = sum(len(group) for group in groups) - sum(len(group) for group in waiting)
    bar = _bar(len(held), done) if progress else None
    try:
        for outcomes in run_groups(work, waiting, workers) if waiting else ():
            held.update({outcome.job: outcome for outcome in outcomes})
            if bar is not None:
                bar.update(len(outcomes))
    finally:
        if bar is not None:
            bar.close()
    return held


def _bar(total: int, done: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm warns where a notebook has no widgets, and then works
        from tqdm.auto import tqdm

        return tqdm(total=total, initial=done, unit="job", desc="study", file=sys.stderr)


def _study(work: Work, outcomes: dict[Job, Outcome], draws: int) -> Study:
    scorer = Scorer(work, outcomes, draws, seed=0)
    rows, members = score_rows(scorer)
    errors = {str(job): outcome.error for job, outcome in outcomes.items() if outcome.error}
    notes = [AGGREGATION, HIDDEN]
    if errors:
        first = next(iter(errors))
        notes.append(f"{len(errors)} of {len(outcomes)} jobs failed. The first ({first}): {errors[first]}")
    firsts = {f"{scorer.metrics(task)[0]}_sd": "sd" for task in work.cohort.schema.tasks}
    heads = {**HEADS, **firsts, "trained_on": "trained on", "tested_on": "tested on", "cpu_seconds": "cpu s"}
    name = work.cohort.name
    table = replace(table_of(rows, f"Missingness study on {name}", notes), heads=heads)
    jobs = [
        {
            **vars(job),
            "epochs": outcome.epochs,
            "together": outcome.together,
            "cpu_seconds": outcome.seconds,
            "remarks": " ".join(outcome.notes),
            "error": outcome.error,
        }
        for job, outcome in outcomes.items()
    ]
    protocol = {
        "cohort": name,
        "records": len(work.cohort),
        "folds": work.folds,
        "seeds": list(work.seeds),
        "draws": draws,
        "aggregation": AGGREGATION,
        "recipes": {name: recipe.facts() for name, recipe in work.recipes.items()},
        "train": {label: mechanism.to_dict() for label, mechanism in work.train.items()},
        "test": {label: mechanism.to_dict() for label, mechanism in work.test.items()},
    }
    return Study(
        table,
        replace(table_of(members, "Members"), heads=heads),
        replace(table_of(jobs, "Jobs"), heads=heads),
        errors,
        protocol,
        scorer,
    )
