"""From vectors to reports: write the words, cut them into sentences, and measure what each sentence rests on.

Evidence of a sentence is by how much less likely its words become, in nats per token, when one modality is
taken away and all else stays, and when everything is (leave one out, under teacher forcing). It is measured,
not read off attention, which shows where a model looks and not what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from mmmed.language.decoding import Decoded, generate
from mmmed.language.language_model import token_losses
from mmmed.language.questions import ANSWERS, ASK_REPORT
from mmmed.language.sentences import sentences
from mmmed.models.inference import asking, device_of
from mmmed.types import Batch, Reply, Report, Sentence

if TYPE_CHECKING:
    from mmmed.models.report_generator import ReportGenerator
    from mmmed.models.report_network import ReportNetwork

DEFAULT_LIMIT = 160
NOT_ASSESSABLE = "not assessable"
TOGETHER = ""  # stands for all modalities at once, where the others go by their names
DOUBT = 0.1  # a finding that is stated although the finding head gives it less is said to be doubtful


@dataclass(frozen=True)
class Written:
    """What was written for one row and one prompt. starts[k]: token at which sentence k begins."""

    ids: list[int]
    scores: np.ndarray  # [tokens] log-probability of each
    sentences: list[str]
    starts: list[int]
    finished: bool

    def mean(self, values: np.ndarray, index: int) -> float:
        """Mean of one value per token over a sentence."""
        end = self.starts[index + 1] if index + 1 < len(self.starts) else len(self.ids)
        return float(values[self.starts[index] : max(end, self.starts[index] + 1)].mean())


def encoded_batch(network: ReportNetwork, batch: Batch) -> Batch:
    """The same batch on the network's device, with the encoders' tokens as values."""
    with asking(network):
        batch = batch.to(device_of(network))
        return replace(batch, values=network.encode(batch))


def write_reports(
    reporter: ReportGenerator,
    batch: Batch,
    asks: Sequence[str] | None,
    *,
    beams: int,
    evidence: bool,
    stream: Callable[[str, str], None] | None,
    limit: int,
) -> list[Report]:
    """One report per row of an encoded batch. asks: prompts, each of which gives one part; None = all at
    once."""
    found: list[list[Sentence]] = [[] for _ in range(len(batch))]
    cut = [False] * len(batch)
    for ask in asks or [ASK_REPORT]:
        written = write(reporter, batch, [ask] * len(batch), beams, limit, stream)
        told = as_sentences(reporter, batch, [ask] * len(batch), written, evidence)
        topic = "" if asks is None else ask.removesuffix(":")
        for row, (part, own) in enumerate(zip(told, written, strict=True)):
            found[row] += [replace(sentence, topic=topic) for sentence in part]
            cut[row] |= not own.finished
    doubts = _doubts(reporter, batch)
    return [_report(reporter, batch, row, found[row], cut[row], doubts) for row in range(len(batch))]


def write_replies(
    reporter: ReportGenerator,
    batch: Batch,
    asks: Sequence[str],
    questions: Sequence[str],
    limit: int,
    evidence: bool,
) -> list[Reply]:
    """One answer per row of an encoded batch; what is withheld from a report is withheld from an answer."""
    written = write(reporter, batch, asks, 1, limit, None)
    told = as_sentences(reporter, batch, asks, written, evidence)
    replies = []
    for row, (question, parts) in enumerate(zip(questions, told, strict=True)):
        used, missing = seen_by(reporter, batch, row)
        reasons = [_why_withheld(reporter, sentence, used, answer=True) for sentence in parts]
        kept = [sentence for sentence, reason in zip(parts, reasons, strict=True) if not reason]
        why = _unanswerable(reporter, question, used)
        if not why and not kept:
            reason = reasons[0] if reasons else "nothing was written"
            why = f"What would have been answered is withheld: {reason}."
        replies.append(_reply(batch, row, question, () if why else kept, why, used, missing))
    return replies


def _reply(
    batch: Batch,
    row: int,
    question: str,
    kept: Sequence[Sentence],
    why: str,
    used: tuple[str, ...],
    missing: tuple[str, ...],
) -> Reply:
    """The answer made of some sentences, or why there is none."""
    facts = {"used": used, "missing": missing}
    if why:
        notes = (*_remarks(batch, row), why)
        return Reply(batch.ids[row], question, NOT_ASSESSABLE, abstained=True, notes=notes, **facts)
    measured = [sentence.grounding for sentence in kept if sentence.grounding is not None]
    return Reply(
        batch.ids[row],
        question,
        " ".join(sentence.text for sentence in kept),
        float(np.mean([sentence.score for sentence in kept])),
        {name: max(sentence.evidence[name] for sentence in kept) for name in kept[0].evidence},
        max(measured, default=None),
        notes=_remarks(batch, row),
        **facts,
    )


def seen_by(reporter: ReportGenerator, batch: Batch, row: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Modalities that a row has, and those that it lacks."""
    here = batch.present[row].tolist()
    pairs = list(zip(reporter.modalities, here, strict=True))
    return tuple(name for name, there in pairs if there), tuple(name for name, there in pairs if not there)


