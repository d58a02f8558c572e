"""Words and looks around the panels: headings, the banner, the theme."""

from __future__ import annotations

import html

import gradio as gr

from mmmed import __version__
from mmmed.types.prediction import NOTICE

from .cast import Cast

STYLES = ("style.css", "panels.css")
SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
THEME = gr.themes.Base(
    primary_hue="blue", neutral_hue="slate", font=SANS, font_mono=("ui-monospace", "monospace")
)
FRAMES = {
    "risk": ("The answer", ""),
    "path": (
        "How each input moved it",
        "Another order tells the same story in other steps; the end is the same.",
    ),
    "compare": ("With everything, and as it is now", ""),
    "subsets": ("What if something were missing", "Every combination of what was recorded for this patient."),
    "shares": (
        "Whose doing it is",
        "Fair shares of the whole change: the mean over all orders (Shapley values).",
    ),
    "next_test": ("What to measure next", "Of what is missing or off now."),
    "trust": ("How far to trust it", "Patients on whom the model was tested with the same inputs."),
    "picture": ("In the picture", "Which pixels moved the answer, and where a phrase points to."),
    "report": (
        "In words",
        "A draft: each sentence with what it rests on. Choose a sentence to see where it points.",
    ),
}


def heading(title: str, hint: str = "") -> str:
    """A heading with a quieter line below it."""
    more = f'<p class="mm-hint">{html.escape(hint)}</p>' if hint else ""
    return f'<h2 class="mm-heading">{html.escape(title)}</h2>{more}'


def header(cast: Cast) -> str:
    """The name, the caution, and which model speaks."""
    return (
        '<header class="mm-header"><h1>One patient, whatever is there</h1>'
        f'<p class="mm-caution" role="note">{NOTICE}</p>'
        f'<p class="mm-model">{html.escape(cast.title)} · mmmed {__version__}</p></header>'
        + "".join(f'<p class="mm-hint">{html.escape(note)}</p>' for note in cast.notes)
    )


def nothing_yet(what: str) -> str:
    """What stands where a table or card would be, if there is none."""
    return f"There is no {what} for this model. Start the page with --cohort to have one made."
