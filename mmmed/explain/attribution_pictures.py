"""What in a picture moved an answer: integrated gradients, occlusion, and whether the map can be believed.

Pictures are [parts channels *space]: the views of an examination, or one volume. `ask` gives the answer
[n] to n of them, [n parts channels *space]. What is taken away is replaced by the blurred picture: grey
stays grey, but nothing of the size of a lesion is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from itertools import product

import numpy as np
import torch
from torch import Tensor

Ask = Callable[[Tensor], Tensor]

BLUR = 0.2  # of a side: standard deviation of the blur; lesions of up to a third of a side fade
SHARE = 0.2  # of the pixels: what counts as marked
DRAWS = 19  # areas laid at random: to be moved more than by all of them has a chance of 1 in 20
TRIES = 4  # for each of them, from which those that lie elsewhere are taken
AT_ONCE = 1_000_000  # numbers that go through the network at once


def blur(values: Tensor, share: float = BLUR, kept: bool = False) -> Tensor:
    """Gaussian blur of [parts channels *space] along each side, by a share of it.

    At the edges only what is inside the picture counts, so that one grey stays one grey; with `kept` the sum
    stays instead, as it must for a map.
    """
    for axis in range(2, values.ndim):
        side = values.shape[axis]
        place = torch.arange(side, dtype=values.dtype, device=values.device)
        weight = torch.exp(-0.5 * ((place[:, None] - place) / (share * side)) ** 2)
        weight = weight / weight.sum(0 if kept else 1, keepdim=True)
        values = torch.tensordot(values, weight, dims=([axis], [1])).movedim(-1, axis)
    return values


def integrated_gradients(ask: Ask, picture: Tensor, base: Tensor, steps: int, smooth: float = 0.0) -> Tensor:
    """Attribution of every pixel, [parts *space]: the channels of one pixel are added up.

    Sundararajan et al., arXiv:1703.01365, eq. 1: the gradient along the straight way from base to picture,
    times the difference. The integral is taken by Gauss and Legendre's rule with that many steps. No
    gradient in the weights is formed. smooth: share of a side by which the map is blurred; its sum stays.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    nodes = torch.from_numpy((nodes + 1) / 2).to(picture)
    weights = torch.from_numpy(weights / 2).to(picture)
    way = (-1, *[1] * picture.ndim)
    total = torch.zeros_like(picture)
    rows = _rows(picture)
    for place, weight in zip(nodes.split(rows), weights.split(rows), strict=True):
        points = (base + place.reshape(way) * (picture - base)).requires_grad_()
        with torch.enable_grad():
            answer = ask(points).sum()
        if not answer.requires_grad:
            raise ValueError(
                "No gradient comes back from the answer to the picture: its encoder runs without one. Ask "
                'with method="occlusion".'
            )
        (slope,) = torch.autograd.grad(answer, points)
        total += (slope * weight.reshape(way)).sum(0)
    found = (total * (picture - base)).sum(1)
    return blur(found.unsqueeze(1), smooth, kept=True).squeeze(1) if smooth else found


def occlusion(ask: Ask, picture: Tensor, base: Tensor, patch: float) -> Tensor:
    """How far the answer falls when a patch is blurred, spread over the patch: [parts *space].

    patch: share of each side; patches overlap by half. Zeiler and Fergus, arXiv:1311.2901, sec. 4.2. Differs:
    the patch shows the blurred picture instead of grey, and a pixel gets the mean of all patches over it.
    """
    space, found = picture.shape[2:], []
    patches = _patches(space, patch).to(picture.device)
    whole = ask(picture.unsqueeze(0))
    for part in range(len(picture)):
        areas = patches.new_zeros(len(patches), len(picture), *space)
        areas[:, part] = patches
        falls = (whole - without(ask, picture, base, areas)).to(picture)
        sizes = patches.flatten(1).sum(1)
        density = torch.tensordot(falls / sizes, patches.to(picture), dims=1)
        found.append(density / patches.sum(0))
    return torch.stack(found)


