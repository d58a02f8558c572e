"""The records that can teach one encoder, with everything that stays fixed computed once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from mmmed.data.collate import Collator
from mmmed.models.inference import device_of
from mmmed.models.multimodal import MultimodalModel
from mmmed.pretraining.fit import shuffled
from mmmed.training.chance import stream
from mmmed.training.policy import drop_modalities
from mmmed.training.supply import Supply, fetch, make_supply
from mmmed.training.token_cache import Readable, TokenStore, cache_tokens
from mmmed.types import Batch, Record, Tokens

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort


class Having:
    """The records of a cohort that have a modality; the others are never opened."""

    def __init__(self, cohort: Any, modality: str):
        place = list(cohort.schema.modalities).index(modality)
        self.cohort, self.schema = cohort, cohort.schema
        self.rows = np.flatnonzero(np.asarray(cohort.present, dtype=bool)[:, place])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, rows: Sequence[int]) -> list[Record]:
        return fetch(self.cohort, [int(self.rows[row]) for row in rows])

    def __iter__(self) -> Iterator[Record]:
        return iter(self.__getitems__(range(len(self))))

    @property
    def ids(self) -> np.ndarray:
        return np.asarray(self.cohort.ids)[self.rows]

    @property
    def present(self) -> np.ndarray:
        return np.asarray(self.cohort.present, dtype=bool)[self.rows]


@dataclass(frozen=True)
class Lesson:
    """A batch whose other modalities are tokens already, with the teacher's tokens for the rows of
    `modality`."""

    batch: Batch
    teacher: Tokens


@dataclass(frozen=True)
class Lessons:
    """Batches for the encoder of one modality. place: of that modality in `present`; rows: of the
    supply, those that have it."""

    supply: Supply
    rows: Tensor
    modality: str
    place: int
    store: TokenStore
    device: torch.device

    @property
    def labelled(self) -> bool:
        """Whether any of these records has a known label."""
        return any(bool(known[self.rows].any()) for known in self.supply.known.values())

    def updates(self, size: int) -> int:
        """Batches of one epoch."""
        return math.ceil(len(self.rows) / size)

    def epoch(self, number: int, size: int, dropout: float, seed: int) -> Iterator[Lesson]:
        """All records in a new order, each with some of its other modalities hidden."""
        generator = stream(seed, "modality dropout", number)
        mask = self._with_own(drop_modalities(self.supply.present, dropout, generator))
        yield from self._lessons(shuffled(self.rows, number, size, seed), mask)

    def recorded(self, size: int = 256) -> Iterator[Lesson]:
        """All records as they are."""
        yield from self._lessons(list(self.rows.split(size)), self.supply.present)

    def alone(self, size: int = 256) -> Iterator[Lesson]:
        """All records with nothing but this modality."""
        mask = self._with_own(torch.zeros_like(self.supply.present))
        yield from self._lessons(list(self.rows.split(size)), mask)

    def _with_own(self, mask: Tensor) -> Tensor:
        mask = mask.clone()
        mask[:, self.place] = self.supply.present[:, self.place]
        return mask

    def _lessons(self, parts: Sequence[Tensor], mask: Tensor) -> Iterator[Lesson]:
        for batch in self.supply.batches((rows, mask[rows]) for rows in parts):
            if self.modality not in batch.rows:
                continue  # its files were found unreadable only now
            ids = [batch.ids[row] for row in batch.rows[self.modality].tolist()]
            tokens = self.store([Record(id, {}, {}) for id in ids])
            teacher = Tokens(tokens.values.to(self.device), tokens.mask.to(self.device))
            yield Lesson(batch.to(self.device), teacher)


def make_lessons(
    model: MultimodalModel, modality: str, teacher: nn.Module, part: Cohort, folder: Path
) -> Lessons | None:
    """Encode what stays fixed, once: the other modalities by the model, this one by the teacher. None if no
    record has the modality.

    folder: where the tokens are kept meanwhile.
    """
    having = Having(part, modality)
    if not len(having):
        return None
    device = device_of(model)
    plain = Collator(model.schema, part.missing_files, part.unreadable)
    records = list(having)
    stores = {
        name: cache_tokens(model.encoders[name], name, records, plain, folder / "others")
        for name in model.modalities
        if name != modality and any(name in record.inputs for record in records)
    }
    taught = cache_tokens(teacher, modality, records, plain, folder / "teacher")
    readable = Readable(having, {**stores, modality: taught})
    supply = make_supply(readable, Collator(model.schema, part.missing_files, part.unreadable, tokens=stores))
    place = list(model.modalities).index(modality)
    rows = supply.present[:, place].nonzero().squeeze(1)
    return Lessons(supply, rows, modality, place, taught, device) if len(rows) else None
