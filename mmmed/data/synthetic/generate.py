"""The synthetic cohort: pictures, tables and texts of patients whose best possible prediction is known.

cohort = generate(patients=600, seed=0, missingness="mar")
cohort.truth.ceiling("image", "table").auroc      # what no model can beat on new patients
cohort.posterior()                                # the exact answer for every row, from what is observed
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmmed.checks import check_count, check_share, plain
from mmmed.data.synthetic import events, table, text
from mmmed.data.synthetic.missingness import Mechanism
from mmmed.data.synthetic.patients import SITES, Rows, draw_rows, stream
from mmmed.data.synthetic.scene import MOST_LESIONS, Scene, draw_anatomy, draw_scene
from mmmed.data.synthetic.synthetic import ROLES, Settings, Synthetic
from mmmed.data.synthetic.truth import COLUMNS, FACTORS, MODALITIES, Truth
from mmmed.data.synthetic.words import Statement


def generate(
    patients: int = 600,
    seed: int = 0,
    strength: float = 2.0,
    size: int = 64,
    visits: int | tuple[int, int] = 1,
    keep: float = 0.8,
    shortcut: float = 0.0,
    shift: bool = False,
    missingness: str | Mechanism | None = None,
    split: tuple[float, float, float] = (0.7, 0.15, 0.15),
    lesions: int | tuple[int, int] = 3,
    views: int = 1,
) -> Synthetic:
    """Make patients. The same seed gives the same bytes, and fewer patients are the first of more.

    strength: k of the logit. size: pixels along a side, 32 at least. visits: per patient, or (fewest,
    most); keep is the chance that a factor stays as at the first visit. shortcut: how strongly the site
    decides, 0 = looks only; with shift its effect is turned around in the test part. missingness: a name of
    `MECHANISMS` or a `Mechanism`. split: shares of train, val, test, by patient. lesions: the most per
    picture (one to three), or (fewest, most); with none allowed, rows without a lesion have an unknown
    diagnosis. views: pictures per row, 1 or 2.

    Raises ValueError for a setting out of its range.
    """
    asked = Settings(
        patients=check_count(patients, name="patients"),
        seed=check_count(seed, name="seed", least=0),
        strength=strength,
        size=check_count(size, name="size", least=32),
        visits=_span(visits, "visits", 1, 9, exact=True),
        keep=check_share(keep, name="keep"),
        shortcut=shortcut,
        shift=bool(shift),
        mechanism=None,
        split=_shares(split),
        lesions=_span(lesions, "lesions", 0, MOST_LESIONS, exact=False),
        views=check_count(views, name="views"),
    )
    if views > 2:
        raise ValueError(f"views should be 1 or 2, got {views}.")
    truth = Truth(strength, shortcut)
    rows = draw_rows(truth, patients, seed, asked.visits, asked.keep, asked.split, asked.shift)
    scenes = _scenes(rows, asked)
    columns, labels = _columns(truth, rows, scenes, asked)
    stays = np.ones((len(scenes), len(MODALITIES)), dtype=bool)
    measured = np.ones((len(scenes), len(table.COLUMNS)), dtype=bool)
    complete = Synthetic(truth, asked, columns, dict(ROLES), rows, scenes, labels, stays, measured)
    return complete.with_missingness(missingness)


def _scenes(rows: Rows, asked: Settings) -> tuple[Scene, ...]:
    scenes, anatomy, last = [], None, -1
    for patient, visit, levels in zip(rows.patient.tolist(), rows.visit.tolist(), rows.levels, strict=True):
        if patient != last:
            anatomy = draw_anatomy(stream(asked.seed, patient, "anatomy"), asked.lesions[0])
            last = patient
        generator = stream(asked.seed, patient, "visit", visit)
        scenes.append(draw_scene(anatomy, levels, SITES[int(levels[6]) + 1], generator, asked.lesions))
    return tuple(scenes)


def _columns(
    truth: Truth, rows: Rows, scenes: Sequence[Scene], asked: Settings
) -> tuple[dict[str, Any], dict[str, list[tuple[Statement, ...]]]]:
    """The complete table, column -> values, and the label sets of the text columns."""
    seed = asked.seed
    cells = table.fill(
        rows.levels,
        rows.uniform(seed, "person", table.PATIENT_DRAWS, per_patient=True),
        rows.uniform(seed, "table", table.VISIT_DRAWS),
        rows.visit,
    )
    written, labels = _texts(rows, scenes, seed)
    months, seen = _events(truth, rows, asked)
    scored = [bool(scene.lesions) for scene in scenes]
    names = [f"P{patient:06d}" for patient in rows.patient]
    columns: dict[str, Any] = {
        "id": [f"{name}-{visit + 1}" for name, visit in zip(names, rows.visit, strict=True)],
        "patient": names,
        "visit": rows.visit + 1,
        "split": rows.split.tolist(),
        "site": [SITES[level + 1] for level in rows.levels[:, 6]],
        **{name: values.tolist() if name == "sex" else values for name, values in cells.items()},
        **written,
        "diagnosis": _known(rows.label, scored),
        "months": _known(np.round(months, 2), scored),
        "event": _known(seen, scored),
        **{f"factor_{name}": rows.levels[:, place] for place, name in enumerate(FACTORS)},
    }
    return columns, labels


def _texts(
    rows: Rows, scenes: Sequence[Scene], seed: int
) -> tuple[dict[str, list[str]], dict[str, list[tuple[Statement, ...]]]]:
    written: dict[str, list[str]] = {"note": [], "findings": [], "impression": [], "report": []}
    labels: dict[str, list[tuple[Statement, ...]]] = {name: [] for name in written}
    for row, (patient, visit, scene) in enumerate(
        zip(rows.patient.tolist(), rows.visit.tolist(), scenes, strict=True)
    ):
        generator = stream(seed, patient, "text", visit)
        level = dict(zip(COLUMNS, rows.levels[row].tolist(), strict=True))
        note, told = text.write_note(scene, level["t"], generator)
        findings, impression, found, closing = text.write_report(scene, generator)
        background, known = text.write_background(scene, level, stream(seed, patient, "background", visit))
        report = f"{background} {findings}"
        for name, words, statements in zip(
            written,
            (note, findings, impression, report),
            (told, found, closing, (*known, *found)),
            strict=True,
        ):
            written[name].append(words)
            labels[name].append(text.ordered(statements))
    return written, labels


def _events(truth: Truth, rows: Rows, asked: Settings) -> tuple[np.ndarray, np.ndarray]:
    eta = truth.bracket(rows.levels, rows.test & asked.shift)
    chance = rows.uniform(asked.seed, "event", 2)
    return events.observe(events.event_times(eta, chance[:, 0]), chance[:, 1])


def _known(values: np.ndarray, known: Sequence[bool]) -> Any:
    """The values as they are, or a list with None where they are unknown."""
    if all(known):
        return values
    return [value if there else None for value, there in zip(values.tolist(), known, strict=True)]


def _span(value: Any, name: str, least: int, most: int, *, exact: bool) -> tuple[int, int]:
    """(fewest, most) from a number or a pair. exact: one number means exactly so many, else 1 up to it."""
    pair = (value if exact else 1, value) if isinstance(value, int) else tuple(value)
    good = len(pair) == 2 and all(isinstance(item, int) and not isinstance(item, bool) for item in pair)
    if not good or not least <= pair[0] <= pair[1] <= most or pair[1] < 1:
        raise ValueError(
            f"{name} should be a whole number from 1 to {most}, or (fewest, most) from {least} to {most}, "
            f"got {plain(value)}."
        )
    return pair


def _shares(split: Sequence[float]) -> tuple[float, float, float]:
    shares = tuple(check_share(share, name="A share of the split") for share in split)
    if len(shares) != 3 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise ValueError(
            f"split should be three shares (train, val, test) that add up to 1, got {plain(split)}."
        )
    return shares
