"""Folders that hold a model: written whole or not at all, checked when read, never in anybody's way."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmmed.checks import listing, plain

REPORT_KIND = "ReportGenerator"
SEGMENTER_KIND = "ReferringSegmenter"
KINDS = ("MultimodalModel", REPORT_KIND, SEGMENTER_KIND)
OURS = {  # what a model folder may hold
    "model.safetensors",
    "schema.json",
    "calibration.json",
    "config.json",
    "README.md",
    "findings.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "lora",
    "phrases.json",
    "reporter",
}
OURS_IN_LORA = {"adapter_model.safetensors", "adapter_config.json"}


def write_folder(
    folder: str | os.PathLike[str], write: Callable[[Path], dict[str, Any]], hashed: Sequence[str]
) -> None:
    """Let `write` fill a fresh folder, add config.json, and move it into place in one step.

    write(fresh) -> what config.json says; hashed: files whose SHA-256 it notes, of those that were
    written. An existing model folder is replaced; a folder that holds something else is not touched. Raises
    OSError with a plain sentence if the place cannot be written.
    """
    folder = Path(folder)
    _check_place(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise OSError(
            error.errno,
            f"{folder} cannot be written ({error.strerror}). Choose a place where you may write files",
        ) from error
    try:
        config = write(fresh)
        hashes = {name: hash_of(fresh / name) for name in hashed if (fresh / name).is_file()}
        write_json(fresh / "config.json", {**config, "sha256": hashes})
        fresh.chmod(0o755)
        _swap(fresh, folder)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def read_folder(folder: str | os.PathLike[str], formats: Mapping[str, int]) -> tuple[Path, dict[str, Any]]:
    """The folder and its config.json. formats: kind -> newest format that can be read.

    Raises ValueError if it is no folder, of another kind, or of a newer format.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(
            f"{folder} is no folder. Give the folder that save_pretrained wrote; a model of the Hugging "
            "Face Hub is fetched first with huggingface_hub.snapshot_download(name), which returns its "
            "folder."
        )
    config = read_json(folder / "config.json")
    kind, version = config.get("kind"), config.get("format")
    if kind not in formats:
        raise ValueError(
            f"{folder / 'config.json'} describes no {' or '.join(formats)} but {plain(kind)}. Give the "
            "folder that save_pretrained wrote."
        )
    if not isinstance(version, int) or version > formats[kind]:
        raise ValueError(
            f"{folder} has format {plain(version)}; this release reads up to {formats[kind]}. Update mmmed."
        )
    return folder, config


def check_whole(folder: Path, config: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise ValueError if a file is missing or is not the one that was saved."""
    hashes = config.get("sha256")
    hashes = hashes if isinstance(hashes, Mapping) else {}
    for name in names:
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name} is missing. Copy the whole model folder again.")
        if hashes.get(name) != hash_of(folder / name):
            raise ValueError(
                f"{folder / name} was altered or cut off after it was saved (its SHA-256 is not the one in "
                "config.json). Copy the folder again, or save the model anew."
            )


def _check_place(folder: Path) -> None:
    """A model may only replace a model: nothing that somebody else put there is ever deleted."""
    if not folder.exists():
        return
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
    strangers = _strangers(folder) if folder.is_dir() else [folder.name]
    if strangers or not folder.is_dir():
        raise ValueError(
            f"{folder} exists and holds {listing(strangers, 3)}. Choose another place; nothing was written."
        )
    if names and ("config.json" not in names or read_json(folder / "config.json").get("kind") not in KINDS):
        raise ValueError(
            f"{folder} exists and is no model folder. Choose another place; nothing was written."
        )


def _strangers(folder: Path) -> list[str]:
    """What no model folder holds: in it, in its lora/, and in the folder of its reporter."""
    found = sorted({path.name for path in folder.iterdir()} - OURS)
    if (folder / "lora").is_dir():
        found += sorted(f"lora/{p.name}" for p in (folder / "lora").iterdir() if p.name not in OURS_IN_LORA)
    if (folder / "reporter").is_dir():
        found += [f"reporter/{name}" for name in _strangers(folder / "reporter")]
    return found


def hash_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def write_json(path: Path, data: Any) -> None:
    """A JSON file that people can read."""
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False), encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ValueError that names the file if there is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"{path} is missing: {path.parent} is no model folder, or an incomplete one."
        ) from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path} should hold a JSON object, got {plain(data)}.")
    return data


def _swap(fresh: Path, folder: Path) -> None:
    """Put `fresh` where `folder` is; the old one is kept until the new one is in place."""
    old = folder.with_name(f".{folder.name}.old")
    kept = folder.exists()
    if kept:
        shutil.rmtree(old, ignore_errors=True)
        os.replace(folder, old)
    try:
        os.replace(fresh, folder)
    except BaseException:
        if kept:
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
