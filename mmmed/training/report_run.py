"""ReportRun: what happened while a report generator learned, with the grounding gap after every stage."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmmed.evaluation.grounding import LARGE
from mmmed.palette import GREY, PALETTE, Picture


@dataclass(frozen=True)
class ReportRun:
    """history: one dict per epoch (epoch, stage, train_loss, val_loss, val_f1, gap, lr, seconds; None where
    there is none). gaps: stage -> (gap, low, high) in nats per token, on validation reports. folder: of the
    output, or None. records: {"train": n, "val": n}. notes: what the reader must know."""

    history: Sequence[Mapping[str, Any]]
    gaps: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    folder: Path | None = None
    records: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages, in order."""
        return tuple(dict.fromkeys(line["stage"] for line in self.history))

    @property
    def grounding(self) -> float | None:
        """The gap after the last stage that has one."""
        return list(self.gaps.values())[-1][0] if self.gaps else None

    def plot(self) -> Picture:
        """Losses over the epochs, stage by stage, each on its own axis since they are no like quantities."""
        figure = Picture(figsize=(3.2 * max(len(self.stages), 1), 3.0), layout="constrained")
        for place, stage in enumerate(self.stages):
            axes = figure.add_subplot(1, len(self.stages), place + 1)
            lines = [line for line in self.history if line["stage"] == stage]
            for key, label, colour in (
                ("train_loss", "training", PALETTE[0]),
                ("val_loss", "validation", PALETTE[1]),
            ):
                points = [(line["epoch"], line[key]) for line in lines if line.get(key) is not None]
                if points:
                    axes.plot(*zip(*points, strict=True), label=label, color=colour)
            title = stage
            if stage in self.gaps:
                title += f"\ngap {self.gaps[stage][0]:.2f} nats per token"
            axes.set_title(title, fontsize=10)
            axes.set(xlabel="epoch", ylabel="loss in nats" if place == 0 else None)
            axes.grid(color=GREY, alpha=0.2)
            axes.legend(frameon=False, fontsize=9)
        return figure

    def _facts(self) -> list[tuple[str, str]]:
        facts = [(f"{name} records", f"{count:,}") for name, count in self.records.items()]
        for stage in self.stages:
            lines = [line for line in self.history if line["stage"] == stage]
            said = f"{len(lines)} epochs, loss {lines[-1]['train_loss']:.3f}"
            for key, label in (("val_loss", "validation"), ("val_f1", "finding F1")):
                known = [line[key] for line in lines if line.get(key) is not None]
                if known:
                    said += f", {label} {(min if key == 'val_loss' else max)(known):.3f}"
            facts.append((stage, said))
            if stage in self.gaps:
                gap, low, high = self.gaps[stage]
                look = "" if gap >= LARGE else "  (it hardly looks at the patient)"
                facts.append(("  grounding gap", f"{gap:.3f} [{low:.3f}, {high:.3f}] nats per token{look}"))
        facts.append(("seconds", f"{sum(line['seconds'] for line in self.history):.1f}"))
        facts += [("note", note) for note in self.notes]
        return [*facts, ("folder", str(self.folder))] if self.folder else facts

    def __str__(self) -> str:
        return "\n".join(["training of reports", *(f"  {name}: {value}" for name, value in self._facts())])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>"
            for name, value in self._facts()
        )
        return f'<div style="max-width:680px"><b>Training of reports</b><table>{rows}</table></div>'
