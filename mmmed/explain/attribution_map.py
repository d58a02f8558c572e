"""Saliency: which pixels, cells or words moved this answer, given everything else that was recorded.

A map shows what the model used, not what is true, and it always shows something. So every map of a picture
comes with a check: is the answer moved more by what it marks than by areas laid elsewhere at random? An
untrained network passes it, too, since it also uses something: the check is about the map, not the model.

On synthetic chests with known lesions the strongest place lies in one for three records of four by
occlusion, and for two of three by integrated gradients (`tests/benchmarks/bench_saliency.py`); so occlusion
is the default.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mmmed.checks import check_count, check_known, check_share, plain
from mmmed.data.masks import unfit
from mmmed.data.readers import read_image
from mmmed.data.volumes import read_volume
from mmmed.explain import attribution_drawing as drawing
from mmmed.explain.attribution_answer import Question, ask_about
from mmmed.explain.attribution_cells import cells, words
from mmmed.explain.attribution_pictures import (
    Deletion,
    blur,
    deletion,
    integrated_gradients,
    marked,
    occlusion,
)
from mmmed.models.inference import schema_of
from mmmed.models.multimodal import MultimodalModel
from mmmed.types import Image, Record, Regression, Tabular, Text, Volume
from mmmed.types.mask import printable
from mmmed.types.prediction import NOTICE

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image as Drawing

METHODS = ("occlusion", "integrated gradients")


@dataclass(frozen=True, eq=False)
class Saliency:
    """What in one modality moved one answer. Positive: it raised the level; negative: it lowered it.

    kind: of the modality: "image", "volume", "tabular" or "text". value: the answer now, a probability, or
    the number of a regression. maps: for each view of a picture [height width] on its own grid, for a
    volume [depth height width]; for a table or a text one row, with a figure for each of `names`. In
    `unit`: log-odds, or that of a regression. pictures: uint8, what the maps lie on; marked: bool, the
    fifth of the pixels that moved the answer most in the direction in which the whole picture did. total:
    answer of the picture minus that of its blurred self; explained: what the map adds up to; both None for
    a table or a text. faithfulness: the check of a map of a picture. used: modalities that the answer rests
    on.
    """

    id: str
    modality: str
    kind: str
    task: str
    level: str
    method: str
    value: float
    unit: str
    maps: tuple[np.ndarray, ...] = field(repr=False)
    pictures: tuple[np.ndarray, ...] = field(default=(), repr=False)
    marked: tuple[np.ndarray, ...] = field(default=(), repr=False)
    names: tuple[str, ...] = ()
    total: float | None = None
    explained: float | None = None
    faithfulness: Deletion | None = None
    used: tuple[str, ...] = ()

    @property
    def view(self) -> int:
        """The view that moved the answer most; 0 where there is one."""
        return int(np.argmax([np.abs(part).sum() for part in self.maps]))

    @property
    def map(self) -> np.ndarray:
        """The map of the view that moved the answer most."""
        return self.maps[self.view]

    @property
    def picture(self) -> np.ndarray | None:
        """The picture under `map`; None for a table or a text."""
        return self.pictures[self.view] if self.pictures else None

    @property
    def error(self) -> float | None:
        """What the map adds up to, minus what it should: near 0 for integrated gradients, and what things in
        the picture do together or in place of one another for occlusion."""
        return None if self.total is None else self.explained - self.total

    @property
    def is_probability(self) -> bool:
        """Whether `value` is a probability, and not a number in a unit."""
        return self.unit == "log-odds"

    @property
    def finding(self) -> str:
        """What was found, in one sentence."""
        return _finding(self)

    def overlay(self, view: int | None = None, slice: int | None = None) -> Drawing:
        """The picture with what raised the level in orange and what lowered it in striped blue; the marked
        fifth is outlined. view, slice: None = what moved the answer most. ValueError without a picture."""
        if not self.pictures:
            raise ValueError(f"{self.modality} is no picture, so there is nothing to draw on. Use plot().")
        chosen = _index(view, self.view, len(self.maps), "view")
        return drawing.overlay(self.pictures[chosen], self.maps[chosen], self.marked[chosen], slice)

    def plot(self) -> Figure:
        """The picture beside its map; for a table or a text a bar for each name."""
        return drawing.plot_pictures(self) if self.pictures else drawing.plot_names(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready form, without pixels."""
        plain_names = (
            "id",
            "modality",
            "kind",
            "task",
            "level",
            "method",
            "value",
            "unit",
            "total",
            "explained",
            "error",
        )
        check = self.faithfulness
        return {
            **{name: getattr(self, name) for name in plain_names},
            "shapes": [list(part.shape) for part in self.maps],
            "values": dict(_numbered(self)) if self.names else None,
            "faithfulness": None
            if check is None
            else {**vars(check), "holds": check.holds, "said": str(check)},
            "used": list(self.used),
            "notice": NOTICE,
        }

    def __str__(self) -> str:
        lines = [f"record {printable(self.id)}, {self.modality}, by {self.method}", f"  {self.finding}"]
        if self.names:
            order = np.argsort(-np.abs(self.maps[0]), kind="stable")
            lines += [f"  {printable(self.names[k])}: {drawing.signed(self.maps[0][k])}" for k in order[:12]]
        else:
            lines += [f"  {drawing.adds_up(self)}", f"  {self.faithfulness}"]
        return "\n".join([*lines, f"  {NOTICE}"])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """A card for the notebook; every text is escaped, since it may come from data."""
        return drawing.card(self)


