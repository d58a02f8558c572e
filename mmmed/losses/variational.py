"""The price of a Gaussian code: how far it is from the prior that knows nothing."""

from __future__ import annotations

from torch import Tensor


def prior_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) in nats, summed over the code: [n code] each -> [n].

    Exactly 0 for the prior itself. Source: Kingma and Welling, arXiv:1312.6114, appendix B.
    """
    return 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum(-1)
