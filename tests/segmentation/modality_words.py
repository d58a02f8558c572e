"""Pictures whose contrast is turned over between two acquisitions, so that only the word tells what is meant.

Every picture has a bright disc and a dark one of the same kind on a grey ground. In "CT" the organ is the
bright one, in "MR" the dark one (and the vessel the other): the pictures say nothing of the acquisition.
"""

import torch
from torch import nn
from torch.nn.functional import interpolate

from mmmed.data.alternating import alternating_batches
from mmmed.layers.residual import ResidualBlock
from mmmed.losses.masks import mask_loss
from mmmed.segmentation.class_table import ClassTable
from mmmed.segmentation.dynamic_head import DynamicHead

THINGS, PICTURES, SIDE = ("organ", "vessel"), ("CT", "MR"), 32


def make_discs(count, generator):
    """Pixels [count 1 32 32], masks [count 2 1 32 32] of the bright and the dark disc."""
    axis = torch.arange(SIDE) + 0.5
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"))
    draw = torch.rand(count, 2, 3, generator=generator)
    radius = 3.5 + 2.5 * draw[..., 2]
    # One disc in the left half and one in the right, and the bright one on either side.
    centre = torch.stack([7 + 18 * draw[..., 0], 7 + 2 * draw[..., 1]], dim=2)
    centre[:, 1, 1] += 16
    distance = (grid - centre[..., None, None]).square().sum(2).sqrt()
    masks = distance <= radius[..., None, None]
    swap = torch.rand(count, generator=generator) < 0.5
    masks = torch.where(swap[:, None, None, None], masks.flip(1), masks)
    pixels = masks[:, 0] * 1.0 - masks[:, 1] * 1.0
    return (pixels + 0.3 * torch.randn(count, SIDE, SIDE, generator=generator))[:, None], masks[:, :, None]


def truth(masks, thing, picture):
    """The mask of each: masks [m 2 1 32 32], thing and picture [m] -> [m 1 32 32]."""
    return masks[torch.arange(len(masks)), thing ^ picture]


class WordNet(nn.Module):
    """A pyramid of two floors, a table of words, and a head that the words write."""

    def __init__(self, things=THINGS, rows=None, width=16, dim=16):
        super().__init__()
        self.table = ClassTable(things, PICTURES, dim, rows)
        self.fine, self.coarse = ResidualBlock(1, width, stride=2), ResidualBlock(width, width, stride=2)
        self.enter, self.head = nn.Conv2d(2 * width, 8, 1), DynamicHead(dim, width)

    def forward(self, pixels, thing, picture):
        fine = self.fine(pixels)
        coarse = self.coarse(fine)
        seen = torch.cat([fine, interpolate(coarse, scale_factor=2.0, mode="bilinear")], dim=1)
        logits = self.head(self.enter(seen).relu(), self.table(thing, picture).mean(), coarse.mean((2, 3)))
        return interpolate(logits, scale_factor=2.0, mode="bilinear")


def learn(net, steps, generator, size=16, unsaid=0.0, things=1):
    """Alternating batches; in a share `unsaid` of them the acquisition is not said."""
    pixels, masks = make_discs(320, generator)
    pictures = torch.arange(320) % 2
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-2)
    planned = []
    while len(planned) < steps:
        planned += alternating_batches(pictures.tolist(), size, generator)
    for step, batch in enumerate(planned[:steps]):
        for group in optimiser.param_groups:
            group["lr"] = 1e-2 * min(1, (step + 1) / 20) * (1 - step / steps)
        thing = torch.randint(things, (len(batch),), generator=generator)
        said = torch.where(torch.rand(len(batch), generator=generator) < unsaid, -1, pictures[batch])
        target = truth(masks[batch], thing, pictures[batch]).float()
        present = torch.ones(len(batch), dtype=torch.bool)
        loss = mask_loss(net(pixels[batch], thing, said), target, present).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net.eval()


@torch.no_grad()
def mean_dice(net, say, generator, things=1, count=100):
    """Mean Dice of new pictures; say(acquisition [m]) -> the acquisition as it is said."""
    pixels, masks = make_discs(count, generator)
    thing, picture = torch.arange(count) // 2 % things, torch.arange(count) % 2
    drawn, wanted = net(pixels, thing, say(picture)) > 0, truth(masks, thing, picture)
    both = (drawn & wanted).flatten(1).sum(1)
    return float((2 * both / (drawn.flatten(1).sum(1) + wanted.flatten(1).sum(1))).mean())
