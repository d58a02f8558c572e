"""What a visitor may hand in, and with which settings the page is served. Every refusal is a ValueError whose
text can be shown as it is.

Gradio puts an upload into a folder of its own. Before any reader of mmmed sees the file, its first bytes must
show a format that the modality takes, and its header a size that the machine can bear. Which requests may
reach Gradio at all is the matter of `gate`.
"""

from __future__ import annotations

import csv
import inspect
import io
import ipaddress
import json
import math
import os
import re
import zipfile
import zlib
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.lib import format as npy

from mmmed.checks import check_known, listing, plain
from mmmed.data.grids import own_shape
from mmmed.types import Image, Series, Volume

MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """What is still taken. file: bytes of one file, and of one upload; table: bytes of a time series; body:
    bytes of any other request; held: bytes that all visitors together may have on the disk; each: bytes that
    one address may hand in within an hour; pixels: of a picture; voxels: of a volume; rows: of a time
    series."""

    file: int = 64 * MIB
    table: int = 2 * MIB
    body: int = 2 * MIB
    held: int = 1024 * MIB
    each: int = 256 * MIB
    pixels: int = 40_000_000
    voxels: int = 40_000_000
    rows: int = 2_000


LIMITS = Limits()
LONGEST_TEXT = 20_000  # characters of a note
LONGEST_WORDS = 400  # of an error on the page
SUFFIXES = {  # no formats whose readers start programs or unpickle, and none that hospitals do not use
    "Image": (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dcm"),
    "Volume": (".nii", ".nii.gz", ".npz", ".npy"),
    "Series": (".csv", ".json"),
}
_FORMATS = {  # what the first bytes may show, and under which suffix it can be read
    "Image": dict.fromkeys(("PNG", "JPEG", "TIFF", "BMP", "WebP", "DICOM"), SUFFIXES["Image"]),
    "Volume": {
        "NIfTI": (".nii",),
        "compressed NIfTI": (".nii.gz",),
        "NumPy .npy": (".npy",),
        "a zip archive": (".npz",),
    },
}
# What a part of a zip may fail with: cut off, changed, encrypted, packed in a way that is not known here.
_UNZIPPING = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError)
# Where a path begins, and one folder of it. Names of folders may hold spaces, but none goes on after what
# looks like the end of a file's name: "/data/a.png holds png/jpeg" has one folder.
_START = r"(?:\bfile:[/\\]*|(?<!\w)[a-z]:[/\\]+|(?<![\w:/\\.])(?:~\w*[/\\]+|\\\\+(?=\w)))"
_FOLDER = r"(?:(?!\.\w{1,5}[\s,;:)])[^/\\'\"<>|\n,;:\s](?:(?!\.\w{1,5}[\s,;:)])[^/\\'\"<>|\n,;:])*[/\\]+)"
_FOLDERS = re.compile(
    rf"{_START}{_FOLDER}*|(?<![\w:/\\.])[/\\]{_FOLDER}+|(?<![\w:/\\.])/(?=\w[^/\s]*\.\w)", re.IGNORECASE
)
_QUOTED = re.compile(r"(['\"])((?:file:|[a-z]:[/\\]|[/\\~])[^'\"]*)\1", re.IGNORECASE)


# ------------------------------------------------------------------------------------------------------ files


def check_file(
    upload: str | os.PathLike[str],
    kind: str,
    limits: Limits = LIMITS,
    uploads: str | os.PathLike[str] | None = None,
) -> Path:
    """The real place of an uploaded file that may be read as what `kind` says: "Image", "Volume", "Series".

    uploads: the folder that uploads come to, by default that of Gradio where it is known; what lies elsewhere
    is refused. Give a reader the name, and the parent as the folder. Raises ValueError, in a sentence.
    """
    check_known(kind, SUFFIXES, what="kind of file")
    uploads = uploads if uploads is not None else os.environ.get("GRADIO_TEMP_DIR") or None
    place, name = Path(os.path.realpath(upload)), plain(Path(upload).name, 80)
    if not place.is_file() or (uploads and not place.is_relative_to(os.path.realpath(uploads))):
        raise ValueError(f"{name} is no file that was uploaded here. Choose a file and upload it.")
    size = place.stat().st_size
    if not size:
        raise ValueError(f"{name} is empty (0 bytes). Choose another file.")
    most = limits.table if kind == "Series" else limits.file
    if size > most:
        raise ValueError(
            f"{name} has {size / MIB:,.1f} MiB; at most {most / MIB:,.0f} MiB are taken. Shrink it."
        )
    if not place.name.lower().endswith(SUFFIXES[kind]):
        raise ValueError(f"{name} should end in {listing(SUFFIXES[kind])}. Export it as one of these.")
    if kind != "Series":
        _check_content(place, kind, name)
        _check_size(place, kind, name, limits)
    return place


