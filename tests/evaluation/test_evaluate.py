"""Scores of a model or of anybody's predictions: overall and per pattern, at a threshold from elsewhere."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from small_cohorts import cohort_of, frame_of

from mmmed.evaluation.evaluate import evaluate, pattern_name, patterns_of, score_frame, score_predictions
from mmmed.evaluation.metrics import auroc, balanced_accuracy
from mmmed.models.referring_segmenter import ReferringSegmenter


class Oracle:
    """Not a network: says how old the patient is, as a probability."""

    def __init__(self):
        self.thresholds = {"ill": 0.62}

    def __call__(self, cohort):
        age = [50.0 if cell is None else float(cell) for cell in cohort.column("age")]
        return {"ill": np.clip(np.array(age) / 100, 0, 1)[:, None]}


def test_every_pattern_is_scored_on_its_own_rows(cohort):
    table = evaluate(Oracle(), cohort["train"], draws=50)
    part = cohort["train"]
    labels, said = part.targets("ill")[0], Oracle()(part)["ill"][:, 0]
    assert table[0]["rows"] == "all"
    assert table[0]["auroc"].value == pytest.approx(auroc(labels, said))
    found = patterns_of(part.present, tuple(part.schema.modalities))
    assert [row["rows"] for row in table][1:] == list(found)
    assert sum(row["n"] for row in table.rows[1:]) == len(part)
    index = found["image + table + text"]
    row = table.where(rows="image + table + text")[0]
    assert row["auroc"].value == pytest.approx(auroc(labels[index], said[index]))
    assert row["patients"] == len(set(part.groups[index]))


def test_the_threshold_is_the_models_own_unless_another_is_given(cohort):
    part = cohort["train"]
    labels, said = part.targets("ill")[0], Oracle()(part)["ill"][:, 0]
    for given, used in ((None, 0.62), (0.4, 0.4), ({"ill": 0.7}, 0.7), ({"other": 0.7}, 0.62)):
        row = evaluate(Oracle(), part, threshold=given, draws=5)[0]
        assert row["threshold"] == used
        assert row["balanced_accuracy"].value == balanced_accuracy(labels, said, threshold=used)
    row = evaluate(Oracle().__call__, part, draws=5)[0]
    assert row["threshold"] == 0.5


def test_rows_that_the_model_was_trained_on_are_remarked(cohort):
    with pytest.warns(UserWarning, match="belong to the training part"):
        evaluate(Oracle(), cohort, draws=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(Oracle(), cohort["test"], draws=5)


def test_a_model_that_skips_rows_is_refused(cohort):
    with pytest.raises(ValueError, match="Predict every row"):
        evaluate(lambda part: {"ill": np.zeros(3)}, cohort["test"])
    with pytest.raises(ValueError, match="Unknown task"):
        evaluate(lambda part: {"il": np.zeros(len(part))}, cohort["test"])


def test_a_model_with_one_task_may_answer_with_the_array_alone(cohort):
    part = cohort["test"]
    alone = evaluate(lambda c: Oracle()(c)["ill"], part, draws=20)
    assert str(alone) == str(evaluate(Oracle().__call__, part, draws=20))


def test_unknown_labels_are_left_out_and_counted_out():
    frame = frame_of(60)
    frame["ill"] = frame["ill"].astype(object)
    frame.loc[frame.index[::3], "ill"] = None
    cohort = cohort_of(frame)
    row = evaluate(lambda part: np.full(len(part), 0.4), cohort["train"], draws=5)[0]
    assert row["n"] == int(cohort["train"].targets("ill")[1].sum())


def test_predictions_from_anywhere_need_no_cohort():
    y, p = [0, 1, 1, 0, np.nan], [0.1, 0.9, 0.4, 0.5, 0.7]
    present = {"ct": [1, 1, 0, 0, 1], "labs": [1, 1, 1, 1, 1]}
    table = score_predictions(y, p, groups=["a", "b", "b", "c", "d"], present=present, draws=20)
    assert table.column("rows") == ["all", "ct + labs", "labs"]
    assert table.column("n") == [4, 2, 2]
    assert table[0]["patients"] == 3
    assert table[0]["auroc"].value == 0.75


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "regression"])
def test_every_kind_of_task_has_its_scores(kind):
    rng = np.random.default_rng(0)
    labels = {
        "multiclass": rng.integers(0, 3, 60),
        "multilabel": np.where(rng.random((60, 3)) < 0.2, np.nan, rng.random((60, 3)) < 0.5),
        "regression": rng.normal(size=60),
    }[kind]
    said = rng.dirichlet(np.ones(3), 60) if kind != "regression" else rng.normal(size=60)
    row = score_predictions(labels, said, kind=kind, draws=20)[0]
    wanted = {"regression": {"mae", "rmse", "r2"}, "multiclass": {"auroc", "macro_f1", "brier", "ece"}}
    assert wanted.get(kind, {"auroc", "auprc", "brier", "ece"}) <= set(row)
    assert all(np.isfinite(row[name].value) for name in wanted.get(kind, {"auroc"}))


def test_a_multilabel_task_gets_its_mean_and_a_row_per_label():
    frame = frame_of(80)
    frame["effusion"] = np.random.default_rng(1).integers(0, 2, 80)
    cohort = cohort_of(frame, target={"findings": ["ill", "effusion"]})
    said = np.random.default_rng(2).random((len(cohort["train"]), 2))
    table = evaluate(lambda part: {"findings": said}, cohort["train"], draws=5)
    first, second = (table.where(task=f"findings: {label}", rows="all")[0] for label in ("ill", "effusion"))
    mean = (first["auroc"].value + second["auroc"].value) / 2
    assert table.where(task="findings", rows="all")[0]["auroc"].value == pytest.approx(mean)


def test_a_frame_of_predictions_is_scored_by_column_names():
    frame = pd.DataFrame(
        {
            "id": [1, 2, 3, 4],
            "label": [0, 1, 1, None],
            "probability": [0.2, 0.8, 0.6, 0.4],
            "group": ["a", "a", "b", "c"],
            "has_ct": [1, 0, 1, 1],
        }
    )
    table = score_frame(frame, present=["has_ct"], draws=10)
    assert table.column("n") == [3, 2, 1]
    assert table.column("rows") == ["all", "has_ct", "nothing"]
    with pytest.warns(UserWarning, match="no column 'patient'"):
        score_frame(frame, group="patient", draws=10)
    with pytest.raises(ValueError, match='Did you mean "probability"'):
        score_frame(frame, probability="probabilty")


def test_patterns_are_named_in_schema_order_and_sorted_by_size():
    present = np.array([[1, 0], [1, 1], [1, 1], [0, 0]], dtype=bool)
    found = patterns_of(present, ("image", "text"))
    assert {name: index.tolist() for name, index in found.items()} == {
        "image + text": [1, 2],
        "image": [0],
        "nothing": [3],
    }
    assert list(found) == ["image + text", "image", "nothing"]
    assert pattern_name([False, True], ("image", "text")) == "text"


def test_chance_calibration_error_falls_with_more_rows():
    rng = np.random.default_rng(0)
    few, many = (score_predictions(rng.integers(0, 2, n), rng.random(n), draws=5)[0] for n in (20, 2000))
    assert few["ece_by_chance"] > 3 * many["ece_by_chance"]


def test_a_model_of_the_package_is_recognised_by_its_encoder(monkeypatch, cohort):
    part = cohort["test"]
    said = {"ill": np.linspace(0, 1, len(part))[:, None]}
    monkeypatch.setattr("mmmed.models.inference.predict_proba", lambda model, cohort: said)
    model = SimpleNamespace(encode=None, thresholds={"ill": 0.3})
    assert evaluate(model, part, draws=5)[0]["threshold"] == 0.3


def test_the_threshold_of_a_segmenter_is_one_number_and_reaches_it(monkeypatch, cohort):
    segmenter = object.__new__(ReferringSegmenter)
    given = []
    scores = SimpleNamespace(table=lambda: "table")
    monkeypatch.setattr("mmmed.evaluation.evaluate.phrases_of", lambda cohort: ())
    monkeypatch.setattr(
        "mmmed.evaluation.evaluate.evaluate_masks",
        lambda *told, threshold, **_: given.append(threshold) or scores,
    )
    assert evaluate(segmenter, cohort["test"], threshold=0.3) == "table"
    evaluate(segmenter, cohort["test"])
    assert given == [0.3, None]
    with pytest.raises(ValueError, match="its threshold is one number"):
        evaluate(segmenter, cohort["test"], threshold={"ill": 0.3})
