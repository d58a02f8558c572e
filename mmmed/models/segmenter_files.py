"""A referring segmenter as a folder: config.json, schema.json, phrases.json, model.safetensors, README.md.

A foreign tokenizer lies beside it as tokenizer.json, and the report generator whose language model reads the
phrases in reporter/, whole. Nothing is unpickled.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmmed.checks import check_known, listing
from mmmed.data.tokenization import tokenizer_of
from mmmed.models.card import measured
from mmmed.models.folder import (
    SEGMENTER_KIND,
    check_whole,
    read_folder,
    read_json,
    write_folder,
    write_json,
)
from mmmed.models.phrase_reader import ClassReader, Reader, StateReader, WordReader, query_module
from mmmed.models.referring_segmenter import ReferringSegmenter
from mmmed.models.segmentation_create import create_network
from mmmed.types import Schema, Text
from mmmed.types.prediction import NOTICE

FORMAT = 1
_WEIGHTS, _SCHEMA, _PHRASES, _TOKENIZER = "model.safetensors", "schema.json", "phrases.json", "tokenizer.json"
_REPORTER = "reporter"


def save_segmenter(segmenter: ReferringSegmenter, folder: str | os.PathLike[str]) -> None:
    """Write the folder whole or not at all; an existing model folder is replaced, anything else left alone.

    Raises ValueError for a segmenter that was put together by hand: its parts have no names to come back by.
    """
    from safetensors.torch import save_file

    if not segmenter.config:
        raise ValueError(
            "This segmenter was put together by hand, so its parts have no names. Make it by "
            "ReferringSegmenter.from_cohort, or save its network with safetensors.torch.save_file."
        )

    def write(fresh: Path) -> dict[str, Any]:
        reader = segmenter.reader
        save_file(_weights(segmenter.network), fresh / _WEIGHTS)
        segmenter.schema.save(fresh / _SCHEMA)
        write_json(fresh / _PHRASES, reader.to_dict())
        if isinstance(reader, WordReader) and reader.text.tokenizer is not None:
            tokenizer_of(reader.text).save(str(fresh / _TOKENIZER))
        if isinstance(reader, StateReader):
            reader.reporter.save_pretrained(fresh / _REPORTER)
        (fresh / "README.md").write_text(segmenter_card(segmenter), encoding="utf-8")
        return {
            "format": FORMAT,
            "kind": SEGMENTER_KIND,
            "model": _portable(segmenter.config),
            "threshold": segmenter.threshold,
            "card": segmenter.card,
        }

    hashed = (_WEIGHTS, _SCHEMA, _PHRASES, _TOKENIZER, f"{_REPORTER}/config.json")
    write_folder(folder, write, hashed=hashed)


def _weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """Copies, because safetensors refuses tensors that share memory."""
    state = network.state_dict()
    return {k: v.detach().clone(memory_format=torch.contiguous_format) for k, v in state.items()}


def _portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Without the files that first weights came from: they are in the saved model, and may be gone."""
    name, options = config["pyramid"]
    kept = {key: value for key, value in options.items() if key != "weights"}
    return {**config, "pyramid": [name, kept]}


def read_segmenter(
    folder: str | os.PathLike[str], parts: Mapping[str, Any] | None = None
) -> ReferringSegmenter:
    """The segmenter that a folder holds, see `load_segmenter`. Raises ValueError if it holds another kind."""
    folder, config = read_folder(folder, {SEGMENTER_KIND: FORMAT})
    return load_segmenter(folder, config, parts)


