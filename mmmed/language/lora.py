"""LoRA on a language model alone: low-rank additions to its linear layers, a file of their own.

W x becomes W x + alpha/rank B A x with W frozen, A [rank in] random and B [out rank] zero, so that nothing
has changed before the first step. Source: Hu et al., arXiv:2106.09685, sec. 4; DoRA, which learns the
length of each row of W apart from its direction: Liu et al., arXiv:2402.09353. The layers are those of
peft; the additions stand inside the model, whose class stays what it was. What is put before it (encoders,
adapters) is never touched.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mmmed.backbones.torchvision_guard import torchvision_state
from mmmed.checks import MissingFile, check_count, check_share, listing, needs, plain

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."  # peft's own files have it, and so peft reads ours


def add_lora(
    lm: PreTrainedModel,
    rank: int = 16,
    alpha: float = 32,
    dropout: float = 0.05,
    dora: bool = False,
    generator: torch.Generator | None = None,
) -> list[str]:
    """Add LoRA to every linear layer except the last one, which makes words, and freeze all else; the names
    of what is now trained.

    rank, alpha: the size of the additions, and their weight alpha/rank. dora: also learn the length of each
    row. generator: draws A; without one, seed 0. Called before a report generator is trained, it chooses what
    the LoRA stage learns: add_lora(reporter.network.language_model, rank=8, dora=True). Raises ValueError if
    there is LoRA already.
    """
    check_count(rank, name="rank")
    check_share(dropout, name="dropout")
    check_alpha(alpha)
    _check_has_none(lm)
    layers = linear_layers(lm)
    if not layers:
        raise ValueError(f"{type(lm).__name__} has no linear layers that LoRA could be added to.")
    config = _peft("LoraConfig")(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        use_dora=dora,
        target_modules=sorted({name.rpartition(".")[2] for name in layers}),
        task_type="CAUSAL_LM",
        base_model_name_or_path=(getattr(lm, "opened_as", None) or {}).get("name"),
    )
    with torch.random.fork_rng(devices=[]):
        _peft("inject_adapter_in_model")(config, lm)
    _draw(lm, generator or torch.Generator().manual_seed(0))
    lm.train(lm.training)  # the new layers follow the model, which may be at rest
    return [name for name, parameter in lm.named_parameters() if parameter.requires_grad]


def has_lora(lm: nn.Module) -> bool:
    """Whether LoRA has been added."""
    return any(".lora_A." in name for name, _ in lm.named_parameters())


def _check_has_none(lm: PreTrainedModel) -> None:
    if has_lora(lm):
        raise ValueError("The language model has LoRA already. Merge it first with merge_lora(lm).")


def lora_settings(lm: PreTrainedModel) -> dict[str, Any] | None:
    """The arguments of `add_lora` that a model's LoRA was made with; None if there is none."""
    if not has_lora(lm):
        return None
    config = lm.peft_config["default"]
    return {
        "rank": config.r,
        "alpha": config.lora_alpha,
        "dropout": config.lora_dropout,
        "dora": config.use_dora,
    }


def linear_layers(lm: PreTrainedModel) -> dict[str, nn.Linear]:
    """Name -> linear layer, without the one that makes words."""
    last = lm.get_output_embeddings()
    return {
        name: layer
        for name, layer in lm.named_modules()
        if isinstance(layer, nn.Linear) and layer is not last
    }


def save_lora(lm: PreTrainedModel, folder: str | os.PathLike[str]) -> None:
    """Write adapter_model.safetensors and adapter_config.json, which `peft.PeftModel.from_pretrained` reads
    too. Raises ValueError if there is no LoRA."""
    from safetensors.torch import save_file

    if not has_lora(lm):
        raise ValueError("The language model has no LoRA to save. Add it with add_lora(lm).")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {PREFIX + name: tensor.detach().cpu().contiguous() for name, tensor in _weights(lm).items()}
    save_file(weights, str(folder / WEIGHTS), metadata={"format": "pt"})
    settings = lm.peft_config["default"].to_dict()
    text = json.dumps(settings, indent=2, sort_keys=True, default=_as_json)
    (folder / SETTINGS).write_text(text + "\n", encoding="utf-8")


