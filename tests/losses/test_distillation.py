"""What a student pays for answering differently from its teacher."""

import math

import pytest
import torch
from torch.nn.functional import kl_div, log_softmax, smooth_l1_loss

from mmmed.losses.distillation import distillation_loss
from mmmed.losses.variational import prior_divergence
from mmmed.types import Binary, Multiclass, Multilabel, Regression

TASKS = (Binary("a"), Multiclass("b", ("0", "1", "2")), Multilabel(("c", "d")), Regression("e"))
each_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: type(task).__name__)


@each_task
def test_the_teachers_own_answer_costs_nothing_and_another_something(task):
    teacher = torch.randn(5, task.outputs)
    torch.testing.assert_close(distillation_loss(task, teacher, teacher), torch.zeros(5), atol=1e-6, rtol=0)
    other = teacher + 0.5 * torch.arange(1, task.outputs + 1)  # a shift alone would not change a softmax
    assert (distillation_loss(task, other, teacher) > 0).all()


@each_task
def test_nothing_is_asked_of_the_teacher(task):
    student = torch.randn(5, task.outputs, requires_grad=True)
    teacher = torch.randn(5, task.outputs, requires_grad=True)
    distillation_loss(task, student, teacher).sum().backward()
    assert teacher.grad is None
    assert (student.grad != 0).all()


def test_per_number_is_the_sum_over_all_numbers_of_the_released_code():
    student, teacher, tau = torch.randn(6, 3), torch.randn(6, 3), 2.0
    pair = log_softmax(student / tau, 1), log_softmax(teacher / tau, 1)
    released = kl_div(*pair, reduction="sum", log_target=True) * tau**2 / student.numel()
    mine = distillation_loss(TASKS[1], student, teacher, tau, per="number").mean()
    torch.testing.assert_close(mine, released)
    torch.testing.assert_close(distillation_loss(TASKS[1], student, teacher, tau).mean(), 3 * released)


def test_a_binary_answer_is_a_softmax_of_two():
    student, teacher = torch.randn(6, 1), torch.randn(6, 1)
    two = Multiclass("x", ("no", "yes"))
    pair = (torch.cat([torch.zeros(6, 1), z], 1) for z in (student, teacher))
    torch.testing.assert_close(
        distillation_loss(Binary("a"), student, teacher, 3.0), distillation_loss(two, *pair, 3.0)
    )


def test_by_hand():
    # teacher 1/2, student 3/4: 1/2 log(2/3) + 1/2 log 2
    cost = distillation_loss(Binary("a"), torch.tensor([[math.log(3)]]), torch.zeros(1, 1))
    assert float(cost) == pytest.approx(0.5 * math.log(2 / 3) + 0.5 * math.log(2))


def test_labels_are_averaged_and_numbers_compared_as_they_are():
    student, teacher = torch.randn(4, 2), torch.randn(4, 2)
    each = [distillation_loss(Binary("a"), student[:, k : k + 1], teacher[:, k : k + 1]) for k in range(2)]
    torch.testing.assert_close(distillation_loss(TASKS[2], student, teacher), sum(each) / 2)
    number = distillation_loss(TASKS[3], student[:, :1], teacher[:, :1])
    torch.testing.assert_close(number, smooth_l1_loss(student[:, 0], teacher[:, 0], reduction="none"))


@pytest.mark.parametrize("tau", [0, -1, float("nan"), "warm"])
def test_a_temperature_must_be_one(tau):
    with pytest.raises(ValueError, match="temperature above 0"):
        distillation_loss(TASKS[0], torch.zeros(1, 1), torch.zeros(1, 1), tau)


def test_the_prior_is_free_and_the_divergence_is_that_of_torch():
    assert (prior_divergence(torch.zeros(2, 3), torch.zeros(2, 3)) == 0).all()
    mean, log_variance = torch.randn(4, 3), torch.randn(4, 3)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(
        normal(mean, (log_variance / 2).exp()), normal(0.0, 1.0)
    ).sum(1)
    torch.testing.assert_close(prior_divergence(mean, log_variance), expected)
