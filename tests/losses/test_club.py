"""CLUB: exact for Gaussians whose dependence is known, and the right sign of what an encoder should do with
it."""

import math

import pytest
import torch
from torch import nn

from mmmed.losses.club import CLUB


class Exact(nn.Module):
    """The true conditional of correlated Gaussians, in place of the networks."""

    def __init__(self, slope):
        super().__init__()
        self.slope = slope

    def forward(self, v):
        return self.slope * v


class Constant(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, v):
        return torch.full_like(v, self.value)


def correlated(rho, records=20_000, width=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    v = torch.randn(records, width, generator=draw)
    return v, rho * v + math.sqrt(1 - rho**2) * torch.randn(records, width, generator=draw)


def exact_estimator(rho, width=3):
    club = CLUB(width, width)
    club.mean, club.spread = Exact(rho), Constant(math.log(1 - rho**2))
    return club


def mutual_information(rho, width=3):
    return -width / 2 * math.log(1 - rho**2)


def fitted(v, c, steps=400, seed=0):
    """A learned q(c | v), near the true one."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        club = CLUB(v.shape[1], c.shape[1], hidden=32)
    optimiser = torch.optim.Adam(club.parameters(), lr=1e-2)
    for step in range(steps):
        part = slice(step * 256 % len(v), step * 256 % len(v) + 256)
        optimiser.zero_grad()
        (-club.log_likelihood(v[part], c[part]).mean()).backward()
        optimiser.step()
    return club


@pytest.mark.parametrize("rho", [0.2, 0.5, 0.8])
def test_with_the_true_conditional_it_is_the_symmetric_divergence_and_above_the_mutual_information(rho):
    v, c = correlated(rho)
    bound = float(exact_estimator(rho).bound(v, c))
    assert bound >= mutual_information(rho)
    # by hand: I + KL(p(v)p(c) || p(v,c)) = rho^2 / (1 - rho^2) per dimension
    assert bound == pytest.approx(3 * rho**2 / (1 - rho**2), rel=0.06)


def test_a_fitted_estimator_comes_near_the_true_one():
    v, c = correlated(0.7)
    bound = float(fitted(v, c).bound(v, c).detach())
    assert bound >= mutual_information(0.7)
    assert bound == pytest.approx(3 * 0.49 / 0.51, rel=0.15)


def test_independent_codes_have_a_bound_of_about_nothing():
    v, _ = correlated(0.0, seed=1)
    _, c = correlated(0.0, seed=2)
    assert abs(float(fitted(v, c).bound(v, c).detach())) < 0.03


def test_all_pairs_at_the_price_of_one_equal_the_slow_sum():
    club = CLUB(4, 3)
    v, c = torch.randn(9, 4), torch.randn(9, 3)
    pairs = torch.stack([club.log_likelihood(v, c[j].expand(9, 3)) for j in range(9)])  # [j i]
    slow = club.log_likelihood(v, c).mean() - pairs.mean()
    torch.testing.assert_close(club.bound(v, c), slow)


def test_log_likelihood_is_that_of_a_gaussian():
    club = CLUB(2, 3)
    v, c = torch.randn(5, 2), torch.randn(5, 3)
    mean, spread = club(v)
    by_torch = torch.distributions.Normal(mean, (spread / 2).exp()).log_prob(c).sum(1)
    torch.testing.assert_close(club.log_likelihood(v, c), by_torch)


def test_one_record_is_no_evidence():
    club = CLUB(2, 3)
    assert float(club.bound(torch.randn(1, 2), torch.randn(1, 3)).detach()) == pytest.approx(0, abs=1e-6)


def test_wrong_widths_are_named():
    with pytest.raises(ValueError, match="c should have shape"):
        CLUB(2, 3).bound(torch.randn(4, 2), torch.randn(5, 3))
