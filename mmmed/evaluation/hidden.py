"""What a benchmark shows: every subset of modalities, and what each mechanism leaves, each mask once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from mmmed.evaluation.evaluate import pattern_name

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort
    from mmmed.data.missingness import Mechanism

MOST = 5  # modalities up to which every subset is tried (31 of them)


@dataclass(frozen=True)
class Pattern:
    """One way of hiding, the same for every model.

    kind: "subset" or "mechanism"; seen: its name; stays [records modality] bool; names: the modalities of a
    subset; only: the one task it is about, if any.
    """

    kind: str
    seen: str
    stays: np.ndarray
    names: tuple[str, ...] = ()
    only: str | None = None


def patterns_to_hide(cohort: Cohort, mechanisms: Sequence[Mechanism]) -> list[Pattern]:
    """Subsets, then mechanisms; what only repeats a subset is left out, each mask comes once per task."""
    result = _subsets(cohort)
    seen = {(pattern.stays.tobytes(), None) for pattern in result}
    for mechanism in mechanisms:
        stays, task = np.asarray(mechanism.apply(cohort)), mechanism.options.get("task")
        key = (stays.tobytes(), task)
        if key not in seen:
            seen.add(key)
            result.append(Pattern("mechanism", mechanism.label, stays, only=task))
    return result


def _subsets(cohort: Cohort) -> list[Pattern]:
    """Every subset of up to five modalities, the smaller ones first; of more, only all of them."""
    modalities = tuple(cohort.schema.modalities)
    sizes = range(1, len(modalities) + 1) if len(modalities) <= MOST else [len(modalities)]
    result = []
    for size in sizes:
        for names in combinations(modalities, size):
            kept = np.array([name in names for name in modalities])
            stays = subset_mask(cohort, names)
            result.append(Pattern("subset", pattern_name(kept, modalities), stays, names))
    return result


def subset_mask(cohort: Cohort, names: Sequence[str]) -> np.ndarray:
    """What is left if only these modalities are shown: [records modality] bool."""
    return np.asarray(cohort.present) & np.array([name in names for name in cohort.schema.modalities])
