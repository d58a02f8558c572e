"""What no field of the form can show: pictures, volumes and series, of the example or of a dropped file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmmed import Record, Schema
from mmmed.data.paths import resolve
from mmmed.data.readers import read_image
from mmmed.data.volumes import read_volume
from mmmed.types import Image, Series, Volume

from .guard import check_file, read_series

FILES = (Image, Volume, Series)  # modalities that come as a file


@dataclass
class Kept:
    """example: modality -> its value in the example patient. files: modality -> where its file came to, and
    what it holds; one for each, so that a file is checked and read once and none is collected."""

    example: dict[str, Any] = field(default_factory=dict)
    files: dict[str, tuple[str, Any]] = field(default_factory=dict)

    def opened(self, name: str, path: str, modality: Any) -> Any:
        """The bytes of a picture, the array of a volume, the steps of a series.

        Raises ValueError, ImportError or OSError for a file that may not or cannot be read.
        """
        if self.files.get(name, ("", None))[0] != path:
            self.files.pop(name, None)  # two are never held
            self.files[name] = (path, _content(check_file(path, type(modality).__name__), modality))
        return self.files[name][1]


def kept_of(record: Record, schema: Schema) -> Kept:
    """The pictures, volumes and series of an example patient."""
    kinds = {name: kind for name, kind in schema.modalities.items() if isinstance(kind, FILES)}
    held = {name: record.inputs[name] for name in kinds if name in record.inputs}
    return Kept({name: _whole(value, kinds[name], record) for name, value in held.items()})


def as_json(record: Record) -> str:
    """A key for what was typed: equal inputs, equal text. Pictures and series count by their identity."""
    keys = {name: _key(value) for name, value in record.inputs.items()}
    return json.dumps(keys, sort_keys=True, default=str)


def _content(place: Path, modality: Any) -> Any:
    """What a checked file holds. A picture stays as it came: its header may tell how large a pixel is."""
    if isinstance(modality, Series):
        return read_series(place, modality)
    if isinstance(modality, Volume):
        return read_volume(place.name, channels=modality.channels, key=modality.key, folder=place.parent)
    read_image(place.name, channels=modality.channels, folder=place.parent)  # a damaged one is refused now
    return place.read_bytes()


def _whole(value: Any, modality: Any, record: Record) -> Any:
    """A value of an example that needs its folder no more: what a path leads to is read."""
    if isinstance(modality, Series):
        return value
    if isinstance(value, (list, tuple)):
        return [_whole(item, modality, record) for item in value]
    return _content(resolve(value, record.folder), modality) if isinstance(value, str) else value


def _key(value: Any) -> Any:
    if isinstance(value, Mapping):  # 75 comes back from the page as 75.0
        return {
            column: float(cell) if isinstance(cell, (int, float)) else cell for column, cell in value.items()
        }
    return id(value) if hasattr(value, "shape") or isinstance(value, (bytes, list)) else value
