"""Masks from maps: the maximum, Otsu's thresholds against brute force, and what labels alone can teach."""

import math
from itertools import combinations, pairwise

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from mmmed.segmentation.heat_maps import heat_map_mask, otsu, peak

SIDE = 48


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------- the highest pixel


@pytest.mark.parametrize("space", [(5, 4), (2, 3, 4)])
def test_the_score_of_a_phrase_is_the_highest_pixel_of_its_own_map(space):
    maps = noise(3, 1, *space)
    assert peak(maps).tolist() == [max(row.flatten().tolist()) for row in maps]
    assert peak(maps[:0]).shape == (0,)


def test_only_the_highest_pixel_learns():
    maps = noise(2, 1, 5, 4).requires_grad_()
    peak(maps).sum().backward()
    assert maps.grad.flatten(1).count_nonzero(1).tolist() == [1, 1]
    assert maps.detach()[maps.grad > 0].tolist() == peak(maps).tolist()


def test_a_soft_maximum_lies_between_the_mean_and_the_maximum():
    maps = noise(3, 1, 6, 6)
    wanted = [math.log(sum(math.exp(2 * x) for x in row.flatten().tolist()) / 36) / 2 for row in maps]
    torch.testing.assert_close(peak(maps, 2.0), torch.tensor(wanted))
    torch.testing.assert_close(peak(maps, 1e-3), maps.flatten(1).mean(1), atol=1e-2, rtol=0)
    torch.testing.assert_close(peak(maps, 1e3), peak(maps), atol=1e-2, rtol=0)
    with pytest.raises(ValueError, match=r"sharpness should be above 0, got 0.0"):
        peak(maps, 0.0)


# ---------------------------------------------------------- thresholds


def brute(values, classes, bins):
    """The variance within all classes, for every choice of bin edges."""
    low, high = values.min().item(), values.max().item()
    width = (high - low) / bins
    levels = ((values.double() - low) / width).long().clamp(max=bins - 1)
    best = None
    for cut in combinations(range(1, bins), classes - 1):
        ends = (0, *cut, bins)
        parts = [levels[(levels >= a) & (levels < b)].double() for a, b in pairwise(ends)]
        within = sum(float((part - part.mean()).square().sum()) for part in parts if len(part))
        if best is None or within < best[0] - 1e-9:
            best = within, cut
    return [low + width * k for k in best[1]]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_thresholds_are_those_of_a_search_over_all(classes, seed):
    centres = torch.tensor([0.0, 3.0, 7.0])[torch.arange(90) % 3]
    values = centres + noise(90, seed=seed)
    assert otsu(values, classes, bins=16) == pytest.approx(brute(values, classes, 16))


def test_by_hand_three_heaps_are_parted_between_them():
    values = torch.tensor([0.0] * 5 + [5.0] * 3 + [10.0] * 2)
    low, high = otsu(values, 3)
    assert 0 < low < 5 < high < 10
    assert 0 < otsu(torch.tensor([0.0, 0, 10, 10]))[0] < 10


def test_constant_values_are_not_parted():
    assert otsu(torch.full((4, 4), 2.0), 3) == [2.0, 2.0]


# ---------------------------------------------------------- masks


def plateau(height=6.0):
    """A map of -2 with a square of `height` and a faint ghost of a fifth of it."""
    heat = torch.full((12, 12), -2.0)
    heat[2:6, 3:8], heat[8:10, 8:10] = height, height / 5
    return heat


def test_without_an_offset_the_mask_is_the_square_without_the_ghost():
    assert torch.equal(heat_map_mask(plateau(), offset=0.0), plateau() == 6)


def test_the_published_offset_keeps_all_that_speaks_for_the_thing_and_nothing_against():
    assert torch.equal(heat_map_mask(plateau(), offset=1.0), plateau() > 0)


@pytest.mark.parametrize("classes", [2, 3])
def test_how_sure_the_network_is_does_not_change_the_mask(classes):
    heat = noise(9, 10)
    masks = [heat_map_mask(heat * scale, classes) for scale in (0.1, 1, 100)]
    assert masks[0].any()
    assert all(torch.equal(mask, masks[0]) for mask in masks)


def test_a_larger_offset_only_adds_and_the_highest_pixel_is_always_in():
    heat = noise(8, 8)
    masks = [heat_map_mask(heat, offset=offset) for offset in (0.0, 0.2, 0.5)]
    assert all((small <= large).all() for small, large in pairwise(masks))
    assert all(mask.flatten()[heat.argmax()] for mask in masks)


@pytest.mark.parametrize("value", [-3.0, 0.0])
def test_a_map_that_speaks_against_the_thing_gives_an_empty_mask(value):
    assert not heat_map_mask(torch.full((2, 5, 5), value)).any()


