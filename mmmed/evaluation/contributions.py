"""What each modality is worth to a model: exact Shapley values over all subsets, for a whole test set.

Source: Shapley 1953, "A value for n-person games"; with a score of the test set as the value of a subset,
Covert et al. 2020, arXiv:2004.00668 (SAGE). Here a hidden modality is hidden, not filled in, since the models
answer with gaps.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.evaluation import metrics, multiclass
from mmmed.evaluation.bootstrap import Draws
from mmmed.evaluation.hidden import subset_mask
from mmmed.evaluation.scoring import notes_of
from mmmed.evaluation.tasks import kind_of

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort
    from mmmed.evaluation.asking import Answers

MOST = 8  # modalities: 256 subsets
ALL = "all together"


def contribution_rows(
    said: Mapping[str, Answers], cohort: Cohort, drawn: Mapping[str, Draws]
) -> list[dict[str, Any]]:
    """A line per task, model and modality: its share of the AUROC above one half, and of the log-loss (nats)
    that knowing the modalities saves; a number's task: of the mean absolute error saved. The last line of a
    model is what all together bring, which the shares add up to.

    said: model -> its answers under any mask. A record that lacks a modality lacks it in every subset, so a
    rarely recorded modality is worth little. Intervals: the same draws of patients for all subsets.
    """
    names = tuple(cohort.schema.modalities)
    subsets = [part for size in range(len(names) + 1) for part in combinations(names, size)]
    rows = []
    for task, drawing in drawn.items():
        values = _values(kind_of(cohort, task))
        for model, answers in said.items():
            scores: dict[frozenset[str], dict[str, np.ndarray]] = {}
            for subset in subsets:
                answer = answers(subset_mask(cohort, subset))
                if task in answer:
                    scores[frozenset(subset)] = drawing.scores(values, answer[task])
            if scores:
                head = {"task": task, "model": model}
                rows += [{**head, **line} for line in _lines(scores, names, drawing)]
    return rows


def _lines(
    scores: Mapping[frozenset[str], Mapping[str, np.ndarray]], names: tuple[str, ...], drawn: Draws
) -> list[dict[str, Any]]:
    """Shapley values are sums of scores, so each draw has its own, and its interval follows."""
    from mmmed.models.predict import shapley

    nothing, everything = scores[frozenset()], scores[frozenset(names)]
    shares: dict[str, dict[str, Any]] = {name: {} for name in (*names, ALL)}
    for key in nothing:
        sign = 1.0 if key == "auroc" else -1.0  # of a loss, what is saved
        values = {subset: sign * parts[key] for subset, parts in scores.items()}
        for name, share in shapley(values, names).items():
            shares[name][key] = drawn.estimate(share)
        shares[ALL][key] = drawn.estimate(sign * (everything[key] - nothing[key]))
    return [{"modality": name, **parts, "note": notes_of(parts)} for name, parts in shares.items()]


def _values(kind: str) -> dict[str, metrics.Metric]:
    """What a subset is worth."""
    if kind == "regression":
        return {"mae": metrics.mae}
    if kind == "multiclass":
        return {"auroc": multiclass.macro_auroc, "log_loss": multiclass.multiclass_log_loss}
    two = {"auroc": metrics.auroc, "log_loss": metrics.log_loss}
    if kind == "binary":
        return two
    return {name: partial(metrics.mean_over_labels, metric=score) for name, score in two.items()}
