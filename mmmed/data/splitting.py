"""Group-safe, stratified parts: no patient on two sides, labels and missing patterns alike in all of them.

Patients are dealt one by one, those with most records first, each to the part where the squared load,
relative to the part's share and the rarity of the stratum, grows least. Ties are broken by a hash of seed and
patient, so neither the order of the rows nor the machine changes the result. (The greedy idea is that of
StratifiedGroupKFold of scikit-learn, with unequal shares and several strata at once.)
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmmed.checks import listing, plain
from mmmed.data.statistics import in_order
from mmmed.types import Binary, Regression

if TYPE_CHECKING:
    from mmmed.data.view import View

SPLITS = ("train", "val", "test")
# Flat, since a million patients must not need a million small lists: patient p has the strata
# key_of[starts[p] :
# starts[p + 1]], each with count_of[...] rows.
Counts = tuple[np.ndarray, np.ndarray, np.ndarray]

MANY = 400  # so many patients with equal strata are dealt in bulk
LEAST = 10  # a missing pattern with fewer rows is dealt together with the other rare ones


def deal(
    groups: np.ndarray, names: Sequence[str], strata: Sequence[np.ndarray], shares: Sequence[float], seed: int
) -> np.ndarray:
    """Parts of rows -> int [rows], 0 for the first share.

    groups [rows]: number of the patient; names: name of each patient (only for the hash); strata: arrays
    [rows] of codes, each balanced over the parts; shares: one per part, adding up to one.
    """
    keys, weights = _joined(strata, len(groups))
    counts = _counts(groups, keys)
    order = _order(groups, names, seed)
    parts = np.flatnonzero(np.asarray(shares) > 0)
    some = [shares[part] for part in parts.tolist()]
    chosen = _deal_alike(counts, order, some)
    _deal_singly(counts, order, some, weights, chosen)
    return parts[chosen[groups]]


def _deal_alike(counts: Counts, order: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """-> part of each patient, -1 = still to be dealt. Of many patients with the same strata, all but a rest
    go to the parts in exact proportion: dealing them one by one would end there too, but slowly."""
    starts, key_of, count_of = counts
    marks = np.random.default_rng(0).integers(2**62, size=int(key_of.max()) + 1, dtype=np.uint64)
    sums = np.add.reduceat(marks[key_of] * count_of.astype(np.uint64), starts[:-1])  # equal strata, equal sum
    alike, sizes = np.unique(sums, return_inverse=True, return_counts=True)[1:]
    chosen = np.full(len(order), -1)
    for kind in np.flatnonzero(sizes >= MANY):
        members = order[alike[order] == kind]
        ends = np.cumsum([0, *(int(share * (len(members) - MANY // 2)) for share in shares)])
        for part, (start, stop) in enumerate(itertools.pairwise(ends)):
            chosen[members[start:stop]] = part
    return chosen


def _deal_singly(
    counts: Counts, order: np.ndarray, shares: Sequence[float], weights: np.ndarray, chosen: np.ndarray
) -> None:
    """Give each patient that is still to be dealt to the part whose load grows least; writes into
    `chosen`."""
    starts, key_of, count_of = counts
    # cost[part][key]: growth of weight * load^2 / share when one more row of the stratum comes
    steps = [2 * weights / share for share in shares]
    owner = np.repeat(chosen, np.diff(starts))
    loads = [
        np.bincount(key_of[owner == part], count_of[owner == part], len(weights))
        for part in range(len(shares))
    ]
    cost = [((load + 0.5) * step).tolist() for load, step in zip(loads, steps, strict=True)]
    steps = [step.tolist() for step in steps]
    for patient in order[chosen[order] < 0].tolist():
        here = slice(starts[patient], starts[patient + 1])
        rows = list(zip(key_of[here].tolist(), count_of[here].tolist(), strict=True))
        growth = [
            sum(count * (costs[key] + (count - 1) * step[key] / 2) for key, count in rows)
            for costs, step in zip(cost, steps, strict=True)
        ]
        best = growth.index(min(growth))
        for key, count in rows:
            cost[best][key] += count * steps[best][key]
        chosen[patient] = best


def _joined(strata: Sequence[np.ndarray], rows: int) -> tuple[np.ndarray, np.ndarray]:
    """-> keys [rows strata] numbered through, and the weight of each: one over its number of rows. The last
    stratum holds all rows, so that the sizes come out right as well."""
    keys, weights, start = [], [], 0
    for codes in [*strata, np.zeros(rows, int)]:
        _, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
        keys.append(inverse + start)
        weights.append(1.0 / counts)
        start += len(counts)
    return np.stack(keys, axis=1), np.concatenate(weights)


def _counts(groups: np.ndarray, keys: np.ndarray) -> Counts:
    """The strata of each patient's rows and how many rows are in each."""
    size = int(keys.max()) + 1
    pairs, counts = np.unique(groups[:, None] * size + keys, return_counts=True)
    starts = np.searchsorted(pairs, np.arange(int(groups.max()) + 2) * size)
    return starts, pairs % size, counts


