"""finetune from outside: it learns, chooses, stops, calibrates, saves, and says what happened."""

import json
import logging

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import ALL_TASKS, SCHEMA, TinyCohort, make_cohort, make_model, make_records

from mmmed.data.cohort import Cohort
from mmmed.evaluation.metrics import auroc
from mmmed.fusion.concat import Concat
from mmmed.models.create import create_model
from mmmed.models.files import load_model
from mmmed.models.inference import predict_proba
from mmmed.training.finetune import finetune
from mmmed.training.optimisation import Optimisation
from mmmed.training.policy import Policy
from mmmed.training.supply import LazyCohort, make_supply
from mmmed.types import Binary, Number, Schema, Tabular

EVERY_TASK = Schema(SCHEMA.modalities, ALL_TASKS)


def area(model, cohort, task="sick"):
    here = [i for i, record in enumerate(cohort) if task in record.targets]
    labels = [cohort[i].targets[task] for i in here]
    return float(auroc(labels, predict_proba(model, cohort)[task][here, 0]))


def test_a_tiny_model_learns_what_an_untrained_one_does_not_know():
    cohort, model = make_cohort(300), make_model()
    before = area(model, cohort["test"])
    run = finetune(
        model, cohort, epochs=12, optimisation=Optimisation(lr=1e-2, weight_decay=0.01), progress=False
    )
    assert area(model, cohort["test"]) > max(0.9, before + 0.1)
    assert run.history[-1]["train_loss"] < 0.8 * run.history[0]["train_loss"]
    assert not model.training


def test_all_kinds_of_tasks_and_parallel_fusion_learn_together():
    cohort = make_cohort(300, EVERY_TASK)
    model = make_model(EVERY_TASK, fusion=Concat(EVERY_TASK.modalities, dim=8, state_dim=8, hidden=8))
    run = finetune(
        model, cohort, epochs=10, optimisation=Optimisation(lr=1e-2, weight_decay=0.01), progress=False
    )
    assert area(model, cohort["test"]) > 0.85
    assert set(run.effective_sample_size) == set(ALL_TASKS)
    assert set(model.calibration) == set(ALL_TASKS)
    assert run.best["val_auroc"] > 0.6


def test_a_flipped_habit_of_recording_is_survived_with_the_policy_and_not_without():
    """In training the sick mostly lack lactate; at test time the healthy do. Its value says nothing, crp
    does."""

    def records(count, seed, who):
        result, draw = [], np.random.default_rng(seed)
        for record in make_records(count, missing=0.0, seed=seed, unknown=0.0):
            hidden = record.targets["sick"] == who and draw.random() < 0.8
            record = record.with_input("extra", {"lactate": float(draw.normal())})
            result.append(record.without("extra") if hidden else record)
        return result

    schema = SCHEMA.without("image")
    together = [record.without("image") for record in records(500, 0, who=1)]
    cohort = TinyCohort(together, schema, ["val" if i % 5 == 0 else "train" for i in range(500)])
    flipped = TinyCohort([r.without("image") for r in records(300, 1, who=0)], schema, ["test"] * 300)
    scores, policies = (
        {},
        {
            "defended": Policy(),
            "dropout alone": Policy(reweight=False),
            "neither": Policy(dropout=0.0, reweight=False),
        },
    )
    for name, policy in policies.items():
        model = make_model(schema)
        finetune(
            model,
            cohort,
            epochs=20,
            policy=policy,
            optimisation=Optimisation(lr=1e-2, weight_decay=0.01),
            progress=False,
        )
        scores[name] = area(model, flipped)
    assert scores["neither"] < 0.65, scores
    assert scores["dropout alone"] < 0.65, scores
    assert scores["defended"] > 0.72, scores


def test_the_weights_of_the_best_epoch_are_kept_and_patience_ends_the_run():
    cohort, model = make_cohort(60), make_model()
    kept = {}
    optimisation = Optimisation(lr=0.1, schedule="constant")  # too fast on purpose
    run = finetune(model, cohort, epochs=40, patience=3, optimisation=optimisation, progress=False)
    losses = [line["val_loss"] for line in run.history]
    assert run.best_epoch == losses.index(min(losses)) + 1
    assert len(run.history) == run.best_epoch + 3 < 40
    again = make_model()
    finetune(again, cohort, epochs=40, patience=3, optimisation=optimisation, progress=False)
    kept = again.state_dict()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in model.state_dict().items())


def test_the_validation_loss_is_that_of_the_final_answers():
    cohort = make_cohort(90, unknown=0.0)
    model = make_model()
    run = finetune(model, cohort, epochs=1, policy=Policy(dropout=0.0, reweight=False), progress=False)
    model.calibration = {}
    chances = predict_proba(model, cohort["val"])["sick"][:, 0]
    labels = np.array([r.targets["sick"] for r in cohort["val"]])
    by_hand = -np.log(np.where(labels == 1, chances, 1 - chances)).mean()
    assert run.history[0]["val_loss_recorded"] == pytest.approx(by_hand, rel=1e-4)
    assert (
        run.history[0]["val_loss"] == run.history[0]["val_loss_recorded"]
    )  # nothing is dropped, nothing to average
    assert run.history[0]["val_auroc"] == pytest.approx(float(auroc(labels, chances)))


