"""The grounding gap: does a report model look at the patient at all?

    gap = NLL per token of a report given another patient's inputs - the same given its own

in nats. A language model that ignores the patient has a gap of 0 and may still have a fine loss and fine
BLEU. Another patient's input is a real one: blanking a picture instead gives numbers without any relation to
what is written (measured on a synthetic chest cohort: 0.0 to 4.2 for the same quality).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mmmed.data.targets import rows_with_text
from mmmed.evaluation.bootstrap import Draws, Estimate
from mmmed.evaluation.scores import Table
from mmmed.language.questions import ASK_REPORT
from mmmed.models.inference import asking, device_of, encode_cohort
from mmmed.models.report_room import answer_room
from mmmed.models.report_writing import segments_of
from mmmed.types import Batch

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort
    from mmmed.models.report_generator import ReportGenerator

ALL = "all"
LARGE = 0.1  # nats per token; below, a model is hardly better than one that never looks


@dataclass(frozen=True)
class Grounding:
    """Losses of the reports of a cohort part. own [reports]: sum over the tokens; others[what] [reports]:
    with the modality (or all of them, "all") of another patient, NaN where there was none to take; tokens
    [reports]; groups [reports]: patients."""

    own: np.ndarray
    others: Mapping[str, np.ndarray]
    tokens: np.ndarray
    groups: np.ndarray

    @property
    def loss(self) -> float:
        """NLL per token with one's own inputs."""
        return float(self.own.sum() / max(self.tokens.sum(), 1))

    def gap(self, what: str = ALL, draws: int = 1000, seed: int = 0) -> Estimate:
        """The gap for all modalities or for one, with an interval by patient."""
        rise = self.others[what] - self.own
        known = ~np.isnan(rise)
        many = Draws(np.where(known, 0.0, np.nan), self.groups, draws, seed)
        sums = {
            name: many.scores({"sum": _weighted_sum}, np.where(known, values, 0.0))["sum"]
            for name, values in (("rise", rise), ("tokens", self.tokens.astype(float)))
        }
        with np.errstate(invalid="ignore", divide="ignore"):
            return many.estimate(sums["rise"] / sums["tokens"])

    def table(self, draws: int = 1000) -> Table:
        """Gap of everything together and of each modality."""
        rows = [{"inputs of another patient": what, "gap": self.gap(what, draws)} for what in self.others]
        notes = (
            "Gap: nats per token by which a report becomes less likely with these inputs of another patient. "
            "0 means that the model does not look.",
        )
        return Table(tuple(rows), f"Grounding gap (loss with own inputs {self.loss:.3f})", notes)


def _weighted_sum(labels: np.ndarray, values: np.ndarray, weights: np.ndarray | None = None) -> Any:
    return values.sum() if weights is None else weights @ values


def grounding(
    reporter: ReportGenerator,
    cohort: Cohort,
    target: str | None = None,
    *,
    generator: torch.Generator | None = None,
    modalities: Sequence[str] | None = None,
    most: int = 1000,
    batch_size: int = 64,
) -> Grounding:
    """Measure the gap on the records of a cohort that have a report.

    target: the column of reports, by default the generator's. generator: of the permutation, in which no
    patient meets itself, and of the choice of `most` records where there are more. modalities: for which the
    gap is also measured one by one, all by default. The report that is scored is the one for the record's own
    inputs: what a missing one would be needed for is left out.
    """
    generator = generator or torch.Generator().manual_seed(0)
    batch, texts = _encoded(reporter, cohort, target, generator, most, batch_size)
    names = reporter.modalities if modalities is None else modalities
    return grounding_of(reporter, batch, texts, generator, names, batch_size)


def _encoded(
    reporter: ReportGenerator,
    cohort: Cohort,
    target: str | None,
    generator: torch.Generator,
    most: int,
    batch_size: int,
) -> tuple[Batch, list[str]]:
    """The records that have a report, `most` of them at most, as tokens; and their reports."""
    texts = cohort.column(target or reporter.target)
    rows = torch.tensor(rows_with_text(texts), dtype=torch.long)
    if len(rows) > most:
        rows = rows[torch.randperm(len(rows), generator=generator)[:most]].sort().values
    found = encode_cohort(reporter.network, cohort.where(rows.numpy()), batch_size)
    batch = Batch(
        found.modalities,
        found.tokens,
        found.rows,
        torch.from_numpy(found.present),
        ids=tuple(found.ids.tolist()),
        groups=tuple(found.groups.tolist()),
    )
    return batch, [str(texts[row]) for row in rows.tolist()]


