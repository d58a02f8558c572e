"""What a report generator's language model makes of a phrase about a picture: the state that asks for a mask.

A record's slots and the prompt come first, then the phrase, then the mask word `<seg>`. The state is the last
hidden one (after the model's closing norm) at the position that predicts `<seg>`, the last of the phrase: it
has read the picture and the words, and `StateQuery` turns it into the question of a segmenter. Source: LISA
(Lai et al., arXiv:2308.00692, sec. 3.2, "embedding as mask").

In a causal model nothing that follows changes a state, so `<seg>` itself is never fed. The small tokenizer
has the word (id 3), a named language model such as SmolLM2 does not, and both give the state at the same
place. Differs from LISA: phrases are given, not written first; the language model is frozen unless
`learn=True`, and a record that lacks its picture has the learned vector for that in its slot.

A frozen state is what the next word needs: it knows where a thing is, but half forgets which one was asked
for, so words are the better question unless the language model learns along.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mmmed.checks import check_count, plain
from mmmed.data.collate import Collator
from mmmed.language.language_model import check_length
from mmmed.language.questions import ASK_REPORT
from mmmed.language.sentences import sentences
from mmmed.models.inference import device_of
from mmmed.models.report_writing import segments_of
from mmmed.types import Batch, Record, Report
from mmmed.types.phrase import check_phrase

if TYPE_CHECKING:
    from mmmed.models.report_generator import ReportGenerator

ROWS = 64  # texts that the language model reads at once


@dataclass(frozen=True)
class _Text:
    """What stands behind the prompt of a record. row: of the batch. ends: places in `ids` whose states are
    wanted."""

    row: int
    ids: list[int]
    ends: list[int]


def states_of(
    reporter: ReportGenerator,
    records: Sequence[Record],
    phrases: Sequence[Sequence[str]],
    batch: int = 16,
    learn: bool = False,
) -> list[Tensor]:
    """The states of each record's phrases: a list of [k width], one tensor per record, k = 0 where there are
    none.

    A record's picture is encoded once for all its phrases, and its prompt is read once for as many as fit
    into one pass. Records and phrases do not change each other's states. learn: keep the graph, so that LoRA
    and adapters can learn (encoders rest all the same). batch: records that are encoded together.

    Raises ValueError unless there is one list of phrases per record, for a phrase without words, and for one
    that is longer than the language model reads.
    """
    check_count(batch, name="batch")
    _check(records, phrases)
    found: list[Tensor] = []
    for start in range(0, len(records), batch):
        asked = phrases[start : start + batch]
        texts = [_phrase(reporter, row, phrase) for row, own in enumerate(asked) for phrase in own]
        some = [records[place] for place in range(start, start + len(asked))]
        with _reading(reporter.network, learn):
            states = _states(reporter, _encoded(reporter, some), texts)
        found += states.split([len(own) for own in asked])
    return found


def report_states(
    reporter: ReportGenerator, record: Record, report: Report | str | Sequence[str], learn: bool = False
) -> Tensor:
    """The state at the end of each sentence of a report: [sentences width], from one pass over all of it.

    report: a `Report`, a text, or its sentences, each with words. A sentence's state has read those before
    it, so one answer holds text and masks; that of the first is the state of this sentence as a phrase.
    """
    if isinstance(report, Report):
        told = [sentence.text for sentence in report.sentences]
    else:
        told = sentences(report) if isinstance(report, str) else list(report)
    pieces = [reporter.tokenizer.encode(f" {text}" if place else text) for place, text in enumerate(told)]
    ends, ids = [], []
    for piece in pieces:
        ids += piece
        ends.append(len(ids) - 1)
    with _reading(reporter.network, learn):
        return _states(reporter, _encoded(reporter, [record]), [_Text(0, ids, ends)] if ids else [])


# ----------------------------------------------------------------------------------------------------- inputs


def _check(records: Sequence[Any], phrases: Sequence[Any]) -> None:
    if isinstance(phrases, str) or any(isinstance(own, str) for own in phrases):
        raise ValueError(
            f"phrases should hold one list of phrases per record, got {plain(phrases)}. Write [[phrase]]."
        )
    if len(records) != len(phrases):
        raise ValueError(
            f"There should be one list of phrases per record, got {len(phrases)} for {len(records)} records. "
            "Give an empty list for a record without any."
        )
    for own in phrases:
        for phrase in own:
            check_phrase(phrase)


def _phrase(reporter: ReportGenerator, row: int, phrase: str) -> _Text:
    ids = reporter.tokenizer.encode(" ".join(phrase.split()))
    return _Text(row, ids, [len(ids) - 1])


def _encoded(reporter: ReportGenerator, records: Sequence[Record]) -> Batch:
    """The records with their tokens as values; not in inference mode, whose tensors no graph can hold."""
    network = reporter.network
    batch = Collator(reporter.schema, missing_files="absent", unreadable="absent")(records)
    batch = batch.to(device_of(network))
    batch = batch.hide(*batch.modalities) if reporter.blind else batch
    with torch.no_grad():
        return replace(batch, values=network.encode(batch))


@contextmanager
def _reading(network: nn.Module, learn: bool) -> Iterator[None]:
    """Without dropout, and without gradients unless something is to learn; afterwards all is as it was."""
    was_training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        with torch.set_grad_enabled(learn):
            yield
    finally:
        for module in was_training:
            module.training = True


# ----------------------------------------------------------------------------------------------------- states


def _states(reporter: ReportGenerator, batch: Batch, texts: Sequence[_Text]) -> Tensor:
    """The wanted states of all texts, one after the other: [wanted width]."""
    words = reporter.network.words.weight
    found = [words.new_zeros(0, words.shape[1])]
    for start in range(0, len(texts), ROWS):
        found.append(_read(reporter, batch, texts[start : start + ROWS]))
    return torch.cat(found)


def _read(reporter: ReportGenerator, batch: Batch, texts: Sequence[_Text]) -> Tensor:
    """Prompts of the records once, their keys and values handed to each of the texts: [wanted width]."""
    network = reporter.network
    rows = sorted({text.row for text in texts})
    some = batch.take(torch.tensor(rows, device=batch.present.device))
    asked = segments_of(reporter, [ASK_REPORT] * len(rows))
    prompts = network.prepare(some, asked, bos=reporter.tokenizer.bos)
    which = torch.tensor([rows.index(text.row) for text in texts], device=prompts.mask.device)
    lengths = torch.tensor([len(text.ids) for text in texts], device=which.device)
    check_length(network.language_model, int((prompts.mask.sum(1)[which] + lengths).max()))

    read = network.language_model.base_model
    before = read(
        inputs_embeds=prompts.values,
        attention_mask=prompts.mask.long(),
        position_ids=prompts.positions,
        use_cache=True,
    ).past_key_values
    before.batch_select_indices(which)
    steps = torch.arange(int(lengths.max()), device=which.device)
    ids = [text.ids + [0] * (len(steps) - len(text.ids)) for text in texts]  # padded on the right: unseen
    real = steps < lengths[:, None]
    hidden = read(
        inputs_embeds=network.words(torch.tensor(ids, device=which.device)),
        attention_mask=torch.cat([prompts.mask[which], real], dim=1).long(),
        # A table of positions may end where the longest real text does.
        position_ids=prompts.positions[which, -1:] + 1 + torch.minimum(steps, lengths[:, None] - 1),
        past_key_values=before,
        use_cache=True,
    ).last_hidden_state  # [m steps width]
    wanted = [(place, end) for place, text in enumerate(texts) for end in text.ends]
    places, ends = torch.tensor(wanted, device=which.device).T
    return hidden[places, ends].float()
