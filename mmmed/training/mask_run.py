"""MaskRun: what happened while a referring segmenter learned."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmmed.palette import GREY, PALETTE, Picture


@dataclass(frozen=True)
class MaskRun:
    """history: one dict per epoch (epoch, loss and its parts, val_dice, val_found, val_empty, lr, seconds;
    None where there is none). best_epoch: from 1, the one whose weights were kept. counts: of records and
    phrases. folder: of the output, or None."""

    history: Sequence[Mapping[str, Any]]
    best_epoch: int
    folder: Path | None = None
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def best(self) -> Mapping[str, Any]:
        """The line of the epoch whose weights were kept."""
        return self.history[self.best_epoch - 1]

    def plot(self) -> Picture:
        """Losses and validation scores over the epochs, side by side."""
        figure = Picture(figsize=(7.2, 2.8), layout="constrained")
        losses, scores = figure.subplots(1, 2)
        for colour, name in zip(PALETTE, ("mask", "presence", "contrast"), strict=False):
            _line(losses, self.history, name, name, colour)
        losses.set(xlabel="epoch", ylabel="loss in nats")
        _line(scores, self.history, "val_dice", "Dice of what is there", PALETTE[0])
        _line(scores, self.history, "val_empty", "what is not there stays empty", PALETTE[1])
        scores.set(xlabel="epoch", ylabel="validation", ylim=(0, 1))
        for axes in (losses, scores):
            axes.grid(color=GREY, alpha=0.2)
            axes.legend(frameon=False, fontsize=9)
        return figure

    def _facts(self) -> list[tuple[str, str]]:
        facts = [(name, f"{count:,}") for name, count in self.counts.items()]
        last = self.history[-1]
        parts = [f"{name} {last[name]:.3f}" for name in ("mask", "presence", "contrast") if name in last]
        facts.append((f"{len(self.history)} epochs", f"loss {last['loss']:.3f} ({', '.join(parts)})"))
        best, told = self.best, []
        if best.get("val_dice") is not None:
            told.append(f"Dice {best['val_dice']:.3f}")
        elif best.get("val_found") is not None:
            told.append(f"found {best['val_found']:.3f}")
        if best.get("val_empty") is not None:
            told.append(f"empty targets left empty {best['val_empty']:.3f}")
        facts.append((f"kept epoch {self.best_epoch}", ", ".join(told) or "no validation phrases"))
        facts.append(("seconds", f"{sum(line['seconds'] for line in self.history):.1f}"))
        return [*facts, ("folder", str(self.folder))] if self.folder else facts

    def __str__(self) -> str:
        return "\n".join(["training of masks", *(f"  {name}: {value}" for name, value in self._facts())])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>"
            for name, value in self._facts()
        )
        return f'<div style="max-width:680px"><b>Training of masks</b><table>{rows}</table></div>'


def _line(axes: Any, history: Sequence[Mapping[str, Any]], key: str, label: str, colour: str) -> None:
    points = [(line["epoch"], line[key]) for line in history if line.get(key) is not None]
    if points:
        axes.plot(*zip(*points, strict=True), label=label, color=colour)
