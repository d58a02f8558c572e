"""Retrieval: is the right report among the first k that a similarity puts forward, and the right patient for
a report?

Rank of a query: 1 + the candidates that do not belong to it and are at least as similar as the best one that
does. Ties count against the model, so a similarity that is the same everywhere ranks last and not first.
Beside every score stands what a random order reaches. Source: recall at k both ways as in CLIP, Radford et
al., arXiv:2103.00020, sec. 3; several right answers per query as in Zhang et al., arXiv:2010.00747, sec. 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import check_count, check_shape, plain
from mmmed.evaluation.bootstrap import Draws
from mmmed.evaluation.scores import Table

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

WAYS = ("input to report", "report to input")


def recall_at_k(
    similarity: ArrayLike,
    matches: ArrayLike | None = None,
    ks: Sequence[int] = (1, 5, 10),
    groups: ArrayLike | None = None,
    candidate_groups: ArrayLike | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> Table:
    """One row per direction: recall at each k with its chance level, and the median rank, with intervals by
    patient.

    similarity [queries candidates]: higher is more alike; rows inputs, columns reports. matches: the index
    of the right candidate of each query [queries], or bool [queries candidates] where several are right
    (patients with the same report); None = the diagonal. groups [queries], candidate_groups [candidates]:
    the patients; for a square table without candidate_groups those of the queries serve for both. Patients
    are drawn as queries; the candidates they are ranked against stay the same. A query without any right
    candidate is left out, which n says. Raises ValueError for NaN, wrong shapes or a k below 1.
    """
    similarity = np.asarray(similarity, dtype=float)
    right = right_answers(similarity, matches)
    if candidate_groups is None and similarity.shape[0] == similarity.shape[1]:
        candidate_groups = groups
    for k in ks:
        check_count(k, name="k")
    sides = ((similarity, right, groups), (similarity.T, right.T, candidate_groups))
    rows = [
        {"way": way, **_scores(*side, tuple(ks), draws, seed)} for way, side in zip(WAYS, sides, strict=True)
    ]
    notes = (
        "Ties count against the model. chance: the same score in a random order. Intervals: patients redrawn "
        "as queries.",
    )
    return Table(tuple(rows), "Retrieval", notes)


def ranks(similarity: ArrayLike, matches: ArrayLike | None = None) -> np.ndarray:
    """Rank of the best right candidate of each query, 1 = first, [queries]; NaN for a query without one."""
    similarity = np.asarray(similarity, dtype=float)
    return _ranks(similarity, right_answers(similarity, matches))


def right_answers(similarity: np.ndarray, matches: ArrayLike | None) -> np.ndarray:
    """Which candidates are right, bool [queries candidates]; the checks of everything here."""
    check_shape(similarity, "queries candidates", name="similarity")
    if np.isnan(similarity).any():
        raise ValueError(
            "similarity holds NaN. Give a number for every pair, for example -inf for the worst."
        )
    queries, candidates = similarity.shape
    if matches is None:
        if queries != candidates:
            raise ValueError(
                f"Without matches the similarity should be square, got [{queries}, {candidates}]. Pass the "
                "index of the right candidate of each query as matches."
            )
        return np.eye(queries, dtype=bool)
    matches = np.asarray(matches)
    if matches.dtype == bool:
        check_shape(matches, "queries candidates", name="matches", queries=queries, candidates=candidates)
        return matches
    check_shape(matches, "queries", name="matches", queries=queries)
    if matches.dtype.kind not in "iu" or (
        len(matches) and not 0 <= matches.min() <= matches.max() < candidates
    ):
        raise ValueError(
            f"matches should be bool [queries candidates], or whole numbers from 0 to {candidates - 1}, got "
            f"{plain(matches.tolist())}."
        )
    return matches[:, None] == np.arange(candidates)


def chance_of_recall(right: np.ndarray, k: int) -> np.ndarray:
    """P(a right candidate among the first k) in a random order, [queries]; right bool [queries candidates].

    1 - C(n - m, k) / C(n, k) with m right ones among n candidates.
    """
    n = right.shape[1]
    every = math.comb(n, min(k, n))
    levels = {int(m): 1 - math.comb(n - int(m), min(k, n)) / every for m in np.unique(right.sum(axis=1))}
    return np.array([levels[m] for m in right.sum(axis=1).tolist()])


def _ranks(similarity: np.ndarray, right: np.ndarray) -> np.ndarray:
    best = np.where(right, similarity, -np.inf).max(axis=1, initial=-np.inf)
    ahead = (~right & (similarity >= best[:, None])).sum(axis=1)
    return np.where(right.any(axis=1), 1.0 + ahead, np.nan)


def _scores(
    similarity: np.ndarray,
    right: np.ndarray,
    groups: Any,
    ks: tuple[int, ...],
    draws: int,
    seed: int,
) -> dict[str, Any]:
    rank = _ranks(similarity, right)
    known = ~np.isnan(rank)
    many = Draws(rank, groups, draws, seed)
    cells: dict[str, Any] = {}
    for k in ks:
        hit = many.scores({"recall": _share}, np.where(known, rank <= k, 0.0))["recall"]
        cells[f"recall at {k}"] = many.estimate(hit)
        cells[f"chance at {k}"] = float(chance_of_recall(right[known], k).mean()) if known.any() else math.nan
    middle = many.scores({"rank": _median}, np.where(known, rank, 0.0))["rank"]
    cells["median rank"] = many.estimate(middle)
    cells["candidates"] = similarity.shape[1]
    return {**cells, "n": int(known.sum())}


def _share(labels: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted mean of the values, [draws]; weights [draws rows]."""
    total = weights.sum(axis=1)
    return np.divide(weights @ values, total, out=np.full(len(total), np.nan), where=total > 0)


def _median(labels: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted lower median of the values, [draws]: the least value that half of the weight does not
    exceed."""
    if not len(values):
        return np.full(len(weights), np.nan)
    order = np.argsort(values, kind="stable")
    grown = weights[:, order].cumsum(axis=1)
    return values[order][(grown >= grown[:, -1:] / 2).argmax(axis=1)]
