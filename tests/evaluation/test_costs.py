"""Costs: right counts, nothing changed in what is measured, and no figure for what a model does not have."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mmmed
from mmmed.evaluation.benchmark import missingness_benchmark
from mmmed.evaluation.costs import _counted_bytes, costs


@pytest.fixture(scope="module")
def cohort():
    return mmmed.load_cohort("synthetic", patients=120, seed=0)


def model_of(cohort, **options):
    return mmmed.create_model(cohort.schema, dim=16, state_dim=16, **options)


def test_parameters_are_counted_and_frozen_ones_are_not_trainable(cohort):
    model = model_of(cohort)
    frozen = model.encoders["image"].requires_grad_(False)
    found = costs(model, cohort["test"], batch_size=8)
    total = sum(weight.numel() for weight in model.parameters())
    assert found["parameters"] == total
    assert found["trainable"] == total - sum(weight.numel() for weight in frozen.parameters())
    assert found["step_ms"] > 0
    assert found["record_ms"] > 0
    assert (found["records"], found["device"]) == (8, "cpu")


def test_memory_counts_each_storage_once_by_hand():
    layer = torch.nn.Linear(3, 2, bias=False)  # 24 bytes, its gradient 24
    x = torch.ones(5, 3)  # kept for the gradient of the weight: 60 bytes

    def loss():
        y = torch.tanh(layer(x))  # kept by tanh, and twice by the product, but there only once: 40 bytes
        return (y * y).mean()

    assert _counted_bytes(layer, loss) == 24 + 24 + 60 + 40


def test_a_larger_batch_takes_more_memory_and_the_weights_are_its_floor(cohort):
    model = model_of(cohort)
    small, large = (costs(model, cohort, batch_size=size)["step_mb"] for size in (4, 64))
    assert small > 2 * 4 * sum(weight.numel() for weight in model.parameters()) / 2**20
    assert large > 2 * small


def test_the_model_and_the_callers_chance_stay_as_they_were(cohort):
    model = model_of(cohort)
    model.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    chance = torch.get_rng_state()
    costs(model, cohort["test"], batch_size=4)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    assert not model.training
    assert torch.equal(torch.get_rng_state(), chance)


def test_a_model_of_frozen_weights_has_no_training_step(cohort):
    found = costs(model_of(cohort).requires_grad_(False), cohort["test"], batch_size=4)
    assert (found["step_ms"], found["step_mb"], found["trainable"]) == (None, None, 0)


def test_a_function_only_has_the_time_of_an_answer(cohort):
    def even(seen):
        return {"diagnosis": np.full(len(seen), 0.5)}

    even.parameters_count = 3  # what reference models say of themselves
    found = costs(even, cohort["test"], batch_size=4)
    assert (found["step_ms"], found["step_mb"], found["parameters"]) == (None, None, 3)
    assert found["record_ms"] >= 0
    table = missingness_benchmark(
        {"even": even, "net": model_of(cohort)}, cohort["test"], mechanisms=[], draws=3, costs=True
    ).costs
    assert table.column("model") == ["even", "net"]
    assert table[1]["step_ms"] > 0


def test_nobody_to_measure_on_is_said(cohort):
    with pytest.raises(ValueError, match="records to measure on"):
        costs(model_of(cohort), cohort["test"][:0])
