"""The model card: README.md of a saved model, from facts that were measured. What was not measured is not
claimed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmmed.models.conformal import ENOUGH, SET_LEVEL
from mmmed.types.prediction import NOTICE

if TYPE_CHECKING:
    from mmmed.models.multimodal import MultimodalModel


def model_card(model: MultimodalModel) -> str:
    """Markdown with the YAML header that the Hugging Face Hub reads.

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
        + ", ".join(f"{name}: `{part}`" for name, part in parts.items()),
        "",
        "## What it reads and answers",
        "",
        "```text",
        str(model.schema),
        "```",
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
    if card.get("data"):
        lines += ["", "## Data", "", str(card["data"])]
    if card.get("training"):
        lines += ["", "## Training", "", *(f"- {fact}: {value}" for fact, value in card["training"].items())]
    for title, table in card.get("tables", {}).items():
        lines += ["", f"## {title}", "", table]
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
    lines: list[str] = []
    if card.get("data"):
        lines += ["", "## Data", "", str(card["data"])]
    if card.get("training"):
        lines += ["", "## Training", "", "| | |", "|---|---|"]
        lines += [f"| {name} | {value} |" for name, value in card["training"].items()]
    for title, table in (card.get("tables") or {}).items():
        lines += ["", f"## {title}", "", table]
    return lines


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
        f"Validation records with at least these inputs (`{task}`). A pattern with fewer than {ENOUGH} takes "
        f"its {100 * SET_LEVEL:.0f} % sets from all patterns together.",
        "",
        "| inputs | records |",
        "| --- | ---: |",
    ]
    for pattern, fit in fits[task].patterns.items():
        names = [name for name, here in zip(model.modalities, pattern, strict=False) if here]
        lines.append(f"| {' + '.join(names) or 'nothing'} | {fit.records} |")
    return lines
