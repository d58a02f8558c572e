"""What the visitor takes away: one JSON of all facts, and one page that prints on A4 and opens anywhere."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from mmmed.types import Answer, Image, Mask, Prediction, Record, Report, Schema, Volume, is_missing
from mmmed.types.prediction import NOTICE

from .picture import data_uri, grey
from .svg import escape

FORMAT = 1  # raised when the JSON changes in a way that a reader of an older one would not understand
THUMBNAIL = 128  # pixels
PAGE = """
:root { color-scheme: light }
body { margin: 0 auto; max-width: 182mm; padding: 8mm; background: #fff; color: #1a1a1a;
  font: 14px/1.45 system-ui, sans-serif }
h1 { font-size: 22px; margin: 0 0 2mm }
h2 { font-size: 16px; margin: 6mm 0 2mm; border-bottom: 1px solid #ccc }
.mm-caution { border: 2px solid #D55E00; padding: 2mm 3mm; font-weight: 600 }
.mm-given { border-collapse: collapse; width: 100% }
.mm-given th, .mm-given td { text-align: left; vertical-align: top; padding: 1mm 3mm 1mm 0;
  border-bottom: 1px solid #e5e5e5; overflow-wrap: anywhere }
.mm-given th { font-weight: 600; white-space: nowrap }
.mm-given img { image-rendering: pixelated; width: 28mm }
.mm-typed { white-space: pre-wrap }
section, tr, svg { break-inside: avoid }
.mm-stress.mm-stress :is(th, td) { padding-right: 8px }
.mm-stress .mm-stress-plot { width: 76px }
@page { size: A4; margin: 14mm }
@media print { body { max-width: none; padding: 0; font-size: 10pt } h2 { break-after: avoid }
  .mm-stress-scroll { overflow: visible }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact } }
"""


def record_json(
    record: Record,
    prediction: Prediction,
    schema: Schema,
    on: Sequence[str],
    *,
    order: Sequence[str] = (),
    report: Report | None = None,
    masks: Sequence[Mask] = (),
    about: Mapping[str, Any] | None = None,
    when: str = "",
) -> dict[str, Any]:
    """Everything that the page knows, JSON-ready: what was typed, what was switched on, what came out.

    record: with everything that was recorded, switched on or not. on: modalities that are switched on. order:
    in which the path is told; only those that were used count, and where the model did not compute
    this order it is that of fusion. about: model, versions, data. when: a date and
    time in words of the caller.
    """
    way = [name for name in (order or prediction.used) if name in prediction.used]
    return {
        "format": FORMAT,
        "notice": NOTICE,
        "when": when,
        "about": _plain(about or {}),
        "record": record.id,
        "inputs": {
            name: _input(schema.modalities[name], value, record.folder)
            for name, value in record.inputs.items()
        },
        "switches": {name: name in on for name in schema.modalities},
        "prediction": prediction.to_dict(),
        "path": {
            task: _steps(_along(answer, way, prediction.used))
            for task, answer in prediction.answers.items()
            if answer.subsets
        },
        "subsets": {
            task: _steps(answer.subsets.items())
            for task, answer in prediction.answers.items()
            if answer.subsets
        },
        "report": None if report is None else report.to_dict(),
        "masks": [mask.to_dict() for mask in masks],
    }


def page_html(data: Mapping[str, Any], panels: Mapping[str, str], css: str) -> str:
    """One page that needs nothing else: no script, no address, printable on A4.

    data: from `record_json`. panels: heading -> what a panel gave, in the order of the page. css: panels.css.
    The page forbids itself to run or to load anything. Raises ValueError if the css would end its element.
    """
    if "</style" in css.lower():
        raise ValueError(
            "css should be the text of a style sheet, got one that holds </style. Pass panels.css."
        )
    sections = "".join(
        f'<section class="mm-panel"><h2>{escape(heading)}</h2>{panel}</section>'
        for heading, panel in panels.items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Summary of {escape(data['record'])}</title><style>{css}{PAGE}</style></head><body>"
        f'<h1>Summary of {escape(data["record"])}</h1><p class="mm-caution">{NOTICE}</p>'
        f"{_about(data)}<section><h2>What was entered</h2>{_entered(data)}</section>{sections}"
        f'<p class="mm-caution">{NOTICE}</p></body></html>'
    )


# -------------------------------------------------------------------------------------------------- the facts


def _along(answer: Answer, way: Sequence[str], used: Sequence[str]) -> Any:
    """The path in this order; in that of fusion where there are too many modalities for all orders."""
    try:
        return answer.along(way)
    except ValueError:
        return answer.along(used)


def _steps(pairs: Any) -> list[dict[str, Any]]:
    """("image", Partial) or (("image", "table"), Partial) ... -> plain rows."""
    return [
        {
            "given": list(name) if isinstance(name, tuple) else name,
            "values": dict(part.values),
            "interval": {level: list(bounds) for level, bounds in part.interval.items()},
        }
        for name, part in pairs
    ]


def _input(modality: Any, value: Any, folder: str | None) -> Any:
    """As typed; a picture as a thumbnail, never as the place where its file lies."""
    if isinstance(modality, (Image, Volume)):
        return _pictures(modality, value, folder)
    return _plain(value)


def _pictures(modality: Any, value: Any, folder: str | None) -> dict[str, Any]:
    """Thumbnails of the first views, or of the middle slice of a volume; of a file only its name."""
    from mmmed.data.readers import read_image
    from mmmed.data.volumes import read_volume

    views = value if isinstance(value, list) else [value]
    if isinstance(modality, Image):
        arrays = [read_image(view, channels=modality.channels, folder=folder) for view in views[:4]]
    else:
        volume = read_volume(value, channels=modality.channels, key=modality.key, folder=folder)
        arrays = [volume[:1, volume.shape[1] // 2]]
    pictures = [grey(array) for array in arrays]
    for picture in pictures:
        picture.thumbnail((THUMBNAIL, THUMBNAIL))
    files = [os.path.basename(view) for view in views if isinstance(view, (str, os.PathLike))]
    return {"files": files, "thumbnails": [data_uri(picture) for picture in pictures]}


def _plain(value: Any) -> Any:
    """Numbers of numpy as those of Python, and anything JSON does not know as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if is_missing(value):  # NaN, too: JSON has no word for it
        return None
    return value if isinstance(value, (str, int, float, bool)) else str(value)


# --------------------------------------------------------------------------------------------------- the page


def _about(data: Mapping[str, Any]) -> str:
    facts = {"Date": data["when"], **data["about"]} if data["when"] else data["about"]
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(_text(value))}</td></tr>'
        for name, value in facts.items()
    )
    return f'<table class="mm-given">{rows}</table>' if rows else ""


