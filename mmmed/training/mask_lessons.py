"""What a referring segmenter learns from: phrases by record, the regions they point at, and how they are
drawn.

Two rules, without either of which the words are ignored: each picture brings as many phrases that point at
nothing as phrases that point at something, and both of the same form ("the nodule on the left" beside "the
nodule on the right"), so that neither the picture nor the form tells the answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mmmed.data.grids import own_shape
from mmmed.data.masks import fit_mask, read_mask
from mmmed.training.supply import Supply
from mmmed.types import Phrase, Record, Schema

TOLD = 24  # phrases of a picture that the contrast looks at, at most


@dataclass(frozen=True)
class Lessons:
    """The phrases about the records of a supply.

    phrases; row [phrases] long: the record of each; there [phrases] bool; region [phrases] long: its place in
    `regions`, -1 where nothing is drawn. regions [regions *size] uint8, 0 to 255. true_of, false_of: record
    -> the phrases that point at something in it, or at nothing; rows: the records with at least one phrase.
    states [phrases width]: of a language model that has read them, if that is how they are asked.
    """

    supply: Supply
    phrases: tuple[Phrase, ...]
    row: Tensor
    there: Tensor
    region: Tensor
    regions: Tensor
    true_of: Mapping[int, tuple[int, ...]]
    false_of: Mapping[int, tuple[int, ...]]
    states: Tensor | None = None
    _alike: dict[int, tuple[int, ...]] = field(default_factory=dict, repr=False)

    @property
    def rows(self) -> Tensor:
        return torch.tensor(sorted({*self.true_of, *self.false_of}), dtype=torch.long)

    @property
    def known(self) -> Tensor:
        """Whether it is known where a phrase points, be it nowhere: [phrases] bool."""
        return (self.region >= 0) | ~self.there

    def draw(self, row: int, pairs: int, numbers: Sequence[float]) -> list[int]:
        """Phrases about a record, in pairs: one that points at something and one of its form that does not.

        One pair where the picture has one region, and two more for each further one, since there the words
        have more to tell apart; at most `pairs`. numbers: 2 pairs numbers in 0..1. Where there is only one
        kind of phrase, that many of it.
        """
        true, false = self.true_of.get(row, ()), self.false_of.get(row, ())
        regions = len(set(self.region[list(true)].tolist()) - {-1})
        drawn = []
        for pair in range(min(pairs, max(2 * regions - 1, 1))):
            first, second = numbers[2 * pair], numbers[2 * pair + 1]
            if true:
                drawn.append(_pick(true, first))
            others = self.alike(drawn[-1]) if true and false else false
            if others:
                drawn.append(_pick(others, second))
        return drawn

    def alike(self, index: int) -> tuple[int, ...]:
        """The phrases about the same record that point at nothing and share most words with this one."""
        if index not in self._alike:
            own = set(self.phrases[index].text.lower().split())
            shares = {}
            for other in self.false_of[int(self.row[index])]:
                words = set(self.phrases[other].text.lower().split())
                shares[other] = len(own & words) / len(own | words)
            most = max(shares.values())
            self._alike[index] = tuple(other for other, share in shares.items() if share > most - 1e-9)
        return self._alike[index]

    def target(self, indices: Tensor) -> Tensor:
        """Where the phrases point: float [m *size], 0 where they point at nothing."""
        region = self.region[indices]
        found = self.regions[region.clamp(min=0)].float() / 255 if len(self.regions) else None
        if found is None:
            return torch.zeros(len(indices), *self.regions.shape[1:])
        return found * (region >= 0).view(-1, *(1,) * (found.ndim - 1))


def make_lessons(
    supply: Supply,
    records: Sequence[Record],
    phrases: Sequence[Phrase],
    schema: Schema,
    modalities: Sequence[str],
) -> Lessons:
    """Lessons from the phrases that are about these records; masks are read once and kept on the model's
    grid.

    Phrases about a record without a picture are left out. Raises ValueError for a mask whose grid is not that
    of its picture.
    """
    places = {record: row for row, record in enumerate(supply.ids)}
    size = schema.modalities[modalities[0]].size
    names = tuple(schema.modalities)
    present = supply.present[:, [names.index(name) for name in modalities]].tolist()
    shown = [[name for name, here in zip(modalities, row, strict=True) if here] for row in present]
    kept = [phrase for phrase in phrases if shown[places[phrase.record]]] if places else []
    stored: dict[str, int] = {}
    nothing: set[int] = set()
    drawn, region = [], []
    for phrase in kept:
        if not phrase.drawn:
            region.append(-1)
            continue
        place = places[phrase.record]
        mask = _read(phrase, records[place], schema, shown[place][0])
        if not mask.any():  # a black mask says that there is nothing
            region.append(-1)
            nothing.add(len(region) - 1)
            continue
        fitted = fit_mask(mask, size)
        if 0 < fitted.max() < 0.5:  # smaller than a cell: it still fills the cell that it lies in
            fitted = fitted / fitted.max()
        fitted = np.round(fitted * 255).astype(np.uint8)
        key = phrase.record + hashlib.blake2b(fitted.tobytes(), digest_size=16).hexdigest()
        if key not in stored:
            stored[key] = len(drawn)
            drawn.append(torch.from_numpy(fitted))
        region.append(stored[key])
    true_of: dict[int, list[int]] = {}
    false_of: dict[int, list[int]] = {}
    there = [not phrase.empty and index not in nothing for index, phrase in enumerate(kept)]
    for index, phrase in enumerate(kept):
        (true_of if there[index] else false_of).setdefault(places[phrase.record], []).append(index)
    return Lessons(
        supply,
        tuple(kept),
        torch.tensor([places[phrase.record] for phrase in kept], dtype=torch.long),
        torch.tensor(there, dtype=torch.bool),
        torch.tensor(region, dtype=torch.long),
        torch.stack(drawn) if drawn else torch.zeros(0, *size, dtype=torch.uint8),
        {row: tuple(found) for row, found in true_of.items()},
        {row: tuple(found) for row, found in false_of.items()},
    )


def _read(phrase: Phrase, record: Record, schema: Schema, name: str) -> np.ndarray:
    """The mask of a phrase, on the grid of the picture that it belongs to."""
    source = record.inputs[name]
    source = source[0] if isinstance(source, (list, tuple)) else source
    modality = schema.modalities[name]
    where = f'record "{record.id}", column "{modality.column}"'
    shape = own_shape(source, modality, folder=record.folder, where=where)
    where = f'record "{record.id}", mask of "{phrase.text}"'
    return read_mask(phrase.mask, key=phrase.key, folder=phrase.folder, where=where, shape=shape)


def _pick(items: Sequence[int], number: float) -> int:
    return items[min(int(number * len(items)), len(items) - 1)]
