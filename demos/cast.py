"""Everything the page shows: the model, patients to try it on, how it was tested, the cards.

`open_cast` puts it together once; after that nothing in a `Cast` changes but the report generator and the
segmenter, which come in when they are there.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed import load_model, missingness_benchmark
from mmmed.checks import listing
from mmmed.models.card import model_card
from mmmed.models.inference import Encoded, check_cohort, encode_cohort
from mmmed.models.multimodal import MultimodalModel
from mmmed.types import Number, Tabular

from .examples import examples_of

if TYPE_CHECKING:
    from mmmed import Cohort
    from mmmed.evaluation.benchmark_tables import Benchmark
    from mmmed.models.referring_segmenter import ReferringSegmenter
    from mmmed.models.report_generator import ReportGenerator
    from mmmed.types import Record, Schema

REPORTS, MASKS = "reports", "masks"
ENDS = (5, 95)  # percentiles between which most values of a column lie
NOT_OWN = (
    "As far as its card tells, the model did not learn from the cohort {} as it is here: where training "
    "records are counted or compared, they are records of this cohort, which the model may not know."
)
Say = Callable[[str], Any]


class Shelf:
    """A model that may be there later: looked for in a few folders, loaded once, and only if it fits.

    folders: where `mmmed finetune` may have put it, the best place first. able: the method it must have.
    """

    def __init__(self, folders: Sequence[Path], schema: Schema, able: str):
        self.folders, self.schema, self.able = tuple(folders), schema, able
        self.problem = ""  # why what is there cannot be used, in a sentence
        self._lock = threading.Lock()
        self._model: Any = None
        self._refused: set[tuple[Path, int]] = set()

    def __call__(self) -> Any:
        """The model, or None as long as there is none."""
        if self._model is None:
            with self._lock:  # two visitors at once: the second waits, and finds what the first has loaded
                if self._model is None:
                    self._model = self._find()
        return self._model

    def _find(self) -> Any:
        for folder in self.folders:
            config = folder / "config.json"
            try:
                key = (folder, config.stat().st_mtime_ns)
            except OSError:  # not there yet
                continue
            if key in self._refused:
                continue
            try:
                return self._fitting(load_model(folder))
            except (ValueError, ImportError, OSError) as error:
                self._refused.add(key)  # not tried again until somebody puts another one there
                self.problem = str(error)
        return None

    def _fitting(self, found: Any) -> Any:
        if not hasattr(found, self.able):
            raise ValueError(f"The model there is a {type(found).__name__}, which cannot {self.able}.")
        for name in found.modalities:
            own, other = found.schema.modalities[name], self.schema.modalities.get(name)
            if type(own) is not type(other) or own.columns != other.columns:
                raise ValueError(
                    f"It reads {name} from {listing(own.columns)}, which is not what this page asks for."
                )
        return found


@dataclass(frozen=True)
class Cast:
    """What the page needs, and no Gradio.

    model: in evaluation mode. title: which model speaks, in a line. cohort: where examples and tests come
    from, or None. benchmark: every subset of the inputs on the test part. encoded: the training part, for
    what to measure next. training_counts: pattern -> training records with exactly these modalities.
    own: whether the cohort is the one that the model learned from, as far as the model card tells; else
    `encoded` and `training_counts` are of records that the model may not know. ranges: column of numbers ->
    5th and 95th percentile in the training part. examples: name -> record. model_card, data_card: Markdown,
    "" where there is none. notes: what the visitor should know, in sentences. shelves: where a report
    generator and a segmenter come from.
    """

    model: MultimodalModel
    title: str
    cohort: Cohort | None = None
    benchmark: Benchmark | None = None
    encoded: Encoded | None = None
    training_counts: Mapping[tuple[str, ...], int] = field(default_factory=dict)
    own: bool = False
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    examples: Mapping[str, Record] = field(default_factory=dict)
    model_card: str = ""
    data_card: str = ""
    notes: tuple[str, ...] = ()
    shelves: Mapping[str, Shelf] = field(default_factory=dict)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names in the order of fusion."""
        return self.model.modalities

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the questions."""
        return tuple(self.model.schema.tasks)

    @property
    def thresholds(self) -> Mapping[str, float]:
        """Task -> the probability from which on the model says yes."""
        return self.model.thresholds

    @property
    def reporter(self) -> ReportGenerator | None:
        """The report generator, once there is one that fits."""
        return self.shelves[REPORTS]() if REPORTS in self.shelves else None

    @property
    def segmenter(self) -> ReferringSegmenter | None:
        """The segmenter, once there is one that fits."""
        return self.shelves[MASKS]() if MASKS in self.shelves else None

    def trained(self, names: Sequence[str]) -> int:
        """Training records that had exactly these modalities."""
        return self.training_counts.get(self._ordered(names), 0)

    def hidden_down_to(self, names: Sequence[str]) -> int:
        """Training records from which modality dropout could leave exactly these: those that had them all.

        Without dropout in the training, those that had exactly these.
        """
        if not self.model.card.get("training", {}).get("modality dropout", 0):
            return self.trained(names)
        return sum(count for pattern, count in self.training_counts.items() if set(names) <= set(pattern))

    def tested(self, names: Sequence[str], task: str) -> Mapping[str, Any] | None:
        """The line of the benchmark where only these modalities were shown. None if there is no such line.

        "n": test records that it was scored on, all of them; "had": how many of these had the modalities, the
        others being answered with what was left of them.
        """
        if self.benchmark is None or not names:
            return None
        seen = " + ".join(self._ordered(names))
        for row in self.benchmark.table:
            if (row["task"], row["kind"], row["seen"]) == (task, "subset", seen):
                return {**row, "had": round(row["n"] * row["complete"])}
        return None

    def _ordered(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in self.modalities if name in names)


def open_model(folder: str | Path) -> MultimodalModel:
    """A saved model that predicts, in evaluation mode. Raises ValueError if there is none in the folder."""
    model = load_model(folder)
    if not isinstance(model, MultimodalModel):
        raise ValueError(f"{folder} holds a {type(model).__name__}. The page needs a model that predicts.")
    return model.eval().requires_grad_(False)


def open_cast(
    model: MultimodalModel,
    cohort: Cohort | None = None,
    *,
    reports: Sequence[str | Path] = ("runs/reports/model", "runs/demo/reports/model"),
    masks: Sequence[str | Path] = ("runs/masks/model", "runs/demo/masks/model"),
    output: str | Path | None = None,
    say: Say = lambda _: None,
) -> Cast:
    """Put everything around a model.

    cohort: with the columns of the model. reports, masks: folders in which a report generator and a segmenter
    are looked for. output: where the benchmark keeps its answers, so that the next start is quick. say: is
    told what is being done. Raises ValueError for a cohort of other columns.
    """
    shelves = {
        REPORTS: Shelf([Path(place) for place in reports], model.schema, "generate"),
        MASKS: Shelf([Path(place) for place in masks], model.schema, "segment"),
    }
    parts: dict[str, Any] = {"shelves": shelves, "model_card": _without_header(model_card(model))}
    if cohort is None:
        notes = ("There is no cohort: no examples, no stress test, and nobody can say what to measure next.",)
        return Cast(model, title_of(model), notes=notes, **parts)
    check_cohort(model, cohort)
    if cohort.schema != model.schema:
        cohort = cohort.with_schema(model.schema)
    return Cast(model, title_of(model), cohort, **parts, **_tried(model, cohort, output, say))


def title_of(model: MultimodalModel) -> str:
    """Which model speaks, in a line."""
    data = str(model.card.get("data", "")).rstrip(".")
    named = f"{type(model.fusion).__name__} for {listing(model.schema.tasks, 3)}"
    return f"{named}, trained on {data}" if data else named


def _tried(model: MultimodalModel, cohort: Cohort, output: str | Path | None, say: Say) -> dict[str, Any]:
    """What the model does with the patients of a cohort."""
    own, benchmark, train, test = is_own(model, cohort), None, cohort["train"], cohort["test"]
    notes = [] if own else [NOT_OWN.format(cohort.name or "given")]
    if len(test):
        say(f"Testing the model on {len(test):,} test records, with every subset of the inputs")
        try:
            benchmark = missingness_benchmark(model, test, output=output, progress=True)
        except ValueError as error:  # no label is known there, say
            notes.append(f"The stress test could not be made: {error}")
    else:
        notes.append("The cohort has no test part: no examples, and no stress test.")
    if len(train):
        say(f"Reading {len(train):,} training records, for what to measure next")
    return {
        "benchmark": benchmark,
        "encoded": encode_cohort(model, train) if len(train) else None,
        "training_counts": counts_of(train, model.modalities),
        "own": own,
        "ranges": ranges_of(train),
        "examples": examples_of(model, test) if len(test) else {},
        "data_card": data_card_of(cohort),
        "notes": tuple(notes),
    }


def counts_of(cohort: Cohort, modalities: Sequence[str]) -> dict[tuple[str, ...], int]:
    """Pattern of presence -> records that have exactly these modalities, names in the order of the model."""
    place = {name: column for column, name in enumerate(cohort.schema.modalities)}
    rows = np.asarray(cohort.present, dtype=bool)
    patterns = (tuple(name for name in modalities if row[place[name]]) for row in rows)
    return dict(Counter(patterns))


def is_own(model: MultimodalModel, cohort: Cohort) -> bool:
    """Whether the model card names this cohort, and as many training and validation records as it has."""
    data = str(model.card.get("data", ""))
    told = {part: int(count.replace(",", "")) for count, part in re.findall(r"([\d,]+) (\w+) records", data)}
    here = {part: count for part in ("train", "val") if (count := len(cohort[part]))}
    return data.startswith(f"{cohort.name or 'A cohort'}: ") and {k: n for k, n in told.items() if n} == here


def ranges_of(cohort: Cohort) -> dict[str, tuple[float, float]]:
    """Column of numbers -> 5th and 95th percentile of the recorded cells; without columns that have none."""
    kinds = [kind for kind in cohort.schema.modalities.values() if isinstance(kind, Tabular)]
    found = {}
    for name in {cell.name: None for kind in kinds for cell in kind.cells if isinstance(cell, Number)}:
        values = np.array([np.nan if cell is None else cell for cell in cohort.column(name)], dtype=float)
        if np.isfinite(values).any():
            low, high = np.percentile(values[np.isfinite(values)], ENDS)
            found[name] = (float(low), float(high))
    return found


def data_card_of(cohort: Cohort) -> str:
    """The written data card of a known cohort as Markdown; "" where nobody wrote one for these patients."""
    from mmmed.evaluation.data_card import data_card
    from mmmed.evaluation.data_card_text import counted_in

    text = data_card(cohort).text if len(cohort) else ""
    counted = re.search(r"\| records \| ([\d,]+) \|", counted_in(text).get("sizes", ""))
    text = _without_header(text)
    if counted is None or int(counted[1].replace(",", "")) == len(cohort):
        return text
    return f"*Counted on {counted[1]} records; this page has {len(cohort):,} of the same kind.*\n\n{text}"


def _without_header(text: str) -> str:
    """Markdown without the YAML between the first two lines of dashes."""
    if not text.startswith("---\n"):
        return text
    return text.partition("\n---\n")[2].lstrip()
