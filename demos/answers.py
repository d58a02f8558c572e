"""From what is typed and switched on to what every panel says: one question to the model for each change.

A visitor's `Visit` lives in the browser session and holds what must not be asked twice: the answer to
everything recorded, and the answer before the last change. Nothing of it is shared with another visitor.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from mmmed import Prediction, Record, predict
from mmmed.evaluation.benchmark import posterior_of
from mmmed.explain import value_of_information

from .cast import Cast
from .kept import Kept, as_json
from .panels.compare import compare
from .panels.next_test import next_test
from .panels.path import path
from .panels.risk import risk
from .panels.scale import scale_of, subject
from .panels.shares import shares
from .panels.subsets import subsets
from .panels.svg import arrow, escape
from .panels.trust import trust

LEAST = 20  # records of a pattern, below which nobody can say how good the model is for it
PANELS = ("risk", "path", "compare", "subsets", "shares", "next_test", "trust")
NOT_ANSWERED = '<p class="mm-quiet">Not answered for what is entered now.</p>'


@dataclass
class Visit:
    """What one visitor's page remembers between two events.

    token: tells this patient's visit from the next one's. kept: pictures and volumes of an example or of
    files. record: everything that is entered and could be read; key: the same as text. on: what is switched
    on. problems: what could not be read. whole: the prediction with everything on; now: with what is on; None
    if there is no answer. before: the prediction before the last switch. last: what was asked, so that
    nothing is asked twice. example_key, best: the inputs of the example as it came, and the exact answers to
    it (see `best_possible`). results: what was asked for by buttons.
    """

    token: str = ""
    kept: Kept = field(default_factory=Kept)
    record: Record = field(default_factory=lambda: Record("this patient", {}))
    key: str = ""
    on: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    whole: Prediction | None = None
    now: Prediction | None = None
    before: Prediction | None = None
    task: str = ""
    order: tuple[str, ...] = ()
    last: tuple[Any, ...] = ()
    example_key: str = ""
    best: Mapping[str, Mapping[tuple[str, ...], float]] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """What the page asks for: a task of the model, the order of the path, what each test costs."""

    task: str
    order: tuple[str, ...]
    costs: Mapping[str, float] = field(default_factory=dict)


def look(cast: Cast, visit: Visit, record: Record, on: Sequence[str], asked: Asked) -> dict[str, str]:
    """The HTML of every panel and of the headline; `visit` is brought up to date.

    record: everything recorded. on: modalities switched on. Where the inputs cannot be answered the panels
    say so, and ValueError, ImportError or OSError says why.
    """
    start = time.perf_counter()
    key, on = as_json(record), tuple(on)
    same = key == visit.key and visit.now is not None
    if not same:
        visit.before = None
    elif on != visit.on:
        visit.before = visit.now
    whole = visit.whole if same else None
    visit.record, visit.key, visit.on, visit.task, visit.order = record, key, on, asked.task, asked.order
    visit.whole = visit.now = None
    visit.shown = dict.fromkeys(PANELS, NOT_ANSWERED)
    visit.whole = whole or predict(cast.model, record)
    seen = record.only(*on)
    visit.now = visit.whole if set(on) >= set(record.present) else predict(cast.model, seen)
    visit.shown = _panels(cast, visit, seen, asked)
    took = 1000 * (time.perf_counter() - start)
    return {**visit.shown, "headline": headline(visit.now, visit.before, asked.task, took)}


def best_possible(cast: Cast, record: Record) -> dict[str, dict[tuple[str, ...], float]]:
    """Task -> subset of what an example holds -> the exact probability, where the truth is known.

    Only synthetic patients have it: nobody could answer better from these inputs.
    """
    posterior = (
        posterior_of(cast.cohort["test"]) if cast.cohort is not None and len(cast.cohort["test"]) else None
    )
    ids = list(cast.cohort["test"].ids) if posterior else []
    if record.id not in ids:
        return {}
    names, row = tuple(cast.cohort.schema.modalities), ids.index(record.id)
    had = [name for name in cast.modalities if name in record.inputs]
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for seen in (seen for size in range(len(had) + 1) for seen in combinations(had, size)):
        stays = np.zeros((len(ids), len(names)), dtype=bool)
        stays[row] = [name in seen for name in names]
        for task, chances in posterior(stays).items():
            found.setdefault(task, {})[seen] = float(chances[row])
    return found


def headline(now: Prediction, before: Prediction | None, task: str, milliseconds: float) -> str:
    """The answer in a line that stays in sight, with its change by the last switch."""
    answer, change = now[task], ""
    level = answer.leading
    scale = scale_of(answer, level)
    if before is not None and level in before[task].values:
        was = before[task].values[level]
        if moved := scale.moved(was, answer.value):
            change = f" <span>{arrow(moved)} {escape(scale.change(was, answer.value))}</span>"
    return (
        f'<p class="mm-bar-answer" aria-live="polite"><span>{escape(subject(answer, task, level))}</span> '
        f"<b>{escape(scale.text(answer.value))}</b>{change} <small>{milliseconds:.0f} ms</small></p>"
    )


def _panels(cast: Cast, visit: Visit, seen: Record, asked: Asked) -> dict[str, str]:
    names, task, whole, now = cast.modalities, asked.task, visit.whole, visit.now
    best = visit.best.get(task) if visit.key == visit.example_key else None
    way = whole if len(whole[task].subsets) == 2 ** len(whole.used) else now  # too many were not all asked
    absent = [name for name in asked.order if name not in now.used]
    return {
        "risk": risk(now, visit.before, cast.thresholds, names),
        "path": path(way[task], task, asked.order, absent),
        "compare": compare(whole[task], now[task], task),
        "subsets": subsets(whole[task], now.used, names, task, best),
        "shares": shares(now[task], names, task),
        "next_test": _next(cast, seen, asked),
        "trust": _trust(cast, now, task),
    }


def _trust(cast: Cast, now: Prediction, task: str) -> str:
    answer, used = now[task], now.used
    return trust(
        cast.tested(used, task), used, cast.trained(used), LEAST, task,
        could=cast.hidden_down_to(used), cells=now.missing_cells, own=cast.own,
        kind=answer.kind, unit=answer.unit or "",
    )  # fmt: skip


def _next(cast: Cast, seen: Record, asked: Asked) -> str:
    """What to measure next, or why nobody can tell."""
    if cast.encoded is None:
        return '<p class="mm-quiet">No training records are at hand, so nobody can say what to expect.</p>'
    value = value_of_information(cast.model, seen, cast.encoded, asked.task)
    return next_test(value, asked.costs, own=cast.own)
