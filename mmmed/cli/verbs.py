"""Which verb a saved model answers to: it predicts, writes reports, or draws masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

DOES = {"report": "writes reports", "segment": "draws masks", "predict": "predicts"}


def check_verb(loaded: Any, asked: str, model: Path, what: object) -> None:
    """Raise ValueError that names the right command. what: the second word of the command."""
    right = "predict"
    right = "report" if hasattr(loaded, "generate") else right
    right = "segment" if hasattr(loaded, "segment") else right
    if right != asked:
        more = ' --phrase "..."' if right == "segment" else ""
        raise ValueError(
            f"{model} {DOES[right]} and cannot be asked to {asked}: use mmmed {right} {model} {what}{more}."
        )