def content_of(path: str | os.PathLike[str]) -> str | None:
    """What the first bytes of a file show it to be: "PNG", "DICOM", "NIfTI" ...; None if nothing known."""
    with open(path, "rb") as file:
        head = file.read(512)
    if head[:2] == b"\x1f\x8b":
        return "compressed NIfTI" if _is_nifti(_unpacked(head)) else "a compressed file that is no NIfTI"
    if head[128:132] == b"DICM":  # first: what stands before the mark may be anything, a TIFF header too
        return "DICOM"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if _is_nifti(head):
        return "NIfTI"
    starts = {
        b"\x89PNG\r\n\x1a\n": "PNG",
        b"\xff\xd8\xff": "JPEG",
        b"II*\0": "TIFF",
        b"MM\0*": "TIFF",
        b"BM": "BMP",
        b"\x93NUMPY": "NumPy .npy",
        b"PK\x03\x04": "a zip archive",
    }
    return next((name for start, name in starts.items() if head.startswith(start)), None)


def read_series(
    path: str | os.PathLike[str], modality: Series, limits: Limits = LIMITS
) -> list[dict[str, Any]]:
    """The steps of a time series from a CSV with a header, or a JSON list of objects; other columns are left
    out. Raises ValueError that names row and column."""
    name, wanted = plain(Path(path).name, 80), (modality.time, *(c.name for c in modality.channels))
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        rows = (
            json.loads(text)
            if str(path).lower().endswith(".json")
            else list(csv.DictReader(io.StringIO(text)))
        )
    except (ValueError, RecursionError, csv.Error) as error:
        raise ValueError(f"{name} cannot be read as a table in UTF-8. Export it again.") from error
    if not (isinstance(rows, list) and rows and all(isinstance(row, Mapping) for row in rows)):
        raise ValueError(f"{name} should hold at least one row, each with {listing(wanted)}.")
    missing = modality.time not in rows[0] or not set(wanted[1:]) & {column for row in rows for column in row}
    if missing:
        raise ValueError(f"{name} should have a column {modality.time} and some of {listing(wanted[1:])}.")
    return check_steps([{column: row.get(column) for column in wanted} for row in rows], name, limits)


def check_steps(
    rows: Sequence[Mapping[str, Any]], name: str, limits: Limits = LIMITS
) -> list[dict[str, Any]]:
    """Rows of numbers without the empty cells. Raises ValueError for too many, and for what is no number."""
    if len(rows) > limits.rows:
        raise ValueError(
            f"{name} has {len(rows):,} rows; at most {limits.rows:,} are taken. Keep the latest."
        )
    steps = []
    for number, row in enumerate(rows, start=1):
        cells = {column: _number(cell, f"{name}, row {number}, {column}") for column, cell in row.items()}
        steps.append({column: cell for column, cell in cells.items() if cell is not None})
    return [step for step in steps if step]


def plain_words(error: BaseException) -> str:
    """The message of an error as it may stand on the page: one line, no folder of the server, not endless.

    The name of a file stays.
    """
    if isinstance(error, OSError) and error.strerror:
        name = _last(str(error.filename or ""))
        words = f"{error.strerror}: {name}" if name else error.strerror
    else:
        words = str(error)
    words = " ".join(words.split()) or type(error).__name__
    words = _QUOTED.sub(lambda found: f"{found[1]}{_last(found[2])}{found[1]}", words)
    words = _FOLDERS.sub("", words)
    return words if len(words) <= LONGEST_WORDS else words[: LONGEST_WORDS - 3] + "..."


# --------------------------------------------------------------------------------------------------- settings


def prepare_environment(
    folder: str | os.PathLike[str], environment: MutableMapping[str, str] = os.environ
) -> None:
    """What must be set before gradio is imported: silence, a folder of our own for uploads, and nothing that
    a variable would open. For a program to call for its own process, never for a library."""
    environment["GRADIO_ANALYTICS_ENABLED"] = "False"
    environment.setdefault("HF_HUB_OFFLINE", "1")
    environment["GRADIO_TEMP_DIR"] = os.path.realpath(Path(folder) / "uploads")
    environment["GRADIO_EXAMPLES_CACHE"] = os.path.realpath(Path(folder) / "examples")
    for name in (
        "ALLOWED_PATHS",
        "NUM_WORKERS",
        "LOCAL_DEV_MODE",
        "SHARE",
        "MCP_SERVER",
        "SSR_MODE",
        "VIBE_MODE",
    ):
        environment.pop(f"GRADIO_{name}", None)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server there. 127.0.0.1.example is a name like any other."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def launch_settings(host: str = "127.0.0.1", share: bool = False, limits: Limits = LIMITS) -> dict[str, Any]:
    """Arguments for `Blocks.launch`, those that this release of Gradio knows. Where, theme and CSS are the
    page's. host: where it will be served; only this machine is answered unless it says otherwise."""
    import gradio as gr
    from starlette.middleware import Middleware

    from .gate import Gate

    gate = Middleware(Gate, limits=limits, local=is_loopback(host) and not share)
    wanted = {
        "share": share,
        "show_error": False,
        "allowed_paths": [],
        "max_file_size": limits.file,
        "enable_monitoring": False,
        "run_history": False,
        "footer_links": [],
        "strict_cors": True,
        "ssr_mode": False,
        "mcp_server": False,
        "pwa": False,
        "max_threads": 8,
        "state_session_capacity": 100,
        "app_kwargs": {"middleware": [gate]},
    }
    known = inspect.signature(gr.Blocks.launch).parameters
    return {name: value for name, value in wanted.items() if name in known}


