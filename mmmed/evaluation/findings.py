"""What an audit hands back: findings in words, ordered by weight, and the tables they rest on."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mmmed.checks import check_known
from mmmed.evaluation.scores import Table

SEVERITIES = ("error", "warning", "note")  # an error makes scores on this cohort wrong, whatever the model
COLOURS = {"error": "#d55e00", "warning": "#e69f00", "note": "#0072b2"}


@dataclass(frozen=True)
class Finding:
    """One thing to know before training. topic: which check said it; text: what was found and what to do."""

    severity: str
    topic: str
    text: str

    def __post_init__(self) -> None:
        check_known(self.severity, SEVERITIES, what="severity of a finding")

    def __str__(self) -> str:
        return f"{self.severity.upper():<8} {self.topic}: {self.text}"


@dataclass(frozen=True)
class Audit:
    """Findings and tables of one cohort. Print it, show it in a notebook, or read `findings` and `tables`."""

    name: str
    findings: tuple[Finding, ...]
    tables: Mapping[str, Table] = field(default_factory=dict)

    def __post_init__(self) -> None:
        order = sorted(self.findings, key=lambda finding: SEVERITIES.index(finding.severity))
        object.__setattr__(self, "findings", tuple(order))

    @property
    def warnings(self) -> tuple[str, ...]:
        """The text of everything that is more than a note."""
        return tuple(f"{f.topic}: {f.text}" for f in self.findings if f.severity != "note")

    def __getitem__(self, table: str) -> Table:
        return self.tables[check_known(table, self.tables, what="table of the audit")]

    def about(self, topic: str) -> tuple[Finding, ...]:
        """The findings of one check."""
        return tuple(finding for finding in self.findings if finding.topic == topic)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write every table and the findings as CSV and JSON into a folder."""
        folder = Path(folder)
        for name, table in {**self.tables, "findings": self._list()}.items():
            table.save(folder / name)
        return folder

    def _list(self) -> Table:
        rows = [{"severity": f.severity, "topic": f.topic, "text": f.text} for f in self.findings]
        return Table(tuple(rows), f"Audit of {self.name}")

    def __str__(self) -> str:
        lines = [f"Audit of {self.name}", *(str(finding) for finding in self.findings)]
        if not self.findings:
            lines.append("Nothing was found that these checks look for.")
        return "\n\n".join(["\n".join(lines), *(str(table) for table in self.tables.values() if len(table))])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Findings first, tables below, folded; every text is escaped."""
        lines = [
            f'<div style="margin:3px 0"><b style="color:{COLOURS[f.severity]}">{f.severity}</b> '
            f"<b>{html.escape(f.topic)}</b> {html.escape(f.text)}</div>"
            for f in self.findings
        ]
        tables = [
            f"<details><summary>{html.escape(table.title or name)}</summary>{table._repr_html_()}</details>"
            for name, table in self.tables.items()
            if len(table)
        ]
        return (
            '<div style="font:14px/1.45 system-ui,sans-serif;max-width:900px">'
            f'<div style="font-size:16px;margin-bottom:6px"><b>Audit of {html.escape(self.name)}</b></div>'
            f"{''.join(lines) or 'Nothing was found that these checks look for.'}{''.join(tables)}</div>"
        )
