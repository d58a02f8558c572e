"""What the model would have said with less: every subset of what was recorded for this patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from . import svg
from .scale import Scale, axis_title, scale_of, subject

if TYPE_CHECKING:
    from mmmed.types import Answer

ALL = 4  # modalities up to which every subset is shown; of more, those one switch away from the present one
DIAMOND = "M0 -6L5 0L0 6L-5 0Z"
Seen = tuple[str, ...]


@dataclass(frozen=True)
class View:
    """What all rows share. modalities: names in the order of their colours; best: exact answers by subset."""

    answer: Answer
    level: str
    scale: Scale
    used: Seen
    now: Seen
    modalities: tuple[str, ...]
    best: Mapping[frozenset[str], float]

    def value(self, seen: Seen) -> float:
        return self.answer.subsets[seen].values[self.level]

    @property
    def shows_all(self) -> bool:
        return len(self.used) <= ALL


def subsets(
    answer: Answer,
    on: Sequence[str],
    modalities: Sequence[str],
    task: str,
    ceilings: Mapping[Seen, float] | None = None,
) -> str:
    """A bar with its interval per subset, the smaller ones first; the one that is switched on is marked.

    answer: to the whole record. on: the modalities that are on. modalities: all, in the order of the model.
    ceilings: subset -> the exact probability, where the truth is known (synthetic patients); a diamond.
    """
    if not answer.subsets:
        return svg.remark("The model was not asked about less than everything.")
    used = max(answer.subsets, key=len)
    now = tuple(name for name in used if name in on)
    level = answer.subsets.get(now, answer).leading
    best = {frozenset(seen): value for seen, value in (ceilings or {}).items()}
    view = View(answer, level, scale_of(answer, level), used, now, tuple(modalities), best)
    shown, what = _shown(view), subject(answer, task, level)
    if now not in answer.subsets:
        return svg.remark(
            f"{len(used)} modalities have too many subsets to ask about all, and what is on now is none of "
            "those that were asked about."
        )
    rows = [_row(seen, view) for seen in shown] + [svg.axis(view.scale, axis_title(answer, task, level))]
    looks = "mm-subsets mm-slim" if view.shows_all else "mm-subsets"
    return (
        svg.finding(_finding(shown, view, svg.escape(what)))
        + svg.chart(rows, f"{what}, with less known", looks)
        + svg.remark(_reading(shown, view))
    )


def _shown(view: View) -> list[Seen]:
    """Subsets in the order of rows; those that the model was not asked about are left out."""
    used, now = view.used, view.now
    if view.shows_all:
        every = [seen for size in range(len(used) + 1) for seen in combinations(used, size)]
    else:
        near = [tuple(name for name in used if (name in now) != (name == other)) for other in used]
        every = sorted([now, *near], key=lambda seen: (len(seen), [used.index(name) for name in seen]))
    return [seen for seen in every if seen in view.answer.subsets]


def _row(seen: Seen, view: View) -> str:
    scale, value, is_now = view.scale, view.value(seen), seen == view.now
    bounds, best = view.answer.subsets[seen].interval.get(view.level), view.best.get(frozenset(seen))
    marks = [svg.grid([scale.place(tick) for tick in scale.ticks])]
    if scale.share:  # an axis of a regression need not start at 0, and a bar from elsewhere would mislead
        marks.append(svg.bar(0, scale.place(value), "mm-fill", 10))
    if bounds:
        marks.append(svg.whisker(scale.place(bounds[0]), scale.place(bounds[1])))
    marks.append(svg.dot(scale.place(value), radius=6 if is_now else 4))
    if best is not None:
        marks.append(svg.glyph(scale.place(best), DIAMOND, "mm-best"))
    says = f"{'Now: ' if is_now else ''}{svg.listed(seen) or 'nothing known'}: {scale.said(value, bounds)}"
    says += f", exact answer {scale.text(best)}" if best is not None else ""
    cells = [*_label(seen, view), *svg.numbers(scale, value, bounds)]
    looks = "mm-is-now" if is_now else "" if view.shows_all else "mm-long"
    return svg.row(cells, svg.plot(marks, f"{says}."), looks)


def _label(seen: Seen, view: View) -> list[str]:
    """The names of a subset; of many modalities, only the one that differs from now, and its change."""
    mark = '<span class="mm-now">now</span>' if seen == view.now else ""
    if view.shows_all or seen == view.now:
        names = "".join(svg.key(name, view.modalities) for name in seen) or "nothing known"
        return [svg.cell("mm-label mm-wide", f"{names}{mark}")]
    (other,) = set(seen) ^ set(view.now)
    word = "with" if other in seen else "without"
    label = svg.cell("mm-label", f"{word} {svg.key(other, view.modalities)}")
    before = view.answer.subsets.get(view.now)
    change = svg.moved(view.scale, before.values[view.level], view.value(seen)) if before else ""
    return [label, change]


def _finding(shown: Sequence[Seen], view: View, what: str) -> str:
    """what: escaped already."""
    scale = view.scale
    said = {seen: svg.escape(scale.text(view.value(seen))) for seen in shown}
    if len(shown) == 1:
        return f"{what}: {said[shown[0]]}. {_alone(view)}"
    low, high = min(shown, key=view.value), max(shown, key=view.value)
    if not scale.moved(view.value(low), view.value(high)):
        return f"{what}: {said[low]}, whatever is known."
    which = "Depending on what is known" if view.shows_all else "One switch away from now"
    return (
        f"{which}, {what} lies between <b>{said[low]}</b> ({_names(low, view)}) and "
        f"<b>{said[high]}</b> ({_names(high, view)})."
    )


def _alone(view: View) -> str:
    """Why there is but one row."""
    if view.used:
        return "With so many modalities the model was asked about no subset one switch away."
    return "There is nothing to take away."


def _names(seen: Seen, view: View) -> str:
    if view.shows_all:
        return svg.escape(svg.listed(seen)) or "nothing known"
    other = "".join(set(seen) ^ set(view.now))
    return f"{'with' if other in seen else 'without'} {svg.escape(other)}" if other else "as now"


def _reading(shown: Sequence[Seen], view: View) -> str:
    text = ""
    if any(view.answer.subsets[seen].interval for seen in shown):
        text = "Thin line: 95 % interval."
    if view.best:
        text += " Diamond: the exact answer, known because the patient is simulated."
    if not view.shows_all:
        every, asked = 2 ** len(view.used), len(view.answer.subsets)
        text += f" Of {every} subsets, those one switch away from the present one"
        text += "." if asked == every else f", as far as they are among the {asked} that were asked about."
    return text.strip()
