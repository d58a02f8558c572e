"""Records and phrases -> masks, each on the grid of its picture as it came.

A picture is seen once, whatever is asked about it; phrases are drawn some at a time, and only one batch of
records is held. What is not recorded, cannot be read, holds one value everywhere, or is a hidden copy of
another sequence counts as absent, and is said. A NIfTI volume is answered in the orientation in which
`mmmed.data.volumes` reads it, not in that of its file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mmmed.checks import listing, plain
from mmmed.data.collate import Collator
from mmmed.data.grids import own_shape, spacing_of
from mmmed.data.hidden_copies import without_hidden_copies
from mmmed.data.masks import unfit
from mmmed.data.readers import read_image
from mmmed.data.volumes import read_volume
from mmmed.models.inference import asking
from mmmed.types import Batch, Image, Mask, Phrase, Record, Schema, Tokens, is_missing
from mmmed.types.phrase import check_phrase, check_spacing

if TYPE_CHECKING:
    from mmmed.models.referring_segmenter import ReferringSegmenter
    from mmmed.segmentation.mask_decoder import Seen

PIXELS = 2**20  # of the phrases that are drawn at once: 16 at 256 x 256, or at 16 x 64 x 64
MOST = 64


@dataclass(frozen=True)
class Asking:
    """How masks are made. threshold: of presence. acquisition: for a class table. spacing: instead of the
    file's. strict: a file that is missing or cannot be read raises instead of counting as absent."""

    threshold: float
    acquisition: str = ""
    spacing: tuple[float, ...] | None = None
    strict: bool = False


@dataclass(frozen=True)
class _Ground:
    """What of a record its masks share: the grid, what is drawn under them, and what must be known."""

    shape: tuple[int, ...]
    picture: np.ndarray | None
    spacing: tuple[float, ...] | None
    notes: tuple[str, ...]
    used: tuple[str, ...]
    missing: tuple[str, ...]


def segment_records(
    segmenter: ReferringSegmenter,
    records: Iterable[Record],
    phrases: Iterable[Sequence[str]],
    how: Asking,
    batch: int = 16,
) -> Iterator[list[Mask]]:
    """One list of masks per record, in the order of its phrases. Raises ValueError unless there is one list
    of phrases for each record."""
    records, phrases = iter(records), iter(phrases)
    while some := list(islice(records, batch)):
        asked = [_texts(texts) for texts in islice(phrases, len(some))]
        if len(asked) < len(some):
            raise ValueError(
                "There should be one list of phrases for each record, got fewer. Give an empty list for a "
                "record of which nothing is asked."
            )
        yield from _segment_batch(segmenter, some, asked, how)
    if next(phrases, None) is not None:
        raise ValueError("There should be one list of phrases for each record, got more lists than records.")


def checked_phrases(phrases: Any) -> list[str]:
    """A text, or several, as a list. Raises ValueError for anything else, also for a dict of them."""
    if isinstance(phrases, str):
        return [phrases]
    if isinstance(phrases, (bytes, Mapping)) or not hasattr(phrases, "__iter__"):
        raise ValueError(
            'phrases should be a text, such as "the lesion on the left", or a list of texts, got '
            f"{plain(phrases)}."
        )
    return list(phrases)


def _texts(texts: Sequence[str]) -> list[str]:
    texts = texts if isinstance(texts, str) else checked_phrases(texts)
    if isinstance(texts, str):
        raise ValueError(f"phrases should hold one list per record, got the text {plain(texts)}: [[text]].")
    return [check_phrase(text) for text in texts]


def _segment_batch(
    segmenter: ReferringSegmenter, records: Sequence[Record], asked: Sequence[list[str]], how: Asking
) -> Iterator[list[Mask]]:
    """The masks of some records: pictures and words of all of them first, then record by record."""
    network, schema, reader = segmenter.network, segmenter.schema, segmenter.reader
    batch, notes, read = _read(records, schema, how.strict)
    shown = batch.present.any(1).nonzero().squeeze(1)  # without a picture there is nothing to see
    place_of = {row: place for place, row in enumerate(shown.tolist())}
    told = [
        (row, Phrase(records[row].id, text, acquisition=how.acquisition))
        for row, texts in enumerate(asked)
        for text in texts
        if row in place_of
    ]
    with asking(network):
        if told:
            seen = network.see(*network.inputs_of(batch.take(shown).to(network.device)))
            inputs = reader.read([phrase for _, phrase in told], records, [row for row, _ in told])
            words = network.ask(**{name: value.to(network.device) for name, value in inputs.items()})
    for row, (record, texts) in enumerate(zip(records, asked, strict=True)):
        present = dict(zip(batch.modalities, batch.present[row].tolist(), strict=True))
        ground = _ground(record, segmenter, present, read[row], notes[row], how.spacing) if texts else None
        places = [place for place, (of, _) in enumerate(told) if of == row]
        if not places:
            yield [_nothing(record, text, ground) for text in texts]
            continue
        with asking(network):
            drawn = draw_phrases(network, seen, words, places, place_of[row], schema)
        yield [
            _mask(record, told[place][1], logits, presence, ground, reader, how.threshold)
            for place, logits, presence in zip(places, *drawn, strict=True)
        ]


