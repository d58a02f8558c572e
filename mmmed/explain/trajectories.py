"""The way to an answer: how it moves from "nothing known" as one modality after the other is added."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmmed.checks import check_known
from mmmed.explain.style import quiet, spread
from mmmed.palette import DARK, PALETTE, Picture
from mmmed.types import Prediction
from mmmed.types.prediction import Answer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

START = "nothing known"
MOST = len(PALETTE)  # lines in one figure


def plot_trajectory(prediction: Prediction | Sequence[Prediction], task: str | None = None) -> Figure:
    """One line per record (or per level, for one record of a task with several levels).

    A filled point is a modality that was there, an open one a modality that was missing: the answer stays
    where it was. The bar at the end is the interval of the final answer. task: the only one by default. Up to
    seven lines. Source of the trajectory: MultiModN, Swamy et al., arXiv:2309.14118, sec. 3.
    """
    many = [prediction] if isinstance(prediction, Prediction) else list(prediction)
    if not many or len(many) > MOST:
        raise ValueError(f"One to {MOST} predictions fit into a figure, got {len(many)}.")
    if task is None and len(many[0].answers) != 1:
        raise ValueError(f"There are {len(many[0].answers)} tasks: name one of {sorted(many[0].answers)}.")
    task = next(iter(many[0].answers)) if task is None else task
    for one in many:
        check_known(task, one.answers, what="task of the prediction")
    answer = many[0][task]
    steps = _steps(many, task)
    figure = Picture(figsize=(max(5.2, 1.25 * len(steps) + 2.2), 3.6))
    axes = figure.add_axes((0.12, 0.2, 0.66, 0.62))
    lines = [(one.id, one[task], answer.leading) for one in many]
    if len(many) == 1 and len(answer.values) > 1:
        lines = [(level, answer, level) for level in list(answer.values)[:MOST]]
    ends = []
    for k, (_, one, level) in enumerate(lines):
        aside = 0.06 * (k - (len(lines) - 1) / 2)  # intervals side by side, not on top of each other
        ends.append(_draw_line(axes, steps, one, level, PALETTE[k], aside))
    _dress(axes, steps, answer)
    _name_lines(axes, [name for name, _, _ in lines], ends, answer)
    what = answer.leading if answer.kind == "multiclass" and len(many) > 1 else ""
    figure.text(0.02, 0.97, f"{task}{f': {what}' if what else ''}", va="top", size=12)
    figure.text(0.02, 0.895, _subtitle(many), va="top", size=9, color=DARK)
    return figure


def _steps(many: Sequence[Prediction], task: str) -> list[str]:
    """Every modality of any record, in the order of fusion; those that nobody has come last."""
    names: list[str] = []
    for one in sorted(many, key=lambda prediction: -len(prediction[task].trajectory)):
        names += [name for name, _ in one[task].trajectory if name not in names]
    return names + [name for name in many[0].missing if name not in names]


def _draw_line(
    axes: Any, steps: Sequence[str], answer: Answer, level: str, colour: str, aside: float = 0.0
) -> tuple[float, float, float]:
    """-> the height of the end, and the interval around it."""
    scale = 1 if answer.kind == "regression" else 100
    there = {name: values[level] for name, values in answer.trajectory}
    heights, here = [answer.prior[level] * scale], answer.prior[level]
    for name in steps:
        here = there.get(name, here)
        heights.append(here * scale)
    axes.plot(range(len(heights)), heights, color=colour, lw=2, zorder=2)
    for k, height in enumerate(heights):
        known = k == 0 or steps[k - 1] in there
        axes.plot(k, height, "o", ms=7, mfc=colour if known else "white", mec=colour, mew=1.5, zorder=3)
    low, high = (bound * scale for bound in answer.interval.get(level, (here, here)))
    if high > low:
        axes.vlines(len(steps) + aside, low, high, color=colour, lw=5, alpha=0.35, zorder=1)
    return heights[-1], low, high


def _dress(axes: Any, steps: Sequence[str], answer: Answer) -> None:
    labels = [START, *(f"+ {name}" for name in steps)]
    axes.set_xticks(range(len(labels)), labels, rotation=0 if len(labels) <= 5 else 25, ha="center")
    axes.set_xlim(-0.3, len(steps) + 0.25)
    if answer.kind == "regression":
        axes.set_ylabel(f"prediction [{answer.unit}]" if answer.unit else "prediction", size=10)
    else:
        axes.set_ylim(-2, 102)
        axes.set_yticks(range(0, 101, 25))
        axes.set_ylabel("probability [%]", size=10)
    quiet(axes)


def _name_lines(axes: Any, names: Sequence[str], ends: Sequence[tuple], answer: Answer) -> None:
    """Names beside the ends of the lines: no legend to look up."""
    low, high = axes.get_ylim()
    places = spread([end for end, _, _ in ends], 0.075 * (high - low))
    for k, (name, (end, least, most), place) in enumerate(zip(names, ends, places, strict=True)):
        if answer.kind == "regression":
            text = f"{end:.3g}" + (f" [{least:.3g}, {most:.3g}]" if most > least else "")
        else:
            text = f"{end:.0f} %" + (f" [{least:.0f}, {most:.0f}]" if most > least else "")
        shown = f"{name}  {text}" if len(names) > 1 or name in answer.values else text
        axes.annotate(
            shown,
            (1, place),
            xycoords=("axes fraction", "data"),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            size=9,
            color=PALETTE[k],
            annotation_clip=False,
        )


def _subtitle(many: Sequence[Prediction]) -> str:
    missing = any(one.missing for one in many)
    words = f"record {many[0].id}" if len(many) == 1 else f"{len(many)} records"
    return words + ("; open point: not recorded, so nothing changes" if missing else "")
