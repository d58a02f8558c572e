"""A report generator as a folder: config.json, schema.json, findings.json, the tokenizer, model.safetensors,
lora/, README.md.

Of a language model that came by a name only the name and revision are kept, with what training added to it
(LoRA, in peft's own layout); one from scratch, or one whose own weights have learned, is saved whole. Nothing
is unpickled.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmmed.checks import listing, plain
from mmmed.language.finding_tables import FindingTable
from mmmed.language.labeller import Labeller
from mmmed.language.language_model import (
    describe_language_model,
    digest_of_weights,
    forget_name_if_changed,
    is_named,
)
from mmmed.language.lora import SETTINGS as LORA_SETTINGS
from mmmed.language.lora import WEIGHTS as LORA_WEIGHTS
from mmmed.language.lora import has_lora, load_lora, save_lora
from mmmed.language.prompt import Prompt
from mmmed.language.tokenizer import FILE as TOKENIZER
from mmmed.language.tokenizer import SETTINGS as TOKENIZER_SETTINGS
from mmmed.language.tokenizer import ReportTokenizer
from mmmed.models.card import measured
from mmmed.models.folder import REPORT_KIND, check_whole, read_json, write_folder, write_json
from mmmed.models.report_create import rebuild_network
from mmmed.models.report_generator import ReportGenerator
from mmmed.types import Schema
from mmmed.types.prediction import NOTICE

FORMAT = 1
_WEIGHTS, _SCHEMA, _FINDINGS = "model.safetensors", "schema.json", "findings.json"
_TOKENIZER = (TOKENIZER, TOKENIZER_SETTINGS)
_LORA = (f"lora/{LORA_WEIGHTS}", f"lora/{LORA_SETTINGS}")


def save_report_generator(reporter: ReportGenerator, folder: str | os.PathLike[str]) -> None:
    """Write the folder whole or not at all; an existing model folder is replaced, anything else left alone.

    Raises ValueError for a generator that was put together by hand: its parts have no names to come back by.
    """
    from safetensors.torch import save_file

    if not reporter.config:
        raise ValueError(
            "This generator was put together by hand, so its parts have no names. Make it by "
            "ReportGenerator.from_cohort, or save its network with safetensors.torch.save_file."
        )
    lm = reporter.network.language_model
    forget_name_if_changed(lm)
    model = {**reporter.config, "language_model": describe_language_model(lm)}

    def write(fresh: Path) -> dict[str, Any]:
        save_file(_weights(reporter), fresh / _WEIGHTS)
        if has_lora(lm):
            save_lora(lm, fresh / "lora")
        if not is_named(lm):
            reporter.tokenizer.save(fresh)
        reporter.schema.save(fresh / _SCHEMA)
        table = None if reporter.labeller is None else reporter.labeller.table.to_dict()
        write_json(fresh / _FINDINGS, {"table": table})
        (fresh / "README.md").write_text(report_card(reporter), encoding="utf-8")
        return {
            "format": FORMAT,
            "kind": REPORT_KIND,
            "model": model,
            "target": reporter.target,
            "prompt": reporter.prompt.template,
            "blind": reporter.blind,
            "threshold": reporter.threshold,
            "lora": has_lora(lm),
            "language_model_sha256": digest_of_weights(lm) if is_named(lm) else None,
            "card": reporter.card,
        }

    write_folder(folder, write, hashed=(_WEIGHTS, _SCHEMA, _FINDINGS, *_TOKENIZER, *_LORA))


def _weights(reporter: ReportGenerator) -> dict[str, Tensor]:
    """Copies of all weights that lie in no other file: not those of a named language model, nor its LoRA."""
    return {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in reporter.network.own_state().items()
        if "lora_" not in name
    }


def load_report_generator(
    folder: Path, config: Mapping[str, Any], parts: Mapping[str, Any] | None = None
) -> ReportGenerator:
    """Read what `save_report_generator` wrote; it writes the same reports, word by word.

    parts: what is not in the folder and has no name there: "encoder:NAME", "adapter:NAME", "fusion" -> the
    ready-made module; "language_model" -> what `open_language_model` gives, if it lies elsewhere now. Raises
    ValueError for files that are missing, altered or of a newer format, and for another language model than
    the one it was trained with.
    """
    try:
        named = config["model"]["language_model"]["kind"] == "named"
        more = (*(() if named else _TOKENIZER), *(_LORA if config["lora"] else ()))
        check_whole(folder, config, (_WEIGHTS, _SCHEMA, _FINDINGS, *more))
        reporter = _rebuild(folder, config, None if named else ReportTokenizer.load(folder), parts)
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f"{folder / 'config.json'} describes no generator that this release can build: {error!r}. Copy "
            "the folder again, or update mmmed."
        ) from error
    lm = reporter.network.language_model
    if named and config.get("language_model_sha256") not in (None, digest_of_weights(lm)):
        raise ValueError(
            f"The language model {plain(reporter.config['language_model'].get('name'))} is not the one that "
            "this generator was trained with: its weights differ. Open the revision or the folder of then."
        )
    if config["lora"]:
        load_lora(lm, folder / "lora")
    _load_weights(reporter, folder, named)
    return reporter


def _rebuild(
    folder: Path,
    config: Mapping[str, Any],
    tokenizer: ReportTokenizer | None,
    parts: Mapping[str, Any] | None,
) -> ReportGenerator:
    """The generator that config.json speaks of, with weights still to be loaded."""
    schema = Schema.load(folder / _SCHEMA)
    table = read_json(folder / _FINDINGS)["table"]
    labeller = None if table is None else Labeller(FindingTable.from_dict(table))
    network, tokenizer, told = rebuild_network(schema, tokenizer, labeller, config["model"], parts)
    prompt = Prompt(config["prompt"], network.slots)
    reporter = ReportGenerator(
        network, schema, tokenizer, labeller, config["target"], prompt, bool(config["blind"])
    )
    reporter.threshold = config["threshold"]
    if not isinstance(reporter.threshold, int | float | None):
        raise ValueError(f"threshold in config.json should be a number, got {plain(reporter.threshold)}.")
    reporter.config = {**config["model"], "language_model": told}
    reporter.card = dict(config.get("card") or {})
    return reporter


def _load_weights(reporter: ReportGenerator, folder: Path, named: bool) -> None:
    """Put the saved weights in. What lies in lora/ or came with a named language model is there already."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    network = reporter.network
    try:
        there = {
            name: tensor
            for name, tensor in network.own_state().items()
            if "lora_" in name or (named and name.startswith("language_model."))
        }
        network.load_own_state({**there, **load_file(folder / _WEIGHTS)})
    except (RuntimeError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"{folder / _WEIGHTS} does not fit the generator that config.json describes: {error}"
        ) from error


