"""pretrain_views: a cohort without labels -> encoders for `create_model` that know what its views share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mmmed.checks import check_count, check_known, check_share
from mmmed.models.create import seeded
from mmmed.pretraining.features import Features, draw_hidden, make_features
from mmmed.pretraining.fit import fit, shuffled
from mmmed.pretraining.views import DisentangledViews, Views, consistency_loss, drawn, specificity_loss
from mmmed.training.chance import stream
from mmmed.training.optimisation import Optimisation
from mmmed.types import Tokens

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort

GENTLE = Optimisation(weight_decay=0.01, batch_size=64)
# Encoder and estimator are a game, and an estimator that lags behind makes the encoder overshoot: v comes to
# depend on c the other way round. Measured on a view of which c says all that is shared, in mid-run (R^2 of c
# from v): Adam's usual memory (0.9, 0.999) at the encoder's rate swings up to 0.3, this short memory at three
# times the rate stays within 0.05 of 0.
CLIMBS = 5  # steps of the estimators for one of the encoders
FASTER = 3.0  # their learning rate against that of the encoders
MEMORY = (0.5, 0.9)


class ViewEncoder(nn.Module):
    """One modality as two tokens: its consistent code (from this view alone) and its specific one.

    Takes what the schema's encoder of this modality takes -> Tokens [n 2 dim]. Each code goes through a
    linear layer of orthonormal columns to `dim`, so that distances between codes are kept (dim should be no
    less than the codes are wide). With `finetune(frozen=...)` its tokens are computed once, like those of any
    encoder.
    """

    def __init__(self, name: str, features: Features, views: DisentangledViews, dim: int = 64, seed: int = 0):
        super().__init__()
        check_known(name, views.names, what="view")
        self.dim, self.features = dim, features
        self.shared, self.code, self.own = views.read_shared[name], views.code, views.read_own[name]
        with seeded(seed):
            self.project = nn.ModuleList(_isometry(width, dim) for width in views.widths.values())

    def forward(self, *ready: Any, **values: Any) -> Tokens:
        numbers, known = self.features(values or ready[0])
        numbers = torch.where(known, numbers, 0.0)
        codes = self.code(self.shared(numbers)).chunk(2, 1)[0], self.own(numbers).chunk(2, 1)[0]
        tokens = torch.stack([layer(code) for layer, code in zip(self.project, codes, strict=True)], 1)
        return Tokens(tokens, torch.ones_like(tokens[..., 0], dtype=torch.bool))


@dataclass(frozen=True)
class PretrainedViews:
    """What `pretrain_views` learned. history: one line per epoch, with its stage; features[view]: how it is
    read."""

    model: DisentangledViews
    features: Mapping[str, Features]
    history: list[dict[str, Any]]

    def encoders(self, dim: int = 64) -> dict[str, ViewEncoder]:
        """Copies of the encoders, for `create_model(schema, encoders=pretrained.encoders(), dim=dim)`."""
        return {
            name: deepcopy(ViewEncoder(name, self.features[name], self.model, dim)).eval()
            for name in self.model.names
        }

    @torch.inference_mode()
    def codes(self, cohort: Cohort) -> dict[str, Tensor]:
        """Of every record, in the order of the cohort: "consistent" [records consistent] from all views it
        has, and for each view its specific code [records specific], 0 (the prior) where it is absent."""
        views = read_views(cohort, self.features, self.model.names)
        codes = {"consistent": self.model.consistent(views)[0]}
        for name in self.model.names:
            codes[name] = codes["consistent"].new_zeros(len(views), self.model.widths["specific"])
            if name in views.rows:
                code = self.model.specific(name, views.values[name], views.known[name])[0]
                codes[name][views.rows[name]] = code
        return codes


def pretrain_views(
    cohort: Cohort,
    *,
    frozen: Mapping[str, nn.Module] | None = None,
    consistent: int = 20,
    specific: int = 10,
    masked: float = 0.7,
    epochs: int = 50,
    beta: float = 0.01,
    strength: float = 0.1,
    optimisation: Optimisation = GENTLE,
    seed: int = 0,
) -> PretrainedViews:
    """Learn a consistent code of all views and a specific one of each from cohort["train"]; labels are not
    read.

    frozen[modality]: an encoder whose tokens are to be rebuilt; without one, a table is rebuilt cell by cell
    and an image at 16 x 16 pixels. consistent, specific: widths of the codes. masked: share of each view that
    is hidden in stage 1. epochs: of each of the two stages. beta: weight of the divergence from the prior,
    against a squared error averaged over features; strength: weight of the CLUB bound. Both stages read every
    record once into memory. Source: see `mmmed.pretraining.views`. Raises ValueError for a modality of which
    nothing can be rebuilt.
    """
    check_share(masked, name="masked")
    check_count(epochs, name="epochs")
    for name in frozen or {}:
        check_known(name, cohort.schema.modalities, what="frozen modality")
    train = cohort["train"]
    if not len(train):
        raise ValueError("The cohort has no training records to learn from. Split it: cohort.split().")
    features, views = _read_first(train, frozen or {})
    with seeded(seed):
        model = DisentangledViews({name: f.width for name, f in features.items()}, consistent, specific)
    run = Pretraining(model, features, views, masked, beta, strength, optimisation, epochs, seed)
    history = run.consistent()
    with torch.no_grad():
        code = model.eval().consistent(views)[0]
    return PretrainedViews(model, features, history + run.specific(code))


def read_views(cohort: Cohort, features: Mapping[str, Features], names: tuple[str, ...]) -> Views:
    """The standardised features of every record of a cohort."""
    parts: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {name: [] for name in names}
    present, start = [], 0
    for batch in cohort.batches(64):
        for name in names:
            if name in batch.rows:
                numbers, known = features[name](batch.values[name])
                parts[name].append((numbers, known, batch.rows[name] + start))
        present.append(batch.present[:, [batch.modalities.index(name) for name in names]])
        start += len(batch)
    joined = {name: [torch.cat(column) for column in zip(*p, strict=True)] for name, p in parts.items() if p}
    values, known, rows = ({name: three[k] for name, three in joined.items()} for k in range(3))
    whole = torch.cat(present) if present else torch.zeros(0, len(names), dtype=torch.bool)
    return Views(names, values, known, rows, whole)


def _read_first(train: Cohort, frozen: Mapping[str, nn.Module]) -> tuple[dict[str, Features], Views]:
    """Features of the views that some training record has, their mean and scale fitted, and the records."""
    features: dict[str, Features] = {}
    for place, (name, modality) in enumerate(train.schema.modalities.items()):
        having = train.present[:, place].nonzero()[0]
        if len(having):
            sample = train.collate([train[int(having[0])]])
            features[name] = make_features(name, modality, frozen.get(name), sample.values.get(name))
    if not features:
        raise ValueError("No training record has any modality, so there is nothing to learn from.")
    raw = read_views(train, features, tuple(features))
    for name in raw.rows:
        features[name].adapt(raw.values[name], raw.known[name])
    scaled = {
        name: torch.where(
            raw.known[name], (raw.values[name] - features[name].mean) / features[name].scale, 0.0
        )
        for name in raw.rows
    }
    return features, replace(raw, values=scaled)


@dataclass
class Pretraining:
    """The two stages over records that are in memory."""

    model: DisentangledViews
    features: Mapping[str, Features]
    views: Views
    masked: float
    beta: float
    strength: float
    optimisation: Optimisation
    epochs: int
    seed: int
    code: Tensor | None = None
    climbers: torch.optim.Optimizer | None = None

    def consistent(self) -> list[dict[str, Any]]:
        """Stage 1. -> one line per epoch."""
        return self._stage(1, self._consistency)

    def specific(self, code: Tensor) -> list[dict[str, Any]]:
        """Stage 2, with the consistent code [records consistent] of all records fixed. -> one line per
        epoch."""
        self.code = code.detach()
        self.climbers = torch.optim.Adam(
            self.model.estimators.parameters(), lr=FASTER * self.optimisation.lr, betas=MEMORY
        )
        return self._stage(2, self._specificity)

    def _stage(self, number: int, loss: Any) -> list[dict[str, Any]]:
        rows = self.views.present.any(1).nonzero().squeeze(1)
        size = self.optimisation.batch_size

        def batches(epoch: int) -> Iterator[Tensor]:
            return iter(shuffled(rows, epoch, size, self.seed + number))

        history, _ = fit(
            self.model.stage(number),
            batches,
            loss,
            updates=len(shuffled(rows, 0, size, self.seed)),
            epochs=self.epochs,
            optimisation=self.optimisation,
            seed=self.seed,
        )
        keep = ("epoch", "train_loss", "lr", "seconds")
        return [{"stage": number, **{key: line[key] for key in keep}} for line in history]

    def _consistency(self, rows: Tensor, step: int) -> Tensor:
        part = take(self.views, rows)
        draw = stream(self.seed, "masks", step)
        visible = {
            name: known & ~draw_hidden(self.features[name].groups, len(known), self.masked, draw)
            for name, known in part.known.items()
        }
        noise = torch.randn(len(rows), self.model.widths["consistent"], generator=draw)
        return consistency_loss(self.model, part, replace(part, known=visible), noise, self.beta).mean()

    def _specificity(self, rows: Tensor, step: int) -> Tensor:
        """Some steps of the estimators towards log q(c | v), then the loss of the specific encoders."""
        part, draw = take(self.views, rows), stream(self.seed, "noise", step)
        code = {name: self.code[rows][here] for name, here in part.rows.items()}
        noise = {
            name: torch.randn(len(here), self.model.widths["specific"], generator=draw)
            for name, here in part.rows.items()
        }
        for _ in range(CLIMBS):
            self._climb(part, code, noise)
        with _still(self.model.estimators):
            losses = [
                specificity_loss(self.model, name, part, code[name], noise[name], self.beta, self.strength)
                for name in part.rows
            ]
            return sum(losses) / len(losses)

    def _climb(self, part: Views, code: Mapping[str, Tensor], noise: Mapping[str, Tensor]) -> None:
        self.climbers.zero_grad(set_to_none=True)
        total = 0.0
        for name in part.rows:
            with torch.no_grad():
                own = drawn(*self.model.specific(name, part.values[name], part.known[name]), noise[name])
            total = total - self.model.estimators[name].log_likelihood(own, code[name]).mean()
        total.backward()
        self.climbers.step()


@contextmanager
def _still(part: nn.Module) -> Iterator[None]:
    """No gradient moves the weights of `part`, though it flows through."""
    try:
        part.requires_grad_(False)
        yield
    finally:
        part.requires_grad_(True)


def _isometry(width: int, dim: int) -> nn.Linear:
    layer = nn.Linear(width, dim, bias=False)
    nn.init.orthogonal_(layer.weight)
    return layer


def take(views: Views, rows: Tensor) -> Views:
    """The records of some rows."""
    place = torch.full((len(views),), -1)
    place[rows] = torch.arange(len(rows))
    values, known, here = {}, {}, {}
    for name, own in views.rows.items():
        chosen = (place[own] >= 0).nonzero().squeeze(1)
        if len(chosen):
            values[name], known[name] = views.values[name][chosen], views.known[name][chosen]
            here[name] = place[own[chosen]]
    return Views(views.names, values, known, here, views.present[rows])
