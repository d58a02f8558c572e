"""Table: rows of results that read well in a terminal, a notebook, a spreadsheet and a program."""

from __future__ import annotations

import csv
import html
import io
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmmed.checks import check_known
from mmmed.evaluation.bootstrap import Estimate

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


WIDE = 150  # characters a line may have in a terminal before intervals are left out


@dataclass(frozen=True)
class Table:
    """Rows (column -> cell) with a title and notes. A cell is text, a number, None, or an `Estimate`.

    heads: column -> heading to print, where it should differ. An Estimate becomes three columns (value, _low,
    _high) wherever the table is read by a program. draw: a function from table to figure, for `plot`.
    """

    rows: tuple[Mapping[str, Any], ...]
    title: str = ""
    notes: tuple[str, ...] = ()
    heads: Mapping[str, str] = field(default_factory=dict)
    draw: Callable[[Table], Figure] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", tuple(dict(row) for row in self.rows))
        object.__setattr__(self, "notes", tuple(self.notes))

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column, in the order in which rows bring them."""
        return tuple(dict.fromkeys(column for row in self.rows for column in row))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self.rows)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.rows[index]

    def column(self, name: str) -> list[Any]:
        """The cells of one column, top to bottom; None where a row has none."""
        check_known(name, self.columns, what="column")
        return [row.get(name) for row in self.rows]

    def where(self, **cells: Any) -> Table:
        """The rows that have these values: table.where(task="sepsis", rows="all")."""
        for name in cells:
            check_known(name, self.columns, what="column")
        rows = [row for row in self.rows if all(row.get(name) == value for name, value in cells.items())]
        return replace(self, rows=tuple(rows))

    def plot(self) -> Figure:
        """The figure that belongs to this table, if one does."""
        if self.draw is None:
            raise ValueError(f"There is no figure for the table {self.title!r}. Plot `to_frame()` instead.")
        return self.draw(self)

    def to_rows(self) -> list[dict[str, Any]]:
        """Plain rows: estimates spread over columns, numpy numbers as Python ones, undefined as None."""
        return [
            {name: cell for column, value in row.items() for name, cell in _spread(column, value)}
            for row in self.rows
        ]

    def to_frame(self) -> pandas.DataFrame:
        """The same as a pandas DataFrame."""
        import pandas

        return pandas.DataFrame(self.to_rows())

    def to_markdown(self) -> str:
        """A Markdown table, numbers to the right, for a README or a model card."""
        heads, cells, right = self._cells()
        clean = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in [heads, *cells]]
        rule = ["---:" if flag else "---" for flag in right]
        lines = ["| " + " | ".join(row) + " |" for row in [clean[0], rule, *clean[1:]]]
        return "\n".join([*lines, *(f"\n{note}" for note in self.notes)])

    def __str__(self) -> str:
        lines, notes = self._lines(self._cells()), self.notes
        if max(map(len, lines)) > WIDE:
            lines = self._lines(self._cells(intervals=1))
            notes = (*notes, "Intervals of the other scores: to_frame(), to_markdown() or a saved file.")
        return "\n".join([self.title] * bool(self.title) + lines + list(notes))

    def _lines(self, cells: tuple[list[str], list[list[str]], list[bool]]) -> list[str]:
        """The table in columns of equal width."""
        heads, rows, right = cells
        widths = [max(len(row[k]) for row in [heads, *rows]) for k in range(len(heads))]
        lines = []
        for row in [heads, ["-" * width for width in widths], *rows]:
            aligned = [
                cell.rjust(width) if flag else cell.ljust(width)
                for cell, width, flag in zip(row, widths, right, strict=True)
            ]
            lines.append("  ".join(aligned).rstrip())
        return lines

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """A table for the notebook; every text is escaped, since names come from data."""
        heads, cells, right = self._cells()
        sides = ["right" if flag else "left" for flag in right]
        style = "padding:2px 12px 2px 0;white-space:nowrap;text-align:"
        top = "".join(
            f'<th style="{style}{side};border-bottom:1px solid #8886">{html.escape(head)}</th>'
            for head, side in zip(heads, sides, strict=True)
        )
        body = "".join(
            "<tr>"
            + "".join(
                f'<td style="{style}{side}">{html.escape(cell)}</td>'
                for cell, side in zip(row, sides, strict=True)
            )
            + "</tr>"
            for row in cells
        )
        notes = "".join(f'<div style="opacity:.75">{html.escape(note)}</div>' for note in self.notes)
        title = f'<div style="margin-bottom:4px"><b>{html.escape(self.title)}</b></div>' if self.title else ""
        return (
            '<div style="font:13px/1.45 system-ui,sans-serif;overflow-x:auto">'
            f'{title}<table style="border-collapse:collapse;font-variant-numeric:tabular-nums;margin:0">'
            f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>{notes}</div>"
        )

    def save(self, path: str | os.PathLike[str]) -> tuple[Path, Path]:
        """Write `path`.csv and `path`.json, each whole or not at all; -> the two paths. The suffix is
        ours.
        """
        path = Path(path)
        stem = path.with_suffix("") if path.suffix in (".csv", ".json") else path
        rows, text = self.to_rows(), io.StringIO()
        writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
        content = {"title": self.title, "notes": list(self.notes), "rows": rows}
        return (
            write_whole(stem.with_name(stem.name + ".csv"), text.getvalue().encode()),
            write_whole(
                stem.with_name(stem.name + ".json"),
                json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).encode(),
            ),
        )

    def _cells(self, intervals: int | None = None) -> tuple[list[str], list[list[str]], list[bool]]:
        """Headings, rendered cells, and which columns stand to the right (those without words).

        intervals: how many columns of estimates show theirs, None = all.
        """
        columns = self.columns
        right = [not any(isinstance(row.get(c), str) for row in self.rows) for c in columns]
        heads = [self.heads.get(c, c.replace("_", " ")) for c in columns]
        estimated = [c for c in columns if any(isinstance(row.get(c), Estimate) for row in self.rows)]
        short = set() if intervals is None else set(estimated[intervals:])
        cells = [[_render(row.get(c), c in short) for c in columns] for row in self.rows]
        return heads, cells, right


def write_whole(path: Path, content: bytes) -> Path:
    """Write a file that is there completely or not at all, in a folder that is made if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(content)
    os.replace(temporary, path)
    return path


def write_figure(path: Path, figure: Figure) -> Path:
    """Write a figure as PNG, whole or not at all."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150, bbox_inches="tight")
    return write_whole(path, content.getvalue())


def _plain(value: Any) -> Any:
    """A JSON-ready cell: numpy scalars as Python ones, NaN and infinity as None, the rest as text."""
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _spread(column: str, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, Estimate):
        return [(column, _plain(value))]
    names = (column, f"{column}_low", f"{column}_high")
    return [
        (name, _plain(part)) for name, part in zip(names, (value.value, value.low, value.high), strict=True)
    ]


def _render(value: Any, short: bool = False) -> str:
    """A cell for reading: three decimals, '-' for nothing. short: an estimate without its interval."""
    if isinstance(value, Estimate):
        return str(value) if not short else _render(value.value)
    value = _plain(value)
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def table_of(rows: Sequence[Mapping[str, Any]], title: str = "", notes: Sequence[str] = ()) -> Table:
    """A table without the columns in which every cell is None or empty."""
    kept = [
        name for name in dict.fromkeys(n for r in rows for n in r) if any(_filled(r.get(name)) for r in rows)
    ]
    return Table(tuple({name: row.get(name) for name in kept} for row in rows), title, tuple(notes))


def _filled(value: Any) -> bool:
    return value is not None and value != ""
