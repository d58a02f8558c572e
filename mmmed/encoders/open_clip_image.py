"""Vision towers of open_clip as an image encoder: CLIP, BiomedCLIP and their kin, read from local files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmmed.backbones.timm_backbone import read_weights
from mmmed.backbones.torchvision_guard import torchvision_state
from mmmed.checks import check_known, listing, needs, plain
from mmmed.encoders.views import check_size, check_views, encode_views
from mmmed.types import Image, Tokens

FOLDER, HUB = "local-dir:", "hf-hub:"
CONFIG = "open_clip_config.json"
WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.bin",
)
# The half that reads captions is not wanted. As small as it gets, it is built along and thrown away, so that
# BiomedCLIP needs no files of its language model.
SMALLEST_TEXT = {"context_length": 2, "vocab_size": 2, "width": 2, "heads": 1, "layers": 1}


class OpenClipImageEncoder(nn.Module):
    """The vision tower of a contrastive model (CLIP, Radford et al., arXiv:2103.00020) of open_clip.

    pixels [n views channels height width] standardised by `mean` and `scale` (those of the schema's Image),
    views [n views] bool -> Tokens [n views dim], the projected embedding; with `grid` [n views*places dim],
    one token per place of a block's map. Grey pictures become three equal channels, and pixels are brought to
    the mean and scale that the tower was trained with. size: of the pictures, one that the tower takes.

    name: "local-dir:FOLDER" with open_clip_config.json and its weights; "hf-hub:microsoft/BiomedCLIP-..." in
    the local cache (nothing is downloaded), at `revision`; a configuration of open_clip, or the content of
    open_clip_config.json as a dict, both with random weights. `opened_as` says where the weights came from:
    {"name", "revision"}, None for random ones. block: whose map `grid` gives, negative from the end; None:
    -2 for transformers, as in LLaVA-Rad (arXiv:2403.08002), and -1 for convolutions. What comes after it is
    dropped. frozen: the tower never learns, whatever an optimiser is given; None: if its weights came with
    the name. BatchNorm keeps its stored statistics in any case, so no row reads another.

    Raises ValueError for an unknown name, missing or unfit files, and sizes that the tower cannot take.
    """

    def __init__(
        self,
        name: str | Mapping[str, Any],
        dim: int = 64,
        channels: int = 1,
        size: tuple[int, int] = (224, 224),
        grid: bool = False,
        block: int | None = None,
        frozen: bool | None = None,
        mean: float = 0.5,
        scale: float = 0.25,
        revision: str | None = None,
    ):
        super().__init__()
        if channels not in (1, 3):
            raise ValueError(f"A tower of open_clip reads grey or colour: 1 or 3 channels, got {channels}.")
        self.dim, self.channels, self.size, self.grid = dim, channels, tuple(size), grid
        self._config, weights, self.opened_as = _read(name, revision)
        self.tower = _build(self._config, weights)
        self._given_block, self.block = block, _cut(self.tower, block) if grid else None
        self.frozen = weights is not None if frozen is None else bool(frozen)
        gain, offset = _to_expected(self._config.get("preprocess_cfg") or {}, mean, scale)
        self.register_buffer("gain", gain)
        self.register_buffer("offset", offset)
        width = self._width()
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, dim)
        self.tower.requires_grad_(not self.frozen)
        self.train()

    @classmethod
    def from_schema(
        cls,
        modality: Image,
        dim: int = 64,
        name: str | Mapping[str, Any] = "ViT-B-32",
        grid: bool = False,
        block: int | None = None,
        frozen: bool | None = None,
        revision: str | None = None,
    ) -> OpenClipImageEncoder:
        """For the pictures that a schema describes; they are re-standardised as the tower expects them."""
        look = (modality.mean, modality.scale)
        return cls(name, dim, modality.channels, modality.size, grid, block, frozen, *look, revision)

    @property
    def rebuild(self) -> dict[str, Any]:
        """Options of `from_schema` that build the same tower without its files; its weights come later."""
        return {
            "name": self._config,
            "grid": self.grid,
            "block": self._given_block,
            "frozen": self.frozen,
        }

    def train(self, mode: bool = True) -> OpenClipImageEncoder:
        """As of any module, but a frozen tower and every BatchNorm stay as in evaluation."""
        super().train(mode)
        if self.frozen:
            self.tower.eval()
        for module in self.tower.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def forward(self, pixels: Tensor, views: Tensor) -> Tokens:
        check_views(pixels, views, self.channels)
        check_size(pixels, self.size, what="tower")
        return encode_views(pixels.to(self.project.weight.dtype), views, self._encode)

    def _encode(self, pixels: Tensor) -> Tensor:
        """[pictures channels height width] -> [pictures tokens dim]"""
        return self.project(self.norm(self._features(pixels)))

    def _features(self, pixels: Tensor) -> Tensor:
        """What the tower sees: [pictures channels height width] -> [pictures tokens width]"""
        # a training loop may set requires_grad on every parameter it finds: no gradient, no step
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            pixels = pixels * self.gain + self.offset  # grey becomes [pictures 3 height width] here
            if not self.grid:
                pooled = self.tower(pixels)
                return (pooled[0] if isinstance(pooled, tuple) else pooled).unsqueeze(1)
            found = self.tower.forward_intermediates(
                pixels, indices=[self.block], stop_early=True, intermediates_only=True
            )
            return found["image_intermediates"][0].flatten(2).transpose(1, 2)

    def _width(self) -> int:
        """Width of what the tower gives, found by one black picture."""
        self.tower.eval()
        try:
            with torch.no_grad():
                return self._features(torch.zeros(1, self.channels, *self.size)).shape[2]
        except (RuntimeError, AssertionError, ZeroDivisionError, IndexError) as error:
            own = getattr(getattr(self.tower, "trunk", None), "default_cfg", {}).get("input_size")
            sides = own[1:] if own else getattr(self.tower, "image_size", "unknown")
            raise ValueError(
                f"The tower cannot take pictures of {self.size[0]} x {self.size[1]} pixels ({error}). "
                f"It was made for {plain(sides)}: set the schema's Image(size=...) to that."
            ) from error


def _read(
    name: str | Mapping[str, Any], revision: str | None
) -> tuple[dict[str, Any], Path | None, dict[str, Any] | None]:
    """-> configuration of the tower, its file of weights, and the name by which it can be opened again."""
    if isinstance(name, Mapping):
        return _of_vision(name, "name"), None, None
    open_clip = _open_clip()
    name = str(name)
    if name.startswith(FOLDER):
        folder = Path(name.removeprefix(FOLDER))
    elif name.startswith(HUB):
        folder = _cached(name.removeprefix(HUB), revision)
        revision = folder.name  # a snapshot's folder is called by its commit
    else:
        check_known(name, open_clip.list_models(), what=f'model of open_clip (or "{FOLDER}...", "{HUB}...")')
        return _of_vision({"model_cfg": open_clip.get_model_config(name)}, name), None, None
    try:
        told = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{plain(name, 200)} should hold a readable {CONFIG}. ({error})") from error
    weights = next((folder / file for file in WEIGHTS if (folder / file).is_file()), None)
    if weights is None:
        raise ValueError(
            f"{plain(name, 200)} holds no weights. Put one of {listing(WEIGHTS)} beside {CONFIG}."
        )
    opened = {"name": name, "revision": revision if name.startswith(HUB) else None}
    return _of_vision(told, name), weights, opened


def _cached(model: str, revision: str | None) -> Path:
    """The folder of a hub model in the local cache. Raises ValueError if it is not there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise ValueError(
            f"{plain(model, 200)} is not in the local cache, and nothing is downloaded by itself. Fetch it "
            f'once with huggingface_hub.snapshot_download("{model}"), after reading its licence.'
        ) from error


def _of_vision(told: Any, name: str) -> dict[str, Any]:
    """The part of open_clip_config.json that speaks of the tower, ready for JSON."""
    model = told.get("model_cfg") if isinstance(told, Mapping) else None
    if not isinstance(model, Mapping) or not {"embed_dim", "vision_cfg"} <= set(model):
        raise ValueError(
            f'{plain(name, 200)} should describe a model: {{"model_cfg": {{"embed_dim": ..., "vision_cfg": '
            f'{{...}}}}, "preprocess_cfg": ...}}, got {plain(told)}.'
        )
    kept = {key: model[key] for key in ("embed_dim", "vision_cfg", "quick_gelu") if key in model}
    # timm would fetch weights of its own
    kept["vision_cfg"] = {**kept["vision_cfg"], "timm_model_pretrained": False}
    look = told.get("preprocess_cfg") or {}
    return {
        "model_cfg": kept,
        "preprocess_cfg": {key: list(look[key]) for key in ("mean", "std") if key in look},
    }


def _build(config: Mapping[str, Any], weights: Path | None) -> nn.Module:
    """The vision tower, with all of its stored weights if there are any."""
    open_clip, model = _open_clip(), config["model_cfg"]
    try:
        tower = open_clip.CLIP(
            model["embed_dim"], dict(model["vision_cfg"]), SMALLEST_TEXT, bool(model.get("quick_gelu", False))
        ).visual
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise ValueError(
            f"open_clip cannot build the tower {plain(model['vision_cfg'], 200)}: {error}"
        ) from error
    if weights is not None:
        stored = {key.removeprefix("module."): tensor for key, tensor in read_weights(weights).items()}
        stored = {
            key.removeprefix("visual."): tensor for key, tensor in stored.items() if key.startswith("visual.")
        }
        try:
            tower.load_state_dict(stored)
        except RuntimeError as error:
            raise ValueError(f"{weights} does not fit the {CONFIG} beside it: {error}") from error
    return tower


def _cut(tower: nn.Module, block: int | None) -> int:
    """Drop what comes after a block. -> its number, from the start where something could be dropped."""
    trunk = getattr(tower, "trunk", tower)
    blocks = tower.transformer.resblocks if hasattr(tower, "transformer") else getattr(trunk, "blocks", ())
    if block is None:
        transformer = hasattr(tower, "transformer") or hasattr(trunk, "num_prefix_tokens")
        block = -2 if transformer and len(blocks) > 1 else -1
    if not hasattr(trunk, "prune_intermediate_layers"):
        return block
    try:
        (kept,) = trunk.prune_intermediate_layers([block], prune_norm=True)
    except (AssertionError, IndexError, TypeError) as error:
        raise ValueError(
            f"block should be one of the tower's blocks, got {plain(block)} ({error})."
        ) from error
    if trunk is not tower:
        tower.head = nn.Identity()
    return kept


def _to_expected(look: Mapping[str, Any], mean: float, scale: float) -> tuple[Tensor, Tensor]:
    """gain, offset [3 1 1]: from pixels standardised by mean and scale to those that the tower expects."""
    open_clip = _open_clip()
    expected_mean = torch.tensor(look.get("mean", open_clip.OPENAI_DATASET_MEAN)).reshape(3, 1, 1)
    expected_scale = torch.tensor(look.get("std", open_clip.OPENAI_DATASET_STD)).reshape(3, 1, 1)
    return scale / expected_scale, (mean - expected_mean) / expected_scale


def _open_clip() -> Any:
    torchvision_state()
    try:
        import open_clip
    except ImportError as error:
        raise needs("open_clip_torch", "clip") from error
    return open_clip