# ------------------------------------------------------------------------------------------------------ words


def write(
    reporter: ReportGenerator,
    batch: Batch,
    asks: Sequence[str],
    beams: int,
    limit: int,
    stream: Callable[[str, str], None] | None,
) -> list[Written]:
    """Continue each row's prompt as the language model would; a row without any input gets nothing."""
    tokenizer, network = reporter.tokenizer, reporter.network
    rows = torch.arange(len(batch)) if reporter.blind else batch.present.any(1).nonzero().squeeze(1).cpu()
    told = [Written([], np.zeros(1), [], [], True)] * len(batch)
    if not len(rows):
        return told
    some, asked = batch.take(rows.to(batch.present.device)), [asks[row] for row in rows.tolist()]
    with asking(network):
        ready = network.prepare(_shown(reporter, some), segments_of(reporter, asked), bos=tokenizer.bos)
        tell = None if stream is None else _telling(reporter, some.ids, stream)
        options = {"limit": limit, "beams": beams, "stream": tell}
        decoded = generate(network.language_model, ready, eos=tokenizer.eos, **options)
    for place, row in enumerate(rows.tolist()):
        told[row] = _cut(reporter, decoded, place)
    return told


def segments_of(reporter: ReportGenerator, asks: Sequence[str]) -> list[tuple[list[int] | str, ...]]:
    """The prompts of rows; each is made once."""
    made = {ask: reporter.prompt.segments(reporter.tokenizer, ask) for ask in set(asks)}
    return [made[ask] for ask in asks]


def _shown(reporter: ReportGenerator, batch: Batch) -> Batch:
    return batch.hide(*batch.modalities) if reporter.blind else batch


def _telling(
    reporter: ReportGenerator, ids: Sequence[str], stream: Callable[[str, str], None]
) -> Callable[[list[list[int]]], None]:
    lengths = [0] * len(ids)

    def tell(rows: list[list[int]]) -> None:
        for index, row in enumerate(rows):
            if len(row) > lengths[index]:
                lengths[index] = len(row)
                stream(ids[index], reporter.tokenizer.decode(row).strip())

    return tell


def _cut(reporter: ReportGenerator, decoded: Decoded, row: int) -> Written:
    """The sentences of one row, and at which token each begins."""
    ids, decode = decoded.ids[row], reporter.tokenizer.decode
    text = decode(ids)
    said = sentences(text)
    ends = [len(decode(ids[: index + 1])) for index in range(len(ids))] if len(said) > 1 else [len(text)]
    starts, place = [], 0
    for sentence in said:
        place = max(text.find(sentence, place), place)
        starts.append(int(np.searchsorted(ends, place, side="right")))
        place += len(sentence)
    scores = np.array(decoded.scores[row][: len(ids)] or [0.0])
    return Written(ids, scores, said, [min(s, max(len(ids) - 1, 0)) for s in starts], decoded.finished[row])


# --------------------------------------------------------------------------------------------------- evidence


def as_sentences(
    reporter: ReportGenerator, batch: Batch, asks: Sequence[str], written: Sequence[Written], evidence: bool
) -> list[list[Sentence]]:
    """Sentences with score, findings and, if asked, what each rests on."""
    rises = rises_of(reporter, batch, asks, written) if evidence and not reporter.blind else {}
    told: list[list[Sentence]] = []
    for row, own in enumerate(written):
        grounds = {name: rise[row] for name, rise in rises.items() if row in rise}
        together = grounds.pop(TOGETHER, None)
        told.append(
            [
                Sentence(
                    text,
                    own.mean(own.scores, k),
                    {name: own.mean(rise, k) for name, rise in grounds.items()},
                    None if together is None else own.mean(together, k),
                    {} if reporter.labeller is None else reporter.labeller.labels_of_sentence(text),
                )
                for k, text in enumerate(own.sentences)
            ]
        )
    return told


