"""A model's scores next to the dumb baselines it has to beat, on the same rows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.evaluation.baselines import baselines, with_black_images
from mmmed.evaluation.bootstrap import estimates
from mmmed.evaluation.evaluate import headed, threshold_of
from mmmed.evaluation.scores import Table
from mmmed.evaluation.tasks import as_probabilities, kind_of, labels_of, metrics_for
from mmmed.types import Image

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort

NOTE = (
    "The first rows are the model: with all that is recorded, with one modality alone, with black pictures."
)


def compare_with_baselines(
    model: Any, train: Cohort, test: Cohort, task: str, draws: int = 1000, seed: int = 0
) -> Table:
    """One table for one task: the model, the model given one modality alone, the model shown a black picture
    where none was taken (or nothing but black pictures), then every baseline of `baselines`, fitted on
    `train`.
    """
    kind, labels = kind_of(test, task), labels_of(test, task)
    metrics = metrics_for(kind, threshold_of(model, task))
    rows = []
    for name, answer in _model_rows(model, test, task).items():
        scores = estimates(metrics, labels, as_probabilities(task, kind, answer), test.groups, draws, seed)
        some = next(iter(scores.values()))
        note = "; ".join(dict.fromkeys(score.note for score in scores.values() if score.note))
        rows.append({"inputs": name, "n": some.n, "patients": some.groups, **scores, "note": note})
    plain = baselines(train, test, task, draws, seed)
    rows += [{**row, "inputs": _name(row["inputs"], kind)} for row in plain]
    table = headed(rows, f"{task}: the model and plain baselines")
    return replace(table, notes=(*plain.notes, NOTE))


def _model_rows(model: Any, test: Cohort, task: str) -> dict[str, np.ndarray]:
    from mmmed.models.inference import encode_cohort, predict_encoded

    encoded = encode_cohort(model, test)
    rows = {"model": predict_encoded(model, encoded)[task]}
    for index, name in enumerate(model.modalities):
        if len(model.modalities) > 1 and encoded.present[:, index].any():
            alone = np.zeros_like(encoded.present)
            alone[:, index] = True
            rows[f"model, {name} only"] = predict_encoded(model, encoded, alone)[task]
    pictures = [k for k, m in enumerate(model.schema.modalities.values()) if isinstance(m, Image)]
    if pictures and not encoded.present[:, pictures].all():
        filled = with_black_images(test)
        rows["model, black picture for absent ones"] = predict_encoded(model, encode_cohort(model, filled))[
            task
        ]
    if pictures:
        blind = with_black_images(test, only_absent=False)
        rows["model, black pictures only"] = predict_encoded(model, encode_cohort(model, blind))[task]
    return rows


def _name(inputs: str, kind: str) -> str:
    if inputs == "all inputs":
        return f"{'ridge' if kind == 'regression' else 'logistic'} regression, all inputs"
    return f"baseline, {inputs}"
