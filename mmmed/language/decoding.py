"""Writing token by token, many rows at once: each row ends by itself and then costs nothing more.

Greedy by our own loop over transformers' key-value cache; beams by transformers. Rows may differ in length
(padding on the left), and a row is written as if it were alone. Scores are log-probabilities in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmmed.checks import check_count
from mmmed.language.language_model import check_length, next_token_logits, room
from mmmed.language.prompt import Assembled

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Stream = Callable[[list[list[int]]], None]


@dataclass(frozen=True)
class Decoded:
    """What was written. ids: of each row, without the end. scores: the log-probability of each of them, and
    of the end as the last one where the row came to it. finished: whether it did, within the limit."""

    ids: list[list[int]]
    scores: list[list[float]]
    finished: list[bool]

    def __len__(self) -> int:
        return len(self.ids)


def generate(
    lm: PreTrainedModel,
    assembled: Assembled,
    *,
    eos: int,
    limit: int = 128,
    beams: int = 1,
    stream: Stream | None = None,
    forbid: Sequence[int] = (),
) -> Decoded:
    """Continue every row until `eos` or for `limit` tokens, or until the language model has no more
    positions.

    beams: 1 takes the likeliest token each time; more keep that many beginnings. stream: called with the
    ids of all rows so far after each token (with beams: once, at the end). forbid: ids that are never
    written.
    """
    check_count(limit, name="limit")
    check_count(beams, name="beams")
    if not len(assembled):
        return Decoded([], [], [])
    length = assembled.values.shape[1]
    check_length(lm, length + 1)
    limit = min(limit, room(lm) - length)
    with _reading(lm):
        if beams == 1:
            return _greedy(lm, assembled, eos, limit, stream, list(forbid))
        return _beams(lm, assembled, eos, limit, beams, stream, list(forbid))


@contextmanager
def _reading(lm: PreTrainedModel) -> Iterator[None]:
    """Without dropout and gradients; afterwards all is as it was."""
    was_training = [module for module in lm.modules() if module.training]
    lm.eval()
    try:
        with torch.no_grad():  # inference mode would spoil what a model keeps, such as rotary tables
            yield
    finally:
        for module in was_training:
            module.training = True


def _greedy(
    lm: PreTrainedModel, assembled: Assembled, eos: int, limit: int, stream: Stream | None, forbid: list[int]
) -> Decoded:
    written = Decoded(*([make() for _ in range(len(assembled))] for make in (list, list, bool)))
    embed, device = lm.get_input_embeddings(), assembled.values.device
    living = list(range(len(assembled)))
    values, mask = assembled.values, assembled.mask.long()
    positions, cache = assembled.positions, None
    for _ in range(limit):
        out = lm.base_model(
            inputs_embeds=values,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        ids, scores = _likeliest(next_token_logits(lm, out.last_hidden_state[:, -1]), forbid)
        stays = _note(written, living, ids.tolist(), scores.tolist(), eos)
        if stream is not None:
            stream([list(row) for row in written.ids])
        if not stays:
            break
        cache, positions = out.past_key_values, positions[:, -1:] + 1
        if len(stays) < len(living):
            kept = torch.tensor(stays, device=device)
            cache.batch_select_indices(kept)
            ids, mask, positions = ids[kept], mask[kept], positions[kept]
            living = [living[index] for index in stays]
        values = embed(ids.unsqueeze(1))
        mask = torch.cat([mask, mask.new_ones(len(living), 1)], dim=1)
    return written


def _likeliest(logits: Tensor, forbid: list[int]) -> tuple[Tensor, Tensor]:
    """Logits [n vocabulary] -> the likeliest ids [n] and their log-probabilities [n]."""
    if forbid:
        logits[:, forbid] = -torch.inf
    best, ids = logits.max(1)
    return ids, best - logits.logsumexp(1)


def _note(written: Decoded, living: list[int], ids: list[int], scores: list[float], eos: int) -> list[int]:
    """Write one token of each living row down; which of them go on."""
    stays = []
    for index, (row, token, score) in enumerate(zip(living, ids, scores, strict=True)):
        written.scores[row].append(score)
        if token == eos:
            written.finished[row] = True
        else:
            written.ids[row].append(token)
            stays.append(index)
    return stays


def _beams(
    lm: PreTrainedModel,
    assembled: Assembled,
    eos: int,
    limit: int,
    beams: int,
    stream: Stream | None,
    forbid: list[int],
) -> Decoded:
    with _own_settings(lm):
        out = lm.generate(
            inputs_embeds=assembled.values,
            attention_mask=assembled.mask.long(),
            max_new_tokens=limit,
            num_beams=beams,
            do_sample=False,
            eos_token_id=eos,
            pad_token_id=eos,
            suppress_tokens=forbid or None,
            return_dict_in_generate=True,
            output_scores=True,
        )
        scores = lm.compute_transition_scores(
            out.sequences, out.scores, out.beam_indices, normalize_logits=False
        )
    written = _cut_at_end(out.sequences.tolist(), scores.tolist(), eos)
    if stream is not None:
        stream([list(row) for row in written.ids])
    return written


@contextmanager
def _own_settings(lm: PreTrainedModel) -> Iterator[None]:
    """Hide the settings that come with a hub model, such as its temperature or its penalty of repetition."""
    from transformers import GenerationConfig

    theirs: Any = lm.generation_config
    lm.generation_config = GenerationConfig()
    try:
        yield
    finally:
        lm.generation_config = theirs


def _cut_at_end(sequences: list[list[int]], scores: list[list[float]], eos: int) -> Decoded:
    ids, kept, finished = [], [], []
    for row, marks in zip(sequences, scores, strict=True):
        end = row.index(eos) if eos in row else len(row)
        ids.append(row[:end])
        kept.append(marks[: end + 1])
        finished.append(end < len(row))
    return Decoded(ids, kept, finished)
