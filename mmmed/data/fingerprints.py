"""Find a patient under two ids by fingerprints of pictures, and copies put in for absent sequences.

Distances, measured on 201 chest radiographs (public COVID-19 image data collection): a copy at half size at
most 12 of 256, as JPEG of quality 30 at most 13, with gamma 1.3 at most 11; the closest pair of different
patients 27. A copy cropped by 2 % per edge is at 21 in the median, by 5 % at 48: cropped copies escape.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np

BITS = 256
DUPLICATE = 16  # up to here: the same picture
SUSPECT = 32  # from there up to here: to be looked at


def fingerprint(image: np.ndarray) -> np.ndarray:
    """Difference hash: [height width] or [1 height width] -> bool [256].

    The picture is shrunk to 17 x 16 by area average; each bit says whether the right neighbour is brighter.
    Give the picture in its own size: a black border put around it would be part of the hash.
    """
    image = np.asarray(image, dtype=np.float64)
    image = image[0] if image.ndim == 3 and image.shape[0] == 1 else image
    if image.ndim != 2 or not image.size or not np.isfinite(image).all():
        raise ValueError(
            f"image should be [height width] and finite, got shape {list(image.shape)}. Make it grey."
        )
    height, width = image.shape
    small = _area_weights(height, 16) @ image @ _area_weights(width, 17).T  # [16 17]
    # Equal neighbours stay equal although their averages differ in the last digit.
    return (np.diff(small, axis=1) > 1e-9 * max(1.0, float(np.abs(small).max()))).reshape(BITS)


def _area_weights(size: int, parts: int) -> np.ndarray:
    """Share of each of `size` pixels in each of `parts` equal parts: [parts size], rows add up to 1."""
    edges = np.linspace(0, size, parts + 1)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.clip(overlap, 0, None) * parts / size


def near_duplicates(
    fingerprints: np.ndarray, limit: int = SUSPECT, most: int = 100_000, block: int = 2048
) -> list[tuple[int, int, int]]:
    """Pairs (i, j, distance), i < j, at most `limit` bits apart, closest first.

    fingerprints [images 256] bool. The complement is tested too, so a picture and its negative are a pair:
    distance = min(bits that differ, bits that agree). Memory is bounded by `block` and `most`: beyond `most`
    pairs (the same picture thousands of times) the search ends with a warning.
    """
    bits = np.asarray(fingerprints)
    if bits.ndim != 2 or bits.shape[1] != BITS:
        raise ValueError(f"fingerprints should have shape [images {BITS}], got {list(bits.shape)}.")
    signs = bits.astype(np.float32) * 2 - 1
    pairs: list[tuple[int, int, int]] = []
    for start in range(0, len(signs), block):
        for other in range(start, len(signs), block):
            # agreeing minus differing bits, exact in float32
            balance = np.abs(signs[start : start + block] @ signs[other : other + block].T)
            # np.nonzero in two dimensions would take half as long as the product itself
            rows, columns = np.divmod(np.flatnonzero(balance >= BITS - 2 * limit), balance.shape[1])
            later = columns + other > rows + start
            rows, columns = rows[later][: most + 1], columns[later][: most + 1]
            distances = ((BITS - balance[rows, columns]) / 2).astype(int)
            found = zip((rows + start).tolist(), (columns + other).tolist(), distances.tolist(), strict=True)
            pairs.extend(found)
            if len(pairs) > most:
                warnings.warn(
                    f"More than {most:,} pairs of pictures look alike; the search ended there.", stacklevel=2
                )
                return sorted(pairs[:most], key=_closest_first)
    return sorted(pairs, key=_closest_first)


def _closest_first(pair: tuple[int, int, int]) -> tuple[int, int, int]:
    return pair[2], pair[0], pair[1]


def copies(volumes: Mapping[str, np.ndarray], threshold: float = 0.98) -> dict[str, str | None]:
    """Sequences of one patient that are no recordings: name -> what it copies, None = constant.

    Collections fill an absent sequence with a copy of another; such a sequence must count as absent. A copy
    has the same values in more than `threshold` of the foreground (above 10/255 of the original's range).
    Which of two equal sequences is the original cannot be seen: put the one that is always recorded first.
    """
    originals: dict[str, np.ndarray] = {}
    found: dict[str, str | None] = {}
    for name, values in volumes.items():
        values = np.asarray(values)
        if not values.size or (values == values.flat[0]).all():
            found[name] = None
            continue
        source = next((o for o, original in originals.items() if _same(original, values, threshold)), None)
        if source is None:
            originals[name] = values
        else:
            found[name] = source
    return found


def _same(original: np.ndarray, values: np.ndarray, threshold: float) -> bool:
    if original.shape != values.shape:
        return False
    low, high = float(original.min()), float(original.max())
    foreground = original > low + (high - low) * 10 / 255
    return float((original == values)[foreground].mean()) > threshold
