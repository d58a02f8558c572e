"""What all views of a record agree on, and what each says beside: two codes, learned without labels.

Source: MRDD (Ke et al., arXiv:2403.10897). First a consistent code c is learned by masked cross-view
prediction: most of every view is hidden, and from what is left of all together each view is rebuilt whole.
Then c is fixed, and a specific code v of each view is learned that helps c to rebuild this view while it
tells as little as possible of c.

Differs: views may be absent. The consistent code comes from the mean of the encodings of the views that a
record has (the paper puts them side by side, which needs all), only present views are rebuilt, and a record
without any has the prior. The dependence of v on c is lowered by the CLUB bound with an estimator that is
trained beside (see `mmmed.losses.club`); the released code has the sign that raises it. Squared errors are
averaged over features, so a picture of 256 pixels and a table of 10 cells count the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmmed.checks import check_count, check_known, listing
from mmmed.layers.mlp import mlp
from mmmed.layers.named import NamedModules
from mmmed.losses.club import CLUB
from mmmed.losses.variational import prior_divergence

SPREAD = 8.0  # log variances stay within +- this


@dataclass(frozen=True)
class Views:
    """Records side by side, packed as in `Batch`: values[view] and known[view] [n features] for the n records
    of rows[view] [n]; present [batch view] bool in the order of `names`. What is listed but not present is
    not read."""

    names: tuple[str, ...]
    values: Mapping[str, Tensor]
    known: Mapping[str, Tensor]
    rows: Mapping[str, Tensor]
    present: Tensor

    def __len__(self) -> int:
        return len(self.present)

    def packed(self) -> Views:
        """Without the rows that are listed but not present."""
        values, known, rows = {}, {}, {}
        for place, name in enumerate(self.names):
            if name in self.rows:
                here = self.present[self.rows[name], place]
                if here.any():
                    values[name], known[name] = self.values[name][here], self.known[name][here]
                    rows[name] = self.rows[name][here]
        return Views(self.names, values, known, rows, self.present)


class DisentangledViews(nn.Module):
    """Encoders and decoders of the two kinds of codes.

    features[view]: number of features; consistent, specific: widths of the codes (the paper takes 10 to 20);
    hidden: width of the small networks. Nothing is drawn here: masks and noise come from the caller.
    """

    def __init__(
        self, features: Mapping[str, int], consistent: int = 20, specific: int = 10, hidden: int = 128
    ):
        super().__init__()
        for name, width in (("consistent", consistent), ("specific", specific), ("hidden", hidden)):
            check_count(width, name=name)
        if not features:
            raise ValueError("features should name at least one view, with its number of features.")
        self.features = dict(features)
        self.widths = {"consistent": consistent, "specific": specific}
        both = consistent + specific

        def each(before: int | None, after: int | None) -> NamedModules:
            return NamedModules({n: mlp([before or w, hidden, after or w]) for n, w in features.items()})

        self.read_shared, self.tell_shared = each(None, hidden), each(consistent, None)
        self.code = nn.Linear(hidden, 2 * consistent)
        self.read_own, self.tell_own = each(None, 2 * specific), each(both, None)
        self.estimators = NamedModules({name: CLUB(specific, consistent, hidden) for name in features})

    @property
    def names(self) -> tuple[str, ...]:
        """The views, in order."""
        return tuple(self.features)

    def stage(self, number: int) -> nn.ModuleList:
        """What learns in stage 1 (the consistent code) or 2 (the specific ones); estimators learn by
        themselves."""
        one = [self.read_shared, self.code, self.tell_shared]
        return nn.ModuleList(one if number == 1 else [self.read_own, self.tell_own])

    def consistent(self, views: Views) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the consistent code, [batch consistent] each.

        From the views that are there; features that are unknown or hidden stand at 0, their mean. A record
        without any view has mean 0 and log variance 0, exactly. Raises ValueError for a view that nobody
        named.
        """
        for name in views.rows:
            check_known(name, self.names, what="view")
        if tuple(views.names) != self.names:
            raise ValueError(
                f"The views should be {listing(self.names)} in this order, got {listing(views.names)}."
            )
        views = views.packed()
        total = self.code.weight.new_zeros(len(views), self.code.in_features)
        for name, rows in views.rows.items():
            total = total.index_add(0, rows, self.read_shared[name](_visible(views, name)))
        count = views.present.sum(1, keepdim=True)
        mean, spread = self.code(total / count.clamp(min=1)).chunk(2, dim=1)
        some = count > 0
        return mean.where(some, 0.0), _bounded(spread).where(some, 0.0)

    def specific(self, name: str, values: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the code of one view: values, known [n features] -> [n specific] each."""
        mean, spread = self.read_own[name](torch.where(known, values, 0.0)).chunk(2, dim=1)
        return mean, _bounded(spread)


def consistency_loss(
    model: DisentangledViews, views: Views, visible: Views, noise: Tensor, beta: float
) -> Tensor:
    """Stage 1, per record [batch]: mean over present views of the mean squared error + beta KL.

    visible: the same records with some features hidden (unknown); noise [batch consistent]: standard normal.
    A record without a view costs 0.
    """
    mean, spread = model.consistent(visible)
    code = drawn(mean, spread, noise)
    views = views.packed()
    total = code.new_zeros(len(views))
    for name, rows in views.rows.items():
        rebuilt = model.tell_shared[name](code[rows])
        total = total.index_add(0, rows, squared_error(rebuilt, views.values[name], views.known[name]))
    return total / views.present.sum(1).clamp(min=1) + beta * prior_divergence(mean, spread)


def specificity_loss(
    model: DisentangledViews,
    name: str,
    views: Views,
    code: Tensor,
    noise: Tensor,
    beta: float,
    strength: float,
) -> Tensor:
    """Stage 2, one view -> scalar: mean squared error + beta KL + strength * CLUB(v; c) per number of c.

    views: packed; code [n consistent]: the consistent code of the n rows of this view, fixed; noise [n
    specific]. The estimator is taken as it is: no gradient of this loss may move it.
    """
    values, known = views.values[name], views.known[name]
    mean, spread = model.specific(name, values, known)
    own = drawn(mean, spread, noise)
    rebuilt = model.tell_own[name](torch.cat([own, code], 1))
    error = squared_error(rebuilt, values, known) + beta * prior_divergence(mean, spread)
    # A learned estimator can be brought below 0, where the bound is none: an encoder that goes on from there
    # learns to fool the estimator, and was seen to make v depend on c where it did not before.
    return error.mean() + strength * model.estimators[name].bound(own, code).clamp(min=0) / code.shape[1]


def drawn(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """A sample of the Gaussian from standard normal noise."""
    return mean + (0.5 * log_variance).exp() * noise


def squared_error(rebuilt: Tensor, values: Tensor, known: Tensor) -> Tensor:
    """Mean over the known features: [n features] each -> [n]; 0 where none is known."""
    error = torch.where(known, rebuilt - values, 0.0) ** 2
    return error.sum(1) / known.sum(1).clamp(min=1)


def _visible(views: Views, name: str) -> Tensor:
    return torch.where(views.known[name], views.values[name], 0.0)


def _bounded(spread: Tensor) -> Tensor:
    return SPREAD * torch.tanh(spread / SPREAD)
