"""What is hidden from whom: rules that take recorded modalities away, to train or to test with gaps.

Every rule returns `stays` [records modality] bool, a subset of `cohort.present`: nothing absent ever comes
back. The chance of a record is a hash of seed, record and modality, so the same record is treated the same
way in any order, in any subset, for every model; and with a larger share the same records lose the modality,
and some more.

Terms after Rubin, "Inference and missing data", Biometrika 63 (1976): missing completely at random (mcar), at
random given what is observed (mar), not at random (mnar).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mmmed.checks import check_known, check_share, listing, plain, suggestion
from mmmed.types import Binary
from mmmed.types.record import check_modalities, is_missing, spell


def uniforms(ids: Iterable[str], names: Sequence[str], seed: int = 0) -> np.ndarray:
    """Numbers in [0, 1), [records names], each made of BLAKE2b of (seed, name, id) and of nothing else."""
    encoded = [str(item).encode() for item in ids]
    columns = []
    for name in names:
        start = hashlib.blake2b(f"{seed}\0{name}\0".encode(), digest_size=8)
        digests = bytearray()
        for item in encoded:
            one = start.copy()
            one.update(item)
            digests += one.digest()
        columns.append(np.frombuffer(bytes(digests), dtype="<u8") >> 11)
    if not columns:
        return np.zeros((len(encoded), 0))
    return np.stack(columns, axis=1) * 2.0**-53  # 53 bits: every float in [0, 1) as likely as it should be


# --------------------------------------------------------------------------------------- completely at random


def natural(cohort: Any) -> np.ndarray:
    """Nothing hidden: the gaps that the cohort came with."""
    return np.array(cohort.present, dtype=bool)


def drop_one(cohort: Any, modality: str) -> np.ndarray:
    """One modality hidden from everybody, also from those who have nothing else."""
    stays = natural(cohort)
    stays[:, _index(cohort, modality)] = False
    return stays


def keep_one(cohort: Any, modality: str) -> np.ndarray:
    """All but one modality hidden from everybody; who lacks that one has nothing left."""
    index = _index(cohort, modality)
    stays = np.zeros_like(natural(cohort))
    stays[:, index] = cohort.present[:, index]
    return stays


def mcar(
    cohort: Any,
    share: float,
    seed: int = 0,
    modalities: Sequence[str] | None = None,
    keep_one: bool = True,
) -> np.ndarray:
    """Each recorded modality (of those named) is hidden with probability `share`.

    keep_one: a record's last one stays, so slightly less than `share` is hidden.
    """
    check_share(share, name="share")
    names = check_modalities(cohort.schema.modalities if modalities is None else modalities, cohort.schema)
    chances = np.zeros(np.shape(cohort.present))
    for name in names:
        chances[:, _index(cohort, name)] = share
    return _hide(cohort, chances, seed, keep_one)


# ----------------------------------------------------------------------------------------------- for a reason


def mar(
    cohort: Any,
    modality: str,
    column: str,
    low: float,
    high: float,
    seed: int = 0,
    cut: float | str | None = None,
    keep_one: bool = True,
) -> np.ndarray:
    """At random: hidden with probability `high` where an always observed column is high, else with `low`.

    cut: a number (high = above it), a level (high = equal to it), or None for the median of these records;
    give the number where the rule must be the same in every subset. Raises ValueError if the column has gaps
    or belongs to the hidden modality.
    """
    index = _index(cohort, modality)
    if column in cohort.schema.modalities[modality].columns:
        raise ValueError(
            f"Column {column!r} is part of {modality!r} and would be hidden with it. Take a column of "
            "another modality, or mnar_by_value."
        )
    cells = cohort.column(column)
    if gaps := sum(is_missing(cell) for cell in cells):
        raise ValueError(
            f"Column {column!r} should always be observed; it is missing in {gaps} records. Take another."
        )
    if isinstance(cut, str):
        levels = np.array([spell(cell) for cell in cells], dtype=object)
        check_known(cut, _levels(cohort, column), what=f"level of {column!r}")
        above = levels == cut
    else:
        values = _numbers(cells, column)
        above = values > (np.median(values) if cut is None else cut)
    chances = np.where(above, check_share(high, name="high"), check_share(low, name="low"))
    return _hide_one(cohort, index, chances, seed, keep_one)


def mnar_by_value(
    cohort: Any,
    modality: str,
    column: str,
    shares: Sequence[float] = (0.65, 0.40, 0.15),
    seed: int = 0,
    keep_one: bool = True,
) -> np.ndarray:
    """Not at random, by value: the chance to be hidden depends on a number inside the hidden modality.

    shares: for the low, middle and high third of the recorded values (ties go together, by their middle
    rank); a record without the value counts as middle.
    """
    index = _index(cohort, modality)
    columns = cohort.schema.modalities[modality].columns
    if column not in columns:
        raise ValueError(
            f"Column {plain(column)} is not part of {modality!r}.{suggestion(column, columns)} It has "
            f"{listing(columns)}."
        )
    if len(shares) != 3:
        raise ValueError(f"shares should be three numbers (low, middle, high), got {plain(shares)}.")
    shares = np.array([check_share(share, name="shares") for share in shares])
    values = _numbers(cohort.column(column), column)
    values[~cohort.present[:, index]] = np.nan
    return _hide_one(cohort, index, shares[_thirds(values)], seed, keep_one)


def mnar_by_label(
    cohort: Any,
    task: str,
    modality: str,
    positive: float = 0.20,
    negative: float = 0.55,
    seed: int = 0,
    flipped: bool = False,
    keep_one: bool = True,
) -> np.ndarray:
    """Not at random, by label: hidden with probability `positive` if the answer is yes, else `negative`.

    The trap: a model that learns "missing means healthy" shines here and fails when the two are `flipped`.
    Where the label is unknown, the mean of both applies.
    """
    index = _index(cohort, modality)
    check_known(task, cohort.schema.tasks, what="task")
    if not isinstance(cohort.schema.tasks[task], Binary):
        raise ValueError(f"Task {task!r} should be Binary, got {type(cohort.schema.tasks[task]).__name__}.")
    positive, negative = check_share(positive, name="positive"), check_share(negative, name="negative")
    if flipped:
        positive, negative = negative, positive
    values, known = cohort.targets(task)
    chances = np.where(np.asarray(values) > 0.5, positive, negative)
    chances = np.where(np.asarray(known, dtype=bool), chances, (positive + negative) / 2)
    return _hide_one(cohort, index, chances, seed, keep_one)


# -------------------------------------------------------------------------------------- how care is organised


def whole_site(cohort: Any, modality: str, column: str, site: str) -> np.ndarray:
    """One site never has the modality: it is hidden from every record whose `column` is `site`.

    column: any column of the table, also one that is no input. A record without a site keeps what it has.
    Strict like `drop_one`: who has nothing else is left with nothing.
    """
    index = _index(cohort, modality)
    levels = np.array([None if is_missing(cell) else spell(cell) for cell in cohort.column(column)], object)
    if len(levels):
        check_known(site, _levels(cohort, column), what=f"level of {column!r}")
    stays = natural(cohort)
    stays[levels == site, index] = False
    return stays


def sequential(cohort: Any, modality: str, after: str, share: float = 0.0, seed: int = 0) -> np.ndarray:
    """A modality exists only where another is there: no picture, no report of it.

    share: `after` is first hidden with this probability, and `modality` goes with it (0: only the gaps of
    `after` that are there already count). Strict: who has nothing else is left with nothing.
    """
    index, before = _index(cohort, modality), _index(cohort, after)
    if index == before:
        raise ValueError(f"modality and after should differ, got {modality!r} twice.")
    chances = np.zeros(np.shape(cohort.present))
    chances[:, before] = check_share(share, name="share")
    stays = _hide(cohort, chances, seed, keep_one=False)
    stays[:, index] &= stays[:, before]
    return stays


# ------------------------------------------------------------------------------------------------------ parts


def _levels(cohort: Any, column: str) -> list[str]:
    """The levels of a column in all records behind a view: a part of a cohort may happen to lack one."""
    source = getattr(cohort, "source", None)
    whole = cohort if source is None else type(cohort)(source, cohort.schema)
    return list(dict.fromkeys(spell(cell) for cell in whole.column(column) if not is_missing(cell)))


def _index(cohort: Any, modality: str) -> int:
    return list(cohort.schema.modalities).index(
        check_known(modality, cohort.schema.modalities, what="modality")
    )


def _hide_one(cohort: Any, index: int, chances: np.ndarray, seed: int, keep_one: bool) -> np.ndarray:
    """chances [records] for one modality."""
    table = np.zeros(np.shape(cohort.present))
    table[:, index] = chances
    return _hide(cohort, table, seed, keep_one)


def _hide(cohort: Any, chances: np.ndarray, seed: int, keep_one: bool) -> np.ndarray:
    """chances [records modality] -> stays [records modality]."""
    present = natural(cohort)
    draws = uniforms(cohort.ids, list(cohort.schema.modalities), seed)
    stays = present & (draws >= chances)
    if keep_one:
        # The one whose draw was furthest from being hidden: the same for every larger share, too.
        emptied = present.any(1) & ~stays.any(1)
        spared = np.where(present, draws, -1.0).argmax(1)
        stays[emptied, spared[emptied]] = True
    return stays


def _numbers(cells: Iterable[Any], column: str) -> np.ndarray:
    """Cells as float, missing = NaN."""
    values = []
    for cell in cells:
        try:
            values.append(np.nan if is_missing(cell) else float(cell))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"Column {column!r} should be numeric, got {plain(cell)}. Name a numeric column, or a level "
                "as cut=."
            ) from error
    return np.array(values, dtype=float)


def _thirds(values: np.ndarray) -> np.ndarray:
    """0, 1, 2 for the low, middle and high third by middle rank; 1 where the value is NaN."""
    known = ~np.isnan(values)
    _, place, counts = np.unique(values[known], return_inverse=True, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2) / max(known.sum(), 1)
    thirds = np.ones(len(values), dtype=int)
    thirds[known] = np.minimum((middle[place] * 3).astype(int), 2)
    return thirds
