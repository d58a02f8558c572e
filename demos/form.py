"""The inputs of one patient: switches, a card per modality made from the schema, and what was entered.

A card holds what its modality is made of: a place to drop a file, a form of numbers and categories with their
units and ranges, a note. What is switched off stays on the page and out of the record.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from mmmed import Record, Schema
from mmmed.types import Category, Image, Number, Series, Tabular, Text, Volume, is_missing

from .guard import LONGEST_TEXT, SUFFIXES, plain_words
from .kept import Kept
from .preview import preview

Ranges = Mapping[str, tuple[float, float]]
ASKS_FOR = {
    Image: "Drop a picture: PNG, JPEG, TIFF or DICOM",
    Volume: "Drop a volume: NIfTI, NPZ or NPY",
    Series: "Drop a table of steps: CSV or JSON",
}
NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class Entered:
    """What a visitor entered. record: everything that could be read. on: modalities that are switched on.
    problems: modality -> what could not be read or may not be, and counts as not recorded."""

    record: Record
    on: tuple[str, ...]
    problems: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Card:
    """The components of one modality. fields: column -> component; `file` for pictures, volumes, series."""

    name: str
    modality: Any
    switch: gr.Checkbox
    state: gr.HTML
    fields: Mapping[str, Any] = field(default_factory=dict)
    file: gr.File | None = None


@dataclass(frozen=True)
class Form:
    """All cards, in the order of the model's modalities."""

    cards: tuple[Card, ...]

    @property
    def inputs(self) -> list[Any]:
        """Components whose values `read` takes, in its order."""
        found = []
        for card in self.cards:
            found += [card.switch, *card.fields.values(), *([card.file] if card.file else [])]
        return found

    @property
    def states(self) -> list[gr.HTML]:
        """What each card says about itself: a picture of what is recorded."""
        return [card.state for card in self.cards]

    def read(self, values: Sequence[Any], kept: Kept) -> Entered:
        """What was typed. A file or a number that cannot be used is told of, and counts as not recorded."""
        given = iter(values)
        inputs: dict[str, Any] = {}
        on, problems = [], {}
        for card in self.cards:
            if next(given):
                on.append(card.name)
            cells = {column: _cell(next(given)) for column in card.fields}
            path = next(given) if card.file is not None else None
            try:
                inputs[card.name] = self._value(card, cells, path, kept, problems)
            except (ValueError, ImportError, OSError) as error:
                problems[card.name] = plain_words(error)
        return Entered(Record("this patient", inputs), tuple(on), problems)

    def _value(
        self, card: Card, cells: Mapping[str, Any], path: str | None, kept: Kept, problems: dict[str, str]
    ) -> Any:
        if card.file is not None:
            return kept.opened(card.name, path, card.modality) if path else kept.example.get(card.name)
        if not isinstance(card.modality, Tabular):
            (text,) = cells.values()
            return text
        outside = {cell.name: _outside(cell, cells[cell.name]) for cell in card.modality.cells}
        if wrong := [words for words in outside.values() if words]:
            problems[card.name] = f"{'; '.join(wrong)}. It counts as not recorded."
        return {column: value for column, value in cells.items() if not outside[column]}

    def filled(self, record: Record) -> list[Any]:
        """The values of `inputs` that show a record: what it has is on, files are empty (see `kept`)."""
        values: list[Any] = []
        for card in self.cards:
            value = record.inputs.get(card.name)
            values.append(value is not None)
            if isinstance(card.modality, Tabular):
                cells = value or {}
                values += [_shown(cells.get(cell.name), cell) for cell in card.modality.cells]
            else:
                values.append(None if card.file is not None else value or "")
        return values

    def described(self, entered: Entered) -> list[str]:
        """HTML for `states`: whether a modality is in use, and a picture of it where there is one."""
        inputs, on, problems = entered.record.inputs, entered.on, entered.problems
        return [
            preview(card.modality, inputs.get(card.name), card.name in on, problems.get(card.name, ""))
            for card in self.cards
        ]