def load_lora(lm: PreTrainedModel, folder: str | os.PathLike[str]) -> None:
    """Add the LoRA that `save_lora` wrote, bit for bit. Raises ValueError, before anything is changed, if a
    file is missing or was made for another language model."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    for name in (WEIGHTS, SETTINGS):
        if not (folder / name).is_file():
            raise MissingFile(f"No {name} in the folder {str(folder)!r}. Give one that save_lora wrote.")
    _check_has_none(lm)
    settings = _read_settings(folder / SETTINGS)
    try:
        weights = load_file(str(folder / WEIGHTS))
    except SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS} cannot be read: {error}. Copy the folder again.") from error
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in weights.items()}
    _check_fit(lm, weights, settings["rank"], settings["dora"])
    add_lora(lm, **settings)
    _peft("set_peft_model_state_dict")(lm, weights)


def _read_settings(path: Path) -> dict[str, Any]:
    """The arguments of `add_lora` from the settings as peft writes them."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {
            "rank": check_count(stored["r"], name="r"),
            "alpha": check_alpha(stored["lora_alpha"]),
            "dropout": check_share(stored["lora_dropout"], name="lora_dropout"),
            "dora": bool(stored.get("use_dora")),
        }
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no settings of LoRA: {error!r}. Save it again.") from error


def merge_lora(lm: PreTrainedModel) -> PreTrainedModel:
    """Put the additions into the weights themselves; the model is the same function and has no LoRA any more.

    It is then no longer the model that its name opens, so its weights must be saved whole.
    """
    if not has_lora(lm):
        raise ValueError("The language model has no LoRA to merge.")
    layer_of = _peft("tuners.lora.LoraLayer")
    for name, layer in list(lm.named_modules()):
        if isinstance(layer, layer_of):
            layer.merge(safe_merge=True)
            parent, _, own = name.rpartition(".")
            setattr(lm.get_submodule(parent), own, layer.get_base_layer())
    del lm.peft_config
    lm.opened_as = None
    return lm


def check_alpha(alpha: float) -> float:
    """Return a positive number."""
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 < alpha < float("inf"):
        raise ValueError(f"alpha should be a positive number, got {plain(alpha)}.")
    return alpha


def _check_fit(lm: PreTrainedModel, weights: dict[str, Tensor], rank: int, dora: bool) -> None:
    wanted: dict[str, tuple[int, ...]] = {}
    for name, layer in linear_layers(lm).items():
        wanted[f"{name}.lora_A.weight"] = (rank, layer.in_features)
        wanted[f"{name}.lora_B.weight"] = (layer.out_features, rank)
        if dora:
            wanted[f"{name}.lora_magnitude_vector"] = (layer.out_features,)
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        raise ValueError(
            f"This LoRA was made for another language model: {listing(wrong, 3)} do not fit "
            f"{type(lm).__name__}. Open the model it was trained with."
        )


def _weights(lm: PreTrainedModel) -> dict[str, Tensor]:
    return _peft("get_peft_model_state_dict")(lm, save_embedding_layers=False)


@torch.no_grad()
def _draw(lm: PreTrainedModel, generator: torch.Generator) -> None:
    """A of every layer as peft draws it, uniform to 1/sqrt(in), but from a generator."""
    for name, parameter in lm.named_parameters():
        if ".lora_A." in name:
            bound = parameter.shape[1] ** -0.5
            drawn = torch.empty(parameter.shape, dtype=torch.float32).uniform_(
                -bound, bound, generator=generator
            )
            parameter.copy_(drawn)


def _as_json(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise ValueError(f"A setting of LoRA cannot be written: {plain(value)}.")


def _peft(name: str) -> Any:
    """A name of peft, imported when it is used."""
    torchvision_state()
    try:
        import peft
    except ImportError as error:
        raise needs("peft", "language") from error
    found: Any = peft
    for part in name.split("."):
        found = getattr(found, part)
    return found
