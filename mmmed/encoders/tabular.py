"""Numbers and categories to tokens; a cell that is not recorded adds exactly nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from mmmed.checks import check_count, check_shape
from mmmed.layers.mlp import mlp
from mmmed.types import Category, Tabular, Tokens

ORDINARY = 3.0  # standard deviations up to which a number is taken as it is


def compress(numbers: Tensor) -> Tensor:
    """Numbers within 3 standard deviations as they are, the rest on a logarithmic scale: 10 -> 5.1, 100 ->
    7.6.

    One wrong unit must not drown a row, but its order among the others is kept. Slope and value have no jump.
    """
    beyond = (numbers.abs() - ORDINARY).clamp(min=0)
    return numbers.clamp(-ORDINARY, ORDINARY) + numbers.sign() * beyond.log1p()


class CellVectors(nn.Module):
    """Each recorded cell as a vector: cells [n columns], known [n columns] bool -> [n columns width].

    A number is its value times a learned vector; a category has one vector for each level, taken relative to
    the mean over its levels. So a cell that is not recorded, whose vector is 0, stands where the mean of a
    number and an even mixture of the levels stand: imputation by the mean, and no hint that anything was
    missing. What is written in an unknown cell is never read; it may be NaN.
    """

    def __init__(self, levels: Sequence[int | None], width: int):
        super().__init__()
        self.levels = tuple(levels)
        scale = len(self.levels) ** -0.5
        self.numbers = [place for place, count in enumerate(self.levels) if count is None]
        self.slopes = nn.Parameter(scale * torch.randn(len(self.numbers), width)) if self.numbers else None
        # a single level tells nothing, and none was seen in a column without levels
        self.tables = nn.ParameterDict(
            {
                str(place): nn.Parameter(scale * torch.randn(count, width))
                for place, count in enumerate(self.levels)
                if count is not None and count > 1
            }
        )
        self.width = width

    def forward(self, cells: Tensor, known: Tensor) -> Tensor:
        kept = torch.where(known, cells, 0)
        vectors = kept.new_zeros(*kept.shape, self.width)
        if self.slopes is not None:
            vectors[:, self.numbers] = compress(kept[:, self.numbers]).unsqueeze(2) * self.slopes
        for place, table in self.tables.items():
            column = int(place)
            level = embedding(self._level(kept, column), table - table.mean(0))
            vectors[:, column] = level * known[:, column : column + 1]
        return vectors

    def total(self, cells: Tensor, known: Tensor) -> Tensor:
        """The sum over the columns of what `forward` gives, [n width], without a vector for each cell."""
        kept = torch.where(known, cells, 0)
        total = kept.new_zeros(len(kept), self.width)
        if self.slopes is not None:
            numbers = kept if len(self.numbers) == kept.shape[1] else kept[:, self.numbers]
            total = compress(numbers) @ self.slopes
        for place, table in self.tables.items():
            column = int(place)
            level = embedding(self._level(kept, column), table - table.mean(0))
            total = total + level * known[:, column : column + 1]
        return total

    def _level(self, cells: Tensor, column: int) -> Tensor:
        level = cells[:, column].long()
        if bool(((level < 0) | (level >= self.levels[column])).any()):
            raise ValueError(
                f"Column {column} of cells should hold the index of a level, 0 to {self.levels[column] - 1}, "
                f"got {level.min()} to {level.max()}. Was the model built for another schema?"
            )
        return level


class TabularEncoder(nn.Module):
    """A table row as one token: a linear path and a multi-layer perceptron over all recorded cells together.

    cells [n columns] (numbers standardised, categories as the index of their level), known [n columns] bool
    -> Tokens [n 1 dim]; with `cells_as_tokens` [n columns dim], one token per cell, masked by `known`.
    features: number of columns; levels: for each column the number of levels, None for a number; left out:
    all are numbers. hidden: width of the perceptron. indicators: also tell the network which cells are
    recorded. It is off, since a gap in the record often reflects a habit of the clinic and not the patient.
    (A network that takes cells as tokens sees the gaps.)

    Numbers beyond 3 standard deviations are compressed, see `compress`. Dropout is 0.3 as tables of some
    hundred rows are the usual case; lower it for many thousand. Source: Gorishniy et al., arXiv:2106.11959,
    the MLP of sec. 3.1, and the feature tokenizer of sec. 3.3 for `cells_as_tokens`. Differs: the linear path
    beside the MLP, which with few rows is the better part of it, and no bias for a recorded number outside
    `cells_as_tokens`.
    """

    def __init__(
        self,
        features: int,
        dim: int = 64,
        levels: Sequence[int | None] | None = None,
        hidden: int = 64,
        dropout: float = 0.3,
        indicators: bool = False,
        cells_as_tokens: bool = False,
    ):
        super().__init__()
        check_count(features, name="features")
        levels = (None,) * features if levels is None else tuple(levels)
        if len(levels) != features:
            raise ValueError(
                f"levels should name {features} columns, got {len(levels)}. Give a number of levels for "
                "each category and None for each number."
            )
        self.features, self.dim, self.cells_as_tokens = features, dim, cells_as_tokens
        self.vectors = CellVectors(levels, dim if cells_as_tokens else hidden)
        if cells_as_tokens:
            self.names = nn.Parameter(torch.randn(features, dim) * dim**-0.5)
            return
        self.indicators = nn.Linear(features, hidden, bias=False) if indicators else None
        self.linear = nn.Linear(hidden, dim, bias=False)
        self.network = mlp([hidden, hidden, hidden, dim], dropout)

    @classmethod
    def from_schema(
        cls,
        modality: Tabular,
        dim: int = 64,
        hidden: int = 64,
        dropout: float = 0.3,
        indicators: bool = False,
        cells_as_tokens: bool = False,
    ) -> TabularEncoder:
        """For the columns that a schema lists."""
        levels = [len(cell.levels) if isinstance(cell, Category) else None for cell in modality.cells]
        return cls(len(levels), dim, levels, hidden, dropout, indicators, cells_as_tokens)

    def forward(self, cells: Tensor, known: Tensor) -> Tokens:
        hint = f"The schema lists {self.features} columns; pass one value for each."
        check_shape(cells, "n columns", name="cells", columns=self.features, hint=hint)
        check_shape(known, "n columns", name="known", n=cells.shape[0], columns=self.features, hint=hint)
        cells = cells.to(next(self.parameters()).dtype)
        if self.cells_as_tokens:
            vectors = self.vectors(cells, known)  # [n columns width]
            return Tokens((vectors + self.names) * known.unsqueeze(2), known)
        row = self.vectors.total(cells, known)
        if self.indicators is not None:
            row = row + self.indicators(known.to(row.dtype))
        values = (self.linear(row) + self.network(row)).unsqueeze(1)
        return Tokens(values, torch.ones_like(values[..., 0], dtype=torch.bool))