def without(ask: Ask, picture: Tensor, base: Tensor, areas: Tensor) -> Tensor:
    """The answers when an area shows the base: areas [n parts *space] bool -> [n]."""
    with torch.no_grad():
        return torch.cat(
            [ask(torch.where(some.unsqueeze(2), base, picture)) for some in areas.split(_rows(picture))]
        )


@dataclass(frozen=True)
class Deletion:
    """What happens when the marked part of a picture is blurred.

    moved: how far the answer falls (or rises, where the picture had lowered it); random, spread: mean and
    standard deviation of the same for `draws` areas of the same shape, laid elsewhere at random; beaten: how
    many of these moved it less; share: of the pixels that are marked.
    """

    moved: float
    random: float
    spread: float
    beaten: int
    draws: int
    share: float
    unit: str

    @property
    def holds(self) -> bool:
        """Did the marked area move the answer more than every random one?"""
        return self.beaten == self.draws

    def __str__(self) -> str:
        what = "fifth" if self.share == SHARE else f"{100 * self.share:.0f} %"
        said = f"a random {what} by {_number(self.random)} ± {_number(self.spread)}"
        if not self.holds:
            return (
                f"Blurring the marked {what} moves the answer by {_number(self.moved)} {self.unit}, {said}: "
                f"no more than a random {what} can. Do not read this map."
            )
        return f"Blurring the marked {what} moves the answer by {_number(self.moved)} {self.unit}; {said}."


def marked(values: np.ndarray, sign: float, share: float = SHARE) -> np.ndarray:
    """The share of places that moved the answer most in the direction of `sign`, bool as values."""
    order = np.argsort(-sign * values, axis=None, kind="stable")
    chosen = np.zeros(values.size, dtype=bool)
    chosen[order[: max(1, round(share * values.size))]] = True
    return chosen.reshape(values.shape)


def deletion(
    ask: Ask, picture: Tensor, base: Tensor, area: np.ndarray, sign: float, unit: str, seed: int
) -> Deletion:
    """Blur the marked area [parts *space], and areas of the same shape elsewhere.

    The same shape, because a scattered area changes a picture more than a compact one of its size.
    """
    draw = np.random.default_rng(seed)
    areas = np.concatenate([area[None], _elsewhere(area, draw)])
    whole = ask(picture.unsqueeze(0)).item()
    answers = without(ask, picture, base, torch.from_numpy(areas).to(picture.device)).cpu().numpy()
    moved, *random = (sign * (whole - answers)).tolist()
    beaten = sum(moved > other for other in random)
    share = float(area.mean())
    return Deletion(
        moved, float(np.mean(random)), float(np.std(random, ddof=1)), beaten, DRAWS, round(share, 2), unit
    )


def _elsewhere(area: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """The area shifted around and turned over at random, [draws parts *space].

    Of several tries those are taken that overlap it no more than areas of its size do on average: one that
    happens to lie on the same lesion would say nothing against the map.
    """
    tries = np.stack([_moved(area, draw) for _ in range(TRIES * DRAWS)])
    shared = (tries & area).sum(axis=tuple(range(1, tries.ndim))) / area.sum()
    return tries[np.argsort(shared > area.mean(), kind="stable")[:DRAWS]]


def _moved(area: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    parts = []
    for part in area:
        for axis in range(part.ndim):
            part = np.flip(part, axis) if draw.random() < 0.5 else part
        shifts = [int(draw.integers(side)) for side in part.shape]
        parts.append(np.roll(part, shifts, tuple(range(part.ndim))))
    return np.stack(parts)


def _patches(space: tuple[int, ...], share: float) -> Tensor:
    """Overlapping boxes that cover a grid, bool [patches *space]."""
    rows = []
    for axis, side in enumerate(space):
        width = max(1, round(share * side))
        last = side - width
        count = 1 + -(-last // max(1, width // 2))
        starts = torch.linspace(0, last, count).round()
        place = torch.arange(side)
        inside = (place >= starts[:, None]) & (place < starts[:, None] + width)
        rows.append(inside.reshape(count, *[side if other == axis else 1 for other in range(len(space))]))
    return torch.stack([reduce(torch.logical_and, boxes) for boxes in product(*rows)])


def _rows(picture: Tensor) -> int:
    return max(1, AT_ONCE // picture.numel())


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")
