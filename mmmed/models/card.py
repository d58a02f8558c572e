"""The model card: README.md of a saved model, from facts that were measured. What was not measured is not
claimed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmmed.models.conformal import ENOUGH, SET_LEVEL
from mmmed.types.prediction import NOTICE

if TYPE_CHECKING:
    from mmmed.models.multimodal import MultimodalModel


def model_card(model: MultimodalModel) -> str:
    """Markdown with the YAML header that the Hugging Face Hub reads. Names come from data, so nothing can be
    made of them: the card may stand on a page.

    `model.card` may hold: "data" (sentence), "training" (fact -> value), "tables" (title -> Markdown table).
    """
    parameters = sum(p.numel() for p in model.parameters())
    config = model.config or {}
    parts = {
        name: (item["name"] if item else type(model.encoders[name]).__name__)
        for name, item in config.get("encoders", {}).items()
    }
    lines = [
        "---",
        "library_name: mmmed",
        "tags: [medical, multimodal, missing-modalities]",
        "---",
        "",
        "# A multimodal model",
        "",
        f"**{NOTICE}**",
        "",
        f"{parameters:,} parameters; fusion `{type(model.fusion).__name__}`; "
        + ", ".join(f"{safe(name)}: `{part}`" for name, part in parts.items()),
        "",
        "## What it reads and answers",
        "",
        *_listed(str(model.schema)),
        "",
        "Any subset of the inputs may be absent, down to none, where the answer is what is expected of "
        "anybody.",
        "",
        "## Use",
        "",
        "```python",
        "import mmmed",
        'model = mmmed.load_model("this/folder")',
        "prediction = mmmed.predict(model, record)   # a mmmed.Record, or a table row as a dict",
        "```",
    ]
    lines += _calibration(model)
    card = model.card
    lines += _data(card)
    if card.get("training"):
        facts = (f"- {safe(name)}: {safe(str(value))}" for name, value in card["training"].items())
        lines += ["", "## Training", "", *facts]
    lines += _tables(card)
    limits = [
        "Measured on the data named above and nowhere else.",
        "Intervals of probabilities come from re-drawing validation patients; they do not cover a change "
        "of hospital, "
        "device or population.",
    ]
    if model.conformal:
        limits.append(
            f"The sets at {100 * SET_LEVEL:.0f} % keep their promise on average over records like those of "
            "the validation, which also chose when to stop the training; not for each single patient."
        )
    if not model.calibration:
        limits.append("The probabilities were never calibrated.")
    return "\n".join([*lines, "", "## Limits", "", *(f"- {limit}" for limit in limits), ""])


def measured(card: Mapping[str, Any]) -> list[str]:
    """The lines of a model card that say what it learned from, how, and what was measured."""
    lines = _data(card)
    if card.get("training"):
        lines += ["", "## Training", "", "| | |", "|---|---|"]
        lines += [f"| {_cell(name)} | {_cell(str(value))} |" for name, value in card["training"].items()]
    return [*lines, *_tables(card)]


def _data(card: Mapping[str, Any]) -> list[str]:
    return ["", "## Data", "", safe(str(card["data"]))] if card.get("data") else []


def _tables(card: Mapping[str, Any]) -> list[str]:
    """Tables in Markdown, whose cells hold names: no HTML, and no link."""
    lines: list[str] = []
    for title, table in (card.get("tables") or {}).items():
        lines += ["", f"## {safe(title)}", "", table.replace("<", "&lt;").replace("](", "]\\(")]
    return lines


def safe(text: str) -> str:
    """Words that come from data, so that neither Markdown nor HTML nor a marker can be made of them."""
    line = " ".join(text.split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]])", r"\\\1", line)


def _cell(text: str) -> str:
    return safe(text).replace("|", "\\|")


def _listed(text: str) -> list[str]:
    """Lines in columns. Not between fences, which a name of three backticks would end."""
    return ["<pre>", text.replace("&", "&amp;").replace("<", "&lt;"), "</pre>"]


def _calibration(model: MultimodalModel) -> list[str]:
    """How many validation records stand behind each pattern, of the task that has the fewest."""
    fits = {task: fit for task, fit in model.calibration.items() if fit.patterns}
    if not fits:
        return []
    task = min(fits, key=lambda name: fits[name].records)
    lines = [
        "",
        "## Calibration",
        "",
        f"Validation records with at least these inputs ({safe(task)}). A pattern with fewer than {ENOUGH} "
        f"takes its {100 * SET_LEVEL:.0f} % sets from all patterns together.",
        "",
        "| inputs | records |",
        "| --- | ---: |",
    ]
    for pattern, fit in fits[task].patterns.items():
        names = [name for name, here in zip(model.modalities, pattern, strict=False) if here]
        lines.append(f"| {_cell(' + '.join(names) or 'nothing')} | {fit.records} |")
    return lines
