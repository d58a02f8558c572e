"""The grid of a picture or volume as it came: how many pixels, and how many mm each, read from headers.

An answer of a segmenter goes back to this grid (`mmmed.data.masks.unfit`), and a size in mm is said only
where the file itself says its spacing.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image as Picture

from mmmed.checks import needs, plain
from mmmed.data import dicom, readers, volumes
from mmmed.data.dicom import is_dicom
from mmmed.data.paths import place, reading, resolve
from mmmed.types.modalities import Image, Volume
from mmmed.types.phrase import check_spacing

_AT_DETECTOR = (
    "Sizes are measured at the detector, where a projection is larger than the body: upper limits at best."
)
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "PixelSpacingCalibrationType")


def own_shape(
    source: Any, modality: Image | Volume, *, folder: str | os.PathLike[str] | None = None, where: str = ""
) -> tuple[int, ...]:
    """(height, width) or (depth, height, width) that `read_image` or `read_volume` give without a size.

    source: one view, as they take it. Pixels are decoded only where no header tells (.npz, some PNG). Raises
    what they raise.
    """
    if isinstance(modality, Volume):
        return _volume_shape(source, modality, folder, where)
    shape = _header_shape(source, folder, where)
    # An array, or a file that cannot be read: `read_image` says what is wrong with it.
    return shape or readers.read_image(source, folder=folder, where=where).shape[1:]


def spacing_of(
    source: Any, modality: Image | Volume, *, folder: str | os.PathLike[str] | None = None, where: str = ""
) -> tuple[tuple[float, ...] | None, str]:
    """mm per pixel, (row, column) or (depth, row, column), as the file says, and what to know about it.

    Told by NIfTI and DICOM (PixelSpacing, or ImagerPixelSpacing, which is at the detector). None for all
    else: the dots per inch of a PNG or JPEG are about paper. The remark is "" where there is none.
    """
    if isinstance(modality, Volume):
        path = isinstance(source, (str, os.PathLike))
        return (volumes.read_spacing(source, folder=folder, where=where) if path else None), ""
    source, name = readers._unwrap(source, where)
    stream, head = _opened(source, folder, where)
    if stream is None:
        return None, ""
    with stream:
        tags = _tags(stream, head, _SPACINGS, place(where, name)) if is_dicom(head, name) else {}
    detector, spacing = tags.get("ImagerPixelSpacing"), tags.get("PixelSpacing")
    if not (detector or spacing):
        return None, ""
    try:
        lengths = check_spacing(spacing or detector)
    except ValueError:
        return (
            None,
            f"The file's pixel spacing {plain(spacing or detector)} is no length; sizes are not known.",
        )
    # Both alike and no word of a calibration: nothing was corrected for magnification (PS3.3 10.7.1.3).
    uncorrected = list(detector or ()) == list(spacing or ()) and "PixelSpacingCalibrationType" not in tags
    return lengths, _AT_DETECTOR if uncorrected or not spacing else ""


# --------------------------------------------------------------------------------------------------- pictures


def _opened(source: Any, folder: str | os.PathLike[str] | None, where: str) -> tuple[IO[bytes] | None, bytes]:
    """A file at its start, and its first bytes; None for what is no file."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        stream: IO[bytes] = io.BytesIO(source)
    elif isinstance(source, (str, os.PathLike)):
        path = resolve(source, folder, where)
        with reading(place(where, source), "Check who may read the file."):
            stream = open(path, "rb")  # noqa: SIM115 (closed by the caller)
    else:
        return None, b""
    head = stream.read(1024)
    stream.seek(0)
    return stream, head


def _header_shape(source: Any, folder: str | os.PathLike[str] | None, where: str) -> tuple[int, int] | None:
    """(height, width) of a picture, upright; None if no header tells."""
    source, name = readers._unwrap(source, where)
    subject = place(where, name)
    if isinstance(source, Picture.Image):
        return _upright(source, subject)
    stream, head = _opened(source, folder, where)
    if stream is None or not head:
        return None
    with stream:
        if is_dicom(head, name):
            tags = _tags(stream, head, ("Rows", "Columns", "NumberOfFrames"), subject)
            rows, columns, frames = (tags.get(name) for name in ("Rows", "Columns", "NumberOfFrames"))
            return (int(rows), int(columns)) if rows and columns and (frames or 1) == 1 else None
        with reading(subject):
            picture = readers._open(stream, head, subject)
        with picture:
            return _upright(picture, subject)


def _upright(picture: Picture.Image, subject: str) -> tuple[int, int]:
    readers._check_pixels(picture, subject)
    with reading(subject):
        if picture.format == "TIFF":  # Pillow turns these itself, but no sooner than it decodes them
            picture.load()
        turned = picture.getexif().get(readers._ORIENTATION, 1) in (5, 6, 7, 8)
    return (picture.width, picture.height) if turned else (picture.height, picture.width)


def _tags(stream: IO[bytes], head: bytes, names: tuple[str, ...], subject: str) -> dict[str, Any]:
    """Some tags of a DICOM file, without its pixels; none if `read_image` would not take it."""
    try:
        from pydicom import dcmread
    except ImportError as error:
        raise needs("pydicom", "imaging") from error
    if head[128:132] != b"DICM" or dicom._DEFLATED in head:
        return {}
    with reading(subject):
        dataset = dcmread(stream, stop_before_pixels=True, specific_tags=list(names))
        return {name: dataset[name].value for name in names if name in dataset}


# ---------------------------------------------------------------------------------------------------- volumes


def _volume_shape(
    source: Any, modality: Volume, folder: str | os.PathLike[str] | None, where: str
) -> tuple[int, ...]:
    nifti = False
    if isinstance(source, (str, os.PathLike)):
        path, subject = resolve(source, folder, where), place(where, source)
        suffix = volumes._suffix(path, subject)
        nifti = suffix.startswith(".nii")
        read = {".npz": _npz_shape, ".npy": _npy_shape}.get(suffix, _nifti_shape)
        shape = read(path, modality.key, subject)
    else:
        shape, subject = np.shape(source), place(where, "the array")
    values = np.broadcast_to(np.float32(0), shape)  # as large as the volume, but without its memory
    return volumes._axes(values, modality.channels, subject, last_only=nifti).shape[1:]


def _npz_shape(path: Path, key: str | None, subject: str) -> tuple[int, ...]:
    return volumes._from_file(path, key, subject).shape


def _npy_shape(path: Path, key: str | None, subject: str) -> tuple[int, ...]:
    with reading(subject), open(path, "rb") as stream:
        volumes._check_header(stream, subject)
        stream.seek(0)
        version = np.lib.format.read_magic(stream)
        v1 = version == (1, 0)
        read = np.lib.format.read_array_header_1_0 if v1 else np.lib.format.read_array_header_2_0
        return read(stream)[0]


def _nifti_shape(path: Path, key: str | None, subject: str) -> tuple[int, ...]:
    """[depth height width] or [depth height width c] that `read_volume` will find, voxels left on disk."""
    image = volumes._open_nifti(path, subject)
    if len(image.shape) < 3:
        return image.shape
    with reading(subject):
        import nibabel

        # Which of the patient's axes (right, anterior, superior) each stored axis is.
        order = [int(axis) for axis in nibabel.io_orientation(image.affine)[:, 0]]
    right, anterior, superior = (image.shape[order.index(axis)] for axis in range(3))
    return (superior, anterior, right, *image.shape[3:])