def report_card(reporter: ReportGenerator) -> str:
    """The model card in Markdown, from facts that were measured."""
    network, card = reporter.network, reporter.card
    told = describe_language_model(network.language_model)
    lm = told["name"] if told["kind"] == "named" else "a Llama whose own weights learned, saved whole"
    findings = "none" if reporter.labeller is None else listing(reporter.labeller.table.labels, 20)
    lines = [
        "---",
        "library_name: mmmed",
        "tags: [medical, multimodal, missing-modalities, report-generation]",
        "---",
        "",
        "# A report generator",
        "",
        f"**{NOTICE}** A report by a language model can be fluent and false; read it beside the picture.",
        *(
            ["", "**Blind: it reads no input of any patient; for comparison only.**"]
            if reporter.blind
            else []
        ),
        "",
        f"{sum(p.numel() for p in network.parameters()):,} parameters; language model: {lm}; learned from "
        f"the column `{reporter.target}`; findings it was taught to see: {findings}.",
        "",
        "Any subset of the inputs may be absent; a record of which nothing is there gets no report. "
        + (
            "Nothing checks whether a sentence needs an input that is absent."
            if reporter.labeller is None
            else "A sentence that states a finding which only an absent input could show is withheld."
        ),
        "",
        "```text",
        str(reporter.schema),
        "```",
        "",
        "```python",
        "import mmmed",
        'reporter = mmmed.load_model("this/folder")',
        "report = reporter.generate(record)   # a mmmed.Record, or a table row as a dict",
        "```",
    ]
    return "\n".join([*lines, *measured(card), ""])