def test_a_map_that_is_everywhere_the_same_is_all_in():
    assert heat_map_mask(torch.full((5, 5), 3.0)).all()


def test_maps_that_cannot_be_cut_are_refused():
    with pytest.raises(ValueError, match="heat should be finite"):
        heat_map_mask(torch.tensor([[0.0, math.nan]]))
    with pytest.raises(ValueError, match="number of Otsu classes"):
        heat_map_mask(plateau(), classes=4)


# ---------------------------------------------------------- from labels to masks


def make_blobs(count, generator):
    """Pixels [count 1 48 48] with a bright disc, a dark disc, both or none; masks [count 2 48 48]; there
    [count 2]."""
    axis = torch.arange(SIDE) + 0.5
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"))
    draw, there = (
        torch.rand(count, 2, 3, generator=generator),
        torch.rand(count, 2, generator=generator) < 0.5,
    )
    centre = torch.stack([10 + 28 * draw[..., 0], 9 + 6 * draw[..., 1]], dim=2)
    centre[:, 1, 1] += 24
    swap = torch.rand(count, generator=generator) < 0.5  # either kind on either side
    centre = torch.where(swap[:, None, None], centre.flip(1), centre)
    distance = (grid - centre[..., None, None]).square().sum(2).sqrt()
    masks = (distance <= 5 + 3 * draw[..., 2, None, None]) & there[..., None, None]
    pixels = masks[:, :1] * 1.0 - masks[:, 1:] * 1.0
    return pixels + 0.15 * torch.randn(count, 1, SIDE, SIDE, generator=generator), masks, there


class TinyUNet(nn.Module):
    """Three floors, no norm: a norm over the picture would tell every pixel what is elsewhere."""

    def __init__(self, widths=(8, 16, 24)):
        super().__init__()
        self.stem = nn.Conv2d(1, widths[0], 3, padding=1)
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(a, b, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(b, b, 3, padding=1), nn.ReLU()
            )
            for a, b in pairs
        )
        self.up = nn.ModuleList(nn.Conv2d(a + b, a, 3, padding=1) for a, b in pairs)
        self.head = nn.Conv2d(widths[0], 2, 1)
        # A maximum over thousands of pixels starts near "it is there" for everybody, and learns late.
        nn.init.constant_(self.head.bias, -2.0)

    def forward(self, pixels):
        maps = [self.stem(pixels).relu()]
        for block in self.down:
            maps.append(block(maps[-1]))
        lowest = high = maps[-1]
        for fine, block in zip(reversed(maps[:-1]), reversed(self.up), strict=True):
            wide = interpolate(high, scale_factor=2.0, mode="bilinear")
            high = block(torch.cat([fine, wide], dim=1)).relu()
        return self.head(high), lowest


def learn(net, pixels, there, generator, steps=100):
    optimiser = torch.optim.AdamW(net.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, steps)
    for _ in range(steps):
        rows = torch.randint(len(pixels), (16,), generator=generator)
        heat, _ = net(pixels[rows])
        scores = peak(heat.flatten(0, 1)[:, None]).view(-1, 2)
        loss = binary_cross_entropy_with_logits(scores, there[rows].float())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


def grad_cam(scores, lowest):
    """Selvaraju et al., arXiv:1610.02391, of the lowest floor: [n 2 48 48]."""
    cams = []
    for kind in range(2):
        (slope,) = torch.autograd.grad(scores[:, kind].sum(), lowest, retain_graph=True)
        cams.append((slope.mean((2, 3), keepdim=True) * lowest).sum(1).relu())
    return interpolate(torch.stack(cams, 1), size=(SIDE, SIDE), mode="bilinear").detach()


def median_dice(maps, masks, there):
    dice = []
    for heat, mask in zip(maps[there], masks[there], strict=True):
        drawn = heat_map_mask(heat)
        dice.append(2 * (drawn & mask).sum() / (drawn.sum() + mask.sum()))
    return float(torch.stack(dice).median())


def weak_result(seed=0, steps=100):
    """Accuracy, median Dice of the map, median Dice of Grad-CAM: of a network that saw labels only."""
    draw = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    net = TinyUNet()
    learn(net, *make_blobs(300, draw)[::2], draw, steps)
    pixels, masks, there = make_blobs(100, draw)
    heat, lowest = net(pixels)
    scores = heat.flatten(2).amax(2)
    cam = grad_cam(scores, lowest)
    right = float(((scores > 0) == there).float().mean())
    return right, median_dice(heat.detach(), masks, there), median_dice(cam, masks, there)


def test_labels_alone_teach_where_the_thing_is_and_the_map_shows_it_better_than_grad_cam():
    accuracy, dice, cam = weak_result()
    assert accuracy >= 0.95
    assert dice >= cam + 0.2
    assert dice >= 0.5
