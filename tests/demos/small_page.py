"""A page that is not served: its handlers, called as a browser would."""

import gradio as gr
from mmmed_demo.events import Events
from mmmed_demo.patient import Patient


def wired(cast):
    """The handlers of a page that is not served."""
    events = Events(cast, None)
    with gr.Blocks() as page:
        events.wire(Patient(cast, ""), page)
    return events


def values_of(events, record):
    return events.parts.form.filled(record)


def update(events, visit, values, task=None, order=None):
    """What the page does after a change: component -> new value."""
    task = task or events.parts.tasks[0]
    return events.update(visit, task, order, *[None] * len(events.parts.costs), *values)


def problem_of(events, changes):
    return changes[events.parts.problem]
