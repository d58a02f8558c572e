"""A prompt with a slot for each modality, and the rows of vectors that a language model reads.

"<image><table><text> findings:" holds three slots and some words. A slot is filled with the adapter's
tokens of that modality; for a patient who lacks it, with one learned vector that says so. What a patient's
record or a question contains can never open a slot, since slots are read from the template alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mmmed.checks import check_known, check_shape, listing, plain

if TYPE_CHECKING:
    from mmmed.types import Tokens

QUESTION = "{question}"
UNLEARNED = -100  # the label of a position where nothing is to be learned, as in transformers
MISSING_AS = ("vector", "mask")
_SLOT = re.compile(r"<([^<>]*)>")


class Encodes(Protocol):
    """What a prompt needs of a tokenizer."""

    def encode(self, text: str) -> list[int]: ...


@dataclass(frozen=True)
class Prompt:
    """A template of words, slots in angle brackets, and perhaps {question}: Prompt("<image><labs> findings:",
    ("image", "labs")).

    Raises ValueError for an empty template, a slot that is no modality, and a slot used twice.
    """

    template: str
    modalities: tuple[str, ...]
    _parts: tuple[tuple[str, str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "modalities", tuple(self.modalities))
        pieces = _SLOT.split(self.template)  # words, slot, words, slot, ..., words
        parts = [("slot" if index % 2 else "words", piece) for index, piece in enumerate(pieces)]
        object.__setattr__(self, "_parts", tuple(part for part in parts if part != ("words", "")))
        if not self.template.strip():
            raise ValueError('The prompt is empty. Give slots and words, such as "<image> findings:".')
        for name in self.slots:
            check_known(name, self.modalities, what="slot of the prompt")
            if self.slots.count(name) > 1:
                raise ValueError(f"The slot <{name}> is in the prompt twice. Name each modality once.")

    @classmethod
    def for_modalities(cls, modalities: Sequence[str], words: str = "findings:") -> Prompt:
        """A slot for each modality in turn, then the words."""
        return cls("".join(f"<{name}>" for name in modalities) + f" {words}", tuple(modalities))

    @property
    def slots(self) -> tuple[str, ...]:
        """The modalities that have a slot, in the order of the prompt."""
        return tuple(piece for kind, piece in self._parts if kind == "slot")

    @property
    def without_slot(self) -> tuple[str, ...]:
        """The modalities that the language model never sees, because the prompt has no slot for them."""
        return tuple(name for name in self.modalities if name not in self.slots)

    @property
    def asks(self) -> bool:
        """Whether the prompt has a place for a question."""
        return any(kind == "words" and QUESTION in piece for kind, piece in self._parts)

    def segments(
        self, tokenizer: Encodes, question: str = "", room: int | None = None
    ) -> tuple[list[int] | str, ...]:
        """Lists of word ids and names of slots, in order. The question takes the place of {question}.

        room: the most ids that a question may have. Raises ValueError for a longer one, and for a question to
        a prompt that has no place for one.
        """
        if question and not self.asks:
            raise ValueError(f"The prompt {plain(self.template)} has no {QUESTION}: it cannot be asked one.")
        if room is not None and len(ids := tokenizer.encode(question)) > room:
            raise ValueError(
                f"The question has {len(ids)} tokens, and there is room for {room}. Ask a shorter one."
            )
        segments: list[list[int] | str] = []
        for kind, piece in self._parts:
            segments.append(piece if kind == "slot" else tokenizer.encode(piece.replace(QUESTION, question)))
        return tuple(segments)


@dataclass(frozen=True)
class Assembled:
    """Rows that a language model reads, padded on the left.

    values [batch length width]; mask [batch length] bool, True = real; labels [batch length] long: at each
    token of an answer its own id, elsewhere -100 (nothing is shifted yet); positions [batch length] long: 0
    at the first real token; spans[modality] [batch 2] long: where its slot begins and ends in the padded
    row, equal if it holds nothing; answer_start [batch] long: where the answer begins, `length` if there is
    none.
    """

    values: Tensor
    mask: Tensor
    labels: Tensor
    positions: Tensor
    spans: Mapping[str, Tensor]
    answer_start: Tensor

    def __len__(self) -> int:
        return int(self.values.shape[0])


def assemble(
    segments_per_row: Sequence[Sequence[list[int] | str]],
    slots: Mapping[str, Tokens],
    rows: Mapping[str, Tensor],
    batch: int,
    words: Callable[[Tensor], Tensor],
    missing: Mapping[str, Tensor],
    answers: Sequence[Sequence[int]] | None = None,
    bos: int | None = None,
    missing_as: str = "vector",
) -> Assembled:
    """Fill the slots and put the rows side by side.

    segments_per_row: `Prompt.segments` of each row; one alone serves all rows. slots[modality]: adapter
    tokens [n tokens width] of the n rows that have it, rows[modality] [n] long their positions; padding
    tokens are left out, so a row is the same in any batch. words: ids [n] -> [n width]. missing[modality]
    [width]: what stands in the slot of a row that has no token of it. answers: ids after the prompt, to be
    learned, with their end. bos: id in front of every row. missing_as: "vector", or "mask" to leave the
    slot empty.

    Raises ValueError for a slot without a missing vector, wrong shapes, or a row without any prompt.
    """
    check_known(missing_as, MISSING_AS, what="way to show that a modality is missing")
    if len(segments_per_row) == 1:
        segments_per_row = [segments_per_row[0]] * batch
    _check_rows(segments_per_row, slots, rows, batch, answers)
    sources = _Sources(slots, rows, missing, missing_as)
    layout = _lay_out(segments_per_row, sources, answers or [()] * batch, bos)
    like = next(iter(missing.values()), getattr(words, "weight", torch.empty(0)))
    return _fill(layout, sources.vectors, words, like.device)


def _check_rows(
    segments: Sequence[Any], slots: Mapping[str, Any], rows: Mapping[str, Any], batch: int, answers: Any
) -> None:
    if len(segments) != batch or (answers is not None and len(answers) != batch):
        raise ValueError(
            f"There should be segments and answers for each of {batch} rows, got {len(segments)} and "
            f"{batch if answers is None else len(answers)}."
        )
    if set(slots) != set(rows):
        raise ValueError(f"Tokens came for {listing(slots)}, but rows for {listing(rows)}. Give both.")


class _Sources:
    """All vectors that may fill a slot, one below the other, and which of them a row's slot takes."""

    def __init__(
        self, slots: Mapping[str, Tokens], rows: Mapping[str, Tensor], missing: Mapping[str, Tensor], how: str
    ):
        self.names = list(missing)
        self.absent = {name: np.array([index]) for index, name in enumerate(missing)}
        if how == "mask":
            self.absent = dict.fromkeys(missing, np.zeros(0, dtype=np.int64))
        parts, start = [vector.unsqueeze(0) for vector in missing.values()], len(missing)
        self.taken: dict[tuple[str, int], np.ndarray] = {}
        for name, tokens in slots.items():
            check_known(name, missing, what="modality with a learned missing vector")
            width = missing[name].shape[-1]
            check_shape(tokens.values, "n tokens width", name=name, n=len(rows[name]), width=width)
            index = start + np.arange(tokens.mask.numel()).reshape(tokens.mask.shape)
            real = tokens.mask.cpu().numpy()
            for row, here, kept in zip(rows[name].tolist(), index, real, strict=True):
                if kept.any():  # a slot of padding alone is as good as absent
                    self.taken[name, row] = here if kept.all() else here[kept]
            parts.append(tokens.values.flatten(0, 1))
            start += tokens.mask.numel()
        self.vectors = torch.cat(parts) if parts else None  # [sources width]

    def of(self, name: str, row: int) -> np.ndarray:
        """Which vectors fill the slot of a row."""
        taken = self.taken.get((name, row))
        return self.absent[check_known(name, self.absent, what="slot")] if taken is None else taken


