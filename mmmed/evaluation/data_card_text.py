"""The text of a data card: where it lies, its header, its sections, and the counted parts between markers.

<!-- counted: sizes -->
... written by the program, never by hand ...
<!-- end -->

Everything outside the markers is prose and is never touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmmed.checks import plain
from mmmed.evaluation.data_card_headings import CLOSING, OPENING, UNKNOWN, UNWRITTEN
from mmmed.evaluation.scores import Table
from mmmed.models.card import safe

PACKAGE = "mmmed_data_cards"  # the folder data_cards/, as it is called when it is installed
_MARKER = re.compile(r"^<!-- counted: ([a-z ]+) -->\n(.*?)^<!-- end -->$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"[\w .%/+()-]+")


def find_text(name: str) -> str | None:
    """The written card of a cohort: from the installed package, else from the checkout; None if there is
    none."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):  # a name from outside must not become a path
        return None
    places: list[Any] = [resources.files(PACKAGE)] if find_spec(PACKAGE) else []
    places.append(Path(__file__).parents[2] / "data_cards")
    found = next((place / f"{name}.md" for place in places if (place / f"{name}.md").is_file()), None)
    return None if found is None else found.read_text(encoding="utf-8")


def header_of(text: str) -> dict[str, Any]:
    """The YAML header as plain data; empty without one. Raises ValueError where it is no mapping."""
    import yaml  # comes with huggingface_hub

    match = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    if match is None:
        return {}
    try:
        header = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        raise ValueError(f"The header of the card is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(header, Mapping):
        raise ValueError(f"The header of a card should be a mapping of key to value, got {plain(header)}.")
    return dict(header)


def counted_in(text: str) -> dict[str, str]:
    """Name -> content of every counted part of a card."""
    return {match[1]: match[2].strip("\n") for match in _MARKER.finditer(text)}


def refill(text: str, parts: Mapping[str, str]) -> str:
    """The same card with its counted parts written anew; a part of a name that nothing counts is left as it
    is."""

    def fresh(match: re.Match) -> str:
        if match[1] not in parts:
            return match[0]
        return f"{OPENING.format(match[1])}\n{parts[match[1]]}\n{CLOSING}"

    return _MARKER.sub(fresh, text)


def sections_of(text: str) -> dict[str, str]:
    """Heading (###) -> its prose, without the counted parts; only where something is known and written."""
    prose = _MARKER.sub("", text)
    pieces = re.split(r"^### (.+)$", prose, flags=re.MULTILINE)
    found = {}
    for name, body in zip(pieces[1::2], pieces[2::2], strict=True):
        words = re.split(r"^## ", body, maxsplit=1, flags=re.MULTILINE)[0].strip()
        if words and not words.startswith((UNWRITTEN, UNKNOWN)):
            found[name.strip()] = words
    return found


def in_markdown(parts: Iterable[Table | str]) -> str:
    """The content of a counted part: tables and sentences, safe to stand in Markdown and HTML."""
    blocks = []
    for part in parts:
        if isinstance(part, str):
            blocks.append(safe(part))
        elif len(part):
            title = f"**{safe(part.title)}**\n\n" if part.title else ""
            blocks.append(title + _safe_table(part).to_markdown())
    return "\n\n".join(blocks)


def _safe_table(table: Table) -> Table:
    rows = tuple(
        {name: safe(cell) if isinstance(cell, str) else cell for name, cell in row.items()} for row in table
    )
    heads = {name: safe(table.heads.get(name, name)) for name in table.columns}
    return replace(table, rows=rows, heads=heads, notes=tuple(map(safe, table.notes)), draw=None)


def code(name: str) -> str:
    """A name from data in Markdown: as code if it is a plain word, else made safe."""
    return f"`{name}`" if _CODE.fullmatch(name) else safe(name)
