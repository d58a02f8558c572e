"""A schema, a tokenizer and a few names become a report network. Everything it got is kept, so that it can be
saved."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from typing import Any

from torch import nn

from mmmed.catalogue import find
from mmmed.checks import check_count, check_known, listing, plain
from mmmed.encoders.grids import token_grid
from mmmed.heads.findings import FindingHead
from mmmed.language.finding_tables import FindingTable
from mmmed.language.labeller import Labeller
from mmmed.language.language_model import (
    check_language_model,
    describe_language_model,
    language_model_of,
    open_language_model,
    small_llama,
)
from mmmed.language.tokenizer import ReportTokenizer
from mmmed.models.create import build_encoder, build_fusion, named, seeded
from mmmed.models.report_network import STATE, ReportNetwork
from mmmed.types import Image, Schema, Series, Tabular, Text, Volume

SMALL = "small"  # the language model that is learned from scratch
ENCODERS = {  # what a report needs to see: places of a picture and words of a note, not only their summary
    Image: ("cnn", {"grid": True}),
    Volume: ("cnn3d", {"grid": True}),
    Tabular: "mlp",
    Text: ("transformer", {"tokens": True}),
    Series: "irregular",
}
ADAPTERS = {  # many tokens are read by a few queries, single ones are projected
    Image: ("perceiver_adapter", {"queries": 16}),
    Volume: ("perceiver_adapter", {"queries": 27}),
    Tabular: "mlp_adapter",
    Text: ("perceiver_adapter", {"queries": 4}),
    Series: ("perceiver_adapter", {"queries": 4}),
}


def table_for(table: FindingTable, schema: Schema) -> FindingTable:
    """The table with the names that a schema gives to its modalities.

    A table says "image", "text" or "table"; where the schema has modalities of that kind under other names,
    each of them is meant. What the schema lacks is left as it is: such findings cannot be judged.
    """
    kinds = {"image": (Image, Volume), "text": (Text,), "table": (Tabular,)}
    renamed: dict[str, tuple[str, ...]] = {}
    for word, kind in kinds.items():
        own = tuple(name for name, modality in schema.modalities.items() if isinstance(modality, kind))
        if word not in schema.modalities and own:
            renamed[word] = own
    findings = tuple(
        replace(finding, needs=tuple(new for name in finding.needs for new in renamed.get(name, (name,))))
        for finding in table.findings
    )
    otherwise = tuple(new for name in table.otherwise for new in renamed.get(name, (name,)))
    return replace(table, findings=findings, otherwise=otherwise)


def create_network(
    schema: Schema,
    tokenizer: ReportTokenizer | None,
    labeller: Labeller | None,
    *,
    language_model: Any = SMALL,
    encoders: Mapping[str, Any] | None = None,
    adapters: Mapping[str, Any] | str | None = None,
    fusion: Any = None,
    dim: int = 64,
    seed: int = 0,
) -> tuple[ReportNetwork, ReportTokenizer, dict[str, Any]]:
    """-> the network, the tokenizer of its language model, and a description from which both come back.

    language_model: "small", a pair ("small", options of `small_llama`), a name or folder as in
    `open_language_model`, or a pair of a model and its `ReportTokenizer`. encoders, adapters[modality]: a
    catalogue name, a pair (name, options) or a module; one adapter name serves every modality. fusion: a
    catalogue name or a module; its states then fill a slot of their own. Raises ValueError for unknown names.
    """
    check_count(dim, name="dim")
    if not isinstance(encoders or {}, Mapping):
        raise ValueError(f"encoders should be a dict of modality to encoder, got {plain(encoders)}.")
    encoders, adapters = dict(encoders or {}), _per_slot(adapters, schema, fusion)
    for name in encoders:
        check_known(name, schema.modalities, what="modality")
    lm, tokenizer, told = _language_model(language_model, tokenizer, seed)
    width = lm.get_input_embeddings().embedding_dim
    config: dict[str, Any] = {
        "dim": dim,
        "seed": seed,
        "language_model": told,
        "encoders": {},
        "adapters": {},
    }
    with seeded(seed):
        built, grids = {}, {}
        for name, modality in schema.modalities.items():
            part = encoders.get(name, ENCODERS[type(modality)])
            built[name], config["encoders"][name] = _encoder(part, modality, dim)
            grids[name] = token_grid(built[name], modality)
        fused = config["fusion"] = None
        if fusion is not None:
            fused, config["fusion"] = build_fusion(fusion, tuple(schema.modalities), dim, dim)
        ready = {}
        for name in (*built, STATE) if fused is not None else built:
            default = "mlp_adapter" if name == STATE else ADAPTERS[type(schema.modalities[name])]
            if name in built and hasattr(built[name], "crops"):  # a whole and its crops are no views of one
                default = ("slime_adapter", {"crops": built[name].crops})
            ready[name], config["adapters"][name] = _adapter(adapters.get(name, default), dim, width)
        head = None
        if labeller is not None:
            needs = {label: labeller.needs(label) for label in labeller.table.labels}
            places = {name: _places(built[name], grid) for name, grid in grids.items()}
            head = FindingHead(labeller.table.labels, tuple(built), dim, needs, places)
        network = ReportNetwork(built, ready, lm, head, fused, grids, schema)
    return network, tokenizer, config


def _encoder(part: Any, modality: Any, dim: int) -> tuple[nn.Module, dict[str, Any] | None]:
    """An encoder and how to build it again: with a frozen tower that has a name, by that name."""
    encoder, described = build_encoder(part, modality, dim)
    opened = getattr(encoder, "opened_as", None)
    if described is None or not opened or not encoder.frozen:
        return encoder, described
    named_options = {key: value for key, value in opened.items() if value}
    return encoder, {**described, "options": {**described["options"], **named_options}}


def _places(encoder: nn.Module, grid: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """The places of a picture's tokens for a head that learns one by one where to look: the grid, or for a
    whole with its crops all their places in a row."""
    if grid is None or not hasattr(encoder, "crops"):
        return grid
    return (encoder.global_tokens + prod(encoder.crops) * prod(encoder.crop_grid),)


def rebuild_network(
    schema: Schema,
    tokenizer: ReportTokenizer | None,
    labeller: Labeller | None,
    config: Mapping[str, Any],
    parts: Mapping[str, Any] | None = None,
) -> tuple[ReportNetwork, ReportTokenizer, dict[str, Any]]:
    """-> the network that a description speaks of, with weights still to be loaded, its tokenizer, and the
    description of the language model, which may have come from another place.

    parts: what has no name in the description, or is to be taken instead: "encoder:NAME", "adapter:NAME" and
    "fusion" -> module, "language_model" -> what `open_language_model` gives. Raises ValueError for ready-made
    modules that are not handed over, and for parts that there are not.
    """
    parts = dict(parts or {})
    described = {
        **{f"encoder:{name}": item for name, item in config["encoders"].items()},
        **{f"adapter:{name}": item for name, item in config["adapters"].items()},
        **({"fusion": config["fusion"]} if "state" in config["adapters"] else {}),
    }
    for name in parts:
        check_known(name, (*described, "language_model"), what="part")
    if lacking := [name for name, item in described.items() if item is None and name not in parts]:
        raise ValueError(
            f"The generator was built with ready-made modules for {listing(lacking)}. Hand them over again: "
            f"load_model(folder, parts={{{lacking[0]!r}: module}})."
        )

    def part(name: str) -> Any:
        return parts[name] if name in parts else (described[name]["name"], described[name]["options"])

    lm, own = _described_language_model(config["language_model"], parts.get("language_model"))
    network, tokenizer, made = create_network(
        schema,
        tokenizer,
        labeller,
        language_model=(lm, own or tokenizer),
        encoders={name: part(f"encoder:{name}") for name in config["encoders"]},
        adapters={name: part(f"adapter:{name}") for name in config["adapters"]},
        fusion=part("fusion") if "fusion" in described else None,
        dim=config["dim"],
        seed=config["seed"],
    )
    return network, tokenizer, made["language_model"]


def _described_language_model(
    description: Mapping[str, Any], given: Any
) -> tuple[Any, ReportTokenizer | None]:
    """The language model of a description, or the one that was handed over in its place."""
    if description["kind"] != "named":
        if given is not None:
            raise ValueError(
                "The language model of this generator lies in its own folder; leave language_model out of "
                "parts."
            )
        return language_model_of(description)
    if given is not None:
        if not _is_pair(given):
            raise ValueError(
                'parts["language_model"] should be what open_language_model(place) gives, a pair of a model '
                f"and its ReportTokenizer, got {plain(given)}."
            )
        return given
    try:
        return language_model_of(description)
    except ValueError as error:
        raise ValueError(
            f"{error} If it lies elsewhere now, hand it over: load_model(folder, "
            'parts={"language_model": open_language_model(place)}).'
        ) from error


def _per_slot(adapters: Mapping[str, Any] | str | None, schema: Schema, fusion: Any) -> dict[str, Any]:
    slots = (*schema.modalities, STATE) if fusion is not None else tuple(schema.modalities)
    if adapters is None:
        return {}
    if isinstance(adapters, Mapping):
        for name in adapters:
            check_known(name, slots, what="slot of an adapter")
        return dict(adapters)
    return dict.fromkeys(slots, adapters)


def _adapter(part: Any, dim: int, width: int) -> tuple[nn.Module, dict[str, Any] | None]:
    if isinstance(part, nn.Module):
        return part, None
    name, options = named(part, "An adapter")
    name = name if name.endswith("_adapter") else f"{name}_adapter"
    kind = find(name, "adapter").load()
    _check_options(kind, f"adapter {name!r}", dim=dim, width=width, **options)
    return kind(dim=dim, width=width, **options), {"name": name, "options": options}


def _check_options(make: Callable, what: str, **options: Any) -> None:
    """Raise ValueError, with what there is, for options that `make` does not take or misses."""
    known = list(inspect.signature(make).parameters)
    for name in options:
        check_known(name, known, what=f"option of the {what}")
    try:
        inspect.signature(make).bind(**options)
    except TypeError as error:
        raise ValueError(f"The {what} cannot be made: {error}. Give a pair (name, options).") from error


def _is_pair(part: Any) -> bool:
    """Whether it is a language model and its tokenizer. Raises ValueError for a tokenizer of transformers."""
    if not (isinstance(part, tuple) and len(part) == 2 and hasattr(part[0], "get_input_embeddings")):
        return False
    if not isinstance(part[1], ReportTokenizer):
        raise ValueError(
            f"A language model comes with its ReportTokenizer, got {type(part[1]).__name__}. Take the pair "
            "that open_language_model gives, or wrap yours: ReportTokenizer.from_transformers(tokenizer)."
        )
    return True


def _language_model(
    part: Any, tokenizer: ReportTokenizer | None, seed: int
) -> tuple[Any, Any, dict[str, Any]]:
    """-> model, its tokenizer, and how to come by it again."""
    if _is_pair(part):
        lm, own = part
        check_language_model(lm, len(own))
        return lm, own, describe_language_model(lm)
    if isinstance(part, os.PathLike) or (isinstance(part, str) and part != SMALL):
        lm, own = open_language_model(part)
        return lm, own, describe_language_model(lm)
    name, options = named(part, "A language model")
    if name != SMALL or tokenizer is None:
        raise ValueError(
            f'A language model should be "{SMALL}", ("{SMALL}", options), a name or folder, or a pair of a '
            f"model and its ReportTokenizer, got {plain(part)}."
        )
    options = {"seed": seed, **options}
    _check_options(small_llama, "small language model", vocabulary=len(tokenizer), **options)
    lm = small_llama(len(tokenizer), **options)
    return lm, tokenizer, describe_language_model(lm)
