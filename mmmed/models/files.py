"""A model as a folder: config.json, schema.json, model.safetensors, calibration.json, README.md. Nothing is
unpickled."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmmed.checks import listing, plain
from mmmed.models.calibration import Calibration
from mmmed.models.card import model_card
from mmmed.models.conformal import Conformal
from mmmed.models.create import create_model
from mmmed.models.multimodal import MultimodalModel
from mmmed.types import Schema

FORMAT = 1  # raised when an older release could no longer read the folder
KIND = "MultimodalModel"
_WEIGHTS, _SCHEMA, _CALIBRATION = "model.safetensors", "schema.json", "calibration.json"
_OURS = {_WEIGHTS, _SCHEMA, _CALIBRATION, "config.json", "README.md"}


def save_model(model: MultimodalModel, folder: str | os.PathLike[str]) -> None:
    """Write the model beside the final place first, then move it there in one step.

    An existing model folder is replaced; a folder that holds something else is not touched. Raises ValueError
    for a model without schema, OSError with a plain sentence if the place cannot be written.
    """
    from safetensors.torch import save_file

    if model.schema is None:
        raise ValueError("A model without a schema cannot be saved: MultimodalModel(..., schema=schema).")
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
        save_file(_weights(model), fresh / _WEIGHTS)
        model.schema.save(fresh / _SCHEMA)
        _write_json(
            fresh / _CALIBRATION,
            {
                "tasks": {task: calibration.to_dict() for task, calibration in model.calibration.items()},
                "thresholds": model.thresholds,
                "conformal": {task: part.to_dict() for task, part in model.conformal.items()},
            },
        )
        config = {
            "format": FORMAT,
            "kind": KIND,
            "model": model.config,
            "card": model.card,
            "sha256": {name: _hash(fresh / name) for name in (_WEIGHTS, _SCHEMA, _CALIBRATION)},
        }
        _write_json(fresh / "config.json", config)
        (fresh / "README.md").write_text(model_card(model), encoding="utf-8")
        fresh.chmod(0o755)
        _swap(fresh, folder)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def load_model(
    folder: str | os.PathLike[str], parts: Mapping[str, nn.Module] | None = None
) -> MultimodalModel:
    """Read what `save_pretrained` wrote; the loaded model gives bit-equal answers, in eval mode.

    parts: ready-made modules that were handed to `create_model` and have no name: modality -> encoder, and
    "fusion". Raises ValueError that names the file if one is missing, altered, or of a newer format. Never
    downloads: fetch a model of the Hub first with `huggingface_hub.snapshot_download`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(
            f"{folder} is no folder. Give the folder that save_pretrained wrote; a model of the Hugging "
            "Face Hub is "
            "fetched first with huggingface_hub.snapshot_download(name), which returns its folder."
        )
    config = _read_json(folder / "config.json")
    if config.get("kind") != KIND:
        raise ValueError(
            f"{folder / 'config.json'} describes no {KIND} but {plain(config.get('kind'))}. Give the folder "
            "that save_pretrained wrote."
        )
    if not isinstance(config.get("format"), int) or config["format"] > FORMAT:
        raise ValueError(
            f"{folder} has format {plain(config.get('format'))}; this release reads up to {FORMAT}. Update "
            "mmmed."
        )
    _check_whole(folder, config.get("sha256") or {})
    schema = Schema.load(folder / _SCHEMA)
    try:
        model = _rebuild(schema, config.get("model"), dict(parts or {}))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder / 'config.json'} describes no model that this release can build: {error!r}. Copy the "
            "folder again, or update mmmed."
        ) from error
    try:
        model.load_state_dict(load_file(folder / _WEIGHTS))
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"{folder / _WEIGHTS} does not fit the model that config.json describes: {error}"
        ) from error
    saved = _read_json(folder / _CALIBRATION)
    model.calibration = {task: Calibration.from_dict(item) for task, item in saved["tasks"].items()}
    model.thresholds = dict(saved["thresholds"])
    sets = saved.get("conformal", {})  # folders of before there were prediction sets have none
    model.conformal = {task: Conformal.from_dict(item) for task, item in sets.items()}
    model.card = dict(config.get("card") or {})
    return model.eval()


def push_model(model: MultimodalModel, repository: str, private: bool = True) -> str:
    """Upload the saved form to the Hugging Face Hub; -> address of the commit. Reaches the network."""
    from huggingface_hub import HfApi

    api = HfApi()
    with tempfile.TemporaryDirectory() as place:
        save_model(model, Path(place) / "model")
        api.create_repo(repository, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=Path(place) / "model"))


def _check_place(folder: Path) -> None:
    """A model may only replace a model: nothing that somebody else put there is ever deleted."""
    if not folder.exists():
        return
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
    strangers = sorted(names - _OURS)
    if strangers or not folder.is_dir():
        raise ValueError(
            f"{folder} exists and holds {listing(strangers, 3)}. Choose another place; nothing was written."
        )
    if names and ("config.json" not in names or _read_json(folder / "config.json").get("kind") != KIND):
        raise ValueError(
            f"{folder} exists and is no model folder. Choose another place; nothing was written."
        )


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies, because safetensors refuses tensors that share memory (one encoder for two modalities)."""
    return {k: v.detach().clone(memory_format=torch.contiguous_format) for k, v in model.state_dict().items()}


def _rebuild(
    schema: Schema, config: Mapping[str, Any] | None, parts: dict[str, nn.Module]
) -> MultimodalModel:
    if config is None:
        raise ValueError(
            "This model was put together by hand, so its parts have no names. Build it the same way again "
            "and load "
            f"the weights with safetensors.torch.load_file({_WEIGHTS!r})."
        )
    missing = [name for name, part in config["encoders"].items() if part is None and name not in parts]
    missing += ["fusion"] if config["fusion"] is None and "fusion" not in parts else []
    if missing:
        raise ValueError(
            f"The model was built with ready-made modules for {listing(missing)}. Hand them over again: "
            f"load_model(folder, parts={{{missing[0]!r}: module}})."
        )

    def part(name: str, description: Mapping[str, Any] | None) -> Any:
        return parts[name] if description is None else (description["name"], description["options"])

    model = create_model(
        schema,
        fusion=part("fusion", config["fusion"]),
        encoders={name: part(name, description) for name, description in config["encoders"].items()},
        dim=config["dim"],
        state_dim=config["state_dim"],
        seed=config["seed"],
    )
    return model


def _check_whole(folder: Path, hashes: Mapping[str, str]) -> None:
    for name in (_WEIGHTS, _SCHEMA, _CALIBRATION):
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name} is missing. Copy the whole model folder again.")
        if hashes.get(name) != _hash(folder / name):
            raise ValueError(
                f"{folder / name} was altered or cut off after it was saved (its SHA-256 is not the one in "
                "config.json). Copy the folder again, or save the model anew."
            )


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False), encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
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
