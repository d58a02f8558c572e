"""A model as a folder: config.json, schema.json, model.safetensors, calibration.json, README.md. Nothing is
unpickled."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from mmmed.checks import listing
from mmmed.models.calibration import Calibration
from mmmed.models.card import model_card
from mmmed.models.conformal import Conformal
from mmmed.models.create import create_model
from mmmed.models.folder import (
    REPORT_KIND,
    SEGMENTER_KIND,
    check_whole,
    read_folder,
    read_json,
    write_folder,
    write_json,
)
from mmmed.models.multimodal import MultimodalModel
from mmmed.types import Schema

if TYPE_CHECKING:
    from mmmed.models.referring_segmenter import ReferringSegmenter
    from mmmed.models.report_generator import ReportGenerator

FORMAT = 1  # raised when an older release could no longer read the folder
KIND = "MultimodalModel"
_WEIGHTS, _SCHEMA, _CALIBRATION = "model.safetensors", "schema.json", "calibration.json"


def save_model(model: MultimodalModel, folder: str | os.PathLike[str]) -> None:
    """Write the model beside the final place first, then move it there in one step.

    An existing model folder is replaced; a folder that holds something else is not touched. Raises ValueError
    for a model without schema, OSError with a plain sentence if the place cannot be written.
    """
    from safetensors.torch import save_file

    if model.schema is None:
        raise ValueError("A model without a schema cannot be saved: MultimodalModel(..., schema=schema).")

    def write(fresh: Path) -> dict[str, Any]:
        save_file(_weights(model), fresh / _WEIGHTS)
        model.schema.save(fresh / _SCHEMA)
        write_json(
            fresh / _CALIBRATION,
            {
                "tasks": {task: calibration.to_dict() for task, calibration in model.calibration.items()},
                "thresholds": model.thresholds,
                "conformal": {task: part.to_dict() for task, part in model.conformal.items()},
            },
        )
        (fresh / "README.md").write_text(model_card(model), encoding="utf-8")
        return {"format": FORMAT, "kind": KIND, "model": model.config, "card": model.card}

    write_folder(folder, write, hashed=(_WEIGHTS, _SCHEMA, _CALIBRATION))


def load_model(
    folder: str | os.PathLike[str], parts: Mapping[str, Any] | None = None
) -> MultimodalModel | ReportGenerator | ReferringSegmenter:
    """Read what `save_pretrained` wrote; the loaded model gives bit-equal answers, in eval mode.

    parts: ready-made modules that were handed to `create_model` and have no name: modality -> encoder, and
    "fusion"; of a `ReportGenerator` "encoder:NAME", "adapter:NAME", "fusion", and "language_model" (a model
    with its tokenizer, where its folder has moved); of a `ReferringSegmenter` "query". Raises ValueError that
    names the file if one is missing, altered, or of a newer format. Never downloads: fetch a model of the Hub
    first with `huggingface_hub.snapshot_download`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder, config = read_folder(folder, dict.fromkeys((KIND, REPORT_KIND, SEGMENTER_KIND), FORMAT))
    if config["kind"] == REPORT_KIND:
        from mmmed.models.report_files import load_report_generator

        return load_report_generator(folder, config, parts)
    if config["kind"] == SEGMENTER_KIND:
        from mmmed.models.segmenter_files import load_segmenter

        return load_segmenter(folder, config, parts)
    check_whole(folder, config, (_WEIGHTS, _SCHEMA, _CALIBRATION))
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
    saved = read_json(folder / _CALIBRATION)
    model.calibration = {task: Calibration.from_dict(item) for task, item in saved["tasks"].items()}
    model.thresholds = dict(saved["thresholds"])
    sets = saved.get("conformal", {})  # folders of before there were prediction sets have none
    model.conformal = {task: Conformal.from_dict(item) for task, item in sets.items()}
    model.card = dict(config.get("card") or {})
    return model.eval()


def push_model(
    model: MultimodalModel | ReportGenerator | ReferringSegmenter, repository: str, private: bool = True
) -> str:
    """Upload the saved form to the Hugging Face Hub; -> address of the commit. Reaches the network."""
    from huggingface_hub import HfApi

    api = HfApi()
    with tempfile.TemporaryDirectory() as place:
        model.save_pretrained(Path(place) / "model")
        api.create_repo(repository, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=Path(place) / "model"))


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
