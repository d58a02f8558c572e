"""The first tab from top to bottom: inputs at the left, answers at the right, the picture and the words
below."""

from __future__ import annotations

import gradio as gr

from mmmed.types import Volume

from .answers import PANELS, Visit
from .cast import Cast
from .form import Form, make_form, make_switches
from .layout import FRAMES, heading
from .order import order_box, sentence_list
from .pictures import pictured, suggestions
from .results import KINDS


class Patient:
    """Every component that an event reads or changes is an attribute. To be made inside a `gr.Blocks`.

    waiting: HTML on what is still being trained.
    """

    def __init__(self, cast: Cast, waiting: str):
        kinds = cast.model.schema.modalities
        self.tasks = tuple(cast.model.schema.tasks)
        self.has_picture = bool(pictured(cast))
        self.has_volume = any(isinstance(kinds[name], Volume) for name in pictured(cast))
        self.results: dict[str, gr.HTML] = {}
        self.arrived = {kind: gr.State() for kind in KINDS}
        self.visit = gr.State(Visit(), time_to_live=3600)
        self.example = gr.Radio(
            list(cast.examples), label="Example patients", elem_id="examples", visible=bool(cast.examples)
        )
        with gr.Row(elem_id="bar"):
            self.switches = make_switches(cast.modalities)
            self.headline = gr.HTML(elem_id="headline", apply_default_css=False, min_width=180)
        self.problem = gr.HTML(elem_id="problem")
        with gr.Row(elem_id="main"):
            with gr.Column(scale=4, min_width=320, elem_id="inputs"):
                self._inputs(cast)
            with gr.Column(scale=9, min_width=320, elem_id="answers"):
                self._answers(cast)
        self.slice = gr.Slider(
            0, 1, 0, step=1, label="Slice", min_width=120, visible=self.has_volume, render=False
        )
        if self.has_picture:
            with gr.Column(elem_classes=["mm-box"], elem_id="box-picture"):
                self._picture(cast)
        with gr.Column(elem_classes=["mm-box"], elem_id="box-report"):
            self._words(waiting)
        with gr.Row(elem_id="downloads"):
            self.as_json = gr.Button("Download the record as JSON", elem_id="save-json", size="md")
            self.as_page = gr.Button("Download a page to print", elem_id="save-page", size="md")
        self.file = [
            gr.Textbox(visible="hidden", elem_id=f"file-{part}") for part in ("name", "text", "kind")
        ]

    def _answers(self, cast: Cast) -> None:
        """The panels that follow every switch: the answer first, then the way to it, then what if."""
        made = {}
        with gr.Row(equal_height=True):
            made |= {name: self._frame(name, cast) for name in ("risk", "trust")}
        made["path"] = self._frame("path", cast)
        with gr.Row():
            with gr.Column(min_width=320):
                made["subsets"] = self._frame("subsets", cast)
            with gr.Column(min_width=320):
                made |= {name: self._frame(name, cast) for name in ("compare", "next_test", "shares")}
        self.panels = {name: made[name] for name in PANELS}

    def _inputs(self, cast: Cast) -> None:
        gr.HTML(heading("What is there", "Type, drop a file, or take one of the example patients."))
        self.form: Form = make_form(
            cast.model.schema, cast.modalities, self.switches, getattr(cast, "ranges", None)
        )
        several = len(self.tasks) > 1
        self.task = gr.Radio(list(self.tasks), value=self.tasks[0], label="Question", visible=several)

    def _frame(self, name: str, cast: Cast) -> gr.HTML:
        """One panel with its heading; the path also has the order, the next test the costs."""
        with gr.Column(elem_classes=["mm-box"], elem_id=f"box-{name}", min_width=320):
            gr.HTML(heading(*FRAMES[name]))
            if name == "path":
                self.order = order_box(cast.modalities, "order")
            panel = gr.HTML(elem_id=f"panel-{name}", apply_default_css=False)
            if name == "next_test":
                with gr.Accordion("Costs, in any unit", open=False), gr.Row():
                    self.costs = {
                        modality: gr.Number(None, label=f"cost of {modality}", minimum=0, min_width=100)
                        for modality in cast.modalities
                    }
        return panel

    def _picture(self, cast: Cast) -> None:
        gr.HTML(heading(*FRAMES["picture"]))
        with gr.Row():
            with gr.Column(min_width=300):
                self.mark = gr.Button(
                    "Show what moved the answer", elem_id="mark", size="md", variant="primary"
                )
                self.results["heat"] = gr.HTML(elem_id="heat", apply_default_css=False)
            with gr.Column(min_width=300):
                self.phrase = gr.Textbox(
                    label="Where is …", placeholder="the nodule on the left", max_lines=1, max_length=200,
                    elem_id="phrase", submit_btn="Find",
                )  # fmt: skip
                found = suggestions(cast)
                self.suggested = gr.Radio(
                    found, label="Or one of these", visible=bool(found), elem_id="suggested"
                )
                self.results["masks"] = gr.HTML(elem_id="masks", apply_default_css=False)
                with gr.Row():
                    self.opacity = gr.Slider(0, 1, 0.5, step=0.05, label="Opacity", min_width=120)
                    self.threshold = gr.Slider(
                        0, 0.95, 0, step=0.05, min_width=120,
                        label="Counts as there from a presence of (0: as the model was tuned)",
                    )  # fmt: skip
                    self.slice.render()

    def _words(self, waiting: str) -> None:
        gr.HTML(heading(*FRAMES["report"]))
        self.waiting = gr.HTML(waiting, elem_id="waiting")
        self.tick = gr.Timer(5, active=bool(waiting))
        with gr.Row():
            with gr.Column(scale=3, min_width=300):
                self.write = gr.Button("Write the report", elem_id="write", size="md", variant="primary")
                self.stale = gr.HTML(elem_id="stale")
                self.results["report"] = sentence_list("sentences")
            with gr.Column(scale=2, min_width=300):
                self.results["where"] = gr.HTML(elem_id="where", apply_default_css=False)
                self.question = gr.Textbox(
                    label="Ask about this patient", placeholder="Is there a nodule in the right upper zone?",
                    max_lines=2, max_length=300, elem_id="question", submit_btn="Ask",
                )  # fmt: skip
                self.results["reply"] = gr.HTML(elem_id="answer", apply_default_css=False)
