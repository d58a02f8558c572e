"""Everything that decides what a run learns, apart from the model and the data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mmmed.checks import check_count
from mmmed.training.augment import Augmentation
from mmmed.training.chance import stream_seed
from mmmed.training.optimisation import Optimisation
from mmmed.training.policy import Policy


@dataclass(frozen=True)
class Settings:
    """What `finetune` was asked for. patience: None = never stop early; frozen: modalities."""

    epochs: int
    patience: int | None
    policy: Policy
    optimisation: Optimisation
    augmentation: Augmentation | None
    frozen: tuple[str, ...]
    seed: int

    def __post_init__(self) -> None:
        check_count(self.epochs, name="epochs")
        if self.patience is not None:
            check_count(self.patience, name="patience")
        stream_seed(self.seed)  # raises ValueError for a seed that is none

    def facts(self) -> dict[str, Any]:
        """One JSON-ready value per setting that changes what is learned."""
        facts: dict[str, Any] = {"epochs": self.epochs, "patience": self.patience, "seed": self.seed}
        facts["frozen"] = list(self.frozen)
        facts |= {f"policy {name}": value for name, value in asdict(self.policy).items()}
        facts |= {f"optimisation {name}": value for name, value in self.optimisation.settings().items()}
        return facts | {"augmentation": asdict(self.augmentation) if self.augmentation else None}
