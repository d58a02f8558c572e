"""The missingness benchmark: the same records, the same model, and something hidden each time.

Every subset of modalities, and every mechanism by which records lose them, with intervals by patient.
Encoders run once; only the fusion runs again for each pattern. Where the truth is known (a synthetic cohort),
the best possible score stands beside each line, computed on exactly these records and exactly what is left of
them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import check_known
from mmmed.evaluation.bootstrap import estimates
from mmmed.evaluation.evaluate import headed, pattern_name, score_answers, threshold_of, warn_of_training_rows
from mmmed.evaluation.scores import Table, write_figure, write_whole
from mmmed.evaluation.tasks import answers_of, as_probabilities, kind_of, labels_of, metrics_for

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mmmed.data.cohort import Cohort
    from mmmed.data.missingness import Mechanism

MOST = 5  # modalities up to which every subset is tried (31 of them)
Posterior = Callable[[np.ndarray], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Benchmark:
    """table: one row per task and per subset or mechanism. patterns: the records as they came, per pattern.

    metric: the score that is plotted and compared with the best possible. protocol: what was hidden, with
    every option and seed, so that it can be run again.
    """

    name: str
    metric: str
    table: Table
    patterns: Table
    protocol: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in the order of the table."""
        return tuple(dict.fromkeys(row["task"] for row in self.table))

    def plot(self, task: str | None = None) -> Figure:
        """The figure of one task (the first by default)."""
        from mmmed.evaluation.figures import plot_subsets

        task = self.tasks[0] if task is None else check_known(task, self.tasks, what="task")
        return plot_subsets(self.table, task, self._metric_of(task))

    def to_frame(self) -> Any:
        """The main table as a pandas DataFrame."""
        return self.table.to_frame()

    def to_markdown(self) -> str:
        """Both tables for a model card."""
        return f"{self.table.to_markdown()}\n\n{self.patterns.to_markdown()}"

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write tables (CSV, JSON), protocol (JSON) and one figure per task (PNG), each whole or not at
        all.
        """
        folder = Path(folder)
        self.table.save(folder / "missingness")
        self.patterns.save(folder / "patterns")
        write_whole(folder / "protocol.json", json.dumps(dict(self.protocol), indent=1).encode())
        for k, task in enumerate(self.tasks):
            plain = re.sub(r"[^A-Za-z0-9_-]+", "-", task).strip("-") or str(k)
            name = "missingness.png" if len(self.tasks) == 1 else f"missingness-{plain}.png"
            write_figure(folder / name, self.plot(task))
        return folder

    def _metric_of(self, task: str) -> str:
        row = self.table.where(task=task)[0]
        return self.metric if row.get(self.metric) is not None else _first_score(row)

    def __str__(self) -> str:
        return f"{self.table}\n\n{self.patterns}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table._repr_html_() + self.patterns._repr_html_()


def missingness_benchmark(
    model: Any,
    cohort: Cohort,
    mechanisms: Sequence[Mechanism] | None = None,
    metric: str = "auroc",
    draws: int = 1000,
    seed: int = 0,
    output: str | os.PathLike[str] | None = None,
    ceilings: Posterior | None = None,
) -> Benchmark:
    """How a model copes with what may be missing, on records it was not trained on.

    model: of this package, or a function from a cohort to {task: probabilities} (it is asked once per
    pattern). mechanisms: besides every subset of up to five modalities; None takes `standard_mechanisms`.
    metric: the score to plot. draws: of patients, for the intervals. output: folder for CSV, JSON and PNG.
    ceilings: a function from stays [records modality] bool to the best possible {task: probabilities}; a
    synthetic cohort brings its own.

    Every line scores all records: who has nothing of a subset is answered with the prior. `changed` is the
    share of records that lost something, `complete` the share that has the whole subset.
    """
    from mmmed.data.missingness import standard_mechanisms

    warn_of_training_rows(cohort)
    if mechanisms is None:
        mechanisms = standard_mechanisms(cohort.schema, seed)
    patterns = [*_subsets(cohort), *_mechanisms(cohort, mechanisms)]
    ask, ceilings = _asker(model, cohort), ceilings or posterior_of(cohort)
    answers = {"natural": ask(np.asarray(cohort.present))}
    thresholds = {task: threshold_of(model, task) for task in answers["natural"]}
    scoring = _Scoring(cohort, thresholds, metric, draws, seed)
    rows = []
    for pattern in patterns:
        said = ask(pattern.stays)
        best = ceilings(pattern.stays) if ceilings else {}
        for task, values in said.items():
            if pattern.only in (None, task):
                rows.append(scoring.row(pattern, task, values, best.get(task)))
    rows.sort(key=lambda row: list(answers["natural"]).index(row["task"]))
    bench = Benchmark(
        cohort.name,
        metric,
        _table(rows, f"Missingness benchmark on {cohort.name}"),
        score_answers(answers["natural"], cohort, thresholds, draws, seed),
        {
            "cohort": cohort.name,
            "records": len(cohort),
            "draws": draws,
            "seed": seed,
            "metric": metric,
            "subsets": [list(p.names) for p in patterns if p.kind == "subset"],
            "mechanisms": [mechanism.to_dict() for mechanism in mechanisms],
        },
    )
    if output is not None:
        bench.save(output)
    return bench


@dataclass(frozen=True)
class _Pattern:
    """stays [records modality]; seen: its name; names: of a subset; only: the one task it is about, if
    any.
    """

    kind: str
    seen: str
    stays: np.ndarray
    names: tuple[str, ...] = ()
    only: str | None = None


def _subsets(cohort: Cohort) -> list[_Pattern]:
    """Every subset of up to five modalities, the smaller ones first; of more, only all of them."""
    modalities, present = tuple(cohort.schema.modalities), np.asarray(cohort.present)
    sizes = range(1, len(modalities) + 1) if len(modalities) <= MOST else [len(modalities)]
    result = []
    for size in sizes:
        for names in combinations(modalities, size):
            kept = np.array([name in names for name in modalities])
            result.append(_Pattern("subset", pattern_name(kept, modalities), present & kept, names))
    return result


def _mechanisms(cohort: Cohort, mechanisms: Sequence[Mechanism]) -> list[_Pattern]:
    """What each mechanism leaves; those that only repeat a subset are dropped, each mask comes once per
    task.
    """
    seen = {(pattern.stays.tobytes(), None) for pattern in _subsets(cohort)}
    result = []
    for mechanism in mechanisms:
        stays, task = np.asarray(mechanism.apply(cohort)), mechanism.options.get("task")
        key = (stays.tobytes(), task)
        if key not in seen:
            seen.add(key)
            result.append(_Pattern("mechanism", mechanism.label, stays, only=task))
    return result


def _asker(model: Any, cohort: Cohort) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """A function from stays [records modality] to {task: probabilities}; a model's encoders run once,
    here.
    """
    if not hasattr(model, "encode"):
        return lambda stays: answers_of(model, cohort.keep(stays))
    from mmmed.models.inference import check_cohort, encode_cohort, predict_encoded

    check_cohort(model, cohort)
    encoded = encode_cohort(model, cohort)
    order = [list(cohort.schema.modalities).index(name) for name in encoded.modalities]

    def ask(stays: np.ndarray) -> dict[str, np.ndarray]:
        said = predict_encoded(model, encoded, np.asarray(stays)[:, order])
        return {task: as_probabilities(task, kind_of(cohort, task), values) for task, values in said.items()}

    return ask


def posterior_of(cohort: Cohort) -> Posterior | None:
    """The exact posterior of a synthetic cohort, given what stays; None where the truth is not known."""
    if getattr(cohort, "truth", None) is None:
        return None
    return cohort.truth.posterior


@dataclass(frozen=True)
class _Scoring:
    """What all rows of the table share."""

    cohort: Cohort
    thresholds: Mapping[str, float]
    metric: str
    draws: int
    seed: int

    @cached_property
    def groups(self) -> np.ndarray:
        return np.unique(self.cohort.groups, return_inverse=True)[1]

    @cached_property
    def labels(self) -> dict[str, np.ndarray]:
        return {task: labels_of(self.cohort, task) for task in self.thresholds}

    def row(
        self, pattern: _Pattern, task: str, values: np.ndarray, best: np.ndarray | None
    ) -> dict[str, Any]:
        """One line: what was seen, by how many, every score, and the best possible for the chosen one."""
        kind, labels = kind_of(self.cohort, task), self.labels[task]
        metrics = metrics_for(kind, self.thresholds[task])
        scores = estimates(metrics, labels, values, self.groups, self.draws, self.seed)
        some = next(iter(scores.values()))
        chosen = self.metric if self.metric in scores else next(iter(scores))
        ceiling = None
        if best is not None:
            ceiling = float(
                metrics[chosen](labels, as_probabilities(task, kind, best), np.ones((1, len(labels))))[0]
            )
        return {
            "task": task,
            "kind": pattern.kind,
            "seen": pattern.seen,
            "n": some.n,
            "patients": some.groups,
            "changed": float((pattern.stays != np.asarray(self.cohort.present)).any(axis=1).mean()),
            "complete": self._complete(pattern),
            chosen: scores[chosen],
            "ceiling": ceiling,
            "share_of_way": _share_of_way(chosen, scores[chosen].value, ceiling),
            **{name: score for name, score in scores.items() if name != chosen},
            "note": "; ".join(dict.fromkeys(score.note for score in scores.values() if score.note)),
        }

    def _complete(self, pattern: _Pattern) -> float | None:
        if not pattern.names:
            return None
        kept = [name in pattern.names for name in self.cohort.schema.modalities]
        return float(np.asarray(self.cohort.present)[:, kept].all(axis=1).mean())


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


def _share_of_way(metric: str, value: float, ceiling: float | None) -> float | None:
    """(score - 0.5) / (best possible - 0.5): how much of what there is was found. AUROC only,
    and only where there is something to find (best possible above 0.55)."""
    if metric != "auroc" or ceiling is None or not ceiling > 0.55:
        return None
    return (value - 0.5) / (ceiling - 0.5)


def _first_score(row: Mapping[str, Any]) -> str:
    from mmmed.evaluation.bootstrap import Estimate

    return next(name for name, cell in row.items() if isinstance(cell, Estimate))
