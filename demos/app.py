"""The page: one patient, whatever is there, and what happens to the answer when something is taken away.

`patient` lays out the first tab, `events` says what happens on it; what the panels say is made in `answers`,
`pictures` and `writing`, how they look in `panels/`, `panels.css` and `style.css`. `guard` and `gate` keep
it safe.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from .cast import Cast
from .events import Events
from .guard import launch_settings, queue_settings
from .layout import STYLES, THEME, header, nothing_yet
from .panels.stress import stress
from .patient import Patient

HERE = Path(__file__).parent


def launch(
    cast: Cast, companions: Any, host: str, port: int | None, share: bool = False, block: bool = True
) -> gr.Blocks:
    """Serve the page. companions: anything with `status() -> str`, what is still being trained, "" if
    nothing is.

    port: None takes the first free one. block: until it is stopped; else the running page is returned, to be
    closed with `.close()`.
    """
    page = build(cast, companions)
    page.queue(**queue_settings())
    css = "\n".join(_text(name) for name in STYLES)
    head = f"<style>{_text('frame.css')}</style>"
    settings = launch_settings(host, share)
    page.launch(
        server_name=host, server_port=port, theme=THEME, css=css, head=head, quiet=True,
        prevent_thread_lock=not block, **settings,
    )  # fmt: skip
    return page


def build(cast: Cast, companions: Any = None) -> gr.Blocks:
    """The whole page, not yet served."""
    events = Events(cast, companions)
    with gr.Blocks(
        title="mmmed: one patient, whatever is there", analytics_enabled=False, delete_cache=(600, 3600)
    ) as page:
        gr.HTML(header(cast), elem_id="header")
        with gr.Tab("Patient", id="patient"):
            parts = Patient(cast, events.waiting())
        with gr.Tab("Stress test", id="stress"):
            gr.HTML(_stress(cast), elem_id="stress-table", apply_default_css=False)
        with gr.Tab("Model card", id="model-card"):
            gr.Markdown(cast.model_card or nothing_yet("model card"), elem_id="model-card-text")
        with gr.Tab("Data card", id="data-card"):
            gr.Markdown(cast.data_card or nothing_yet("data card"), elem_id="data-card-text")
        events.wire(parts, page)
        gr.api(events.predicted, api_name="answer", concurrency_id="look")
    return page


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _stress(cast: Cast) -> str:
    if cast.benchmark is None:
        return nothing_yet("stress table")
    return "".join(stress(cast.benchmark, task) for task in cast.model.schema.tasks)
