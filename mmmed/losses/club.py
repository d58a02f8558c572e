"""CLUB: an upper bound on the mutual information of two codes, to be minimised, with the estimator it needs.

Source: Cheng et al., arXiv:2006.12013, sec. 3.1 and 3.2. The bound holds for the true conditional q(c | v); a
learned one must be kept near it by training it all the while on `log_likelihood`, with an optimiser of its
own. Minimising -log q(c | v) over the encoder instead, as one release of a later paper does, makes v tell
*more* of c.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mmmed.checks import check_count, check_shape

WIDEST = 6.0  # log variance stays within +- this: a standard deviation from 0.05 to 20


class CLUB(nn.Module):
    """A Gaussian q(c | v) with diagonal covariance, and the bound that follows from it.

    known: width of v; code: width of c; hidden: width of the two small networks for mean and log variance.
    Two steps take turns: the estimator climbs `log_likelihood(v.detach(), c).mean()`; then, with its weights
    fixed, the encoder of v descends `bound(v, c)`. Differs from the released code: the log variance may go to
    +-6 and not +-1, so a code that is nearly a function of the other is seen as such.
    """

    def __init__(self, known: int, code: int, hidden: int = 64):
        super().__init__()
        for name, width in (("known", known), ("code", code), ("hidden", hidden)):
            check_count(width, name=name)
        self.known, self.code = known, code
        self.mean, self.spread = (
            nn.Sequential(nn.Linear(known, hidden), nn.SiLU(), nn.Linear(hidden, code)) for _ in range(2)
        )

    def forward(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """v [n known] -> mean and log variance of c, [n code] each."""
        return self.mean(v), WIDEST * torch.tanh(self.spread(v) / WIDEST)

    def log_likelihood(self, v: Tensor, c: Tensor) -> Tensor:
        """log q(c | v) in nats: v [n known], c [n code] -> [n]."""
        self._check(v, c)
        mean, spread = self(v)
        return -0.5 * ((c - mean) ** 2 / spread.exp() + spread + math.log(2 * math.pi)).sum(1)

    def bound(self, v: Tensor, c: Tensor) -> Tensor:
        """mean_i log q(c_i | v_i) - mean_ij log q(c_j | v_i), in nats, over all n^2 pairs. -> scalar.

        For a Gaussian the mean over j needs only mean and variance of c, so all pairs cost no more than n.
        With the true q it is I(v; c) plus the divergence the other way round: for weak dependence twice the
        mutual information, 0 for none. One record gives 0. A learned q can bring it below 0; it is then no
        bound.
        """
        self._check(v, c)
        mean, spread = self(v)
        own = (c - mean) ** 2
        centre = c.mean(0)
        others = (centre - mean) ** 2 + ((c - centre) ** 2).mean(0)  # mean over j of (c_j - mean_i)^2
        return 0.5 * ((others - own) / spread.exp()).sum(1).mean()  # the normaliser is the same in both terms

    def _check(self, v: Tensor, c: Tensor) -> None:
        check_shape(v, "n known", name="v", known=self.known)
        check_shape(c, "n code", name="c", n=v.shape[0], code=self.code)
