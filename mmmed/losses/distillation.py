"""The distance of a student's answer from its teacher's, for every kind of task.

Source: Hinton et al., arXiv:1503.02531, sec. 2, in the form of m2mKD (Lo et al., arXiv:2402.16918): tau^2
KL(teacher || student) of the softened answers. The code released with m2mKD divides the sum by records *times
classes*, which makes the teacher weaker the more classes there are. Here it is divided by records;
`per="number"` is the released one.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid, smooth_l1_loss

from mmmed.checks import check_known, plain
from mmmed.types import Binary, Multiclass, Multilabel, Regression, Task

PER = ("record", "number")


def distillation_loss(
    task: Task, student: Tensor, teacher: Tensor, tau: float = 1.0, per: str = "record"
) -> Tensor:
    """Distance of every record's answer from the teacher's. student, teacher [... outputs] -> [...].

    Classes: tau^2 KL(teacher || student) in nats at temperature tau; multilabel: the mean over the labels,
    each a question of two classes. Regression: smooth L1 of the standardised numbers (tau has no meaning
    there). Labels are not needed: a record whose diagnosis nobody knows still teaches. per: "record", or
    "number" to divide by the number of classes as well. No gradient reaches the teacher. Raises ValueError
    for tau <= 0.
    """
    check_known(per, PER, what="divisor")
    if not (isinstance(tau, (int, float)) and tau > 0):
        raise ValueError(f"tau should be a temperature above 0, got {plain(tau)}.")
    student, teacher = student.float(), teacher.detach().float()
    match task:
        case Regression():
            return smooth_l1_loss(student, teacher, reduction="none").squeeze(-1)
        case Multiclass():
            distance = _divergence(log_softmax(student / tau, -1), log_softmax(teacher / tau, -1)).sum(-1)
            classes = task.outputs
        case Binary() | Multilabel():
            distance = _divergence(_two_classes(student / tau), _two_classes(teacher / tau)).sum(-1).mean(-1)
            classes = 2
        case _:
            raise ValueError(f"There is no distance from a teacher for {plain(task)}.")
    return tau**2 * distance / (classes if per == "number" else 1)


def _two_classes(logit: Tensor) -> Tensor:
    """log P(no), log P(yes): [... outputs] -> [... outputs 2]."""
    return torch.stack([logsigmoid(-logit), logsigmoid(logit)], dim=-1)


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Terms of KL(teacher || student) from log probabilities."""
    return teacher.exp() * (teacher - student)
