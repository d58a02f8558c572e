"""How long an answer may be: what the language model reads, less what the prompt takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmmed.language.language_model import room
from mmmed.models.inference import asking, device_of
from mmmed.models.report_writing import segments_of

if TYPE_CHECKING:
    from mmmed.models.report_generator import ReportGenerator
    from mmmed.types import Batch

LONGEST = 256  # pieces of a report that are learned and scored; what follows is cut, and said
LEAST = 16  # pieces without which nothing can be said
LOOKED_AT = 16  # records whose prompts are measured: those with the most modalities


def answer_room(reporter: ReportGenerator, batch: Batch, asks: Sequence[str], most: int = LONGEST) -> int:
    """Pieces of an answer that fit behind the prompts of these records, `most` at most; the end is extra.

    batch: records, read or encoded; `LOOKED_AT` of them with the most modalities are measured. Raises
    ValueError if a prompt leaves fewer than `LEAST`.
    """
    network = reporter.network
    if not len(batch):
        return most
    made = dict(zip(asks, segments_of(reporter, asks), strict=True))
    ask = max(made, key=lambda one: sum(len(part) for part in made[one] if not isinstance(part, str)))
    rows = batch.present.sum(1).argsort(descending=True, stable=True)[:LOOKED_AT]
    some = batch.take(rows).to(device_of(network))
    with asking(network):
        ready = network.prepare(some, segments_of(reporter, [ask] * len(some)), bos=reporter.tokenizer.bos)
    taken = ready.values.shape[1]
    left = room(network.language_model) - taken - 1
    if left < LEAST:
        raise ValueError(
            f"The prompt {ask[:60]!r} with its slots takes {taken} tokens, and the language model reads "
            f"{room(network.language_model)}: too little is left for an answer. Shorten the question, use "
            "fewer tokens per modality, or take a language model that reads more."
        )
    return min(left, most)
