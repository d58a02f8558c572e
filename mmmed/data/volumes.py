"""Volumes: NIfTI, .npz, .npy or an array to [channels depth height width] in 0..1.

Axes of a NIfTI file: depth runs from inferior to superior, height from anterior to posterior, width from the
patient's right to the left, which is how a radiologist looks at an axial slice (the patient's left is on the
picture's right). Arrays come as [depth height width] and are taken as they are.

Intensity: uint8 arrays are taken as prepared and divided by 255, bool becomes 0 and 1. All else has no fixed
unit (MR) or a long tail (metal in CT), so the 0.5 to 99.5 percentile of each channel becomes 0..1; where both
percentiles are the same value (a small lesion mask), the full range does; a constant channel becomes 0.

Resizing is trilinear and antialiased, and each axis is brought to its length on its own: voxels are
anisotropic to begin with. Resample before, where spacing has to be equal between patients.
"""

from __future__ import annotations

import gzip
import math
import os
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from mmmed.checks import UnreadableFile, check_count, listing, needs, plain, suggestion
from mmmed.data.paths import place, reading, resolve

VOXEL_LIMIT = 300_000_000  # 1.2 GB as float32: a whole-body CT at 512 x 512 x 1100
_OFFSET_LIMIT = 100_000_000  # bytes before the first voxel; a gzip file could make the reader skip for hours
_SAMPLE = 1_000_000  # voxels that are enough for two percentiles
_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}


def read_volume(
    source: Any,
    *,
    channels: int = 1,
    size: tuple[int, int, int] | None = None,
    key: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    where: str = "",
) -> np.ndarray:
    """One volume as float32 [channels depth height width] in 0..1.

    source: a path inside `folder` to .nii, .nii.gz, .npz or .npy, or an array [depth height width]; with
    several channels [depth height width channels] or [channels depth height width]. size: (depth, height,
    width), None = own. key: the array inside an .npz; not needed if there is only one. where: 'record "a1",
    column "ct"', for messages.

    Raises UnreadableFile for whatever is wrong with the source, MissingFile and UnsafePath for its path,
    ValueError for the other arguments, ImportError if a NIfTI file comes and nibabel is not installed.
    Nothing is ever unpickled.
    """
    check_count(channels, name="channels")
    if size is not None and (len(size) != 3 or not all(isinstance(n, int) and n > 0 for n in size)):
        raise ValueError(f"size should be (depth, height, width) in voxels, or None, got {plain(size)}.")
    nifti = False
    if isinstance(source, (str, os.PathLike)):
        subject, path = place(where, source), resolve(source, folder, where)
        nifti = _suffix(path, subject).startswith(".nii")
        values = _from_file(path, key, subject)
    elif hasattr(source, "__array__"):
        subject = place(where, "the array")
        values = np.asarray(source)
    else:
        raise UnreadableFile(
            f"{place(where, plain(source))} should be a path or an array, got {type(source).__name__}."
        )
    values = _axes(values, channels, subject, last_only=nifti)
    _check_finite(values, subject)
    values = np.stack([_to_unit(channel) for channel in values])
    return values if size is None else np.clip(resample(values, size), 0, 1)


def read_spacing(
    source: str | os.PathLike[str], *, folder: str | os.PathLike[str] | None = None, where: str = ""
) -> tuple[float, float, float] | None:
    """Voxel size (depth, height, width) in mm of a NIfTI file; None for .npz and .npy, which do not say."""
    path = resolve(source, folder, where)
    subject = place(where, source)
    if _suffix(path, subject) not in (".nii", ".nii.gz"):
        return None
    image = _open_nifti(path, subject)
    with reading(subject):
        import nibabel

        scale = _MILLIMETRES[image.header.get_xyzt_units()[0]]
        sizes = nibabel.affines.voxel_sizes(nibabel.as_closest_canonical(image).affine)[::-1]
    return tuple(float(size) * scale for size in sizes)  # type: ignore[return-value]


# ------------------------------------------------------------------------------------------------------ files


