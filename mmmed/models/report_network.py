"""ReportNetwork: encoders, adapters, language model. From a packed batch to the next word of each report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmmed.checks import check_known, listing
from mmmed.heads.findings import FindingHead
from mmmed.language.finding_tokens import FindingTokens, side_by_side
from mmmed.language.language_model import is_named, token_losses
from mmmed.language.local_adapter import LocalAdapter
from mmmed.language.prompt import Assembled, assemble
from mmmed.layers.named import NamedModules
from mmmed.models.multimodal import encode
from mmmed.types import Batch, Schema, Tokens

STATE = "state"  # the slot of the fused state, where a fusion was given

Segments = Sequence[list[int] | str]


class ReportNetwork(nn.Module):
    """A record's modalities -> tokens -> vectors in the slots of a prompt -> words.

    encoders: modality -> module that gives `Tokens`; adapters: slot -> module from those tokens to the width
    of the language model; language_model: any causal one of transformers; finding_head: from tokens to the
    findings of `mmmed.language.labeller`; fusion: a module as in `mmmed.fusion`, whose states fill one more
    slot, "state". grids: modality -> grid of its tokens, for adapters that need it. finding_tokens: also tell
    the language model what the finding head saw. schema: how records are read. The modalities are those of
    `encoders`, in that order.
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        adapters: Mapping[str, nn.Module],
        language_model: nn.Module,
        finding_head: FindingHead | None = None,
        fusion: nn.Module | None = None,
        grids: Mapping[str, tuple[int, ...] | None] | None = None,
        schema: Schema | None = None,
        finding_tokens: bool = True,
    ):
        super().__init__()
        self.schema = schema
        slots = (*encoders, STATE) if fusion is not None else tuple(encoders)
        if set(adapters) != set(slots):
            raise ValueError(
                f"There should be one adapter for each of {listing(slots)}, got {listing(adapters)}."
            )
        if fusion is not None and tuple(fusion.modalities) != tuple(encoders):
            raise ValueError(
                f"The fusion has the modalities {listing(fusion.modalities)}, the encoders "
                f"{listing(encoders)}; they should be the same, in the same order."
            )
        self.encoders = NamedModules(dict(encoders))
        self.adapters = NamedModules({name: adapters[name] for name in slots})
        self.language_model = language_model
        self.finding_head = finding_head
        self.fusion = fusion
        self.grids = dict(grids or {})
        width = self.words.embedding_dim
        scale = float(self.words.weight.detach().float().std())
        self.finding_tokens = None
        if finding_head is not None and finding_tokens:
            self.finding_tokens = NamedModules(
                {
                    name: FindingTokens(len(seen), finding_head.parts[name].look.in_features, width)
                    for name, seen in finding_head.shown.items()
                }
            )
        self.missing = nn.Parameter(scale * torch.randn(len(slots), width))  # [slots width]

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return tuple(self.encoders)

    @property
    def slots(self) -> tuple[str, ...]:
        """What a prompt can hold: the modalities, and "state" if there is a fusion."""
        return tuple(self.adapters)

    @property
    def words(self) -> nn.Embedding:
        """The vectors of the language model's words."""
        return self.language_model.get_input_embeddings()

    # ---------------------------------------------------------------------------------------------- forward

    def forward(
        self,
        batch: Batch,
        segments: Sequence[Segments],
        answers: Sequence[Sequence[int]],
        bos: int | None = None,
    ) -> Tensor:
        """Negative log-likelihood of the answers' ids, in nats: [batch length], 0 where no id is learned."""
        return token_losses(self.language_model, self.prepare(batch, segments, answers, bos))

    def encode(self, batch: Batch) -> dict[str, Tokens]:
        """Tokens of the rows that exist; a modality that no record of the batch has is not in the result."""
        return {
            name: encode(self.encoders[name], batch.values[name])
            for name in self.modalities
            if name in batch.values
        }

    def find(
        self, tokens: Mapping[str, Tokens], rows: Mapping[str, Tensor], batch: int
    ) -> tuple[Tensor, Tensor]:
        """Log-odds of the findings, and which can be judged: both [batch labels]."""
        if self.finding_head is None:
            raise ValueError("This network has no finding head: give a finding table when it is made.")
        return self.finding_head(tokens, rows, batch)

    def prepare(
        self,
        batch: Batch,
        segments: Sequence[Segments],
        answers: Sequence[Sequence[int]] | None = None,
        bos: int | None = None,
    ) -> Assembled:
        """The rows that the language model reads: prompts with filled slots, and answers if there are any."""
        tokens = self.encode(batch)
        adapted, rows = self.adapt(tokens, batch, segments)
        missing = dict(zip(self.slots, self.missing, strict=True))
        words = self.words
        return assemble(segments, adapted, rows, len(batch), words, missing, answers, bos=bos)

    def adapt(
        self, tokens: Mapping[str, Tokens], batch: Batch, segments: Sequence[Segments]
    ) -> tuple[dict[str, Tokens], dict[str, Tensor]]:
        """Tokens in the width of the language model, and the positions of their rows."""
        tokens, rows = dict(tokens), {name: batch.rows[name] for name in tokens}
        if self.fusion is not None:
            fused = self.fusion(tokens, batch.rows, batch.present)
            some = batch.present.any(1).nonzero().squeeze(1)  # of whom nothing is known has no state
            if len(some):
                tokens[STATE] = Tokens(fused.steps[some], fused.step_mask[some])
                rows[STATE] = some
        asked = self._prompt(segments, len(batch)) if self._routed() else None
        adapted = {}
        for name, own in tokens.items():
            prompt = None if asked is None else asked[rows[name]]
            adapted[name] = self.adapters[name](own, grid=self.grids.get(name), prompt=prompt)
            if self.finding_tokens is not None and name in self.finding_tokens:
                seen = self.finding_tokens[name](self.finding_head.parts[name], own)
                adapted[name] = side_by_side(adapted[name], seen)
        return adapted, rows

    def _routed(self) -> bool:
        """Whether any adapter chooses its tokens by the prompt."""
        return any(isinstance(module, LocalAdapter) for module in self.adapters.modules())

    def _prompt(self, segments: Sequence[Segments], batch: int) -> Tokens:
        """The words of each row's prompt, never those of its answer: [batch words width]."""
        ids = [[i for part in row if not isinstance(part, str) for i in part] or [0] for row in segments]
        ids = ids * batch if len(ids) == 1 else ids
        longest = max(map(len, ids))
        padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids], device=self.missing.device)
        lengths = torch.tensor([len(row) for row in ids], device=self.missing.device)
        mask = torch.arange(longest, device=self.missing.device)[None] < lengths[:, None]
        return Tokens(self.words(padded), mask)

    # ------------------------------------------------------------------------------------------------- parts

    def own_state(self) -> dict[str, Tensor]:
        """The state dict without what a named language model and named, frozen towers bring along."""
        named = is_named(self.language_model)
        towers = tuple(
            f"encoders.{name}.tower."
            for name, encoder in self.encoders.items()
            if getattr(encoder, "opened_as", None) and encoder.frozen
        )
        return {
            key: tensor
            for key, tensor in self.state_dict().items()
            if not (named and key.startswith("language_model.") and "lora_" not in key)
            and not key.startswith(towers or ("\0",))
        }

    def load_own_state(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `own_state` gave. Raises ValueError if it belongs to another network."""
        expected = set(self.own_state())
        if expected != set(state):
            wrong = sorted(expected ^ set(state))
            raise ValueError(f"These weights belong to another network; what differs: {listing(wrong, 4)}.")
        own = self.own_state()
        if wrong := sorted(name for name in own if own[name].shape != state[name].shape):
            raise ValueError(f"These weights have other shapes than this network: {listing(wrong, 4)}.")
        self.load_state_dict(dict(state), strict=False)

    def part(self, name: str) -> list[nn.Parameter]:
        """The parameters of a part that a stage may train."""
        parts: dict[str, Any] = {
            "encoders": list(self.encoders.parameters()),
            "finding head": [] if self.finding_head is None else list(self.finding_head.parameters()),
            "fusion": [] if self.fusion is None else list(self.fusion.parameters()),
            "adapters": [
                *self.adapters.parameters(),
                *(() if self.finding_tokens is None else self.finding_tokens.parameters()),
                self.missing,
            ],
            "language model": [p for n, p in self.language_model.named_parameters() if "lora_" not in n],
            "lora": [p for n, p in self.language_model.named_parameters() if "lora_" in n],
            **{f"encoder:{n}": list(encoder.parameters()) for n, encoder in self.encoders.items()},
        }
        return parts[check_known(name, parts, what="part of a report network")]