def test_without_validation_records_the_last_epoch_is_kept_and_nothing_is_calibrated():
    cohort = make_cohort(60)
    cohort.splits[cohort.splits == "val"] = "train"
    model = make_model()
    run = finetune(model, cohort, epochs=3, patience=1, progress=False)
    assert run.best_epoch == 3
    assert run.best["val_loss"] is None
    assert model.calibration == {}
    assert "best 3" in str(run)


def test_the_output_holds_metrics_and_a_model_that_answers_the_same(tmp_path):
    cohort = make_cohort(90)
    model = create_model(SCHEMA, encoders=dict(make_model().encoders), dim=8, state_dim=8)
    run = finetune(model, cohort, epochs=2, output=tmp_path, progress=False)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == run.history
    assert {"epoch", "train_loss", "val_loss", "val_auroc", "lr", "seconds", "ess"} <= set(lines[0])
    loaded = load_model(tmp_path / "model", parts=dict(make_model(seed=3).encoders))
    np.testing.assert_allclose(
        predict_proba(loaded, cohort["test"])["sick"], predict_proba(model, cohort["test"])["sick"], atol=1e-6
    )
    card = (tmp_path / "model" / "README.md").read_text()
    assert "60 train records and 15 val records" in card
    assert "modality dropout: 0.3" in card
    assert run.folder == tmp_path


def test_the_model_is_calibrated_on_the_validation_records():
    model = make_model()
    finetune(model, make_cohort(120), epochs=1, progress=False)
    assert set(model.calibration) == {"sick"}
    assert 0 < model.thresholds["sick"] < 1


def test_a_run_shows_itself_as_text_table_and_picture():
    run = finetune(make_model(), make_cohort(60), epochs=2, progress=False)
    assert "effective sample size, sick" in str(run)
    page = run._repr_html_()
    assert "<svg" in page
    assert "validation AUROC" in page
    axes = run.plot().axes[0]
    assert len(axes.lines) == 4  # three curves and the best epoch


def test_where_there_is_no_terminal_each_epoch_is_logged_and_quiet_is_quiet(caplog, capsys):
    with caplog.at_level(logging.INFO, logger="mmmed"):
        finetune(make_model(), make_cohort(60), epochs=2, progress=True)
        assert [r.message.split(",")[0] for r in caplog.records] == ["epoch 1", "epoch 2"]
        caplog.clear()
        finetune(make_model(), make_cohort(60), epochs=1, progress=False)
    assert caplog.records == []
    assert capsys.readouterr() == ("", "")


def test_tensorboard_files_are_written_if_asked(tmp_path):
    pytest.importorskip("tensorboard")
    finetune(make_model(), make_cohort(60), epochs=1, output=tmp_path, progress="tensorboard")
    assert list((tmp_path / "tensorboard").glob("events*"))
    with pytest.raises(ValueError, match="output folder"):
        finetune(make_model(), make_cohort(60), epochs=1, progress="tensorboard")


@pytest.mark.parametrize(("wrong", "words"), [
    ({"epochs": 0}, "epochs"), ({"patience": -1}, "patience"), ({"progress": "bar"}, "tensorboard"),
    ({"cohort": make_cohort(30)["test"]}, "no training records"),
])  # fmt: skip
def test_impossible_settings_are_refused(wrong, words):
    arguments = {"cohort": make_cohort(30), "epochs": 1, "progress": False, **wrong}
    with pytest.raises(ValueError, match=words):
        finetune(make_model(), **arguments)


def test_a_large_cohort_is_read_anew_each_epoch_and_learns_the_same(monkeypatch):
    models, cohort, kinds = [make_model() for _ in range(2)], make_cohort(90), []
    finetune(models[0], cohort, epochs=2, progress=False)

    def small(part, collator, workers):
        supply = make_supply(part, collator, limit=1000, workers=workers)
        kinds.append(type(supply))
        return supply

    monkeypatch.setattr("mmmed.training.finetune.make_supply", small)
    finetune(models[1], cohort, epochs=2, progress=False)
    assert kinds == [LazyCohort, LazyCohort]
    for name, tensor in models[0].state_dict().items():
        assert torch.equal(tensor, models[1].state_dict()[name]), name


@pytest.mark.parametrize("fusion", ["multimodn", "logistic_regression", "gradient_boosting"])
def test_a_modality_or_a_task_without_a_training_record_is_refused_in_words(fusion):
    frame = pd.DataFrame({"a": range(60), "b": [None] * 60, "y": [0, 1] * 30, "z": [None] * 60})
    tables = {"first": Tabular((Number("a"),)), "second": Tabular((Number("b"),))}
    first = {"first": tables["first"]}
    parts = {
        "no input": Schema(tables, {"y": Binary("y")}),
        "no label": Schema(first, {"y": Binary("y"), "z": Binary("z")}),
    }
    for what, match in (("no input", "No training record has second"), ("no label", "known label of z")):
        cohort = Cohort.from_frame(frame, schema=parts[what])
        model = create_model(cohort.schema, fusion=fusion)
        with pytest.raises(ValueError, match=match):
            finetune(model, cohort, epochs=1, progress=False)