def _suffix(path: Path, subject: str) -> str:
    for suffix in (".nii.gz", ".nii", ".npz", ".npy"):
        if path.name.lower().endswith(suffix):
            return suffix
    raise UnreadableFile(
        f"{subject}: a volume should be .nii, .nii.gz, .npz or .npy, got {plain(path.suffix)}. "
        "Convert a DICOM series to .nii.gz first; declare a single picture as an Image."
    )


def _from_file(path: Path, key: str | None, subject: str) -> np.ndarray:
    suffix = _suffix(path, subject)
    with reading(subject, "Check who may read the file."):
        empty = path.stat().st_size == 0
    if empty:
        raise UnreadableFile(
            f"{subject} is empty (0 bytes). Copy it again from its source, or leave the cell empty."
        )
    if suffix in (".nii", ".nii.gz"):
        return _nifti(path, subject)
    with reading(subject), open(path, "rb") as stream:
        if suffix == ".npz":
            return _npz(stream, key, subject)
        _check_header(stream, subject)
        stream.seek(0)
        return np.lib.format.read_array(stream, allow_pickle=False)


def _npz(stream: IO[bytes], key: str | None, subject: str) -> np.ndarray:
    with zipfile.ZipFile(stream) as archive:
        keys = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        if key is None and len(keys) == 1:
            key = keys[0]
        if key is None or key not in keys:
            hint = "Name one of them as key=." if key is None else suggestion(key, keys).strip()
            asked = "holds several arrays" if key is None else f"has no array {plain(key)}"
            asked = asked if keys else "holds no arrays"
            raise UnreadableFile(f"{subject} {asked}; its keys: {listing(keys)}. {hint}".rstrip())
        with archive.open(f"{key}.npy") as member:
            _check_header(member, f"{subject}, key {plain(key)}")
        with archive.open(f"{key}.npy") as member:
            return np.lib.format.read_array(member, allow_pickle=False)


def _check_header(stream: IO[bytes], subject: str) -> None:
    """Shape and type of a .npy stream, before any of its numbers is decoded."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.kind not in "buif":
        raise UnreadableFile(
            f"{subject} holds {'Python objects' if dtype.hasobject else f'values of type {dtype}'}, not "
            "numbers. Objects are never unpickled: save the volume as a plain numeric array."
        )
    _check_voxels(shape, subject)


def _check_voxels(shape: tuple[int, ...], subject: str) -> None:
    if math.prod(shape) > VOXEL_LIMIT:
        raise UnreadableFile(
            f"{subject} has {' x '.join(map(str, shape))} voxels, more than the limit of {VOXEL_LIMIT:,}. "
            "Crop or shrink it first."
        )


def _open_nifti(path: Path, subject: str) -> Any:
    """The image with its voxels still on disk; size and offset checked."""
    try:
        import nibabel
    except ImportError as error:
        raise needs("nibabel", "imaging") from error
    with reading(subject):
        with (gzip.open if path.name.lower().endswith(".gz") else open)(path, "rb") as stream:
            block = stream.read(540)
        second = 540 in (int.from_bytes(block[:4], order) for order in ("little", "big"))
        kind, length = (nibabel.Nifti2Header, 540) if second else (nibabel.Nifti1Header, 348)
        # The constructor reads these bytes alone; nibabel.load would go on to extensions of any length.
        header = kind(block[:length], check=False)
        shape, offset = header.get_data_shape(), float(header["vox_offset"])
    _check_voxels(shape, subject)
    if not 0 <= offset <= _OFFSET_LIMIT:
        raise UnreadableFile(
            f"{subject} is damaged: its voxels should begin at byte {offset:g}. Copy it again."
        )
    with reading(subject):
        return nibabel.load(path, mmap=False)


def _nifti(path: Path, subject: str) -> np.ndarray:
    """[depth height width] or [depth height width c], in the orientation of the module's docstring."""
    image = _open_nifti(path, subject)
    shape = image.shape
    if len(shape) < 3:
        raise UnreadableFile(
            f"{subject} has shape {list(shape)}; a volume has three axes. Save a picture as PNG."
        )
    if image.get_data_dtype().kind not in "buif":
        raise UnreadableFile(
            f"{subject} holds values of type {image.get_data_dtype()}, not plain numbers. Save each channel "
            "as numbers."
        )
    with reading(subject):
        import nibabel

        canonical = nibabel.as_closest_canonical(image)
        values = np.asarray(canonical.dataobj, dtype=np.float32)  # right, anterior, superior
    return np.swapaxes(values[::-1, ::-1], 0, 2)


