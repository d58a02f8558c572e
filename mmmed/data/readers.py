"""Pictures: from a file, bytes, an array or a PIL image to [channels height width] in 0..1.

A picture is shrunk or enlarged with its proportions kept and centred on black, because a stretched lesion is
another shape: round or taller-than-wide is a finding. Transparent parts lie on black. Colour becomes grey by
the luminance of ITU-R BT.601. Of an animation or a TIFF with several pages the first is read.

Depth: 8 bits are divided by 255, 16 bits by 65535, unless a TIFF states another maximum (tag MaxSampleValue,
or fewer than 16 bits per sample). 12-bit values that lie in a 16-bit PNG therefore look dark: PNG has no
honest way to say so. 16-bit colour files are read with 8 bits.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from mmmed.checks import UnreadableFile, plain
from mmmed.data.dicom import is_dicom, read_dicom
from mmmed.data.paths import place, reading, resolve

# Below Pillow's own warning limit, so that its global setting never has to be touched.
PIXEL_LIMIT = 80_000_000
# Only what carries pictures of patients: Pillow's other plugins start programs (EPS) or are hardly tested.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM")
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_ORIENTATION = 0x0112
_TURNS = {  # EXIF orientation -> what brings the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(
    source: Any,
    *,
    channels: int = 1,
    size: tuple[int, int] | None = None,
    folder: str | os.PathLike[str] | None = None,
    where: str = "",
) -> np.ndarray:
    """One picture as float32 [channels height width] in 0..1.

    source: a path inside `folder`, the bytes of a file, {"bytes": ..., "path": ...} as Hugging Face datasets
    store it, a PIL image, or an array [height width], [height width c] or [c height width] with c = 1, 3 or 4
    (uint8, uint16, bool, or float in 0..1; if both ends could be channels, the last axis is). channels: 1
    grey or 3 colour. size: (height, width), or None for the picture's own. where: 'record "a1", column
    "image"', for messages.

    Raises UnreadableFile for whatever is wrong with the source, MissingFile and UnsafePath for its path,
    ValueError for the other arguments, ImportError if a DICOM file comes and pydicom is not installed.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels should be 1 (grey) or 3 (colour), got {plain(channels)}.")
    if size is not None and (len(size) != 2 or not all(isinstance(n, int) and n > 0 for n in size)):
        raise ValueError(
            f"size should be (height, width) in pixels, or None to keep the size, got {plain(size)}."
        )
    source, name = _unwrap(source, where)
    subject = place(where, name)
    if isinstance(source, Image.Image):
        _check_pixels(source, subject)
        return _from_picture(source, channels, size, subject)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _from_stream(io.BytesIO(source), name, channels, size, subject)
    if isinstance(source, (str, os.PathLike)):
        path = resolve(source, folder, where)
        with reading(subject, "Check who may read the file."):
            stream = open(path, "rb")  # noqa: SIM115 (closed by the next line)
        with stream:
            return _from_stream(stream, name, channels, size, subject)
    if hasattr(source, "__array__"):
        return _finish(_from_array(np.asarray(source), subject), channels, size)
    raise UnreadableFile(
        f"{subject} should be a path, the bytes of a file, a PIL image or an array, got "
        f"{type(source).__name__}."
    )