def load_segmenter(
    folder: Path, config: Mapping[str, Any], parts: Mapping[str, Any] | None = None
) -> ReferringSegmenter:
    """Read what `save_segmenter` wrote; the masks are equal bit by bit.

    parts: "query" -> the module that was handed over ready-made; "language_model", "encoder:NAME" and so on
    for a report generator that reads the phrases. Raises ValueError for files that are missing, altered or
    of a newer format.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_whole(folder, config, (_WEIGHTS, _SCHEMA, _PHRASES))
    parts, described = dict(parts or {}), read_json(folder / _PHRASES)
    try:
        reader = _reader(folder, config, described, parts)
        segmenter = _rebuild(folder, config, reader, parts.get("query"))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder / 'config.json'} describes no segmenter that this release can build: {error!r}. Copy "
            "the folder again, or update mmmed."
        ) from error
    try:
        segmenter.network.load_state_dict(load_file(folder / _WEIGHTS))
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"{folder / _WEIGHTS} does not fit the segmenter that config.json describes: {error}"
        ) from error
    return segmenter


def _reader(
    folder: Path, config: Mapping[str, Any], described: Mapping[str, Any], parts: Mapping[str, Any]
) -> Reader:
    """How phrases are read."""
    kind = check_known(described["kind"], ("words", "classes", "states"), what="reader of phrases")
    if kind == "states":
        from mmmed.models.files import load_model

        check_whole(folder, config, (f"{_REPORTER}/config.json",))
        theirs = {name: part for name, part in parts.items() if name != "query"}
        return StateReader(load_model(folder / _REPORTER, theirs))
    for name in parts:
        check_known(name, ("query",), what="part")
    if kind == "classes":
        return ClassReader(described["categories"], described["acquisitions"])
    if not described["tokenizer"]:
        return WordReader(Text("phrase", described["length"], tuple(described["vocabulary"])))
    check_whole(folder, config, (_TOKENIZER,))
    tokenizer_of.cache_clear()  # another model may have lain in this folder
    return WordReader(Text("phrase", described["length"], tokenizer=str(folder)))


def _rebuild(
    folder: Path, config: Mapping[str, Any], reader: Reader, query: nn.Module | None
) -> ReferringSegmenter:
    """The segmenter that config.json speaks of, with weights still to be loaded."""
    told = dict(config["model"])
    described = told.pop("query")
    if described is None and query is None:
        raise ValueError(
            "The segmenter was built with a ready-made module that reads its phrases. Hand it over again: "
            'load_model(folder, parts={"query": module}).'
        )
    if query is None:
        query = query_module(reader, described, told["dim"], told["seed"])
    schema = Schema.load(folder / _SCHEMA)
    modalities = tuple(told.pop("modalities"))
    network, made = create_network(
        schema,
        modalities,
        query=query,
        **{**told, "pyramid": tuple(told["pyramid"]), "fusion": tuple(told["fusion"])},
    )
    segmenter = ReferringSegmenter(network, schema, reader, modalities, config["threshold"])
    segmenter.config = {**made, "query": described}
    segmenter.card = dict(config.get("card") or {})
    return segmenter


def segmenter_card(segmenter: ReferringSegmenter) -> str:
    """The model card in Markdown, from facts that were measured."""
    network, card, config = segmenter.network, segmenter.card, segmenter.config
    reads = {
        "words": "all words of a phrase",
        "classes": "the name of a class, and of how the picture was made; no other word",
        "states": "a phrase, by the language model of the report generator in reporter/",
    }[segmenter.reader.kind]
    lines = [
        "---",
        "library_name: mmmed",
        "tags: [medical, multimodal, missing-modalities, referring-segmentation]",
        "---",
        "",
        "# A referring segmenter",
        "",
        f"**{NOTICE}** A mask looks equally sure where it is wrong; read it on the picture.",
        "",
        f"{sum(p.numel() for p in network.parameters()):,} parameters; draws on "
        f"{listing(segmenter.modalities)}; reads {reads}; words meet pixels by `{config['fusion'][0]}`, maps "
        f"come from `{config['pyramid'][0]}`.",
        *(
            ["", "It learned where things are from their presence alone: its masks are what speaks for them."]
            if segmenter.weak
            else []
        ),
        "",
        "A phrase whose presence is below the threshold "
        f"({segmenter.threshold:.2g}) is answered by an empty mask. Any of several sequences may be absent; "
        "without any, nothing is drawn. Sides, kinds of picture and words that training did not have are "
        "not to be relied on: an answer notes the words that it never saw.",
        "",
        "```text",
        str(segmenter.schema),
        "```",
        "",
        "```python",
        "import mmmed",
        'segmenter = mmmed.load_model("this/folder")',
        'mask = segmenter.segment("picture.png", "the lesion on the left")',
        "mask.present, mask.presence, mask.size, mask.overlay()",
        "```",
    ]
    return "\n".join([*lines, *measured(card), ""])
