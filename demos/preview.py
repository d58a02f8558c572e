"""What a modality card shows of itself: whether it is in use, and the picture, volume or series that is
recorded."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmmed.data.readers import read_image
from mmmed.data.volumes import read_volume
from mmmed.types import Image, Series, Volume, is_missing

from .panels.picture import data_uri, grey

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

MOST = 4  # views of one examination that are shown


def preview(modality: Any, value: Any, on: bool, wrong: str = "") -> str:
    """HTML: one line in words, and below it what was recorded where that is not seen in the form itself.

    wrong: what was entered and cannot be used, in a sentence.
    """
    if wrong:
        return f'<p class="mm-status mm-bad">{html.escape(wrong)}</p>'
    if is_missing(value):
        words = "not recorded" if not on else "not recorded yet: nothing to make use of"
        return f'<p class="mm-status mm-none">{words}</p>'
    words = "in use" if on else "recorded, but taken away"
    line = f'<p class="mm-status {"mm-on" if on else "mm-off"}">{words}</p>'
    return line + (f'<div class="{"mm-thumb" if on else "mm-thumb mm-faded"}">{_seen(modality, value)}</div>')


def _seen(modality: Any, value: Any) -> str:
    if isinstance(modality, Image):
        views = list(value) if isinstance(value, (list, tuple)) else [value]
        pixels = (read_image(view, channels=modality.channels) for view in views[:MOST])
        return "".join(_tag(grey(view), "the picture") for view in pixels)
    if isinstance(modality, Volume):
        whole = read_volume(value, channels=modality.channels, key=modality.key)
        middle = whole[:, whole.shape[1] // 2]
        return _tag(grey(middle), f"slice {whole.shape[1] // 2 + 1} of {whole.shape[1]}")
    if isinstance(modality, Series):
        return html.escape(
            f"{len(value)} steps of {', '.join(channel.name for channel in modality.channels)}"
        )
    return ""


def _tag(picture: Picture, words: str) -> str:
    return f'<img class="mm-picture" src="{data_uri(picture)}" alt="{html.escape(words)}">'


def problem(sentences: Sequence[str]) -> str:
    """What went wrong, as an alert that screen readers speak at once; nothing if nothing did."""
    if not sentences:
        return ""
    lines = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in sentences)
    return f'<div class="mm-problem" role="alert">{lines}</div>'
