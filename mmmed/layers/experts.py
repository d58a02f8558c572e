"""Sparse experts: a router sends each vector to a few small networks out of several."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from mmmed.checks import check_count


@dataclass(frozen=True)
class Routing:
    """Where n vectors went: logits, shares (softmax over all experts) and gates (zero outside the chosen),
    each [n experts]."""

    logits: Tensor
    shares: Tensor
    gates: Tensor
    top_k: int


class Experts(nn.Module):
    """Top-k routed two-layer networks: x [n dim] -> ([n dim], Routing).

    Source: Shazeer et al., arXiv:1701.06538, sec. 2. Differs: the router draws no noise, so the same input
    always has the same answer; the chosen gates are the softmax over the chosen, and for top_k=1 the softmax
    over all, as a lone gate of 1 would teach the router nothing (Fedus et al., arXiv:2101.03961, sec. 2.1).
    """

    def __init__(self, dim: int, hidden: int, experts: int = 4, top_k: int = 2, dropout: float = 0.0):
        super().__init__()
        self.experts = check_count(experts, name="experts")
        self.top_k = check_count(top_k, name="top_k")
        if top_k > experts:
            raise ValueError(f"top_k should be at most the number of experts, got {top_k} of {experts}.")
        self.router = nn.Linear(dim, experts)
        self.enter = nn.Parameter(torch.empty(experts, hidden, dim).uniform_(-1, 1) / dim**0.5)
        self.enter_bias = nn.Parameter(torch.zeros(experts, hidden))
        self.leave = nn.Parameter(torch.empty(experts, dim, hidden).uniform_(-1, 1) / hidden**0.5)
        self.leave_bias = nn.Parameter(torch.zeros(experts, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, Routing]:
        with torch.autocast(x.device.type, enabled=False):  # rounding may not decide who is chosen
            logits = linear(x.float(), self.router.weight.float(), self.router.bias.float())
        shares = logits.softmax(1)
        chosen = logits.topk(self.top_k, dim=1)
        weights = chosen.values.softmax(1) if self.top_k > 1 else shares.gather(1, chosen.indices)
        gates = torch.zeros_like(shares).scatter(1, chosen.indices, weights)
        return self._mixed(x, chosen.indices, weights), Routing(logits, shares, gates, self.top_k)

    def _mixed(self, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Each expert runs once, on the vectors that chose it. chosen, weights [n top_k] -> [n dim]"""
        expert = chosen.flatten()
        order = expert.argsort(stable=True)
        counts = torch.bincount(expert, minlength=self.experts).tolist()
        owners = order // self.top_k
        answers = [self._expert(e, part) for e, part in enumerate(x[owners].split(counts)) if len(part)]
        if not answers:
            return torch.zeros_like(x)
        answer = torch.cat(answers) * weights.flatten()[order].unsqueeze(1)
        return torch.zeros_like(x).index_add(0, owners, answer.to(x.dtype))

    def _expert(self, index: int, x: Tensor) -> Tensor:
        inner = gelu(linear(x, self.enter[index], self.enter_bias[index]))
        return linear(self.dropout(inner), self.leave[index], self.leave_bias[index])


def load_loss(routing: Routing) -> Tensor:
    """CV^2 of importance plus CV^2 of load (Shazeer et al., arXiv:1701.06538, eq. 6-11) -> scalar.

    importance of an expert: the sum of its gates. load: how many would choose it if the logits were a little
    noisy, as a probability that can be differentiated; the noise, 1/experts as in Riquelme et al.,
    arXiv:2106.05974, is only thought of and never drawn. Zero when all experts have the same.
    """
    loss = _cv_squared(routing.gates.sum(0))
    experts = routing.logits.shape[1]
    if routing.top_k < experts and len(routing.logits):
        best = routing.logits.topk(routing.top_k + 1, dim=1).values
        rival = torch.where(routing.gates > 0, best[:, -1:], best[:, -2:-1])  # whom it must beat to be chosen
        load = torch.special.ndtr((routing.logits - rival) * experts).sum(0)
        loss = loss + _cv_squared(load)
    return loss


def information_loss(joint: Tensor) -> Tensor:
    """Negative mutual information of group and expert, -sum P(T,E) log(P(T,E) / (P(T) P(E))) (Mod-Squad, Chen
    et al., arXiv:2212.08066): the smaller, the more each group has experts of its own.

    joint [groups experts]: summed shares, not negative. -> scalar from -log(min(groups, experts)) to 0; 0
    where nothing was counted.
    """
    joint = joint.float()
    joint = joint / joint.sum().clamp(min=1e-10)
    apart = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    # a group that is empty has probability 0 and adds nothing: x log x goes to 0
    ratio = joint.clamp(min=1e-20).log() - apart.clamp(min=1e-20).log()
    return -(joint * ratio).sum()


def _cv_squared(amounts: Tensor) -> Tensor:
    """Squared coefficient of variation: variance over squared mean."""
    amounts = amounts.float()
    return amounts.var(correction=0) / amounts.mean().square().clamp(min=1e-10)
