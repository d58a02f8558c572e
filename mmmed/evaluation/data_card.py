"""Data cards: what must be known about a cohort before anything is concluded from it.

Prose is written by people and lies in data_cards/NAME.md; whatever can be counted is counted from the cohort,
between markers. `differences` recounts, so a card cannot drift from its data.

    card = data_card("synthetic")
    card.to_markdown(), card.to_croissant(), card.differences()
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from mmmed.checks import check_count
from mmmed.evaluation import data_card_baselines as measured
from mmmed.evaluation import data_card_columns as described
from mmmed.evaluation import data_card_counts as counts
from mmmed.evaluation import data_card_files as files
from mmmed.evaluation.data_card_compare import differences
from mmmed.evaluation.data_card_counts import Part
from mmmed.evaluation.data_card_headings import HEADINGS, blank
from mmmed.evaluation.data_card_text import (
    counted_in,
    find_text,
    header_of,
    in_markdown,
    refill,
    safe,
    sections_of,
)
from mmmed.evaluation.scores import Table

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort

TOLERANT = ("presence", "leaks", "confounders", "baselines")  # the measured parts; all others are exact


@dataclass(frozen=True, eq=False)
class DataCard:
    """A card and what is counted for it.

    text: as it is written, "" where nobody wrote one. cohort: what is counted. draws, seed: of the intervals.
    """

    name: str
    text: str
    cohort: Cohort = field(repr=False)
    draws: int = 1000
    seed: int = 0

    @cached_property
    def counted(self) -> dict[str, Part]:
        """Part -> tables and sentences, counted from the cohort when they are first asked for."""
        counters = _counters(self.cohort, self.draws, self.seed)
        return {name: count(self.cohort) for name, count in counters.items()}

    @property
    def header(self) -> dict[str, Any]:
        """The YAML header as plain data."""
        return header_of(self.text)

    @property
    def sections(self) -> dict[str, str]:
        """Heading -> prose; headings without any are left out."""
        return sections_of(self.text)

    def to_markdown(self) -> str:
        """The card with everything countable written anew; what nobody wrote is said to be not written."""
        text = self.text or blank(f"Data card of {safe(self.name)}", self.counted)
        return refill(text, self._parts())

    def _parts(self) -> dict[str, str]:
        return {name: in_markdown(part) for name, part in self.counted.items()}

    def differences(self) -> tuple[str, ...]:
        """One sentence for each place where the written card and the data disagree."""
        if not self.text:
            return (f"{self.name} has no written card.",)
        written, fresh = counted_in(self.text), self._parts()
        found = [f"{n}: the card has this part, but nothing counts it." for n in written if n not in fresh]
        for name, text in fresh.items():
            if name not in written:
                found.append(
                    f"{name}: the card has no place for it. Add <!-- counted: {name} --> and <!-- end -->."
                )
                continue
            tolerance = measured.TOLERANCE if name in TOLERANT else 0.0
            found += differences(name, written[name], text, tolerance)
        return tuple(found)

    def to_croissant(self) -> dict[str, Any]:
        """Croissant 1.0 (JSON-LD) with the RAI keys that the card has text for."""
        from mmmed.evaluation.croissant import croissant

        return croissant(self)

    def to_dict(self) -> dict[str, Any]:
        """Name, header, prose by heading, and the counted parts as plain rows."""
        parts = {
            name: [
                piece if isinstance(piece, str) else {"title": piece.title, "rows": piece.to_rows()}
                for piece in part
            ]
            for name, part in self.counted.items()
        }
        return {"name": self.name, "header": _json(self.header), "sections": self.sections, "counted": parts}

    def __str__(self) -> str:
        return self.to_markdown()

    def __repr__(self) -> str:
        return f"DataCard({self.name!r}, {len(self.sections)} of {len(HEADINGS)} headings written)"

    def _repr_markdown_(self) -> str:
        """Without the header, which notebooks would show as a heading."""
        return re.sub(r"\A---\n.*?\n---\n", "", self.to_markdown(), count=1, flags=re.DOTALL)

    def _repr_html_(self) -> str:
        """Headings, prose as it is written, counted tables; every text is escaped."""
        written, lines = self.sections, [f"<h2>{html.escape(self.name)}</h2>"]
        for name, heading in HEADINGS.items():
            parts = [piece for part in heading.parts for piece in self.counted.get(part, [])]
            if name in written or parts:
                lines.append(f"<h4>{html.escape(name)}</h4>")
                lines += [
                    f"<p>{html.escape(text)}</p>" for text in written.get(name, "").split("\n\n") if text
                ]
                lines += [_in_html(piece) for piece in parts]
        return f'<div style="font:14px/1.45 system-ui,sans-serif;max-width:60em">{"".join(lines)}</div>'


def _in_html(piece: Table | str) -> str:
    return f"<p>{html.escape(piece)}</p>" if isinstance(piece, str) else piece._repr_html_()


def data_card(cohort: Cohort | str, text: str | None = None, draws: int = 1000, seed: int = 0) -> DataCard:
    """Count a cohort and put what was counted into its card.

    cohort: a name for `load_cohort`, or a cohort. text: the written card, in place of the one that comes with
    the package for a known cohort (a cohort of one's own has none until it is written). draws, seed: of the
    intervals. Raises ValueError for an empty cohort.
    """
    from mmmed.data.folders import KNOWN, load_cohort

    if isinstance(cohort, str):
        name, cohort = cohort, load_cohort(cohort)
        written = find_text(name) or ""
    else:
        name = cohort.name
        written = (find_text(name) or "") if name in KNOWN else ""
        if not _is_of(written, cohort):
            written = ""
    check_count(len(cohort), name="The number of records in the cohort")
    text = written if text is None else text
    check_count(draws, name="draws")
    check_count(seed, name="seed", least=0)
    return DataCard(name, text, cohort, draws, seed)


def _is_of(text: str, cohort: Cohort) -> bool:
    """Is a card about this cohort, not about another one of that name? It then names every column, and
    knows the answer only of patients who do not exist."""
    parts = counted_in(text)
    if "known answer" in parts and cohort.truth is None:
        return False
    return all(f"| {safe(name)} |" in parts.get("columns", "") for name in cohort.source.columns)


def _counters(cohort: Cohort, draws: int, seed: int) -> dict[str, Callable[[Cohort], Part]]:
    """Counted part -> what counts it, in the order of the headings."""
    how = {"draws": draws, "seed": seed}
    found: dict[str, Callable[[Cohort], Part]] = {
        "sizes": counts.sizes,
        "splits": counts.splits,
        "columns": described.columns,
        "inputs": described.inputs,
        "labels": counts.labels,
        "files": files.files,
        "patterns": counts.patterns,
        "presence": partial(measured.presence, **how),
        "subgroups": counts.subgroups,
        "leaks": partial(measured.leaks, **how),
        "confounders": partial(measured.confounders, **how),
        "duplicates": files.duplicates,
        "baselines": partial(measured.baselines, **how),
    }
    if cohort.truth is not None:
        from mmmed.evaluation.data_card_synthetic import known_answer

        found["known answer"] = known_answer
    return found


def _json(value: Any) -> Any:
    """A YAML header as JSON can hold it: dates as text."""
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_json(item) for item in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