def rises_of(
    reporter: ReportGenerator, batch: Batch, asks: Sequence[str], written: Sequence[Written]
) -> dict[str, dict[int, np.ndarray]]:
    """modality -> row -> [tokens]: by how much each token's loss rises, in nats, without that modality; under
    `TOGETHER` without any."""
    segments, answers = segments_of(reporter, asks), [own.ids for own in written]
    tokenizer, network = reporter.tokenizer, reporter.network
    rises: dict[str, dict[int, np.ndarray]] = {}
    with asking(network):
        for name in (*batch.rows, TOGETHER):
            gone = tuple(batch.modalities) if name == TOGETHER else (name,)
            ready = network.prepare(batch.hide(*gone), segments, answers, tokenizer.bos)
            losses = token_losses(network.language_model, ready).cpu().numpy()
            touched = [batch.modalities.index(one) for one in gone]
            rises[name] = {
                row: losses[row, losses.shape[1] - len(own.ids) :] + own.scores
                for row, own in enumerate(written)
                if own.ids and bool(batch.present[row, touched].any())
            }
    return rises


# -------------------------------------------------------------------------------------------------- reports


def _report(
    reporter: ReportGenerator,
    batch: Batch,
    row: int,
    told: Sequence[Sentence],
    cut: bool,
    doubts: Callable[[int, dict[str, str]], list[str]],
) -> Report:
    used, missing = seen_by(reporter, batch, row)
    facts = {"used": used, "missing": missing}
    if not used and not reporter.blind:
        notes = (*_remarks(batch, row), "Nothing of this record could be read.")
        return Report(batch.ids[row], (), abstained=True, notes=notes, **facts)
    kept, withheld = [], []
    for sentence in told:
        why = _why_withheld(reporter, sentence, used)
        (withheld if why else kept).append(replace(sentence, reason=why))
    text = " ".join(sentence.text for sentence in kept)
    findings = {} if reporter.labeller is None else reporter.labeller.labels(text)
    notes = [*_remarks(batch, row), *doubts(row, findings)]
    if cut:
        notes.append("The report was cut: it reached the limit before its end.")
    if reporter.blind:
        notes.append("Written blind: no input was read.")
    told = {"findings": findings, "withheld": tuple(withheld), "abstained": not kept, "notes": tuple(notes)}
    return Report(batch.ids[row], tuple(kept), **told, **facts)


def _why_withheld(
    reporter: ReportGenerator, sentence: Sentence, used: Sequence[str], answer: bool = False
) -> str:
    if reporter.blind:
        return ""
    # "Yes." names no finding of its own: what it needs is what its question needs, see `_unanswerable`
    unchecked = reporter.filter is None or (answer and sentence.text in ANSWERS.values())
    if not unchecked and reporter.filter(sentence.text, used).strip() != sentence.text.strip():
        return "needs an input that is missing"
    if reporter.threshold is not None and (sentence.score or 0.0) < reporter.threshold:
        return "too uncertain"
    return ""


def _unanswerable(reporter: ReportGenerator, question: str, used: Sequence[str]) -> str:
    """Why a question cannot be answered from what is there, "" if it may be."""
    if reporter.blind:
        return ""
    if not used:
        return "Nothing of this record could be read."
    if reporter.labeller is None:
        return ""
    for mention in reporter.labeller.mentions(question):
        needs = reporter.labeller.needs(mention.finding)
        if not reporter.labeller.can_show(mention.finding, used):
            return f"The question is about {mention.finding}, which needs {' or '.join(needs)}: missing here."
    if not reporter.labeller.can_show_sentence(question, used):
        needs = " or ".join(reporter.labeller.table.otherwise)
        return f"The question names no finding of the table, and so needs {needs}: missing here."
    return ""


def _remarks(batch: Batch, row: int) -> tuple[str, ...]:
    return tuple(batch.notes[row]) if batch.notes else ()


def _doubts(reporter: ReportGenerator, batch: Batch) -> Callable[[int, dict[str, str]], list[str]]:
    """A function from a row and what its report states to the findings that the finding head denies."""
    if reporter.network.finding_head is None or reporter.labeller is None or reporter.blind:
        return lambda row, findings: []
    with asking(reporter.network):
        logits, assessable = reporter.network.find(batch.values, batch.rows, len(batch))
    seen, judged = torch.sigmoid(logits).cpu().numpy(), assessable.cpu().numpy()
    place = {label: index for index, label in enumerate(reporter.labeller.table.labels)}

    def doubts(row: int, findings: dict[str, str]) -> list[str]:
        said = []
        for label, status in findings.items():
            column = place[label]
            share = seen[row, column] if status == "present" else 1 - seen[row, column]
            if status != "uncertain" and judged[row, column] and share < DOUBT:
                said.append(f"The finding head doubts {label!r} {status}: it gives this {100 * share:.0f} %.")
        return said

    return doubts