def saliency(
    model: MultimodalModel,
    record: Record | Mapping[str, Any],
    modality: str | None = None,
    task: str | None = None,
    level: str | None = None,
    method: str = "occlusion",
    *,
    steps: int = 64,
    patch: float = 0.125,
    smooth: float = 0.03,
    seed: int = 0,
) -> Saliency:
    """Which pixels, voxels, cells or words of one modality moved one answer, all others being as recorded.

    modality: the first picture or volume that is there by default. task: the only one by default; level: the
    leading one. method: "occlusion" (each patch is blurred in turn; of a table each cell, of a text each word
    is taken away) or "integrated gradients" (pictures and volumes). steps: of the integral; patch: share of a
    side that is blurred at once; smooth: share of a side by which a map of gradients is smoothed, since its
    single pixels jump (0 = as it comes); seed: of the random areas of the check. The model and its weights
    are left as they are, and several threads may ask one model at once. Raises ValueError for a modality that
    the record does not have, and for a model that is no network.
    """
    check_known(method, METHODS, what="method")
    check_count(steps, name="steps")
    check_share(smooth, name="smooth")
    if not check_share(patch, name="patch"):
        raise ValueError("patch should be larger than 0: the share of a side that is blurred at once.")
    if isinstance(model, MultimodalModel) and not isinstance(record, Record):
        record = Record.from_row(record, schema_of(model))
    # out of inference mode, in case a caller is in it: what is made there can have no gradient
    with torch.inference_mode(False), torch.no_grad():
        question = ask_about(model, record, modality, task, level)
        kind = schema_of(model).modalities[question.modality]
        if isinstance(kind, Image | Volume):
            if method == METHODS[0]:
                attribute = partial(occlusion, patch=patch)
            else:
                attribute = partial(integrated_gradients, steps=steps, smooth=smooth)
            return _of_picture(question, record, kind, method, attribute, seed)
        return _of_names(question, record, kind, method)


def _of_picture(
    question: Question,
    record: Record,
    kind: Image | Volume,
    method: str,
    attribute: Callable[..., Tensor],
    seed: int,
) -> Saliency:
    values = question.values
    picture = values["pixels"][0] if isinstance(kind, Image) else values["voxels"]  # [parts channels *space]

    def ask(several: Tensor) -> Tensor:
        if isinstance(kind, Volume):
            return question({"voxels": several[:, 0]})
        return question({"pixels": several, "views": values["views"].expand(len(several), -1)})

    base = blur(picture)
    whole, blurred = ask(torch.stack([picture, base])).tolist()
    found = attribute(ask, picture, base).cpu().double().numpy()
    total, sign = whole - blurred, 1.0 if whole >= blurred else -1.0
    areas = marked(found, sign)
    check = deletion(ask, picture, base, areas, sign, question.unit, seed)
    pictures = _pictures(record, question.modality, kind)
    shapes = [own.shape[: found.ndim - 1] for own in pictures]
    return _answered(
        question,
        record,
        method,
        whole,
        maps=tuple(_own(part, shape) for part, shape in zip(found, shapes, strict=True)),
        pictures=pictures,
        marked=tuple(unfit(part, shape) >= 0.5 for part, shape in zip(areas, shapes, strict=True)),
        total=total,
        explained=float(found.sum()),
        faithfulness=check,
    )