def queue_settings() -> dict[str, Any]:
    """Arguments for `Blocks.queue`: a short line, and no way past it."""
    return {"api_open": False, "max_size": 64, "default_concurrency_limit": 1}


# --------------------------------------------------------------------------------------------- inner workings


def _check_content(place: Path, kind: str, name: str) -> None:
    found = content_of(place)
    if found not in _FORMATS[kind]:
        known = listing(_FORMATS[kind])
        raise ValueError(
            f"{name} holds {found or 'nothing that is known here'}, whatever its name says; expected {known}."
        )
    if not place.name.lower().endswith(_FORMATS[kind][found]):
        raise ValueError(f"{name} holds {found}: let its name end in {listing(_FORMATS[kind][found])}.")


def _unpacked(head: bytes) -> bytes:
    """The beginning of a gzip file, unpacked, and never more than the beginning."""
    try:
        return zlib.decompressobj(wbits=31).decompress(head, 512)
    except zlib.error:
        return b""


def _is_nifti(head: bytes) -> bool:
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:12] == b"n+2\0\r\n\x1a\n"


def _check_size(place: Path, kind: str, name: str, limits: Limits) -> None:
    """The size that the header states, before anything is unpacked."""
    most, what = (limits.voxels, "voxels") if kind == "Volume" else (limits.pixels, "pixels")
    if place.name.lower().endswith(".npz"):
        _check_archive(place, name, most)
        return
    shape = own_shape(place.name, {"Image": Image, "Volume": Volume}[kind]("upload"), folder=place.parent)
    if math.prod(shape) > most:
        size = " x ".join(f"{length:,}" for length in shape)
        raise ValueError(f"{name} has {size} {what}; at most {most:,} are taken. Shrink or crop it.")


def _check_archive(place: Path, name: str, most: int) -> None:
    """An .npz is a zip of arrays: its directory says how many bytes they are once unpacked, their headers how
    many voxels, each of which becomes a number of four bytes however small it was."""
    try:
        archive = zipfile.ZipFile(place)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ValueError(f"{name} is damaged or cut off. Copy it again from its source.") from error
    with archive:
        parts = archive.infolist()
        if not parts or not all(part.filename.endswith(".npy") for part in parts):
            raise ValueError(f"{name} holds something other than NumPy arrays. Save it with numpy.savez.")
        if sum(part.file_size for part in parts) > 8 * most:
            raise ValueError(f"{name} unpacks to more than {8 * most / MIB:,.0f} MiB. Shrink or crop it.")
        voxels = sum(_voxels(archive, part, name) for part in parts)
    if voxels > most:
        raise ValueError(f"{name} has {voxels:,} voxels; at most {most:,} are taken. Shrink or crop it.")


def _voxels(archive: zipfile.ZipFile, part: zipfile.ZipInfo, name: str) -> int:
    """How many numbers the array of one part of an .npz has, as its header says."""
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    try:
        with archive.open(part) as stream:
            shape, _, kind = readers[npy.read_magic(stream)](stream)
    except (*_UNZIPPING, ValueError, KeyError) as error:
        raise ValueError(f"{name} holds an array that cannot be read. Save it with numpy.savez.") from error
    if kind.kind not in "biuf":
        raise ValueError(f"{name} holds {kind} and not numbers. Save it with numpy.savez.")
    return math.prod(shape)


def _last(path: str) -> str:
    """The name at the end of a path, of whatever system it comes from."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def _number(cell: Any, where: str) -> float | None:
    """A finite number, or None for an empty cell."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return None
    try:
        value = float(cell)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: should be a number, got {plain(cell)}.") from error
    if math.isinf(value):
        raise ValueError(f"{where}: should be a finite number, got {plain(cell)}.")
    return None if math.isnan(value) else value
