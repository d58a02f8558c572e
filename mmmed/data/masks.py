"""Masks of one thing in a picture or volume: read as they were drawn, brought to a model's grid and back.

A mask goes through the same place as its picture: `fit_mask` keeps proportions and centres on black as
`mmmed.data.readers.read_image` does, or resamples each axis as `mmmed.data.volumes.read_volume` does;
`unfit` undoes it. A mask must be binary, because what a grey ramp (a JPEG) or a map of several structures
means cannot be guessed.
"""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
from PIL import Image

from mmmed.checks import UnreadableFile, listing, plain
from mmmed.data import readers, volumes
from mmmed.data.dicom import is_dicom
from mmmed.data.grids import own_shape, spacing_of
from mmmed.data.paths import place, reading, resolve

_VOLUMES = (".nii", ".nii.gz", ".npz", ".npy")

__all__ = ["fit_mask", "own_shape", "read_mask", "spacing_of", "unfit"]


def read_mask(
    source: Any,
    *,
    key: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    where: str = "",
    shape: tuple[int, ...] | None = None,
) -> np.ndarray:
    """One mask as bool [height width] or [depth height width], on its own grid.

    source: a path inside `folder` to a picture (lossless), .npz, .npy or NIfTI, the bytes of a picture, a PIL
    image, or an array. Outside is 0 or black, inside one other value or colour. key: the array inside an
    .npz. shape: the grid of the picture it belongs to, (height, width) or (depth, height, width), turned as
    its EXIF says. where: 'record "a1", column "mask"', for messages. A mask without any pixel is all False.

    Raises ValueError for more than one value besides 0, for a mask that covers every pixel, and for another
    grid than `shape`; UnreadableFile, MissingFile and UnsafePath for the file.
    """
    source, name = readers._unwrap(source, where)
    subject = place(where, name)
    values, drawn = _values(source, key, folder, where, subject)
    flat = shape is not None and len(shape) == 2
    if values.ndim == 4 and values.shape[3] == 1:  # NIfTI with one channel
        values = values[..., 0]
    if flat and values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values[0] if values.shape[0] == 1 else values[:, :, 0]
    # Arrays and volume files have slices there, unless the picture they belong to is flat.
    coloured = values.ndim == 3 and values.shape[2] in (3, 4) and (flat or drawn)
    mask = _by_colour(values, subject) if coloured else _binary(values, subject)
    _check_grid(mask, shape, subject)
    if mask.all():
        raise ValueError(
            f"{subject} covers every pixel, so that nothing is outside. Check that it is no picture and not "
            "inverted; if the whole picture is meant, no phrase is needed."
        )
    return mask