def _of_names(question: Question, record: Record, kind: Any, method: str) -> Saliency:
    if method != METHODS[0]:
        raise ValueError(
            f"{method} needs pixels; {question.modality} is {type(kind).__name__.lower()}. Ask with "
            f"method={METHODS[0]!r}."
        )
    if isinstance(kind, Tabular):
        names, falls = cells(question, kind)
    elif isinstance(kind, Text):
        names, falls = words(question, kind, record.inputs[question.modality])
    else:
        raise ValueError(
            f"{question.modality} is {type(kind).__name__.lower()}, of which no part can be taken away "
            "alone. Ask about a picture, a volume, a table or a text."
        )
    whole = question(question.values).item()
    return _answered(question, record, method, whole, maps=(falls.numpy(),), names=names)


def _answered(question: Question, record: Record, method: str, answer: float, **found: Any) -> Saliency:
    here = zip(question.model.modalities, question.present[0].tolist(), strict=True)
    number = isinstance(question.kind, Regression)
    return Saliency(
        id=record.id,
        modality=question.modality,
        kind=type(schema_of(question.model).modalities[question.modality]).__name__.lower(),
        task=question.task,
        level=question.name,
        method=method,
        value=answer if number else 1 / (1 + math.exp(-min(max(answer, -60), 60))),
        unit=question.unit,
        used=tuple(name for name, there in here if there),
        **found,
    )


# --------------------------------------------------------------------------------------------------- pictures


def _pictures(record: Record, name: str, kind: Image | Volume) -> tuple[np.ndarray, ...]:
    """uint8, each on its own grid: [height width], [height width 3] or [depth height width]."""
    source = record.inputs[name]
    told = {
        "channels": kind.channels,
        "folder": record.folder,
        "where": f'record "{record.id}", column "{kind.column}"',
    }
    if isinstance(kind, Volume):
        return (_bytes(read_volume(source, key=kind.key, **told)[0]),)
    views = source if isinstance(source, (list, tuple)) else [source]
    read = [read_image(view, **told) for view in views]
    return tuple(_bytes(view[0] if len(view) == 1 else view.transpose(1, 2, 0)) for view in read)


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(values * 255).astype(np.uint8)


def _own(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A map on the grid of its picture as it came, its sum spread over as many pixels as there are now."""
    if values.shape == shape:
        return values
    own = unfit(values, shape)
    if values.ndim == 3:
        return own * (values.size / own.size)
    scale = max(own_side / side for own_side, side in zip(shape, values.shape, strict=True))
    return own / scale**2


def _index(given: int | None, default: int, count: int, what: str) -> int:
    if given is None:
        return default
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given < count:
        raise ValueError(f"{what} should be a whole number from 0 to {count - 1}, got {plain(given)}.")
    return given


# ------------------------------------------------------------------------------------------------------ words


def _finding(found: Saliency) -> str:
    if found.is_probability:
        what, now = f"{found.task} = {found.level}", f"now {drawing.percent(found.value)}"
    else:
        what, now = found.level, f"now {found.value:.4g} {found.unit}"
    if not any(part.any() for part in found.maps):
        return f"Nothing in the {found.modality} moved {what} ({now})."
    if found.names:
        name, value = max(_numbered(found), key=lambda pair: abs(pair[1]))
        way = "raised" if value > 0 else "lowered"
        return f'"{printable(name)}" {way} {what} most, by {abs(value):.2f} {found.unit} ({now}).'
    way = "raised" if found.total > 0 else "lowered"
    by = f"{abs(found.total):.2f} {found.unit}"
    return f"The {found.modality} {way} {what} by {by}, compared with its blurred self ({now})."


def _numbered(found: Saliency) -> list[tuple[str, float]]:
    """Each name once: a word that comes again gets a number."""
    seen: dict[str, int] = {}
    pairs = []
    for name, value in zip(found.names, found.maps[0].tolist(), strict=True):
        seen[name] = seen.get(name, 0) + 1
        pairs.append((name if seen[name] == 1 else f"{name} ({seen[name]})", value))
    return pairs
