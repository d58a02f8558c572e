"""What a visitor takes away: the record, the answers and the panels as they stand on the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmmed import __version__

from .answers import PANELS, Visit
from .cast import Cast
from .layout import FRAMES
from .panels.masks import masks as draw
from .panels.report import sentences
from .panels.summary import page_html, record_json
from .results import fresh


def record_of(cast: Cast, visit: Visit, when: str) -> dict[str, Any]:
    """Everything the page knows of this patient, JSON-ready.

    Raises ValueError if there is no answer to what is entered.
    """
    if visit.now is None:
        raise ValueError("There is no answer to what is entered now, so there is nothing to take away.")
    report, masks = fresh(cast, visit, "report"), fresh(cast, visit, "masks")
    return record_json(
        visit.record, visit.now, cast.model.schema, visit.on, order=visit.order,
        report=report.content[0] if report else None, masks=masks.content if masks else (),
        about=about(cast), when=when,
    )  # fmt: skip


def page_of(cast: Cast, visit: Visit, when: str) -> str:
    """The same as one page that prints on A4: the panels as they were last shown, and what was asked for by
    buttons, if it still speaks of these inputs."""
    told = record_of(cast, visit, when)
    panels = {FRAMES[name][0]: visit.shown[name] for name in PANELS if name in visit.shown}
    if report := fresh(cast, visit, "report"):
        panels["In words"] = sentences(*report.content, cast.modalities)
    if masks := fresh(cast, visit, "masks"):
        panels["In the picture"] = draw(masks.content)
    css = (Path(__file__).parent / "panels.css").read_text(encoding="utf-8")
    return page_html(told, panels, css)


def about(cast: Cast) -> dict[str, str]:
    """Which model spoke."""
    return {"model": cast.title, "mmmed": __version__}
