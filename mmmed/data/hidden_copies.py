"""Hidden copies: a sequence that is another one of the same patient under a second name.

Whoever prepares a data set often fills the gap of a missing sequence with a copy of one that is there (as the
source of lgg-mri does with FLAIR). Read as it stands, the sequence counts as recorded, and a study of missing
modalities measures nothing. A copy is equal up to a linear scale: contrast and brightness may differ, and so
may the rounding to eight bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmmed.checks import check_share, plain
from mmmed.data.readers import read_image
from mmmed.data.volumes import read_volume
from mmmed.types import Image, Record, Schema, Volume

LOOK = 4096  # voxels of the first, cheap look
SLACK = 0.02  # by how much the correlation of the first look may fall short


def hidden_copies(volumes: Mapping[str, Any], *, least: float = 0.999) -> dict[str, str]:
    """The volumes (or pictures) that are copies of another, name -> name of the original.

    volumes: name -> array of any shape. least: correlation of the voxels, of either sign, from which on two
    count as one; outside of what both leave at their smallest value (the air around the head, which would
    make any two sequences alike). Of several copies the first by order is the original. A volume with one
    value everywhere is no copy (see `blank_volumes`), and different shapes are not compared.
    """
    check_share(least, name="least")
    arrays = {name: _numbers(name, values) for name, values in volumes.items()}
    blank, found = set(blank_volumes(arrays)), {}
    originals: list[str] = []
    for name, values in arrays.items():
        if name in blank:
            continue
        of = next((other for other in originals if _same(arrays[other], values, least)), None)
        if of is None:
            originals.append(name)
        else:
            found[name] = of
    return found


def blank_volumes(volumes: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of volumes that hold one value everywhere."""
    arrays = {name: _numbers(name, values) for name, values in volumes.items()}
    return tuple(name for name, values in arrays.items() if values.min() == values.max())


def without_hidden_copies(
    record: Record, schema: Schema, *, least: float = 0.999
) -> tuple[Record, tuple[str, ...]]:
    """A record without those pictures and volumes that are copies of another or blank, and what was taken.

    Volumes are compared with volumes and pictures with pictures, as they are stored, in the order of the
    schema; a modality with several views is left alone. Raises what the readers raise.
    """
    gone: list[str] = []
    notes: list[str] = []
    for kind in (Volume, Image):
        read = _read(record, schema, kind)
        copies = hidden_copies(read, least=least)
        notes += [f"{name} is a copy of {of}: it counts as not recorded" for name, of in copies.items()]
        blank = blank_volumes(read)
        notes += [f"{name} has one value everywhere: it counts as not recorded" for name in blank]
        gone += [*copies, *blank]
    return (record.without(*gone) if gone else record), tuple(notes)


def _read(record: Record, schema: Schema, kind: type) -> dict[str, np.ndarray]:
    """The recorded modalities of one kind, on their own grid."""
    found = {}
    for name, modality in schema.modalities.items():
        source = record.inputs.get(name)
        if isinstance(source, list):
            source = source[0] if len(source) == 1 else None
        if not isinstance(modality, kind) or source is None:
            continue
        where = f'record "{record.id}", column "{modality.column}"'
        options = {"channels": modality.channels, "folder": record.folder, "where": where}
        if kind is Volume:
            found[name] = read_volume(source, key=modality.key, **options)
        else:
            found[name] = read_image(source, **options)
    return found


def _numbers(name: str, values: Any) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype.kind not in "buif" or not values.size:
        raise ValueError(
            f"{name} should be an array of numbers, got {plain(values.dtype)} {list(values.shape)}."
        )
    return values


def _same(first: np.ndarray, second: np.ndarray, least: float) -> bool:
    """Whether two volumes correlate, first on some voxels, then on all."""
    if first.shape != second.shape:
        return False
    first, second = first.reshape(-1), second.reshape(-1)
    step = max(1, first.size // LOOK)
    if step > 1 and _correlation(first[::step], second[::step]) < least - SLACK:
        return False
    return _correlation(first, second) >= least


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Size of the correlation on the voxels that one of the two does not leave at its smallest value; 1 where
    there is nothing to tell them apart, 0 where one alone is constant."""
    inside = (first != first.min()) | (second != second.min())
    first, second = (part[inside].astype(np.float64) for part in (first, second))
    if not first.size:
        return 1.0
    first, second = first - first.mean(), second - second.mean()
    scale = np.sqrt((first**2).sum() * (second**2).sum())
    if scale == 0:
        return float(not first.any() and not second.any())
    return float(abs(first @ second) / scale)
