"""From answers to lines of the benchmark: scores of every model under every pattern, and paired differences.

All models and all patterns of one task are scored on the same draws of patients, made once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.evaluation.bootstrap import Draws, Estimate, is_biased
from mmmed.evaluation.hidden import Pattern
from mmmed.evaluation.tasks import as_probabilities, kind_of, labels_of, metrics_for

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort

Said = Mapping[str, Mapping[str, np.ndarray]]  # model -> task -> probabilities


@dataclass(frozen=True)
class Scoring:
    """What all lines share.

    thresholds: model -> task -> threshold, fixed on validation rows. metric: the score that comes first and
    is compared with the best possible. named: whether lines say which model.
    """

    cohort: Cohort
    thresholds: Mapping[str, Mapping[str, float]]
    metric: str
    draws: int
    seed: int
    named: bool

    @cached_property
    def drawn(self) -> dict[str, Draws]:
        """Task -> its draws of patients."""
        tasks = dict.fromkeys(task for cuts in self.thresholds.values() for task in cuts)
        groups = np.unique(self.cohort.groups, return_inverse=True)[1].reshape(-1)
        return {task: Draws(labels_of(self.cohort, task), groups, self.draws, self.seed) for task in tasks}

    def lines(
        self, pattern: Pattern, task: str, said: Said, best: np.ndarray | None
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """One line per model, and one per model compared with the first.

        said: model -> {task: probabilities} under this pattern. best: the best possible probabilities, where
        they are known.
        """
        drawn, kind = self.drawn[task], kind_of(self.cohort, task)
        rows, differences, first = [], [], None
        for name, answers in said.items():
            if task not in answers:
                continue
            metrics = metrics_for(kind, self.thresholds[name][task])
            scores = drawn.scores(metrics, answers[task])
            estimates = {
                key: drawn.estimate(values, centred=is_biased(metrics[key])) for key, values in scores.items()
            }
            chosen = self.metric if self.metric in scores else next(iter(scores))
            ceiling = None
            if best is not None:
                labels = labels_of(self.cohort, task)
                perfect = as_probabilities(task, kind, best)
                ceiling = float(metrics[chosen](labels, perfect, np.ones((1, len(labels))))[0])
            rows.append(self._line(pattern, task, name, estimates, chosen, ceiling))
            if first is None:
                first = (name, scores)
                continue
            gaps = {key: drawn.estimate(values - first[1][key]) for key, values in scores.items()}
            head = self._head(pattern, task, name)
            differences.append(
                {**head, "against": first[0], **_ordered(gaps, chosen), "note": notes_of(gaps)}
            )
        return rows, differences

    def _line(
        self,
        pattern: Pattern,
        task: str,
        name: str,
        scores: Mapping[str, Estimate],
        chosen: str,
        ceiling: float | None,
    ) -> dict[str, Any]:
        """Sizes, what was hidden, every score, and the best possible of the chosen one."""
        some = next(iter(scores.values()))
        present = np.asarray(self.cohort.present)
        return {
            **self._head(pattern, task, name),
            "n": some.n,
            "patients": some.groups,
            "changed": float((pattern.stays != present).any(axis=1).mean()) if len(present) else None,
            "complete": self._complete(pattern),
            chosen: scores[chosen],
            "ceiling": ceiling,
            "share_of_way": _share_of_way(chosen, scores[chosen].value, ceiling),
            **{key: score for key, score in scores.items() if key != chosen},
            "note": notes_of(scores),
        }

    def _head(self, pattern: Pattern, task: str, name: str) -> dict[str, Any]:
        head = {"task": task, "kind": pattern.kind, "seen": pattern.seen}
        return {**head, "model": name} if self.named else head

    def _complete(self, pattern: Pattern) -> float | None:
        present = np.asarray(self.cohort.present)
        if not pattern.names or not len(present):
            return None
        kept = [name in pattern.names for name in self.cohort.schema.modalities]
        return float(present[:, kept].all(axis=1).mean())


def notes_of(scores: Mapping[str, Estimate]) -> str:
    """What must be said about these scores, each thing once."""
    return "; ".join(dict.fromkeys(score.note for score in scores.values() if score.note))


def _ordered(scores: Mapping[str, Estimate], chosen: str) -> dict[str, Estimate]:
    return {chosen: scores[chosen], **scores}


def _share_of_way(metric: str, value: float, ceiling: float | None) -> float | None:
    """(score - 0.5) / (best possible - 0.5): how much of what there is was found. AUROC only,
    and only where there is something to find (best possible above 0.55)."""
    if metric != "auroc" or ceiling is None or not ceiling > 0.55:
        return None
    return (value - 0.5) / (ceiling - 0.5)


def by_task(rows: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> list[Mapping[str, Any]]:
    """Rows task by task, otherwise in the order in which they are."""
    return sorted(rows, key=lambda row: list(tasks).index(row["task"]))