def draw_phrases(
    network: Any, seen: Seen, words: Tokens, places: Sequence[int], row: int, schema: Schema
) -> tuple[np.ndarray, np.ndarray]:
    """The phrases at `places` of the words, about picture `row`: logits [m *size] on the grid of the schema,
    and presence [m], 0..1; slice by slice [m depth]."""
    size = schema.modalities[network.modalities[0]].size
    depth, grid = (size[0], size[1:]) if network.by_slice else (1, size)
    device = network.device
    which = torch.arange(row * depth, (row + 1) * depth, device=device).repeat(len(places))
    asked = torch.tensor(places, device=device).repeat_interleave(depth)
    step = max(1, min(MOST, PIXELS // prod(grid)))
    parts = [
        network.draw(seen, words[ask], of, grid)
        for ask, of in zip(asked.split(step), which.split(step), strict=True)
    ]
    logits = torch.cat([part.logits for part in parts]).float().cpu()
    presence = torch.cat([part.presence for part in parts]).float().sigmoid().cpu()
    if network.by_slice:
        presence = presence.reshape(len(places), depth)
    return logits.reshape(len(places), *size).numpy(), presence.numpy()


# ----------------------------------------------------------------------------------------------------- inputs


def as_record(source: Any, schema: Schema, more: Schema | None = None) -> tuple[Record, bool]:
    """A Record, a table row as a dict, or a picture (path, bytes, array, PIL image) -> Record, and whether it
    came as a picture. more: what else is read of a row. Raises ValueError for anything else."""
    from PIL.Image import Image as Picture

    if isinstance(source, Record):
        return source, False
    stored = isinstance(source, Mapping) and {"bytes", "path"} >= set(source) and not is_missing(source)
    if isinstance(source, Mapping) and not (stored and not set(source) & set(schema.columns)):
        return Record.from_row(source, joined(schema, more)), False
    known = (str, os.PathLike, bytes, Mapping, Picture)
    if not (isinstance(source, known) or hasattr(source, "__array__")):
        raise ValueError(
            "A record should be a Record, a table row as a dict, or a picture (path, array, PIL image), got "
            f"{plain(type(source).__name__)}. Ask about several by iterate(records, phrases)."
        )
    if len(schema.modalities) > 1:
        raise ValueError(
            f"This segmenter draws on {listing(schema.modalities)}: say which one it is, "
            f"Record('id', {{{next(iter(schema.modalities))!r}: picture}})."
        )
    (name,) = schema.modalities
    if isinstance(source, (str, os.PathLike)):
        place = os.path.realpath(source)
        folder, file = os.path.split(place)
        return Record(os.path.basename(source).split(".")[0] or "picture", {name: file}, folder=folder), True
    return Record("picture", {name: source}), True


def joined(schema: Schema, more: Schema | None) -> Schema:
    """A schema, and what else another one reads of a row."""
    rest = {} if more is None else more.modalities
    return Schema({**schema.modalities, **rest, **schema.modalities}, group=schema.group, id=schema.id)


def _read(
    records: Sequence[Record], schema: Schema, strict: bool
) -> tuple[Batch, list[tuple[str, ...]], list[list[str]]]:
    """The pictures of some records, without what is blank or a copy of another; notes on each record, and the
    names of all that could be read."""
    own = [record.only(*schema.modalities) for record in records]
    policy = "error" if strict else "absent"
    batch = Collator(schema, missing_files=policy, unreadable=policy)(own)
    notes, stays, read = [list(lines) for lines in batch.notes], batch.present.clone(), []
    for row, record in enumerate(own):
        here = [name for name, there in zip(batch.modalities, stays[row].tolist(), strict=True) if there]
        for name in here:
            views = record.inputs[name]
            if isinstance(views, list) and len(views) > 1:
                notes[row].append(f"{name}: the first of {len(views)} views is drawn on")
        read.append(here)
        if here:
            left, found = without_hidden_copies(record.only(*here), schema)
            notes[row] += found
            stays[row] = torch.tensor([name in left.inputs for name in batch.modalities])
    return batch.keep(stays), [tuple(lines) for lines in notes], read


def _ground(
    record: Record,
    segmenter: ReferringSegmenter,
    present: Mapping[str, bool],
    read: Sequence[str],
    notes: Sequence[str],
    spacing: tuple[float, ...] | None,
) -> _Ground:
    """The grid of the first sequence that is there, its picture and its spacing; of the first that could be
    read, where there is nothing to be seen in any."""
    schema, notes = segmenter.schema, list(notes)
    used = [name for name in segmenter.network.modalities if present[name]]
    missing = [name for name in segmenter.network.modalities if not present[name]]
    if segmenter.reader.schema is not None:
        others = [name for name in segmenter.reader.schema.modalities if name not in present]
        used += [name for name in others if name in record.inputs]
        missing += [name for name in others if name not in record.inputs]
    if not any(present.values()):
        size = schema.modalities[segmenter.network.modalities[0]].size
        notes.append(f"no {' and no '.join(segmenter.network.modalities)}: nothing to segment")
        if not read:
            return _Ground(size, None, spacing, tuple(notes), tuple(used), tuple(missing))
    shown = [name for name in segmenter.network.modalities if present[name]]
    name, *others = shown or [name for name in segmenter.network.modalities if name in read][:1]
    source, told = _source(record, schema, name)
    shape = tuple(own_shape(source, schema.modalities[name], **told))
    for other in others:
        its, where = _source(record, schema, other)
        if tuple(own_shape(its, schema.modalities[other], **where)) != shape:
            notes.append(f"{other} has another grid; the mask is on that of {name}")
    if spacing is None:
        spacing, remark = spacing_of(source, schema.modalities[name], **told)
        notes += [remark] if remark else []
    picture = _picture(source, schema.modalities[name], told)
    if shown and picture.min() == picture.max():  # the first of several views
        notes.append(f"{name} has one value everywhere: there is nothing to be seen in it")
    return _Ground(shape, picture, spacing, tuple(notes), tuple(used), tuple(missing))


def _source(record: Record, schema: Schema, name: str) -> tuple[Any, dict[str, Any]]:
    """The first view of a modality, and what the readers must be told."""
    source = record.inputs[name]
    source = source[0] if isinstance(source, (list, tuple)) else source
    return source, {
        "folder": record.folder,
        "where": f'record "{record.id}", column "{schema.modalities[name].column}"',
    }


def _picture(source: Any, modality: Any, told: Mapping[str, Any]) -> np.ndarray:
    """uint8 [height width], [height width 3] or [depth height width], on its own grid."""
    if isinstance(modality, Image):
        values = read_image(source, channels=modality.channels, **told)
        values = values[0] if len(values) == 1 else values.transpose(1, 2, 0)
    else:
        values = read_volume(source, channels=modality.channels, key=modality.key, **told)[0]
    return np.rint(values * 255).astype(np.uint8)


# ------------------------------------------------------------------------------------------------------ masks


def _nothing(record: Record, text: str, ground: _Ground) -> Mask:
    """The answer where there is no picture, or nothing to be seen in it."""
    facts = {"notes": ground.notes, "used": ground.used, "missing": ground.missing}
    empty = np.zeros(ground.shape, dtype=bool)
    return Mask(record.id, text, empty, 0.0, False, None, ground.picture, ground.spacing, **facts)


def _mask(
    record: Record,
    phrase: Phrase,
    logits: np.ndarray,
    presence: np.ndarray,
    ground: _Ground,
    reader: Any,
    threshold: float,
) -> Mask:
    """Logits on the model's grid -> the answer on the picture's own: inside is what is likelier than not.

    presence: one number, or one for each slice; slices below the threshold are emptied.
    """
    probability = 1 / (1 + np.exp(-np.clip(logits, -80, 80, dtype=np.float32)))
    inside = own = np.clip(unfit(probability, ground.shape), 0, 1)
    slices = presence >= threshold
    if presence.ndim and not slices.all():
        inside = unfit(probability * slices[:, None, None], ground.shape)
    there = bool(slices.any())
    pixels = (inside > 0.5) & there
    notes = [*ground.notes, *reader.notes(phrase)]
    if there and not pixels.any():
        notes.append("something is found, but no pixel of it is likelier than not: nothing is drawn")
    return Mask(
        record.id,
        phrase.text,
        pixels,
        float(presence.max()),
        bool(pixels.any()),
        probability=own,
        picture=ground.picture,
        spacing=ground.spacing,
        notes=tuple(notes),
        used=ground.used,
        missing=ground.missing,
    )


def checked_spacing(spacing: Any, schema: Schema, modality: str) -> tuple[float, ...] | None:
    """mm per pixel, one for each axis of the picture. Raises ValueError otherwise."""
    if spacing is None:
        return None
    lengths, axes = check_spacing(spacing), len(schema.modalities[modality].size)
    if len(lengths) != axes:
        raise ValueError(f"spacing should have {axes} lengths, one per axis, got {plain(spacing)}.")
    return lengths
