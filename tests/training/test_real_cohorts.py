"""finetune on what users have: a cohort, a model by name, all kinds of input at once."""

import os

import numpy as np
import pytest
import torch

from mmmed.data.folders import load_cohort
from mmmed.models.create import create_model
from mmmed.models.files import load_model
from mmmed.models.inference import predict_proba
from mmmed.training.finetune import finetune
from mmmed.training.optimisation import Optimisation
from mmmed.training.supply import LazyCohort, make_supply


@pytest.fixture(scope="module")
def cohort():
    whole = load_cohort("synthetic", patients=90, size=32)
    return whole.keep(np.random.default_rng(0).random((len(whole), 3)) < 0.7)


def weights(model):
    return torch.cat([tensor.flatten().float() for tensor in model.state_dict().values()])


def test_train_save_load_and_answer_the_same(cohort, tmp_path):
    model = create_model(cohort.schema, dim=16, state_dim=16)
    run = finetune(model, cohort, epochs=2, output=tmp_path, progress=False)
    assert run.records == {"train": len(cohort["train"]), "val": len(cohort["val"])}
    loaded = load_model(tmp_path / "model")
    test = cohort["test"]
    for task, chances in predict_proba(model, test).items():
        np.testing.assert_allclose(predict_proba(loaded, test)[task], chances, atol=1e-6)


def test_frozen_encoders_of_every_kind(cohort, tmp_path):
    model = create_model(cohort.schema, dim=16, state_dim=16)
    before = {name: weights(encoder) for name, encoder in model.encoders.items()}
    finetune(model, cohort, epochs=1, output=tmp_path, frozen=["image", "text"], progress=False)
    moved = {
        name: not torch.equal(weights(encoder), before[name]) for name, encoder in model.encoders.items()
    }
    assert moved == {"image": False, "table": True, "text": False}
    assert len(list((tmp_path / "tokens").iterdir())) == 2


def test_reading_anew_with_workers_learns_the_same(cohort, monkeypatch):
    models, kinds = [create_model(cohort.schema, dim=16, state_dim=16) for _ in range(2)], []
    finetune(models[0], cohort, epochs=1, progress=False)

    def small(part, collator, workers):
        supply = make_supply(part, collator, limit=1000, workers=workers)
        kinds.append(type(supply))
        return supply

    monkeypatch.setattr("mmmed.training.finetune.make_supply", small)
    finetune(models[1], cohort, epochs=1, optimisation=Optimisation(workers=2), progress=False)
    assert kinds == [LazyCohort, LazyCohort]
    assert (weights(models[0]) - weights(models[1])).abs().max() < 1e-6


@pytest.mark.real_data
@pytest.mark.skipif("MMMED_DATA" not in os.environ, reason="MMMED_DATA names no folder of real cohorts")
def test_an_epoch_on_real_patients():
    cohort = load_cohort("breast-us")
    run = finetune(create_model(cohort.schema), cohort, epochs=2, progress=False)
    assert all(np.isfinite(line["train_loss"]) for line in run.history)
    assert run.best["val_auroc"] > 0.5
