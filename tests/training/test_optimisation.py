"""Settings of the optimiser: which weights decay, and how the learning rate runs."""

import math

import pytest
import torch
from torch import nn

from mmmed.training.optimisation import Optimisation, make_optimiser, parameter_groups
from mmmed.training.schedule import rate_factor


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.words, self.norm = nn.Linear(4, 4), nn.Embedding(5, 4), nn.LayerNorm(4)
        self.filters, self.state = nn.Conv2d(1, 4, 3), nn.Parameter(torch.zeros(2, 4))
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.tied = nn.Linear(4, 4, bias=False)
        self.tied.weight = self.linear.weight


def test_matrices_and_filters_decay_and_nothing_else_does():
    model = Mixed()
    decayed, spared = parameter_groups(model, 0.1)
    assert decayed["weight_decay"] == 0.1
    assert spared["weight_decay"] == 0.0
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[id(p)] for p in decayed["params"]} == {"linear.weight", "filters.weight"}
    assert {names[id(p)] for p in spared["params"]} == {
        "state", "linear.bias", "words.weight", "norm.weight", "norm.bias", "filters.bias",
    }  # fmt: skip


def test_a_model_without_anything_to_train_is_refused():
    with pytest.raises(ValueError, match="frozen"):
        make_optimiser(nn.Linear(2, 2).requires_grad_(False), Optimisation())


def test_the_rate_rises_and_then_falls_along_a_cosine():
    factors = [rate_factor(step, 100, warmup=0.1) for step in range(100)]
    assert factors[:10] == pytest.approx([(i + 1) / 11 for i in range(10)])
    assert factors[10] == 1.0
    assert factors == sorted(factors[:11]) + sorted(factors[11:], reverse=True)
    assert factors[55] == pytest.approx(0.01 + 0.99 * 0.5)  # halfway
    assert factors[-1] < 0.02


def test_a_constant_rate_stays():
    factors = [rate_factor(step, 50, warmup=0.1, schedule="constant") for step in range(50)]
    assert factors[5:] == [1.0] * 45
    assert all(math.isfinite(rate_factor(0, 1, warmup=w)) for w in (0.0, 1.0))


@pytest.mark.parametrize(("setting", "word"), [
    ({"lr": float("nan")}, "lr"), ({"batch_size": 0}, "batch_size"), ({"schedule": "cosin"}, "cosine"),
    ({"precision": "fp16"}, "fp32"), ({"warmup": 2}, "warmup"), ({"accumulate": 1.5}, "accumulate"),
])  # fmt: skip
def test_impossible_settings_are_refused(setting, word):
    with pytest.raises(ValueError, match=word):
        Optimisation(**setting)
