"""Example patients that are worth a look, chosen by rule from records that the model was not trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed import predict
from mmmed.types import Image, Record, Text, Volume

if TYPE_CHECKING:
    from mmmed import Cohort
    from mmmed.models.multimodal import MultimodalModel

LOOKS = 60  # records that are predicted to find the examples


def examples_of(model: MultimodalModel, cohort: Cohort) -> dict[str, Record]:
    """Six records or so: name -> record.

    "complete"; "no image", by the name of the picture; "note only"; "conflict": the inputs pull hardest in
    opposite directions; "surest": the answer is furthest from doubt; "nothing recorded". Where no record has
    lost just this, it is taken away from one that had it.
    """
    records = [cohort[row] for row in _fullest(cohort)[:LOOKS]]
    complete, found = records[0], {"complete": records[0]}
    kinds = model.schema.modalities
    for name in _first(kinds, Image, Volume):
        found[f"no {name}"] = _lacking(cohort, records, name)
    for name in _first(kinds, Text):
        found["note only"] = complete.only(name) if name in complete.inputs else complete
    known = [(record, predict(model, record)) for record in records]
    task = next(iter(model.schema.tasks))
    found["conflict"] = max(known, key=lambda pair: disagreement(pair[1][task].contributions.values()))[0]
    found["surest"] = max(known, key=lambda pair: sureness(pair[1][task]))[0]
    found["nothing recorded"] = complete.only()
    return found


def disagreement(shares: Iterable[float]) -> float:
    """How hard the shares of an answer pull against each other: the smaller of both sides' sums."""
    shares = list(shares)
    up = sum(share for share in shares if share > 0)
    return min(up, up - sum(shares))


def sureness(answer: Any) -> float:
    """How far an answer is from doubt; of a regression, how narrow its interval is."""
    if answer.kind == "regression":
        low, high = answer.interval.get(answer.leading, (0.0, float("inf")))
        return low - high
    return max(max(value, 1 - value) for value in answer.values.values())


def _fullest(cohort: Cohort) -> list[int]:
    """Rows of a cohort, those with the most modalities first, else in its order."""
    return np.argsort(-np.asarray(cohort.present, dtype=int).sum(axis=1), kind="stable").tolist()


def _first(kinds: Mapping[str, Any], *wanted: type) -> list[str]:
    """The first modality of a kind, as a list of one; empty if there is none."""
    return [name for name, kind in kinds.items() if isinstance(kind, wanted)][:1]


def _lacking(cohort: Cohort, records: Sequence[Record], name: str) -> Record:
    """A record that has everything but one modality; else one from which it is taken, not the first."""
    place = list(cohort.schema.modalities).index(name)
    rest = np.delete(np.asarray(cohort.present, dtype=bool), place, axis=1).all(axis=1)
    rows = np.flatnonzero(rest & ~np.asarray(cohort.present, dtype=bool)[:, place])
    return cohort[int(rows[0])] if len(rows) else records[min(1, len(records) - 1)].without(name)
