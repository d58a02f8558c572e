"""Value of information: which absent modality would change this prediction most, if it were recorded.

Nobody knows what the missing picture would show, but the training records show what such pictures look like.
The patient is given the modality of one training record after the other, of those that are most like this
patient in what is known; the answers that come out are what one may expect to hear. Source: the value of
sample information (Raiffa and Schlaifer 1961), with the training records as the predictive distribution.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mmmed.checks import check_count, check_known, listing
from mmmed.data.collate import Collator
from mmmed.explain.style import quiet
from mmmed.models.calibration import probabilities
from mmmed.models.inference import Encoded, asking, device_of, encode_cohort, schema_of
from mmmed.models.multimodal import MultimodalModel
from mmmed.palette import BLUE, DARK, GREY, Picture
from mmmed.types import Binary, Multiclass, Record, Regression, Tokens

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mmmed.data.cohort import Cohort

FEW = 20  # fewer training records than this say nothing about what to expect
SIMILAR, ALL, ANY = "similar", "all", "any"  # how the training records were chosen


@dataclass(frozen=True)
class Expectation:
    """What one absent modality would do to one answer.

    change: expected absolute change of the answer (probability; half the summed change over the levels of a
    multiclass task, the mean over labels of a multilabel one; a regression in its unit). low, high: between
    them lie 90 % of the answers to expect, for the leading level. crosses: probability that the answer comes
    to lie on the other side of the model's threshold (binary tasks only). mean: of the answers to expect; far
    from the present answer, the estimate is not to be trusted. donors: training records it rests on. choice:
    how they were chosen: the most "similar" in what is known, "all" that have the modality and what is known,
    or "any", some from everywhere, because nothing is known to compare by.
    """

    modality: str
    change: float
    low: float
    high: float
    mean: float
    crosses: float | None
    donors: int
    choice: str = SIMILAR


@dataclass(frozen=True)
class ValueOfInformation:
    """Expectations for one task of one record, the most informative first. now: the answer so far."""

    id: str
    task: str
    level: str
    now: float
    expected: tuple[Expectation, ...]
    unknown: tuple[str, ...] = ()  # absent modalities of which too few training records could tell
    unit: str = ""

    @property
    def best(self) -> str | None:
        """The modality to record next; None if nothing is missing, or nothing can be said."""
        return self.expected[0].modality if self.expected else None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready form."""
        return {**asdict(self), "expected": [asdict(item) for item in self.expected], "best": self.best}

    def plot(self) -> Figure:
        """For each absent modality the range of answers to expect around the present one."""
        figure = Picture(figsize=(6.2, 1.5 + 0.5 * max(len(self.expected), 1)))
        axes = figure.add_axes((0.25, 0.62 / figure.get_figheight(), 0.71, 0.52))
        scale = 1 if self.unit else 100
        for k, item in enumerate(self.expected):
            axes.plot([item.low * scale, item.high * scale], [k, k], color=BLUE, lw=6, solid_capstyle="round")
        axes.axvline(self.now * scale, color=DARK, lw=1.2, ls=(0, (4, 3)))
        names = [
            f"{item.modality}\n± {_say(item.change, self.unit, points=True)} on average"
            for item in self.expected
        ]
        axes.set_yticks(range(len(names)), names, size=9)
        axes.set_ylim(max(len(self.expected), 1) - 0.4, -0.6)
        if not self.unit:
            axes.set_xlim(0, 100)
        axes.set_xlabel(
            f"{self.level} [{self.unit}]"
            if self.unit
            else f"probability that {self.task} is {self.level} [%]"
        )
        quiet(axes, grid="x")
        axes.spines["bottom"].set_color(GREY)
        title = f"{self.task}: what would one more modality say?"
        figure.text(0.02, 0.97, title, va="top", size=12)
        similar = "similar " if all(item.choice == SIMILAR for item in self.expected) else ""
        bars = f"bars: 90 % of what {similar}training records would lead to"
        words = f"record {self.id}; dashed: the answer now; {bars}"
        figure.text(0.02, 0.97 - 0.24 / figure.get_figheight(), words, va="top", size=9, color=DARK)
        return figure

    def __str__(self) -> str:
        lines = [f"{self.task}, record {self.id}: {self.level} {_say(self.now, self.unit)} now"]
        lines += [f"  {_sentence(item, self.unit)}" for item in self.expected]
        if self.unknown:
            lines.append(f"  too few training records to tell: {', '.join(self.unknown)}")
        return "\n".join(lines if len(lines) > 1 else [*lines, "  nothing is missing"])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        first, *rest = str(self).splitlines()
        items = "".join(f"<li>{html.escape(line.strip())}</li>" for line in rest)
        return f'<div style="max-width:620px"><b>{html.escape(first)}</b><ol>{items}</ol></div>'


