"""Run: what happened in a training run, to be read, plotted and kept."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ("epoch", "train_loss", "val_loss", "val_auroc", "lr", "seconds", "ess")


@dataclass(frozen=True)
class Run:
    """history: one dict per epoch (epoch, train_loss, val_loss and its halves val_loss_recorded and
    val_loss_hidden, val_auroc, lr, seconds, ess; None where there is none). best_epoch: whose weights the
    model has now, from 1. folder: of the output, or None. effective_sample_size: task -> what the
    inverse-pattern weights leave of the training records, empty without weights. records: {"train": n, "val":
    n}."""

    history: Sequence[Mapping[str, Any]]
    best_epoch: int
    folder: Path | None = None
    effective_sample_size: Mapping[str, float] = field(default_factory=dict)
    records: Mapping[str, int] = field(default_factory=dict)

    @property
    def best(self) -> Mapping[str, Any]:
        """The line of the best epoch."""
        return self.history[self.best_epoch - 1]

    def plot(self) -> Figure:
        """Loss curves over epochs, the best epoch marked."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 3.4), layout="constrained")
        axes = figure.subplots()
        epochs = [line["epoch"] for line in self.history]
        names = {
            "train_loss": "training, every step",
            "val_loss_recorded": "validation, as recorded",
            "val_loss_hidden": "validation, more hidden",
        }
        for name, label in names.items():
            values = [line[name] for line in self.history]
            if any(value is not None for value in values):
                axes.plot(epochs, [float("nan") if v is None else v for v in values], label=label)
        axes.axvline(self.best_epoch, color="grey", linestyle=":", label=f"kept: epoch {self.best_epoch}")
        axes.set(xlabel="epoch", ylabel="loss")
        axes.legend(frameon=False)
        return figure

    def _facts(self) -> list[tuple[str, str]]:
        best = self.best
        facts = [("epochs", f"{len(self.history)}, best {self.best_epoch}")]
        facts += [(f"{name} records", f"{count:,}") for name, count in self.records.items()]
        for name, label in (("val_loss", "validation loss"), ("val_auroc", "validation AUROC")):
            if best.get(name) is not None:
                facts.append((label, f"{best[name]:.3f}"))
        facts += [(f"effective sample size, {t}", f"{n:.0f}") for t, n in self.effective_sample_size.items()]
        facts.append(("seconds", f"{sum(line['seconds'] for line in self.history):.1f}"))
        return [*facts, ("folder", str(self.folder))] if self.folder else facts

    def __str__(self) -> str:
        return "\n".join(["training run", *(f"  {name}: {value}" for name, value in self._facts())])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        facts = "".join(
            f"<tr><td>{html.escape(n)}</td><td>{html.escape(v)}</td></tr>" for n, v in self._facts()
        )
        picture = _svg(self.plot())
        return f'<div style="max-width:620px"><b>Training run</b><table>{facts}</table>{picture}</div>'


def _svg(figure: Figure) -> str:
    from io import StringIO

    text = StringIO()
    figure.savefig(text, format="svg")
    return text.getvalue()[text.getvalue().index("<svg") :]


def write_metrics(file: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """All lines anew, whole or not at all: a resumed run must not say an epoch twice."""
    part = file.with_name(file.name + ".part")
    part.write_text("".join(json.dumps(dict(line)) + "\n" for line in history), encoding="utf-8")
    os.replace(part, file)


def describe(line: Mapping[str, Any]) -> str:
    """One epoch in one line."""
    parts = [f"epoch {line['epoch']}"]
    for name, label in (
        ("train_loss", "train"),
        ("val_loss", "val"),
        ("val_auroc", "AUROC"),
        ("val_f1", "finding F1"),
        ("val_dice", "Dice"),
        ("val_found", "found"),
        ("val_empty", "left empty"),
    ):
        if line.get(name) is not None:
            parts.append(f"{label} {line[name]:.3f}")
    if line.get("gap"):
        parts.append(f"grounding gap {line['gap'][0]:.3f}")
    return ", ".join([*parts, f"{line['seconds']:.1f} s"])
