"""The sequences of one examination, each on a path of its own, to one pyramid of maps.

    pyramid = SequencePyramid(["flair", "pre", "post"], size=(16, 64, 64))
    maps = pyramid({"flair": flair, "post": post}, {"flair": rows, "post": others}, batch=2)

values[name] [n channels *space] holds the n records of the batch that have the sequence and rows[name] [n]
long says which they are, as in `mmmed.types.Batch`. What a record lacks is therefore never run, and sequence
dropout needs nothing of its own: `batch.keep(drop_modalities(batch.present, rate, generator))` (see
`mmmed.training.policy`) takes the hidden rows away, so that a hidden sequence looks exactly like one that was
never recorded. It spares one modality of each record, and a table counts as one: hand it the columns of the
sequences alone where one of them has to stay.

Source: IVD-Net, Dolz et al., arXiv:1811.08305, sec. II.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from operator import mul

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, avg_pool3d, relu

from mmmed.checks import check_count, check_known, check_shape, listing, plain
from mmmed.layers.named import NamedModules
from mmmed.layers.residual import ResidualBlock

LEAST = 4  # voxels that are left along an axis, so that a 3-wide convolution still has a neighbourhood
_AXES = {2: "height width", 3: "depth height width"}
_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
_LAYOUT = {2: torch.channels_last, 3: torch.channels_last_3d}
_AVERAGE = {2: avg_pool2d, 3: avg_pool3d}


def halvings(size: Sequence[int], levels: int) -> tuple[tuple[int, ...], ...]:
    """Stride of each level along each axis: 2 where the axis is longer than half the longest one and keeps
    `LEAST` voxels, else 1.

    So a thin stack loses height and width first, until its voxels are about as thick as they are wide, and
    all axes from there on: (16, 64, 64) -> (16, 32, 32), (16, 16, 16), (8, 8, 8), (4, 4, 4). It is the rule
    of nnU-Net (Isensee et al., doi:10.1038/s41592-020-01008-z), which compares spacings in mm, for a field of
    view that is about as deep as it is wide.
    """
    found, size = [], tuple(size)
    for _ in range(levels):
        longest = max(size)
        found.append(tuple(2 if 2 * n > longest and n >= 2 * LEAST else 1 for n in size))
        size = _shrunk(size, found[-1])
    return tuple(found)


class SequencePyramid(nn.Module):
    """One encoder path for each sequence of a record, all on one grid -> list of maps [batch widths[level]
    *space], fine to coarse.

    size: the grid, (depth, height, width) or (height, width); it decides the strides, and any other size
    works too. channels: of every sequence, or of each by name. strides: for each level one number per axis
    (see `halvings`); sides are rounded up.

    At each level a path reads its own maps beside the mean over the other sequences of the same record, and
    what is handed on is the mean over all of them; each mean runs over the sequences that are there, and for
    each that is not a learned vector (zero at first) is added to it. A record without any sequence gets these
    vectors alone. Parameters grow in proportion to the number of sequences. A record never depends on its
    batch.

    Differs from IVD-Net: any number of sequences, because of the mean (there each of four paths reads all of
    them side by side, in an order of its own); no earlier inputs (there cropped from twice the resolution to
    its middle, so that places no longer agree); the last level has a path per sequence too (there one bridge
    that reads them in the order of the first); average pooling for the maximum; plain residual blocks for
    the inception blocks, see `mmmed.layers.residual`.
    """

    def __init__(
        self,
        names: Sequence[str],
        size: Sequence[int],
        channels: int | Mapping[str, int] = 1,
        widths: Sequence[int] = (16, 24, 32, 48),
        strides: Sequence[Sequence[int]] | None = None,
    ):
        super().__init__()
        self.names, self.size, self.widths = tuple(names), tuple(size), tuple(widths)
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"names should be one or more different sequences, got {listing(names)}.")
        if len(self.size) not in _AXES:
            raise ValueError(f"size should be (height, width) or (depth, height, width), got {plain(size)}.")
        self.space = len(self.size)
        self.strides = self._strides(strides)
        self.steps = tuple(accumulate((stride[-1] for stride in self.strides), mul))  # pixels of a cell
        if not isinstance(channels, Mapping):
            channels = dict.fromkeys(self.names, channels)
        self.channels = {name: check_count(channels[name], name=f"channels of {name}") for name in self.names}
        alone = len(self.names) == 1  # then there is nothing to exchange, and no room for it
        self.paths = NamedModules()
        for name in self.names:
            self.paths[name] = SequencePath(self.channels[name], self.widths, self.strides, alone)
        self.to(memory_format=_LAYOUT[self.space])

    def forward(self, values: Mapping[str, Tensor], rows: Mapping[str, Tensor], batch: int) -> list[Tensor]:
        grid = self._check(values, rows)
        maps = {name: values[name] for name in self.names if len(rows.get(name, ()))}
        present = self._present(maps, rows, batch)
        count = present.sum(1)
        pyramid = []
        for level, stride in enumerate(self.strides):
            grid = _shrunk(grid, stride)
            maps = {name: self.paths[name](level, map_) for name, map_ in maps.items()}
            tokens = torch.stack([self.paths[name].tokens[level] for name in self.names])  # [sequences width]
            absent = (~present).to(tokens.dtype) @ tokens  # [batch width]
            total = tokens.new_zeros(batch, self.widths[level], *grid)
            for name, map_ in maps.items():
                total = total.index_add(0, rows[name], map_.to(total.dtype))
            pyramid.append(_mean(total, count, absent))
            if len(self.names) > 1 and level + 1 < len(self.strides):
                for name, map_ in maps.items():
                    at = rows[name]
                    others = _mean(total[at] - map_, count[at] - 1, absent[at])
                    maps[name] = torch.cat([map_, others], dim=1)
        return pyramid

    def _strides(self, strides: Sequence[Sequence[int]] | None) -> tuple[tuple[int, ...], ...]:
        if strides is None:
            return halvings(self.size, len(self.widths))
        found = tuple(tuple(stride) for stride in strides)
        fits = len(found) == len(self.widths) and all(len(stride) == self.space for stride in found)
        if not fits or not all(isinstance(n, int) and n > 0 for stride in found for n in stride):
            raise ValueError(
                f"strides should have {self.space} positive whole numbers for each of the "
                f"{len(self.widths)} levels, got {plain(strides)}."
            )
        return found

    def _check(self, values: Mapping[str, Tensor], rows: Mapping[str, Tensor]) -> tuple[int, ...]:
        """The grid that all sequences share; the one of the constructor where there is no sequence."""
        if set(values) != set(rows):
            raise ValueError(
                f"values and rows should have the same sequences, got {listing(values)} and {listing(rows)}."
            )
        grid = next((tuple(map_.shape[2:]) for map_ in values.values()), self.size)
        sides = dict(zip(_AXES[self.space].split(), grid, strict=False))
        hint = "All sequences of a batch lie on one grid: resample them to it."
        for name, map_ in values.items():
            check_known(name, self.names, what="sequence")
            wanted = {"n": len(rows[name]), "channels": self.channels[name], **sides}
            check_shape(map_, f"n channels {_AXES[self.space]}", name=name, hint=hint, **wanted)
        return grid

    def _present(self, maps: Mapping[str, Tensor], rows: Mapping[str, Tensor], batch: int) -> Tensor:
        """Who has what: [batch sequences] bool."""
        device = self.paths[self.names[0]].tokens[0].device
        present = torch.zeros(batch, len(self.names), dtype=torch.bool, device=device)
        for index, name in enumerate(self.names):
            if name in maps:
                present[rows[name], index] = True
        return present


class SequencePath(nn.Module):
    """The levels of one sequence, and for each the vector that stands for it where it is absent.

    A first convolution, then residual blocks, each after averaging over its stride. alone: a block reads its
    own maps only, not twice as many.
    """

    def __init__(self, channels: int, widths: Sequence[int], strides: Sequence[Sequence[int]], alone: bool):
        super().__init__()
        self.strides, self.space = strides, len(strides[0])
        kernel = tuple(2 * stride + 1 for stride in strides[0])  # overlaps by more than half
        padding = tuple(strides[0])
        self.stem = _CONVOLUTION[self.space](channels, widths[0], kernel, tuple(strides[0]), padding)
        self.blocks = nn.ModuleList(
            ResidualBlock(before if alone else 2 * before, after, space=self.space)
            for before, after in pairwise(widths)
        )
        self.tokens = nn.ParameterList(nn.Parameter(torch.zeros(width)) for width in widths)

    def forward(self, level: int, maps: Tensor) -> Tensor:
        maps = maps.contiguous(memory_format=_LAYOUT[self.space])  # saves time on a CPU
        if level == 0:
            return relu(self.stem(maps))
        stride = self.strides[level]
        if max(stride) > 1:
            maps = _AVERAGE[self.space](maps, stride, ceil_mode=True)
        return self.blocks[level - 1](maps)


def _mean(total: Tensor, count: Tensor, absent: Tensor) -> Tensor:
    """total [n width *space] of count [n] sequences -> their mean, and absent [n width] everywhere; of no
    sequence, absent alone."""
    ones = (1,) * (total.ndim - 2)
    return total / count.clamp(min=1).view(-1, 1, *ones) + absent.view(*absent.shape, *ones)


def _shrunk(size: Sequence[int], stride: Sequence[int]) -> tuple[int, ...]:
    return tuple(-(-n // step) for n, step in zip(size, stride, strict=True))