def value_of_information(
    model: MultimodalModel,
    record: Record | Mapping[str, Any],
    training: Cohort | Encoded,
    task: str | None = None,
    nearest: int = 200,
) -> ValueOfInformation:
    """Rank the absent modalities of a record by how much each would be expected to change its prediction.

    training: the records the model was trained on (cohort["train"]), or what `encode_cohort` made of them,
    which saves encoding them for every patient. task: the only one by default. nearest: how many training
    records to draw on: those whose state, given the modalities this patient has, lies closest to this
    patient's. Raises ValueError for an unknown task, and for a cell or file that cannot be read.
    """
    if not isinstance(model, MultimodalModel):
        raise ValueError(
            "Only a network can be given the tokens of another patient. Pass a model with a fusion, such as "
            "create_model(schema)."
        )
    schema = schema_of(model)
    if task is None and len(schema.tasks) != 1:
        raise ValueError(f"There are {len(schema.tasks)} tasks: name one of {listing(schema.tasks)}.")
    task = next(iter(schema.tasks)) if task is None else check_known(task, schema.tasks, what="task")
    check_count(nearest, name="nearest")
    if not isinstance(record, Record):
        record = Record.from_row(record, schema)
    encoded = training if isinstance(training, Encoded) else encode_cohort(model, training)
    batch = Collator(schema)([record]).to(device_of(model))
    with asking(model):
        tokens = model.encode(batch)
        state, answer = _ask(model, tokens, 1, task)
        expected, unknown = [], []
        for name in (name for name in model.modalities if name not in tokens):
            donors, choice = _donors(model, encoded, name, tuple(tokens), state, task, nearest)
            if len(donors) < FEW:
                unknown.append(name)
                continue
            given = _tokens_of(encoded, name, donors, device_of(model))
            _, answers = _ask(model, {**tokens, name: given}, len(donors), task)
            expected.append(_expectation(model, task, name, answer[0], answers, choice))
    expected.sort(key=lambda item: -item.change)
    kind, leading = schema.tasks[task], int(answer[0].argmax())
    levels = getattr(kind, "levels", None) or kind.columns
    level = levels[1] if isinstance(kind, Binary) else levels[leading]
    unit = (kind.unit or "units") if isinstance(kind, Regression) else ""
    now = float(answer[0, leading])
    return ValueOfInformation(record.id, task, level, now, tuple(expected), tuple(unknown), unit)


def _ask(
    model: MultimodalModel, tokens: Mapping[str, Tokens], count: int, task: str
) -> tuple[Tensor, np.ndarray]:
    """States [count state_dim], calibrated answers [count outputs]; tokens of one record serve all rows."""
    present = torch.tensor([[name in tokens for name in model.modalities]] * count, device=device_of(model))
    whole = {
        name: Tokens(part.values.expand(count, -1, -1), part.mask.expand(count, -1))
        for name, part in tokens.items()
    }
    every = torch.arange(count, device=device_of(model))
    outputs = model.fuse(whole, dict.fromkeys(tokens, every), present)
    logits, kind = outputs[task].double().cpu().numpy(), schema_of(model).tasks[task]
    here = present.cpu().numpy()
    return outputs.fused.state, probabilities(kind, logits, model.calibration.get(task), here)


def _donors(
    model: MultimodalModel,
    encoded: Encoded,
    name: str,
    used: tuple[str, ...],
    state: Tensor,
    task: str,
    nearest: int,
) -> tuple[np.ndarray, str]:
    """Positions of the training records that have `name` and all of `used` and are most similar in these, and
    how they were chosen."""
    columns = [encoded.modalities.index(other) for other in (name, *used)]
    candidates = np.flatnonzero(encoded.present[:, columns].all(axis=1))
    if len(candidates) <= nearest:
        return candidates, ALL
    if not used:  # nothing to compare by: some from everywhere
        return candidates[np.linspace(0, len(candidates) - 1, nearest).astype(int)], ANY
    tokens = {other: _tokens_of(encoded, other, candidates, device_of(model)) for other in used}
    states, _ = _ask(model, tokens, len(candidates), task)
    spread = states.std(0).clamp(min=1e-6)
    distance = ((states - state) / spread).square().sum(1)
    return candidates[distance.argsort(stable=True)[:nearest].cpu().numpy()], SIMILAR


def _tokens_of(encoded: Encoded, name: str, records: np.ndarray, device: torch.device) -> Tokens:
    """Tokens of one modality of some records that have it."""
    place = torch.full((len(encoded),), -1)
    place[encoded.rows[name]] = torch.arange(len(encoded.rows[name]))
    part = encoded.tokens[name][place[torch.from_numpy(records)]]
    return Tokens(part.values.to(device), part.mask.to(device))


def _expectation(
    model: MultimodalModel, task: str, name: str, now: np.ndarray, answers: np.ndarray, choice: str
) -> Expectation:
    """now [outputs], answers [donors outputs]."""
    kind, leading = schema_of(model).tasks[task], int(now.argmax())
    moves = np.abs(answers - now)
    change = moves.sum(1) / 2 if isinstance(kind, Multiclass) else moves.mean(1)
    low, high = np.quantile(answers[:, leading], [0.05, 0.95])
    crosses = None
    if isinstance(kind, Binary):
        threshold = model.thresholds.get(task, 0.5)
        crosses = float(((answers[:, 0] >= threshold) != (now[0] >= threshold)).mean())
    mean = float(answers[:, leading].mean())
    return Expectation(
        name, float(change.mean()), float(low), float(high), mean, crosses, len(answers), choice
    )


def _say(value: float, unit: str, points: bool = False) -> str:
    if unit:
        return f"{value:.3g} {unit}"
    number = f"{100 * value:.0f}"
    return f"{number} {('point' if number == '1' else 'points') if points else '%'}"


def _sentence(item: Expectation, unit: str) -> str:
    text = (
        f"{item.modality}: would move it by {_say(item.change, unit, points=True)} on average, "
        f"to between {_say(item.low, unit)} and {_say(item.high, unit)}"
    )
    if item.crosses is not None:
        text += f"; {100 * item.crosses:.0f} % chance to change the decision"
    return text
