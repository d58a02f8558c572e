"""MultimodalModel: encoders, a fusion, heads. From a packed batch to the answer of every task after every
step."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from mmmed.checks import listing
from mmmed.fusion.recurrence import Recurrence
from mmmed.layers.named import NamedModules
from mmmed.types import Batch, Fused, Outputs, Schema, Tokens

SEQUENTIAL = ("multimodn", "cascade", "lstm")  # catalogue names of the fusions that carry a state


class MultimodalModel(nn.Module):
    """A record's modalities -> tokens -> state -> answers.

    encoders: modality -> module that gives `Tokens` (or a plain [n dim] tensor, which counts as one token);
    fusion: module as in `mmmed.fusion`; heads: task -> module from state to logits. schema: how records are
    read; needed for `predict` and saving, not for training on ready batches.

        model = MultimodalModel(
            encoders={"labs": TabularEncoder(features=12), "vitals": TabularEncoder(features=6)},
            fusion=MultiModN(["labs", "vitals"], dim=64, state_dim=32),
            heads={"sepsis": nn.Linear(32, 1)},
        )
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        fusion: nn.Module,
        heads: Mapping[str, nn.Module],
        schema: Schema | None = None,
    ):
        super().__init__()
        if set(encoders) != set(fusion.modalities):
            raise ValueError(
                f"Encoders and fusion should have the same modalities, got {listing(encoders)} and "
                f"{listing(fusion.modalities)}."
            )
        if schema is not None and tuple(schema.modalities) != tuple(fusion.modalities):
            raise ValueError(
                f"The schema has the modalities {listing(schema.modalities)}, the fusion "
                f"{listing(fusion.modalities)}; "
                "they should be the same, in the same order."
            )
        if schema is not None and set(schema.tasks) != set(heads):
            raise ValueError(f"The schema asks {listing(schema.tasks)}, the heads answer {listing(heads)}.")
        self.encoders = NamedModules({name: encoders[name] for name in fusion.modalities})
        self.fusion = fusion
        self.heads = NamedModules(heads)
        self.schema = schema
        self.config: dict[str, Any] | None = None  # what `create_model` got; None for ready-made parts
        self.calibration: dict[str, Any] = {}  # task -> Calibration, set by `calibrate`
        self.conformal: dict[str, Any] = {}  # task -> Conformal, set by `calibrate` too
        self.thresholds: dict[str, float] = {}  # binary task -> threshold chosen on validation
        self.card: dict[str, Any] = {}  # measured facts for the model card

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the inputs, in the order of fusion."""
        return tuple(self.fusion.modalities)

    def forward(self, batch: Batch, order: Sequence[str] | Tensor | None = None) -> Outputs:
        """Answer a batch. order: see `mmmed.fusion.recurrence.Recurrence.forward`.

        Raises ValueError for a batch with other modalities or in another order: `present` would be misread.
        """
        if tuple(batch.modalities) != self.modalities:
            raise ValueError(
                f"The model reads {listing(self.modalities)} in this order, the batch holds "
                f"{listing(batch.modalities)}. Collate with the model's schema."
            )
        return self.answer(self.fusion(self.encode(batch), batch.rows, batch.present, order))

    def encode(self, batch: Batch) -> dict[str, Tokens]:
        """Tokens of the rows that exist; a modality that no record of the batch has is not in the result."""
        return {
            name: encode(self.encoders[name], batch.values[name])
            for name in self.modalities
            if name in batch.values
        }

    def fuse(
        self,
        tokens: Mapping[str, Tokens],
        rows: Mapping[str, Tensor],
        present: Tensor,
        order: Sequence[str] | Tensor | None = None,
        state: Tensor | None = None,
    ) -> Outputs:
        """Answer from tokens that were encoded before (see `encode`).

        state [batch ...]: `Fused.carry` of an earlier call, from which a sequential fusion goes on;
        ValueError for a fusion that looks at all modalities at once.
        """
        if state is None:
            return self.answer(self.fusion(tokens, rows, present, order))
        check_sequential(self.fusion)
        return self.answer(self.fusion(tokens, rows, present, order, state))

    def answer(self, fused: Fused) -> Outputs:
        """The heads, applied once to all steps: [batch step dim] -> [batch step outputs]."""
        return Outputs({task: head(fused.steps) for task, head in self.heads.items()}, fused)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write config, schema, weights (safetensors), calibration and model card; whole or not at all."""
        from mmmed.models.files import save_model

        save_model(self, folder)

    def push_to_hub(self, repository: str, private: bool = True) -> str:
        """Upload what `save_pretrained` writes to the Hugging Face Hub. Reaches the network; -> address."""
        from mmmed.models.files import push_model

        return push_model(self, repository, private=private)


def encode(encoder: nn.Module, values: Any) -> Tokens:
    """Call an encoder on what a batch holds for it; ready tokens pass through, a plain tensor becomes one
    token."""
    if isinstance(values, Tokens):
        return values
    encoded = encoder(**values) if isinstance(values, Mapping) else encoder(values)
    if isinstance(encoded, Tokens):
        return encoded
    encoded = encoded if encoded.ndim == 3 else encoded.unsqueeze(1)  # [n dim] -> [n 1 dim]
    return Tokens(encoded, encoded.new_ones(encoded.shape[:2], dtype=bool))


def check_sequential(fusion: nn.Module) -> None:
    """Raise ValueError for a fusion that has no state to go on from: a parallel one, or one that visits every
    modality several times."""
    if not isinstance(fusion, Recurrence) or fusion.passes > 1:
        raise ValueError(
            f"{type(fusion).__name__} looks at all modalities at once and has no state to go on from. "
            f"Sequential fusions have one: {', '.join(SEQUENTIAL)}."
        )