# -------------------------------------------------------------------------------------------- axes and values


def _axes(values: np.ndarray, channels: int, subject: str, last_only: bool) -> np.ndarray:
    """[channels depth height width]; channels may have come last or (unless `last_only`) first."""
    if values.dtype.kind not in "buif":
        raise UnreadableFile(
            f"{subject} holds values of type {values.dtype}, not numbers. Pass a numeric array."
        )
    shape = values.shape
    if values.ndim == 3 and channels == 1:
        values = values[None]
    elif values.ndim == 4 and shape[3] == channels:
        values = np.moveaxis(values, 3, 0)
    elif last_only or values.ndim != 4 or shape[0] != channels:
        wanted = "[depth height width]" if channels == 1 else f"[depth height width {channels}]"
        raise UnreadableFile(
            f"{subject} should have shape {wanted}, got {list(shape)}. If the fourth axis is time or "
            "sequence, choose one and save it, or set channels to its length."
        )
    if 0 in shape:
        raise UnreadableFile(f"{subject} has no voxels: shape {list(shape)}. Leave it out.")
    return values


def _check_finite(values: np.ndarray, subject: str) -> None:
    if values.dtype.kind != "f":
        return
    broken = int(values.size - np.isfinite(values).sum())
    if broken:
        raise UnreadableFile(
            f"{subject} has {broken} of {values.size} voxels that are NaN or infinite. "
            "Replace them (by 0 if they are background) and save it again."
        )


def _to_unit(values: np.ndarray) -> np.ndarray:
    """One channel [depth height width] as float32 in 0..1."""
    if values.dtype == np.uint8:
        return values.astype(np.float32) / np.float32(255)
    if values.dtype == np.bool_:
        return values.astype(np.float32)
    sample = values.reshape(-1)[:: max(1, values.size // _SAMPLE)]
    low, high = np.percentile(sample.astype(np.float64), (0.5, 99.5))
    if low == high:
        low, high = float(values.min()), float(values.max())
    if low == high:
        return np.zeros(values.shape, dtype=np.float32)
    unit = np.empty(values.shape, dtype=np.float32)
    for slice_, out in zip(values, unit, strict=True):  # slice by slice: float64 of a whole CT is 2 GB
        # Halved, since the difference of two large floats may be infinite.
        out[:] = np.clip((slice_.astype(np.float64) / 2 - low / 2) / (high / 2 - low / 2), 0, 1)
    return unit


def resample(values: np.ndarray, size: tuple[int, int, int]) -> np.ndarray:
    """Trilinear, antialiased: float [channels depth height width] -> float32 [channels *size].

    Separable: along each axis a triangle as wide as one new voxel (one old voxel when enlarging) is laid over
    the old ones. Same numbers as Pillow's BILINEAR and torch's interpolate(antialias=True) in two dimensions.
    """
    for axis, length in enumerate(size, start=1):
        if values.shape[axis] != length:
            weights = _triangles(values.shape[axis], length)
            values = np.moveaxis(np.tensordot(weights, values, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(values, dtype=np.float32)


def _triangles(old: int, new: int) -> np.ndarray:
    """Weights [new old] of the old voxels in each new one; rows add up to 1."""
    scale = old / new
    centres = (np.arange(new) + 0.5) * scale
    distance = np.abs(np.arange(old) + 0.5 - centres[:, None]) / max(scale, 1.0)
    weights = np.clip(1 - distance, 0, None)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
