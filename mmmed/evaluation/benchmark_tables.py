"""Benchmark: the tables of a missingness benchmark, how they are drawn, written and put in a model card."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmmed.checks import check_known
from mmmed.evaluation.bootstrap import Estimate
from mmmed.evaluation.evaluate import ALL, headed
from mmmed.evaluation.scores import Table, write_figure, write_whole
from mmmed.evaluation.tasks import NAMES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST = 10  # patients a line must rest on to be called the worst
SMALLER_IS_BETTER = ("brier", "ece", "mae", "rmse", "log_loss")
OPTIONAL = ("differences", "subgroups", "shapley", "costs")


def _empty() -> Table:
    return Table(())


def _words(row: Mapping[str, Any], where: str, column: str) -> str:
    """What a line is about, said outside its table."""
    if where == "subgroup":
        return f"{row['column']}: {row['group']}"
    return f"only {row[column]}" if row.get("kind") == "subset" else row[column]


@dataclass(frozen=True)
class Benchmark:
    """What `missingness_benchmark` gives. With several models every table has a column "model".

    table: one row per task and per subset or mechanism. patterns: the records as they came, per pattern.
    differences: each model minus the first, on the same draws of patients. subgroups: groups of patients and
    the gap between them. shapley: what each modality adds. costs: time, parameters, memory. The last four are
    empty where they were not asked for or do not apply. metric: the score that is plotted and compared with
    the best possible. protocol: what was hidden, with every option and seed, so that it can be run again.
    """

    name: str
    metric: str
    table: Table
    patterns: Table
    protocol: Mapping[str, Any] = field(default_factory=dict)
    differences: Table = field(default_factory=_empty)
    subgroups: Table = field(default_factory=_empty)
    shapley: Table = field(default_factory=_empty)
    costs: Table = field(default_factory=_empty)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in the order of the table."""
        return tuple(dict.fromkeys(row["task"] for row in self.table))

    @property
    def models(self) -> tuple[str, ...]:
        """The models, in the order in which they were given; () for one without a name."""
        return tuple(dict.fromkeys(row["model"] for row in self.table if "model" in row))

    @cached_property
    def worst(self) -> Table:
        """Per task and model, by `metric`: the worst thing to hide, the worst pattern of presence, the worst
        subgroup. Lines of fewer than ten patients are passed over: one of them is always the worst by luck.
        """
        rows = []
        for task in self.tasks:
            for model in self.models or (None,):
                for where, table, column in (
                    ("hidden", self.table, "seen"),
                    ("pattern as recorded", self.patterns, "rows"),
                    ("subgroup", self.subgroups, "group"),
                ):
                    row = self._worst_of(table, task, model, column)
                    if row is not None:
                        name = _words(row, where, column)
                        metric = self._metric_of(task)
                        sizes = {"n": row["n"], "patients": row["patients"]}
                        head = {"task": task, "model": model, "where": where, "worst": name}
                        rows.append({**head, **sizes, metric: row[metric]})
        return headed(rows, f"Where it is worst, of what {LEAST} patients or more have")

    def side_by_side(self, task: str | None = None, metric: str | None = None) -> Table:
        """One line per pattern, one column per model: the short form of the table for several models.

        task: the first by default; metric: a score of the table, by default the one that is plotted.
        """
        task = self._task(task)
        metric = (
            self._metric_of(task) if metric is None else check_known(metric, self.table.columns, what="score")
        )
        lines: dict[tuple[str, str], dict[str, Any]] = {}
        for row in self.table.where(task=task):
            start = {"kind": row["kind"], "seen": row["seen"]}
            line = lines.setdefault((row["kind"], row["seen"]), start)
            line[row.get("model", "model")] = row.get(metric)
            if metric == self._metric_of(task) and row.get("ceiling") is not None:
                line["best possible"] = row["ceiling"]
        table = headed(
            list(lines.values()), f"{task}: {NAMES.get(metric, metric)} of every model, {self.name}"
        )
        return replace(table, heads={})

    def plot(self, task: str | None = None) -> Figure:
        """The figure of one task (the first by default)."""
        from mmmed.evaluation.figures import plot_subsets

        task = self._task(task)
        return plot_subsets(self.table, task, self._metric_of(task))

    def to_frame(self) -> Any:
        """The main table as a pandas DataFrame: one row per task, pattern and model."""
        return self.table.to_frame()

    def to_markdown(self) -> str:
        """All tables for a model card, those after the first under their title; of several models, the chosen
        score side by side stands for the long table.
        """
        first, *others = self._shown()
        parts = [first.to_markdown()]
        for table in (*others, self.worst):
            if len(table):
                parts.append(f"**{table.title}**\n\n{table.to_markdown()}")
        return "\n\n".join(parts)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write tables (CSV, JSON), protocol (JSON) and one figure per task (PNG), each whole or not at
        all.
        """
        folder = Path(folder)
        tables = {"missingness": self.table, "patterns": self.patterns, "worst": self.worst, **self._extra()}
        for name, table in tables.items():
            table.save(folder / name)
        write_whole(folder / "protocol.json", json.dumps(dict(self.protocol), indent=1).encode())
        for k, task in enumerate(self.tasks):
            clean = re.sub(r"[^A-Za-z0-9_-]+", "-", task).strip("-") or str(k)
            name = "missingness.png" if len(self.tasks) == 1 else f"missingness-{clean}.png"
            write_figure(folder / name, self.plot(task))
        return folder

    def _task(self, task: str | None) -> str:
        if not self.tasks:
            raise ValueError("There is nothing to show: the benchmark has no line.")
        return self.tasks[0] if task is None else check_known(task, self.tasks, what="task")

    def _shown(self) -> list[Table]:
        """The tables that are read, the main one first."""
        main = [self.side_by_side(task) for task in self.tasks] if self.models else [self.table]
        return [*main, self.patterns, *self._extra().values()]

    def _extra(self) -> dict[str, Table]:
        """The tables that not every benchmark has."""
        return {name: getattr(self, name) for name in OPTIONAL if len(getattr(self, name))}

    def _worst_of(self, table: Table, task: str, model: str | None, column: str) -> Mapping[str, Any] | None:
        metric = self._metric_of(task)
        rows = [
            row
            for row in table
            if (row["task"] == task and row[column] != ALL)
            and (model is None or row["model"] == model)
            and (row.get("patients") or 0) >= LEAST
            and isinstance(row.get(metric), Estimate)
            and row[metric].value == row[metric].value  # not NaN
        ]
        pick = max if metric in SMALLER_IS_BETTER else min
        return pick(rows, key=lambda row: row[metric].value, default=None)

    def _metric_of(self, task: str) -> str:
        row = next(row for row in self.table if row["task"] == task)
        if row.get(self.metric) is not None:
            return self.metric
        return next(name for name, cell in row.items() if isinstance(cell, Estimate))

    def __str__(self) -> str:
        return "\n\n".join(str(table) for table in self._shown())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in self._shown())
