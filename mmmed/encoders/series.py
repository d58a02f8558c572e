"""Measurements at irregular times to tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmmed.checks import check_count, check_shape
from mmmed.layers.pooling import AttentionPool
from mmmed.layers.time_encoding import TimeEncoding
from mmmed.layers.transformer import Transformer
from mmmed.types import Series, Tokens


class SeriesEncoder(nn.Module):
    """A small transformer over the steps of a series; when a step was, tells its time and not its place in
    the list.

    times [n steps] (relative to the last step, in the schema's time scale), values [n steps channels]
    standardised, known [n steps channels] bool -> Tokens [n 1 dim]: the steps, weighted by learned attention;
    with `tokens` [n steps dim], one token per step. A step is the sum over its recorded channels of the value
    times a learned vector, plus a vector for the channel; what was not recorded adds nothing, and a step
    without any channel is padding. Which channels are recorded stays visible, since attention must find the
    steps that tell of one. Steps may come in any order. channels: number of measured quantities. Sources:
    Kazemi et al., arXiv:1907.05321 (time); Vaswani et al., arXiv:1706.03762 (transformer). Differs from both:
    values of a step are a set of what is known.
    """

    def __init__(
        self,
        channels: int,
        dim: int = 64,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        tokens: bool = False,
    ):
        super().__init__()
        self.channels, self.dim = check_count(channels, name="channels"), dim
        self.slopes = nn.Parameter(torch.randn(channels, dim) * dim**-0.5)
        self.names = nn.Parameter(torch.randn(channels, dim) * dim**-0.5)
        self.time = nn.Sequential(TimeEncoding(dim), nn.Linear(dim, dim))
        self.network = Transformer(dim, layers, heads, dropout)
        self.pool = None if tokens else AttentionPool(dim, heads)

    @classmethod
    def from_schema(
        cls,
        modality: Series,
        dim: int = 64,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        tokens: bool = False,
    ) -> SeriesEncoder:
        """For the channels that a schema lists."""
        return cls(len(modality.channels), dim, layers, heads, dropout, tokens)

    def forward(self, times: Tensor, values: Tensor, known: Tensor) -> Tokens:
        self._check(times, values, known)
        mask = known.any(2)
        used = mask.any(0)  # columns that are padding in every row cost time and tell nothing
        times, values, known, mask = times[:, used], values[:, used], known[:, used], mask[:, used]
        if mask.shape[1] == 0 or not bool(mask.any(1).all()):
            raise ValueError("A row of known is all False. Leave rows without a series out of the batch.")
        steps = self.network(self._steps(times, values, known, mask), mask)  # [n steps dim]
        if self.pool is None:
            return Tokens(steps * mask.unsqueeze(2), mask)
        return Tokens(self.pool(steps, mask).unsqueeze(1), torch.ones_like(mask[:, :1]))

    def _steps(self, times: Tensor, values: Tensor, known: Tensor, mask: Tensor) -> Tensor:
        dtype = self.slopes.dtype
        recorded = torch.where(known, values, 0).to(dtype)
        measured = recorded @ self.slopes + known.to(dtype) @ self.names
        return measured + self.time(torch.where(mask, times, 0).to(dtype))

    def _check(self, times: Tensor, values: Tensor, known: Tensor) -> None:
        hint = f"The schema lists {self.channels} channels; pass one value for each at every step."
        check_shape(values, "n steps channels", name="values", channels=self.channels, hint=hint)
        rows, steps, channels = values.shape
        check_shape(times, "n steps", name="times", n=rows, steps=steps)
        check_shape(
            known, "n steps channels", name="known", n=rows, steps=steps, channels=channels, hint=hint
        )