def _order(groups: np.ndarray, names: Sequence[str], seed: int) -> np.ndarray:
    """Patients with most rows first; ties by a hash of seed and name."""
    rows = np.bincount(groups, minlength=len(names))
    digests = (hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest() for name in names)
    ties = np.fromiter((int.from_bytes(digest, "big") for digest in digests), np.uint64, len(names))
    return np.lexsort((ties, -rows))


# ----------------------------------------------------------------------------------------------------- strata


def pattern_codes(present: np.ndarray) -> np.ndarray:
    """Which combination of modalities: present [rows modality] bool -> int [rows]; the rare ones share a
    code."""
    _, codes, counts = np.unique(present, axis=0, return_inverse=True, return_counts=True)
    codes = codes.reshape(-1)
    return np.where(counts[codes] >= LEAST, codes, -1)


def label_codes(values: np.ndarray, known: np.ndarray, continuous: bool) -> list[np.ndarray]:
    """Labels as strata: each label of a task is one; numbers in four quantile bins; unknown is a stratum of
    its own. values, known [rows] or [rows labels] -> arrays [rows]."""
    if values.ndim == 2:
        return [np.where(known[:, i], values[:, i], -1).astype(int) for i in range(values.shape[1])]
    if continuous and known.any():
        edges = np.unique(np.quantile(values[known], [0.25, 0.5, 0.75]))
        values = np.searchsorted(edges, values, side="right")
    return [np.where(known, values, -1).astype(int)]


# ------------------------------------------------------------------------------------------ parts of a cohort


def split_parts(view: View, fractions: Sequence[float], seed: int, strict: bool = False) -> np.ndarray:
    """Train, val, test for the records of a view -> int8 [records].

    strict: raise ValueError if a part lacks a class of a binary task.
    """
    groups, names = _patients(view)
    parts = (
        deal(groups, names, strata_of(view), fractions, seed).astype(np.int8)
        if len(view)
        else groups.astype(np.int8)
    )
    if strict:
        used = [name for name, share in zip(SPLITS, fractions, strict=True) if share > 0]
        _check_classes(view, groups, parts, [SPLITS.index(name) for name in used], SPLITS)
    return parts


