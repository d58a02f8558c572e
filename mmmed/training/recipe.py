"""Recipe: a model and how it is trained, by names and numbers alone, so that it can be run again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmmed.catalogue import list_components
from mmmed.checks import check_count, check_known, plain
from mmmed.models.create import create_model
from mmmed.training.augment import Augmentation
from mmmed.training.finetune import finetune
from mmmed.training.members import finetune_members
from mmmed.training.optimisation import Optimisation
from mmmed.training.policy import Policy
from mmmed.training.run import Run
from mmmed.training.settings import Settings

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort
    from mmmed.types import Schema

Part = str | tuple[str, Mapping[str, Any]]
_PARTS = {"policy": Policy, "optimisation": Optimisation, "augmentation": Augmentation}


@dataclass(frozen=True)
class Recipe:
    """What `create_model` and `finetune` get; the same words and defaults as there.

    fusion, encoders[modality]: a catalogue name or a pair (name, options); ready-made modules are refused,
    since every fold needs a fresh one. fusion may also name a reference model ("logistic_regression",
    "gradient_boosting"), for which everything but `policy` is without effect.
    """

    fusion: Part = "multimodn"
    encoders: Mapping[str, Part] | None = None
    policy: Policy = Policy()  # noqa: RUF009 (frozen)
    epochs: int = 30
    optimisation: Optimisation = Optimisation()  # noqa: RUF009 (frozen)
    augmentation: Augmentation | None = Augmentation()  # noqa: RUF009 (frozen)
    patience: int | None = 10
    frozen: tuple[str, ...] = ()
    dim: int = 64
    state_dim: int = 64

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "frozen", (self.frozen,) if isinstance(self.frozen, str) else tuple(self.frozen)
        )
        object.__setattr__(self, "fusion", _part(self.fusion, "fusion"))
        name = self.fusion if isinstance(self.fusion, str) else self.fusion[0]
        known = [*list_components(kind="fusion"), *list_components(kind="reference model")]
        check_known(name.partition(":")[0], known, what="fusion")
        if self.encoders is not None:
            parts = {name: _part(part, f"encoder of {name!r}") for name, part in self.encoders.items()}
            object.__setattr__(self, "encoders", parts)
        for name in ("epochs", "dim", "state_dim"):
            check_count(getattr(self, name), name=name)
        if self.patience is not None:
            check_count(self.patience, name="patience")

    @classmethod
    def of(cls, given: Recipe | str | Mapping[str, Any]) -> Recipe:
        """A recipe as it is; a name of a fusion; or the fields as a plain mapping, such as `facts` gives."""
        if isinstance(given, cls):
            return given
        if isinstance(given, str):
            return cls(fusion=given)
        if not isinstance(given, Mapping):
            raise ValueError(
                "A recipe should be a Recipe, the name of a fusion, or a mapping of its fields, got "
                f"{plain(given)}."
            )
        known = [field.name for field in fields(cls)]
        values = dict(given)
        for name in values:
            check_known(name, known, what="field of a recipe")
        for name, kind in _PARTS.items():
            if isinstance(values.get(name), Mapping):
                values[name] = kind(**values[name])
        return cls(**values)

    def facts(self) -> dict[str, Any]:
        """JSON-ready; `Recipe.of` reads it back."""
        facts = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in _PARTS:
            facts[name] = None if facts[name] is None else asdict(facts[name])
        return json.loads(json.dumps(facts))

    def settings(self, seed: int) -> Settings:
        """As the loop of `finetune` wants them."""
        return Settings(
            self.epochs, self.patience, self.policy, self.optimisation, self.augmentation, self.frozen, seed
        )

    def build(self, schema: Schema, seed: int) -> Any:
        """A fresh model."""
        options = {"encoders": self.encoders, "dim": self.dim, "state_dim": self.state_dim}
        return create_model(schema, fusion=self.fusion, seed=seed, **options)

    def train(
        self,
        models: Sequence[Any],
        cohorts: Sequence[Cohort],
        seeds: Sequence[int],
        caches: Path | None = None,
    ) -> list[Run | None]:
        """Train each model on its cohort: several at once where that is possible, one alone by `finetune`.

        caches: folder for the tokens of frozen encoders, which other recipes with the same encoders then
        find; of several models only.
        """
        options = {
            "epochs": self.epochs,
            "policy": self.policy,
            "optimisation": self.optimisation,
            "augmentation": self.augmentation,
            "patience": self.patience,
            "frozen": self.frozen,
        }
        if len(models) > 1:
            return list(finetune_members(models, cohorts, seeds, caches=caches, **options))
        return [
            finetune(model, cohort, seed=seed, progress=False, **options)
            for model, cohort, seed in zip(models, cohorts, seeds, strict=True)
        ]


def _part(part: Any, what: str) -> Part:
    """A name, or (name, options) with options that JSON can hold."""
    if isinstance(part, str):
        return part
    pair = isinstance(part, (tuple, list)) and len(part) == 2
    if not pair or not isinstance(part[0], str) or not isinstance(part[1], Mapping):
        raise ValueError(
            f"The {what} of a recipe should be a catalogue name or a pair (name, options), got "
            f"{plain(part)}. A ready-made module cannot be made anew for every fold."
        )
    try:
        return part[0], json.loads(json.dumps(dict(part[1])))
    except TypeError as error:
        raise ValueError(
            f"The options of the {what} should be numbers, text and lists, got {plain(part[1])}."
        ) from error