def _entered(data: Mapping[str, Any]) -> str:
    used = data["prediction"]["used"]
    rows = []
    for name, on in data["switches"].items():
        recorded = name in data["inputs"]
        state = (
            "used"
            if name in used
            else "not recorded"
            if not recorded
            else "switched off"
            if not on
            else "not used"
        )
        shown = _shown(data["inputs"][name]) if recorded else ""
        rows.append(f'<tr><th scope="row">{escape(name)}</th><td>{escape(state)}</td><td>{shown}</td></tr>')
    head = '<tr><th scope="col">Input</th><th scope="col">State</th><th scope="col">As entered</th></tr>'
    return f'<table class="mm-given"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'


def _shown(value: Any) -> str:
    """HTML of one input."""
    if isinstance(value, Mapping) and "thumbnails" in value:
        words = escape(", ".join(value["files"]) or "picture")
        images = "".join(f'<img src="{escape(one)}" alt="{words}"> ' for one in value["thumbnails"])
        return f"{images}<br>{words}" if value["files"] else images
    if isinstance(value, Mapping):
        return escape("; ".join(f"{name}: {'not recorded' if v is None else v}" for name, v in value.items()))
    return f'<span class="mm-typed">{escape(_text(value))}</span>'


def _text(value: Any) -> str:
    return ", ".join(map(_text, value)) if isinstance(value, (list, tuple)) else str(value)
