"""Tokens of a frozen encoder, computed once and kept on disk.

A cache is a folder named after a hash of everything its content follows from: the encoder's weights, the
schema entry, and the records (id, and path, size and time of their files, or their content). If any of it
changes, the name does, and the old cache is not found. Tokens lie in safetensors shards that are
memory-mapped: what is not used costs no memory.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from mmmed.checks import listing
from mmmed.data.collate import Collator
from mmmed.models.multimodal import encode
from mmmed.training.fingerprint import digest, schema_fingerprint
from mmmed.training.supply import fetch, trim
from mmmed.types import Record, Schema, Tokens

SHARD = 1024  # records per file
CHUNK = 64  # records that are encoded at a time


class TokenStore:
    """Reads a cache. store(records) -> their Tokens, as `Collator(tokens={modality: store})` wants it.

    absent: ids of the records whose file could not be read when the cache was made (policy "absent").
    """

    def __init__(self, folder: Path):
        self.folder = folder
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        self.absent = frozenset(index["absent"])
        self._place = {
            id: (shard, row) for shard, ids in enumerate(index["ids"]) for row, id in enumerate(ids)
        }
        self._shards = [_open(folder / _shard(number)) for number in range(len(index["ids"]))]

    def __len__(self) -> int:
        return len(self._place)

    def __call__(self, records: Sequence[Record]) -> Tokens:
        """Tokens of some records, without the padding that none of them needs."""
        missing = [record.id for record in records if record.id not in self._place]
        if missing:
            raise ValueError(
                f"The token cache {self.folder} was made without the records {listing(missing)}."
            )
        places = [self._place[record.id] for record in records]
        parts = [self._shards[shard][row : row + 1] for shard, row in places]
        longest = max(part.mask.shape[1] for part in parts)
        values = torch.cat([pad(part.values, (0, 0, 0, longest - part.mask.shape[1])) for part in parts])
        masks = torch.cat([pad(part.mask, (0, longest - part.mask.shape[1])) for part in parts])
        return trim(Tokens(values, masks))


def cache_tokens(
    encoder: nn.Module,
    modality: str,
    records: Iterable[Record],
    collator: Collator,
    folder: Path,
    report: Callable[[int], Any] | None = None,
) -> TokenStore:
    """Encode the records that have the modality, on the device of the encoder, or find the cache that did it
    before.

    folder: where caches lie, one subfolder each. collator: reads the records, with the model's schema.
    report: called with the number of records after each step. Raises ValueError if two records share an id.
    """
    having = [record.only(modality) for record in records if modality in record.inputs]
    ids = [record.id for record in having]
    twice = sorted({id for id in ids if ids.count(id) > 1}) if len(set(ids)) < len(ids) else []
    if twice:
        raise ValueError(
            f"Cached tokens are found by record id, but these ids occur twice: {listing(twice)}."
        )
    place = folder / f"{modality}-{cache_key(encoder, modality, having, collator)}"
    if not (place / "index.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder))
        try:
            _write(encoder, modality, having, _bare(collator, modality), part, report)
            _put(part, place)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    return TokenStore(place)


def _put(part: Path, place: Path) -> None:
    """Move a whole cache to its place; another process that was faster has put the same there."""
    try:
        os.replace(part, place)
    except OSError:
        if not (place / "index.json").is_file():
            raise
        shutil.rmtree(part, ignore_errors=True)


def cache_key(encoder: nn.Module, modality: str, records: Sequence[Record], collator: Collator) -> str:
    """Hash of all that the tokens follow from."""
    entry = Schema({modality: collator.schema.modalities[modality]})
    weights = (part for name, tensor in encoder.state_dict().items() for part in (name, tensor))
    policies = (type(encoder).__qualname__, collator.missing_files, collator.unreadable)
    contents = (part for record in records for part in record_content(record, modality))
    return digest([schema_fingerprint(entry), *policies, *weights, *contents])


def record_content(record: Record, modality: str) -> list[str]:
    """Id and what one modality of a record holds, as text; a file by path, size and time of its change."""
    values = record.inputs[modality]
    values = values if isinstance(values, (list, tuple)) else [values]
    return [record.id, *(_identity(value, record.folder) for value in values)]


def _identity(value: Any, folder: str | None) -> str:
    """A file as path, size and time of its last change; anything else as its content."""
    if isinstance(value, (str, os.PathLike)):
        try:
            facts = os.stat(os.path.join(folder or "", value))
            return f"{value} {facts.st_size} {facts.st_mtime_ns}"
        except (OSError, ValueError):  # text, or a file that is not there
            return str(value)
    if hasattr(value, "__array__"):
        array = np.ascontiguousarray(value)
        return digest([f"{array.dtype}{array.shape}", array.tobytes()])
    return repr(value)


def _bare(collator: Collator, modality: str) -> Collator:
    """A collator for this modality alone."""
    schema = Schema({modality: collator.schema.modalities[modality]})
    return Collator(schema, collator.missing_files, collator.unreadable)


def _write(
    encoder: nn.Module,
    modality: str,
    records: Sequence[Record],
    collator: Collator,
    folder: Path,
    report: Callable[[int], Any] | None,
) -> None:
    shards, absent = [], []
    training = encoder.training
    device = next((tensor.device for tensor in encoder.state_dict().values()), torch.device("cpu"))
    encoder.eval()
    try:
        for number, start in enumerate(range(0, len(records), SHARD)):
            chunk = records[start : start + SHARD]
            pieces, ids = [], []
            for first in range(0, len(chunk), CHUNK):
                batch = collator(chunk[first : first + CHUNK])
                ids += [batch.ids[row] for row in batch.rows.get(modality, torch.empty(0)).tolist()]
                absent += [
                    id for id, here in zip(batch.ids, batch.present[:, 0].tolist(), strict=True) if not here
                ]
                if modality in batch.values:
                    pieces.append(_encode(encoder, batch.to(device).values[modality]))
                if report:
                    report(len(batch))
            _save(pieces, folder / _shard(number))
            shards.append(ids)
    finally:
        encoder.train(training)
    (folder / "index.json").write_text(json.dumps({"ids": shards, "absent": absent}), encoding="utf-8")


def _encode(encoder: nn.Module, values: Any) -> tuple[Tensor, Tensor]:
    with torch.inference_mode():
        tokens = encode(encoder, values)
        return tokens.values.float().cpu(), tokens.mask.cpu()


def _save(pieces: Sequence[tuple[Tensor, Tensor]], file: Path) -> None:
    from safetensors.torch import save_file

    longest = max((mask.shape[1] for _, mask in pieces), default=0)
    values = [pad(v, (0, 0, 0, longest - v.shape[1])) for v, _ in pieces] or [torch.zeros(0, 0, 0)]
    masks = [pad(m, (0, longest - m.shape[1])) for _, m in pieces] or [torch.zeros(0, 0, dtype=torch.bool)]
    save_file({"values": torch.cat(values), "mask": torch.cat(masks)}, file)


def _open(file: Path) -> Tokens:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as shard:
        return Tokens(shard.get_tensor("values"), shard.get_tensor("mask"))


def _shard(number: int) -> str:
    return f"tokens-{number:05d}.safetensors"


class Readable:
    """A cohort in which a modality whose file could not be read when it was cached counts as not recorded."""

    def __init__(self, cohort: Any, stores: Mapping[str, TokenStore]):
        self.cohort, self.stores = cohort, stores

    def __len__(self) -> int:
        return len(self.cohort)

    def __getitems__(self, rows: Sequence[int]) -> list[Record]:
        return [self._readable(record) for record in fetch(self.cohort, rows)]

    def __iter__(self) -> Iterator[Record]:
        return (self._readable(record) for record in self.cohort)

    def _readable(self, record: Record) -> Record:
        return record.without(*(name for name, store in self.stores.items() if record.id in store.absent))

    @property
    def present(self) -> np.ndarray:
        """[records modality] bool, in the order of the schema."""
        present = np.array(self.cohort.present)
        for name, store in self.stores.items():
            if store.absent:
                column = list(self.cohort.schema.modalities).index(name)
                present[np.isin(self.cohort.ids, list(store.absent)), column] = False
        return present