def make_switches(modalities: Sequence[str]) -> list[gr.Checkbox]:
    """One switch per modality, "available"; to be called where they shall stand."""
    return [
        gr.Checkbox(
            False, label=f"with {name}", elem_id=f"switch-{place}", container=False, min_width=90,
            elem_classes=["mm-switch", f"mm-stripe-{place % 7}"],
        )
        for place, name in enumerate(modalities)
    ]  # fmt: skip


def make_form(
    schema: Schema, modalities: Sequence[str], switches: Sequence[gr.Checkbox], ranges: Ranges | None = None
) -> Form:
    """Build the cards on the page; to be called where they shall stand.

    ranges: numeric column -> between which numbers 90 % of the training patients lie, where that is known.
    """
    made = enumerate(zip(modalities, switches, strict=True))
    kinds = schema.modalities
    return Form(tuple(_card(name, kinds[name], switch, k, ranges or {}) for k, (name, switch) in made))


# ---------------------------------------------------------------------------------------- inner workings


def _card(name: str, modality: Any, switch: gr.Checkbox, place: int, ranges: Ranges) -> Card:
    with gr.Column(elem_id=f"card-{place}", elem_classes=["mm-card", f"mm-stripe-{place % 7}"]):
        gr.HTML(f'<h3 class="mm-heading">{html.escape(name)}</h3>')
        state = gr.HTML(elem_id=f"state-{place}", elem_classes=["mm-state"])
        if isinstance(modality, Tabular):
            with gr.Row(elem_classes=["mm-cells"]):
                fields = {cell.name: _field(cell, ranges.get(cell.name)) for cell in modality.cells}
            return Card(name, modality, switch, state, fields)
        if isinstance(modality, Text):
            return Card(name, modality, switch, state, {modality.column: _note_box(name, place)})
        file = gr.File(
            label=ASKS_FOR[type(modality)], file_types=list(SUFFIXES[type(modality).__name__]), height=124,
            elem_id=f"file-{place}", elem_classes=["mm-file"],
        )  # fmt: skip
    return Card(name, modality, switch, state, file=file)


def _note_box(name: str, place: int) -> gr.Textbox:
    return gr.Textbox(
        label=name, lines=3, max_lines=8, max_length=LONGEST_TEXT, elem_id=f"text-{place}",
        placeholder="Type or paste it here.",
    )  # fmt: skip


def _field(cell: Number | Category, seen: tuple[float, float] | None) -> Any:
    if isinstance(cell, Category):
        return gr.Dropdown(
            [NOT_RECORDED, *cell.levels], value=NOT_RECORDED, label=cell.name, min_width=120, filterable=False
        )
    unit = f" [{cell.unit}]" if cell.unit else ""
    return gr.Number(
        None, label=f"{cell.name}{unit}", info=_range(cell, seen), placeholder=NOT_RECORDED, min_width=120
    )


def _range(cell: Number, seen: tuple[float, float] | None) -> str:
    """What a number was in training, which is no reference range, and what it may be."""
    told = [f"in training {seen[0]:.3g} to {seen[1]:.3g}"] if seen else []
    if cell.low is not None and cell.high is not None:
        told.append(f"possible {cell.low:g} to {cell.high:g}")
    elif cell.low is not None or cell.high is not None:
        told.append(f"at least {cell.low:g}" if cell.high is None else f"at most {cell.high:g}")
    return "; ".join(told)


def _outside(cell: Number | Category, value: Any) -> str:
    """In words, that a number is not possible; "" if it is."""
    if value is None or isinstance(cell, Category):
        return ""
    low, high = cell.low, cell.high
    if (low is None or value >= low) and (high is None or value <= high):
        return ""
    unit = f" {cell.unit}" if cell.unit else ""
    return f"{cell.name} {value:g}{unit} is not possible ({_range(cell, None).removeprefix('possible ')})"


def _cell(value: Any) -> Any:
    return None if is_missing(value) or value == NOT_RECORDED else value


def _shown(value: Any, cell: Number | Category) -> Any:
    if isinstance(cell, Category):
        return NOT_RECORDED if is_missing(value) else str(value)
    return None if is_missing(value) else float(value)