@dataclass(frozen=True)
class _Layout:
    """codes [batch length]: a word's id, or -1 - source of a slot's vector. The rest as in `Assembled`."""

    codes: np.ndarray
    mask: np.ndarray
    labels: np.ndarray
    spans: dict[str, np.ndarray]
    answer_start: np.ndarray


def _lay_out(
    segments_per_row: Sequence[Sequence[list[int] | str]],
    sources: _Sources,
    answers: Sequence[Sequence[int]],
    bos: int | None,
) -> _Layout:
    start = [] if bos is None else [bos]
    flat, ends = [], []  # the codes of each row; where its slots begin and end in them
    for row, segments in enumerate(segments_per_row):
        codes, place = list(start), {}
        for segment in segments:
            if isinstance(segment, str):
                before = len(codes)
                codes.extend((-1 - sources.of(segment, row)).tolist())
                place[segment] = (before, len(codes))
            else:
                codes.extend(segment)
        if not codes:
            raise ValueError("A row has no prompt at all. Give words beside the slots, or a begin of text.")
        flat.append(codes)
        ends.append(place)
    return _pad(flat, ends, answers, sources.names)


def _pad(
    flat: list[list[int]],
    ends: list[dict[str, tuple[int, int]]],
    answers: Sequence[Sequence[int]],
    names: list[str],
) -> _Layout:
    """Rows of codes and answers -> one block, padded on the left."""
    sizes = np.array([[len(codes), len(answer)] for codes, answer in zip(flat, answers, strict=True)])
    sizes = sizes.reshape(len(flat), 2).astype(np.int64)  # also for no rows at all
    length = int(sizes.sum(1).max(initial=0))
    codes, labels = np.zeros((len(flat), length), np.int64), np.full((len(flat), length), UNLEARNED)
    spans = {name: np.zeros((len(flat), 2), np.int64) for name in names}
    for row, (prompt, answer) in enumerate(zip(flat, answers, strict=True)):
        pad, start = length - sizes[row].sum(), length - len(answer)
        codes[row, pad:start] = prompt
        codes[row, start:] = labels[row, start:] = list(answer)
        for name, (begin, end) in ends[row].items():
            spans[name][row] = pad + begin, pad + end
    mask = np.arange(length) >= (length - sizes.sum(1))[:, None]
    return _Layout(codes, mask, labels, spans, length - sizes[:, 1])


def _fill(
    layout: _Layout, vectors: Tensor | None, words: Callable[[Tensor], Tensor], device: torch.device
) -> Assembled:
    """Put the vectors where the codes say. Padding stays zero; nothing that is not taken is touched."""

    def move(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(device)

    flat = layout.codes.ravel()
    spoken = np.flatnonzero(layout.mask.ravel() & (flat >= 0))
    filled = np.flatnonzero(flat < 0)
    said = words(move(flat[spoken]))  # [n width]
    values = said.new_zeros(flat.size, said.shape[1]).index_copy(0, move(spoken), said)
    if vectors is not None and filled.size:
        taken = vectors.index_select(0, move(-1 - flat[filled])).to(values.dtype)
        values = values.index_copy(0, move(filled), taken)
    mask = move(layout.mask)
    return Assembled(
        values=values.reshape(*layout.codes.shape, said.shape[1]),
        mask=mask,
        labels=move(layout.labels),
        positions=(mask.long().cumsum(1) - 1).clamp(min=0),
        spans={name: move(span) for name, span in layout.spans.items()},
        answer_start=move(layout.answer_start),
    )