def grounding_of(
    reporter: ReportGenerator,
    batch: Batch,
    texts: Sequence[str],
    generator: torch.Generator,
    modalities: Sequence[str] = (),
    batch_size: int = 64,
) -> Grounding:
    """The same for one batch of encoded records (its values are tokens) and their reports."""
    answers, groups = _answers(reporter, batch, texts), np.array(batch.groups)
    own = _losses(reporter, batch, answers, batch_size)
    others = {}
    for what in (ALL, *modalities):
        columns = [k for k, name in enumerate(batch.modalities) if what in (ALL, name)]
        partner = _partners(batch, columns, groups, generator)
        swapped = _swapped(batch, columns, partner)
        losses = _losses(reporter, swapped, answers, batch_size)
        others[what] = np.where(partner.numpy() >= 0, losses, np.nan)
    return Grounding(own, others, np.array([len(ids) for ids in answers]), groups)


def _partners(batch: Batch, columns: list[int], groups: np.ndarray, generator: torch.Generator) -> Tensor:
    """For each row another patient's row in which the same of these modalities are there: [rows] long, -1
    where there is none, or where none of them is there."""
    partner = torch.full((len(batch),), -1)
    pattern = batch.present[:, columns]
    for own in pattern.unique(dim=0):
        rows = (pattern == own).all(1).nonzero().squeeze(1)
        if own.any():
            order = rows[torch.randperm(len(rows), generator=generator)]
            names = groups[order.numpy()]
            for shift in range(1, len(order)):  # a rotation of a random order has no fixed point
                free = (partner[order] < 0) & torch.from_numpy(names != np.roll(names, shift))
                partner[order[free]] = order.roll(shift)[free]
                if bool((partner[order] >= 0).all()):
                    break
    return partner


def _swapped(batch: Batch, columns: list[int], partner: Tensor) -> Batch:
    """The batch with these modalities of the partners; a row without a partner stays as it is."""
    source = torch.where(partner >= 0, partner, torch.arange(len(batch)))
    theirs = batch.take(source)
    names = [batch.modalities[k] for k in columns]
    values = {name: (theirs if name in names else batch).values[name] for name in batch.values}
    rows = {name: (theirs if name in names else batch).rows[name] for name in batch.values}
    return replace(batch, values=values, rows=rows)


def _answers(reporter: ReportGenerator, batch: Batch, texts: Sequence[str]) -> list[list[int]]:
    """The ids of each report, as far as a record's inputs can carry it, with the end."""
    answers, longest = [], answer_room(reporter, batch, [ASK_REPORT])
    for text, here in zip(texts, batch.present.tolist(), strict=True):
        if reporter.filter is not None and not reporter.blind:
            text = reporter.filter(
                text, [n for n, there in zip(batch.modalities, here, strict=True) if there]
            )
        ids, cut = reporter.tokenizer.fit(text.strip(), longest)
        answers.append(ids if cut else [*ids, reporter.tokenizer.eos])
    return answers


def _losses(
    reporter: ReportGenerator, batch: Batch, answers: Sequence[Sequence[int]], batch_size: int
) -> np.ndarray:
    """Sum of the NLL over each row's answer, in nats: [rows]."""
    network, found = reporter.network, []
    with asking(network):
        for rows in torch.arange(len(batch)).split(batch_size) if len(batch) else ():
            some = batch.take(rows).to(device_of(network))
            some = some.hide(*some.modalities) if reporter.blind else some
            told = [answers[row] for row in rows.tolist()]
            losses = network(
                some, segments_of(reporter, [ASK_REPORT] * len(told)), told, reporter.tokenizer.bos
            )
            found.append(losses.sum(1).double().cpu().numpy())
    return np.concatenate(found) if found else np.zeros(0)
