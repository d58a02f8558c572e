"""DICOM pictures: modality LUT -> VOI window -> MONOCHROME1 inversion, in this order, to 0..1.

The order is that of the grayscale pipeline, DICOM PS3.4 annex N.2; the two tables are applied by pydicom's
own functions. Needs the package pydicom (extra "imaging").
"""

from __future__ import annotations

from typing import IO, Any

import numpy as np

from mmmed.checks import UnreadableFile, needs
from mmmed.data.paths import reading

_DEFLATED = b"1.2.840.10008.1.2.1.99"


def is_dicom(head: bytes, name: str) -> bool:
    """By the mark after the preamble (PS3.10 section 7.1), or by the suffix of the name."""
    return head[128:132] == b"DICM" or name.lower().endswith((".dcm", ".dicom"))


def read_dicom(stream: IO[bytes], head: bytes, subject: str, limit: int) -> np.ndarray:
    """The one picture in a DICOM file as float32 [height width] or [height width 3] in 0..1.

    16 bits are kept. With a VOI table or window (the first, if there are several) 0..1 is its output range;
    without, the range of the pixels that are not padding, as viewers do. Padding becomes black. limit: pixels
    allowed.
    """
    try:
        from pydicom import dcmread
        from pydicom.pixels import pixel_array
    except ImportError as error:
        raise needs("pydicom", "imaging") from error
    if head[128:132] != b"DICM":
        raise UnreadableFile(
            f"{subject} is no DICOM file: the mark DICM at byte 128 is not there, it begins with "
            f"{head[:8]!r}. Give it the suffix of what it is, or export it again as DICOM part 10."
        )
    # The size of a deflated data set is unknown until all of it is in memory.
    if _DEFLATED in head:
        raise UnreadableFile(
            f"{subject} is a deflated DICOM file. Write it with another transfer syntax first."
        )
    with reading(subject):
        dataset = dcmread(stream)
        frames = int(dataset.get("NumberOfFrames") or 1)
        rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
        empty = not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"))
    if empty or rows < 1 or columns < 1:
        raise UnreadableFile(
            f"{subject} is a DICOM file without pixels: a report, a plan, or one that was cut off. "
            "Leave the cell empty, or copy the file again."
        )
    if frames > 1:
        raise UnreadableFile(
            f"{subject} has {frames} frames; an Image is one. Save it as .nii.gz or .npz and declare the "
            "column as a Volume, or name one frame as its own file."
        )
    if rows * columns > limit:
        raise UnreadableFile(
            f"{subject} has {columns} x {rows} pixels, more than the limit of {limit:,}. Shrink or crop it "
            "first."
        )
    advice = "Export it again, without compression if pydicom names a plugin that is missing."
    with reading(subject, advice), np.errstate(all="ignore"):  # overflow is answered below
        values = _to_unit(pixel_array(dataset), dataset)  # YBR becomes RGB in there
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] != 3):
        raise UnreadableFile(
            f"{subject} has pixels of shape {list(values.shape)}; expected grey or three colours."
        )
    if not np.isfinite(values).all():
        raise UnreadableFile(
            f"{subject} has pixels that are NaN or infinite after its rescale slope and intercept. Correct "
            "these tags."
        )
    return np.clip(values, 0, 1).astype(np.float32)


def _to_unit(pixels: np.ndarray, dataset: Any) -> np.ndarray:
    from pydicom.pixels import apply_color_lut

    kind = str(dataset.PhotometricInterpretation)
    if kind == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, dataset)
        return pixels.astype(np.float64) / np.iinfo(pixels.dtype).max
    if kind.startswith("MONOCHROME"):
        return _grey(pixels, dataset, inverted=kind == "MONOCHROME1")
    return pixels.astype(np.float64) / (2.0 ** int(dataset.BitsStored) - 1)


def _grey(pixels: np.ndarray, dataset: Any, inverted: bool) -> np.ndarray:
    from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing

    padding = _padding(pixels, dataset)
    values = apply_modality_lut(pixels, dataset)
    table = (dataset.get("VOILUTSequence") or [None])[0]
    if table is not None and table.get("LUTData") is not None:
        values = apply_voi(np.rint(values).astype(np.int64), dataset)
        low, high = 0.0, 2.0 ** int(table.LUTDescriptor[2]) - 1
    elif dataset.get("WindowWidth") is not None and dataset.get("WindowCenter") is not None:
        center, width = (float(np.ravel(dataset[name].value)[0]) for name in ("WindowCenter", "WindowWidth"))
        # The output range depends on depth, sign and rescaling: ask far below and far above the window.
        low, high = apply_windowing(np.array([center - 100 * width, center + 100 * width]), dataset)
        values = apply_windowing(values, dataset)
    else:
        seen = values if padding.all() else values[~padding]
        low, high = float(seen.min()), float(seen.max())
    span = high - low
    values = (np.asarray(values, dtype=np.float64) - low) / span if span else np.zeros(values.shape)
    values = 1 - values if inverted else values
    values[padding] = 0
    return values


def _padding(pixels: np.ndarray, dataset: Any) -> np.ndarray:
    """Pixels that fill the corners and show no patient (PS3.3 C.7.5.1.1.2); stored values."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(pixels.shape, dtype=bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((int(value), int(value if limit is None else limit)))
    return (pixels >= low) & (pixels <= high)