def fit_mask(mask: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """bool [height width] or [depth height width] -> float32 [*size] in 0..1, where its picture is put.

    Antialiased: a value says how much of the pixel lies inside.
    """
    values = np.asarray(mask, dtype=np.float32)
    _check_size(values, size)
    if values.ndim == 2:
        values = np.asarray(readers._fit(Image.fromarray(values), tuple(size)))
    else:
        values = volumes.resample(values[None], tuple(size))[0]
    return np.clip(values, 0, 1)


def unfit(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """What `fit_mask` did, undone: float [*size] on a model's grid -> float32 [*shape] on the picture's own.

    The padding is cut away and the rest resized by (bi- or tri-)linear interpolation.
    """
    values = np.asarray(values, dtype=np.float32)
    _check_size(values, shape)
    if values.ndim == 3:
        return volumes.resample(values[None], tuple(shape))[0]
    (height, width), own = values.shape, (shape[1], shape[0])
    inner = readers._inside(own, (height, width))
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    inside = Image.fromarray(values[top : top + inner[1], left : left + inner[0]])
    return np.array(inside if inner == own else inside.resize(own, Image.Resampling.BILINEAR))


# ---------------------------------------------------------------------------------------------------- reading


def _values(
    source: Any, key: str | None, folder: str | os.PathLike[str] | None, where: str, subject: str
) -> tuple[np.ndarray, bool]:
    """Numbers as they are stored: [height width], [height width colours] or [depth height width]; and whether
    they come from a picture."""
    if isinstance(source, Image.Image):
        readers._check_pixels(source, subject)
        return _pixels(source, subject), True
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _from_bytes(bytes(source), subject), True
    if isinstance(source, (str, os.PathLike)):
        path = resolve(source, folder, where)
        if path.name.lower().endswith(_VOLUMES):
            return volumes._from_file(path, key, subject), False
        with reading(subject, "Check who may read the file."):
            content = path.read_bytes()
        return _from_bytes(content, subject), True
    if hasattr(source, "__array__"):
        return np.asarray(source), False
    raise UnreadableFile(f"{subject} should be a path, a PIL image or an array, got {type(source).__name__}.")


def _from_bytes(content: bytes, subject: str) -> np.ndarray:
    head = content[:1024]
    if is_dicom(head, subject):  # its window, not the file, would decide what is 0
        raise UnreadableFile(f"{subject} is a DICOM file. Export the mask as .png or .nii.gz.")
    with reading(subject):
        picture = readers._open(io.BytesIO(content), head, subject)
    with picture:
        readers._check_pixels(picture, subject)
        return _pixels(picture, subject)


def _pixels(picture: Image.Image, subject: str) -> np.ndarray:
    """Stored values, upright; a palette as its colours, since its indices mean nothing."""
    with reading(subject):
        picture.load()
        turn = readers._TURNS.get(picture.getexif().get(readers._ORIENTATION, 1))
        deep = picture.mode[0] in "IF"
        if deep and getattr(picture, "tag_v2", {}).get(262) == 0:
            raise UnreadableFile(f'{subject} is a deep TIFF where "white is zero". Save the mask as .png.')
        upright = picture if turn is None else picture.transpose(turn)
        if picture.has_transparency_data:
            upright = upright.convert("RGBA")
        elif not deep and picture.mode not in ("1", "L"):
            upright = upright.convert("RGB")
        return np.array(upright)


def _by_colour(values: np.ndarray, subject: str) -> np.ndarray:
    """[height width 3 or 4] where black is outside and one colour is inside."""
    _check_numbers(values, subject)
    colours = values[:, :, :3]
    inside = colours.any(axis=2)
    if values.shape[2] == 4:
        opaque = values[:, :, 3] > 0
        # White on transparent white, or black on nothing: colour and transparency tell different masks.
        if not opaque.all() and (not inside.any() or (inside & ~opaque).any()):
            raise ValueError(
                f"{subject} has transparent pixels, and its colours alone do not tell inside from outside. "
                "Save it without transparency: black outside, white inside."
            )
    found = colours[inside]
    if len(found) and (found != found[0]).any():
        seen = np.unique(found, axis=0)
        raise ValueError(
            f"{subject} should be black outside and one colour inside, got {len(seen)} colours besides "
            f"black: {listing((tuple(colour.tolist()) for colour in seen), 4)}. {_advice(seen)}"
        )
    return inside


def _binary(values: np.ndarray, subject: str) -> np.ndarray:
    """Numbers where 0 is outside and one positive value is inside, as bool."""
    _check_numbers(values, subject)
    if values.ndim not in (2, 3) or not values.size:
        raise ValueError(
            f"{subject} should have shape [height width] or [depth height width], got {list(values.shape)}. "
            "Pass one structure of one picture."
        )
    inside = values != 0
    found = values[inside]
    if found.size and (found.min() != found.max() or found.min() < 0):
        seen = np.unique(values)
        raise ValueError(
            f"{subject} should be a mask of two values, 0 outside and one other inside, got "
            f"{listing((f'{value:g}' for value in seen), 8)}. {_advice(seen)}"
        )
    return inside


def _advice(seen: np.ndarray) -> str:
    if len(seen) > 32:
        return (
            "So many values are a picture, or a mask that was saved as JPEG or resized: save it as .png "
            "without smoothing, or pass array > threshold."
        )
    return "Choose one structure: pass array == value."


def _check_numbers(values: np.ndarray, subject: str) -> None:
    if values.dtype.kind not in "buif":
        raise UnreadableFile(
            f"{subject} holds values of type {values.dtype}, not numbers. Pass a numeric array."
        )
    volumes._check_finite(values, subject)


def _check_grid(mask: np.ndarray, shape: tuple[int, ...] | None, subject: str) -> None:
    if shape is None or mask.shape == tuple(shape):
        return
    turned = mask.ndim == 2 and mask.shape[::-1] == tuple(shape)
    raise ValueError(
        f"{subject} is {_spell(mask.shape)}, but its picture is {_spell(shape)}"
        f"{': height and width are exchanged' if turned else ''}. "
        "Draw the mask on that picture, upright as it is shown, or resize it without smoothing."
    )


def _check_size(values: np.ndarray, size: tuple[int, ...]) -> None:
    if values.ndim not in (2, 3) or len(size) != values.ndim or min(*size, *values.shape) < 1:
        raise ValueError(
            "A mask and its new size should both be [height width] or both [depth height width], got "
            f"{list(values.shape)} and {plain(size)}."
        )


def _spell(shape: tuple[int, ...]) -> str:
    axes = ("height", "width") if len(shape) == 2 else ("depth", "height", "width")
    if len(shape) != len(axes):
        return str(list(shape))
    return " ".join(f"{axis} {length}" for axis, length in zip(axes, shape, strict=True))