def whole_folds(view: View, k: int, seed: int) -> tuple[np.ndarray, str]:
    """The fold of each record and where it comes from: the column "fold" if it has the role of a split and k
    values, else dealt now. Raises ValueError if a patient is in two folds, or a fold lacks a class of a
    binary task."""
    groups, names = _patients(view)
    cells = view.column("fold") if view.roles.get("fold") == "split" else []
    found = in_order([str(cell) for cell in set(cells) - {None}])
    if len(found) == k and None not in cells:
        folds = np.array([found.index(str(cell)) for cell in cells], np.int8)
        check_groups_whole(view.groups.tolist(), folds, "fold")
        return folds, 'column "fold"'
    if len(names) < k:
        raise ValueError(f"{k} folds need {k} patients at least; here are {len(names)}. Ask for fewer folds.")
    _check_enough(view, groups, k)
    folds = deal(groups, names, strata_of(view), (1 / k,) * k, seed).astype(np.int8)
    _check_classes(view, groups, folds, range(k), [f"fold {i}" for i in range(k)])
    return folds, f"folds by {view.schema.group or 'row'}, seed {seed}"


def fold_parts(folds: np.ndarray, test: int, k: int) -> np.ndarray:
    """Fold `test` is the test part, the next one val, the rest train -> int8 [records]."""
    return np.select([folds == test, folds == (test + 1) % k], [2, 1], 0).astype(np.int8)


def strata_of(view: View) -> list[np.ndarray]:
    """What should be alike in all parts: the labels of every task, and which modalities are present."""
    strata = [pattern_codes(view.present)]
    for name, task in view.schema.tasks.items():
        strata += label_codes(*view.targets(name), isinstance(task, Regression))
    return strata


def _patients(view: View) -> tuple[np.ndarray, Sequence[str]]:
    """Number of each record's patient, and the patients' names."""
    if view.schema.group is None:
        return np.arange(len(view)), view.ids
    names, codes = np.unique(view.groups, return_inverse=True)
    return codes.reshape(-1), names


# ----------------------------------------------------------------------------------------------------- checks


def check_fractions(fractions: Sequence[float]) -> tuple[float, ...]:
    """Three shares for train, val and test that add up to one; train is not empty."""
    fractions = tuple(float(share) for share in fractions)
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6 or fractions[0] == 0:
        raise ValueError(
            "fractions should be three shares for train, val and test that add up to 1, with some for train, "
            "got "
            f"{plain(fractions)}."
        )
    return fractions


def check_groups_whole(groups: Sequence[str], parts: np.ndarray, column: str) -> None:
    """Raise ValueError if a patient is in two parts."""
    home: dict[str, int] = {}
    torn = dict.fromkeys(
        group
        for group, part in zip(groups, parts.tolist(), strict=True)
        if home.setdefault(group, part) != part
    )
    if torn:
        raise ValueError(
            f'Column "{column}" puts the records of one patient in different parts: {listing(torn)}. A model '
            f"would be "
            "tested on patients it has learned. Correct the column, or leave it out and a split by patient "
            "is made."
        )


def _classes(view: View) -> list[tuple[str, np.ndarray]]:
    """Each class of each binary task in words, and the records that have it."""
    found = []
    for name, task in view.schema.tasks.items():
        if isinstance(task, Binary):
            values, known = view.targets(name)
            found += [
                (f"{task.column} = {level}", known & (values == code))
                for code, level in enumerate(task.levels)
            ]
    return found


def _check_enough(view: View, groups: np.ndarray, k: int) -> None:
    for words, rows in _classes(view):
        have = len(np.unique(groups[rows]))
        if have < k:
            advice = (
                f"Ask for {have} folds at most" if have >= 3 else "That is too few for folds; use one split"
            )
            raise ValueError(
                f"{k} folds were asked for, but only {have} patients have {words}: a fold would have none, "
                f"and nothing "
                f"could be measured there. {advice}, or collect more."
            )


def _check_classes(
    view: View, groups: np.ndarray, parts: np.ndarray, used: Iterable[int], names: Sequence[str]
) -> None:
    for words, rows in _classes(view):
        empty = [names[part] for part in used if not (rows & (parts == part)).any()]
        if empty:
            raise ValueError(
                f"No record with {words} came into {listing(empty)}; {len(np.unique(groups[rows]))} patients "
                f"have it. "
                "Give that part a larger share, try another seed, or ask for fewer parts."
            )
