"""One update of a referring segmenter as data: pictures, phrases, where they point; all changed alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from mmmed.data.phrase_words import has_place, has_side, has_size, swap_heights, swap_sides, turns
from mmmed.models.segmentation_network import SegmentationNetwork
from mmmed.training.mask_lessons import TOLD, Lessons
from mmmed.training.mask_recipe import MaskRecipe
from mmmed.types import Batch

SWAPS = {"sides": swap_sides, "heights": swap_heights}


@dataclass(frozen=True)
class MaskBatch:
    """values, rows, count: as `SegmentationNetwork.see` takes them. phrases: (place in the lessons, words as
    they are true of the changed picture); which [m]: the picture of each; target [m *space], there [m] bool,
    drawn [m] bool: where it is known. told: the same for all phrases that the contrast looks at: told_which
    [p], right [p k] bool; regions [count k *space]: the masks of the regions of each picture, empty ones 0.
    """

    values: dict[str, Tensor]
    rows: dict[str, Tensor]
    count: int
    phrases: list[tuple[int, str]]
    which: Tensor
    target: Tensor
    there: Tensor
    drawn: Tensor
    told: list[tuple[int, str]]
    told_which: Tensor
    right: Tensor
    regions: Tensor

    def share(self, rank: int, world: int) -> MaskBatch:
        """Every world-th picture, from the rank-th on, with its phrases."""
        if world == 1:
            return self
        kept = {name: places % world == rank for name, places in self.rows.items()}
        here, told = self.which % world == rank, self.told_which % world == rank
        return MaskBatch(
            {name: self.values[name][own] for name, own in kept.items()},
            {name: self.rows[name][own] // world for name, own in kept.items()},
            len(range(rank, self.count, world)),
            [phrase for phrase, own in zip(self.phrases, here.tolist(), strict=True) if own],
            self.which[here] // world,
            self.target[here],
            self.there[here],
            self.drawn[here],
            [phrase for phrase, own in zip(self.told, told.tolist(), strict=True) if own],
            self.told_which[told] // world,
            self.right[told],
            self.regions[rank::world],
        )


def make_batch(
    network: SegmentationNetwork,
    lessons: Lessons,
    batch: Batch,
    records: Tensor,
    recipe: MaskRecipe,
    generator: torch.Generator,
) -> MaskBatch:
    """The lesson about some records. batch: these records as they were read, sequences hidden already;
    records [n] long: their places in the lessons; generator: decides everything that is chosen."""
    values, rows, count = network.inputs_of(batch)
    if network.by_slice:
        depth = count // len(records)
        slices = _slices(lessons, records, depth, recipe.slices, generator)  # [n slices]
        values, rows = _only(values, rows, slices, depth)
        count = slices.numel()
        owners, slices = records.repeat_interleave(slices.shape[1]), slices.flatten()
    else:
        owners, slices = records, None
    numbers = torch.rand(count, 2 * recipe.pairs, generator=generator).tolist()
    phrases, which, known = [], [], lessons.known.tolist()
    for place, row in enumerate(owners.tolist()):
        drawn = lessons.draw(row, recipe.pairs, numbers[place])
        if network.by_slice:  # in which slice is what nobody drew?
            drawn = [k for k in drawn if known[k]]
        phrases += drawn
        which += [place] * len(drawn)
    told, told_which = [], []
    for place, row in enumerate(owners.tolist()):
        every = (*lessons.true_of.get(row, ()), *lessons.false_of.get(row, ()))
        every = tuple(k for k in every if known[k])  # else it might point at any of the regions
        chosen = torch.randperm(len(every), generator=generator)[:TOLD].tolist()
        told += [every[k] for k in chosen]
        told_which += [place] * len(chosen)
    chosen, told_chosen = _long(phrases), _long(told)
    which, told_which = _long(which), _long(told_which)
    target = _at(lessons.target(chosen), slices, which)
    regions, right = _regions(lessons, owners, told_chosen, told_which, slices)
    there, drawn = lessons.there[chosen], lessons.known[chosen]
    if network.by_slice:
        there = there & (target.flatten(1).amax(1) > 0.5)
    said = [
        (lessons.phrases[k].text, place)
        for k, place in zip((*phrases, *told), (*which.tolist(), *told_which.tolist()), strict=True)
    ]
    stiff = _where(count, said, lambda text: not turns(text))
    flips = {
        name: (torch.rand(count, generator=generator) < 0.5) & ~stiff & (name in recipe.flips)
        for name in SWAPS
    }
    sized = _where(count, said, has_size) if recipe.zoom else stiff
    placed = _where(count, said, lambda text: has_place(text) or has_side(text)) if recipe.shift else stiff
    moves = _moves(count, target.ndim - 1, recipe, sized, placed, generator)
    values = {name: _change(pictures, rows[name], flips, moves) for name, pictures in values.items()}
    target = _change(target.unsqueeze(1), which, flips, moves).squeeze(1)
    regions = _change(regions, torch.arange(count), flips, moves)
    if moves is not None:  # what was moved out of the picture is not in it
        there = there & (~(lessons.region[chosen] >= 0) | (target.flatten(1).amax(1) > 0.5))
        right = right & (regions.flatten(2).amax(2) > 0.5)[told_which]
    return MaskBatch(
        values,
        rows,
        count,
        [(k, _words(lessons, k, flips, place)) for k, place in zip(phrases, which.tolist(), strict=True)],
        which,
        target,
        there,
        drawn,
        [(k, _words(lessons, k, flips, place)) for k, place in zip(told, told_which.tolist(), strict=True)],
        told_which,
        right,
        regions,
    )


# -------------------------------------------------------------------------------------------------- choosing


def _slices(lessons: Lessons, records: Tensor, depth: int, count: int, generator: torch.Generator) -> Tensor:
    """Slices of each record, [n slices] long: every second one among those with something drawn."""
    count = min(count, depth)
    found = torch.empty(len(records), count, dtype=torch.long)
    for place, row in enumerate(records.tolist()):
        regions = lessons.region[list(lessons.true_of.get(row, ()))]
        regions = regions[regions >= 0]
        order = torch.randperm(depth, generator=generator)
        if len(regions):
            marked = (lessons.regions[regions].flatten(2).amax(2) > 127).any(0)  # [depth]
            half = order[marked[order]][: math.ceil(count / 2)]
            rest = order[~torch.isin(order, half)]
            order = torch.cat([half, rest])
        found[place] = order[:count]
    return found


def _only(
    values: Mapping[str, Tensor], rows: Mapping[str, Tensor], slices: Tensor, depth: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Pictures of the chosen slices alone; the row of slice j of record i is i * (number of slices) + j."""
    count = slices.shape[1]
    kept, places = {}, {}
    for name, pictures in values.items():
        having = (rows[name][::depth] // depth).tolist()
        at = torch.cat([slices[row] + k * depth for k, row in enumerate(having)])
        kept[name] = pictures[at]
        places[name] = torch.cat([torch.arange(count) + row * count for row in having])
    return kept, places


def _regions(
    lessons: Lessons, owners: Tensor, told: Tensor, told_which: Tensor, slices: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Masks of what is drawn in each picture, [count k *space], and which phrase points at which, [p k]."""
    of_picture: list[list[int]] = [[] for _ in range(len(owners))]
    for phrase, place in zip(told.tolist(), told_which.tolist(), strict=True):
        region = int(lessons.region[phrase])
        if region >= 0 and region not in of_picture[place]:
            of_picture[place].append(region)
    most = max(1, *(len(found) for found in of_picture)) if of_picture else 1
    size = lessons.regions.shape[2:] if slices is not None else lessons.regions.shape[1:]
    masks = torch.zeros(len(owners), most, *size)
    for place, found in enumerate(of_picture):
        if found:
            drawn = lessons.regions[found]
            drawn = drawn[:, slices[place]] if slices is not None else drawn
            masks[place, : len(found)] = drawn.float() / 255
    right = torch.zeros(len(told), most, dtype=torch.bool)
    for index, (phrase, place) in enumerate(zip(told.tolist(), told_which.tolist(), strict=True)):
        region = int(lessons.region[phrase])
        if region >= 0:
            right[index, of_picture[place].index(region)] = True
    visible = masks.flatten(2).amax(2) > 0.5  # a slice may not show it
    return masks, right & visible[told_which]


def _at(target: Tensor, slices: Tensor | None, which: Tensor) -> Tensor:
    if slices is None:
        return target
    return target[torch.arange(len(target)), slices[which]]


# -------------------------------------------------------------------------------------------------- changing


def _words(lessons: Lessons, index: int, flips: Mapping[str, Tensor], place: int) -> str:
    """A phrase as it is true of the changed picture."""
    text = lessons.phrases[index].text
    for name, swap in SWAPS.items():
        text = swap(text) if flips[name][place] else text
    return text


def _where(count: int, said: Sequence[tuple[str, int]], what: Callable[[str], bool]) -> Tensor:
    """[count] bool: the pictures about which any phrase is so."""
    found = torch.zeros(count, dtype=torch.bool)
    for text, place in said:
        if not found[place] and what(text):
            found[place] = True
    return found


def _moves(
    count: int,
    space: int,
    recipe: MaskRecipe,
    sized: Tensor,
    placed: Tensor,
    generator: torch.Generator,
) -> Tensor | None:
    """Affine maps [count space space+1] as torch's `affine_grid` takes them; None for none. sized, placed
    [count] bool: not zoomed, not shifted, since a phrase says a size or a place."""
    numbers = torch.rand(count, space + 1, generator=generator) * 2 - 1
    if not recipe.shift and not recipe.zoom:
        return None
    scale = 1 + recipe.zoom * numbers[:, -1] * ~sized
    moves = torch.zeros(count, space, space + 1)
    for axis in range(space):
        moves[:, axis, axis] = scale
        moves[:, axis, -1] = 2 * recipe.shift * numbers[:, axis] * ~placed
    return moves


def _change(pictures: Tensor, place: Tensor, flips: Mapping[str, Tensor], moves: Tensor | None) -> Tensor:
    """Mirror and move pictures [n channels *space], of which `place` [n] long says whose changes they get."""
    axes = {"sides": -1, "heights": -2 if pictures.ndim == 4 else -3}  # of a volume the first is up and down
    for name, axis in axes.items():
        turned = flips[name][place]
        if bool(turned.any()):
            pictures = torch.where(
                turned.view(-1, *(1,) * (pictures.ndim - 1)), pictures.flip(axis), pictures
            )
    if moves is None or not len(pictures):
        return pictures
    grid = affine_grid(moves[place], list(pictures.shape), align_corners=False)
    darkest = pictures.flatten(1).amin(1).view(-1, *(1,) * (pictures.ndim - 1))
    return grid_sample(pictures - darkest, grid, align_corners=False) + darkest


def _long(items: list[int]) -> Tensor:
    return torch.tensor(items, dtype=torch.long)
