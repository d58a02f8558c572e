"""Data cards on the command line: print one, write its counted parts anew, or check that it still agrees with
the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmmed.evaluation.scores import write_whole

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort
    from mmmed.evaluation.data_card import DataCard


def make_card(source: str, cohort: Cohort, output: Path | None) -> DataCard:
    """The card of a cohort: with the prose of `output` if that file is there, else of the package."""
    from mmmed.data.folders import KNOWN
    from mmmed.evaluation.data_card import data_card
    from mmmed.evaluation.data_card_text import find_text

    text = None
    if output is not None and output.is_file() and output.suffix != ".json":
        text = output.read_text(encoding="utf-8")
    elif source in KNOWN:
        text = find_text(source)
    return data_card(cohort, text)


def deliver(card: DataCard, croissant: bool, as_json: bool, output: Path | None) -> Any:
    """What is printed: the card, its Croissant form or its parts; or, with a file, where it was written."""
    if croissant and as_json:
        raise ValueError("--croissant is JSON already; leave out --json.")
    content = card.to_croissant() if croissant else card.to_dict() if as_json else card.to_markdown()
    if output is None:
        return content
    if not isinstance(content, str) and output.suffix == ".md":
        raise ValueError(f"{output} is a card; JSON would replace its prose. Name a .json file.")
    text = content if isinstance(content, str) else json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    write_whole(output, text.encode())
    return {"written": str(output)} if as_json else f"Written: {output}"


def compare(card: DataCard, as_json: bool) -> tuple[Any, int]:
    """What `--check` says, and its exit code."""
    found = card.differences()
    said = "\n".join(found) or f"The card of {card.name} agrees with the data."
    return {"differences": list(found)} if as_json else said, int(bool(found))