def _unwrap(source: Any, where: str) -> tuple[Any, str]:
    """The source itself and how messages call it."""
    name = ""
    if isinstance(source, Mapping):
        if source.get("bytes") is None and source.get("path") is None:
            raise UnreadableFile(
                f'{place(where, "the image")} should have "bytes" or "path", got {plain(dict(source))}.'
            )
        name = str(source.get("path") or "")
        source = source["path"] if source.get("bytes") is None else source["bytes"]
    if isinstance(source, (str, os.PathLike)):
        return source, str(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return source, name or f"a file of {len(source)} bytes"
    if isinstance(source, Image.Image):
        return source, f"a PIL image of mode {source.mode}"
    return source, "the array" if hasattr(source, "__array__") else plain(source)


# ------------------------------------------------------------------------------------------------------ files


def _from_stream(
    stream: IO[bytes], name: str, channels: int, size: tuple[int, int] | None, subject: str
) -> np.ndarray:
    with reading(subject):
        head = stream.read(1024)
        stream.seek(0)
    if not head:
        raise UnreadableFile(
            f"{subject} is empty (0 bytes). Copy it again from its source, or leave the cell empty."
        )
    if is_dicom(head, name):
        return _finish(read_dicom(stream, head, subject, PIXEL_LIMIT), channels, size)
    with reading(subject):
        picture = _open(stream, head, subject)
    with picture:
        _check_pixels(picture, subject)
        if size is not None:
            _draft(picture, channels, size, subject)
        return _from_picture(picture, channels, size, subject)


def _open(stream: IO[bytes], head: bytes, subject: str) -> Image.Image:
    """The header only; pixels are decoded later."""
    try:
        return Image.open(stream, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableFile(
            f"{subject} is too large to be decoded safely: {error} Shrink or crop it first."
        ) from error
    except UnidentifiedImageError as error:
        raise UnreadableFile(f"{subject} is no picture that can be read. {_looks_like(head)}") from error


def _check_pixels(picture: Image.Image, subject: str) -> None:
    pixels = picture.width * picture.height
    if pixels > PIXEL_LIMIT:
        raise UnreadableFile(
            f"{subject} has {picture.width} x {picture.height} pixels, more than the limit of "
            f"{PIXEL_LIMIT:,}. Shrink or crop it first."
        )
    if not pixels:
        raise UnreadableFile(f"{subject} has no pixels ({picture.width} x {picture.height}). Leave it out.")


def _looks_like(head: bytes) -> str:
    """What an unknown file seems to be, and what to do about it."""
    known = f"Expected {', '.join(FORMATS)} or DICOM"
    marks = {
        b"PK\x03\x04": "an archive such as .npz: declare the column as a Volume",
        b"\x93NUMPY": "a .npy array: declare the column as a Volume, or save it as PNG",
        b"\x1f\x8b": "compressed with gzip (.nii.gz?): declare the column as a Volume, or unpack it",
        b"version https://git-lfs": "a Git LFS pointer: fetch the real file with git lfs pull",
        b"%PDF": "a PDF: export the page as PNG",
        b"<": "a web page or XML, perhaps the error page of a download: download it again",
    }
    for mark, words in marks.items():
        if head.startswith(mark):
            return f"{known}; this looks like {words}."
    return f"{known}; it begins with {head[:8]!r}. Check that the column names pictures, and whole ones."


def _draft(picture: Image.Image, channels: int, size: tuple[int, int], subject: str) -> None:
    """Let the JPEG decoder shrink by 2, 4 or 8 on the way, staying twice as fine as what is wanted."""
    if picture.format != "JPEG":
        return
    with reading(subject):
        turned = picture.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    width, height = _inside(picture.size, size[::-1] if turned else size)
    picture.draft("L" if channels == 1 else None, (2 * width, 2 * height))


# --------------------------------------------------------------------------------------------------- pictures


def _from_picture(
    picture: Image.Image, channels: int, size: tuple[int, int] | None, subject: str
) -> np.ndarray:
    with reading(subject):
        picture.load()
        turn = _TURNS.get(picture.getexif().get(_ORIENTATION, 1))
        upright = picture if turn is None else picture.transpose(turn)
    if picture.mode[0] in "IF":  # 16 and 32 bits: keep the depth
        return _finish(_deep(upright, picture, subject), channels, size)
    with reading(subject):
        upright = _flat(upright, "L" if channels == 1 else "RGB")
    values = np.asarray(upright if size is None else _fit(upright, size), dtype=np.float32) / 255
    return values[None] if channels == 1 else np.ascontiguousarray(values.transpose(2, 0, 1))


def _flat(picture: Image.Image, mode: str) -> Image.Image:
    """8 bits per channel, composed on black."""
    if picture.has_transparency_data:
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(black, picture.convert("RGBA")).convert("RGB")
    return picture if picture.mode == mode else picture.convert("RGB").convert(mode)


def _deep(upright: Image.Image, picture: Image.Image, subject: str) -> np.ndarray:
    """Pixels of a 16-bit, 32-bit or float picture as float32 [height width] in 0..1."""
    tags = getattr(picture, "tag_v2", {})
    with reading(subject):
        values = np.array(upright)
        bits = int(np.ravel(tags.get(258, 16))[0])  # BitsPerSample
        top = float(np.ravel(tags.get(281, 2 ** min(bits, 16) - 1))[0])  # MaxSampleValue
        inverted = tags.get(262) == 0  # PhotometricInterpretation "white is zero"; Pillow inverts 8 bits only
    if values.dtype.kind == "f":
        values = _from_array(values, subject)
    elif not (top > 0 and values.min() >= 0 and values.max() <= top):
        raise UnreadableFile(
            f"{subject} has values from {values.min()} to {values.max()}, outside of 0 to {top:g}. "
            "Save it with 16 bits without sign, scaled to the full range."
        )
    else:
        values = values.astype(np.float32) / np.float32(top)
    return 1 - values if inverted else values


# ----------------------------------------------------------------------------------------------------- arrays


def _from_array(values: np.ndarray, subject: str) -> np.ndarray:
    """Any array that can be a picture as float32 [height width] or [height width c] in 0..1."""
    shape = values.shape
    if values.ndim == 3 and shape[2] not in (1, 3, 4) and shape[0] in (1, 3, 4):
        values = np.moveaxis(values, 0, 2)
    if values.ndim not in (2, 3) or 0 in shape or (values.ndim == 3 and values.shape[2] not in (1, 3, 4)):
        raise UnreadableFile(
            f"{subject} should have shape [height width], [height width c] or [c height width] with c = 1, "
            f"3 or 4, and some pixels; got {list(shape)}."
        )
    if values.dtype in (np.uint8, np.uint16):
        return values.astype(np.float32) / np.float32(np.iinfo(values.dtype).max)
    if values.dtype == np.bool_:
        return values.astype(np.float32)
    if values.dtype.kind != "f":
        raise UnreadableFile(
            f"{subject} has dtype {values.dtype}, whose range is not known. Pass uint8, uint16, bool, or "
            "float in 0..1."
        )
    broken = int(values.size - np.isfinite(values).sum())
    if broken:
        raise UnreadableFile(
            f"{subject} has {broken} of {values.size} pixels that are NaN or infinite. Replace them first; "
            "if the whole picture is missing, leave it out."
        )
    low, high = float(values.min()), float(values.max())
    if low < -1e-6 or high > 1 + 1e-6:  # the slack is the rounding of float32
        raise UnreadableFile(
            f"{subject} has values from {low:g} to {high:g}; floats should lie in 0..1. "
            "Divide by the largest possible value, or pass uint8 or uint16."
        )
    return np.clip(values, 0, 1).astype(np.float32)


def _finish(values: np.ndarray, channels: int, size: tuple[int, int] | None) -> np.ndarray:
    """float [height width] or [height width c] in 0..1 -> [channels height width] of the wanted size."""
    values = values[:, :, None] if values.ndim == 2 else values
    if values.shape[2] == 4:  # composed on black
        values = values[:, :, :3] * values[:, :, 3:]
    if channels == 1 and values.shape[2] == 3:
        values = (values @ _LUMINANCE)[:, :, None]
    planes = [np.ascontiguousarray(values[:, :, index], dtype=np.float32) for index in range(values.shape[2])]
    if size is not None:
        planes = [np.asarray(_fit(Image.fromarray(plane), size)) for plane in planes]
    return np.clip(np.stack(planes * (channels // len(planes))), 0, 1)


# --------------------------------------------------------------------------------------------------- resizing


def _inside(own: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """The largest (width, height) with the proportions of `own` (width, height) in size (height, width)."""
    scale = min(size[1] / own[0], size[0] / own[1])
    return max(1, round(own[0] * scale)), max(1, round(own[1] * scale))


def _fit(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize inside (height, width), antialiased bilinear, centred on black."""
    inner = _inside(picture.size, size)
    resized = picture if inner == picture.size else picture.resize(inner, Image.Resampling.BILINEAR)
    if inner == size[::-1]:
        return resized
    canvas = Image.new(picture.mode, size[::-1])
    canvas.paste(resized, ((size[1] - inner[0]) // 2, (size[0] - inner[1]) // 2))
    return canvas
