import pytest
import torch
from torch import nn

from mmmed.encoders.volume import VolumeEncoder
from mmmed.types import Volume


@pytest.mark.parametrize("size", [(8, 8, 8), (9, 20, 13)])
def test_any_size_from_8_voxels_and_any_channels(size):
    encoder = VolumeEncoder.from_schema(Volume("ct", size=size, channels=2), dim=8)
    assert encoder(torch.randn(2, 2, *size)).values.shape == (2, 1, 8)
    places = 1
    for side in size:
        places *= -(-side // 8)
    assert VolumeEncoder(2, dim=8, grid=True)(torch.randn(2, 2, *size)).values.shape == (2, places, 8)


def test_wrong_volumes_are_named():
    with pytest.raises(ValueError, match=r"voxels should have shape \[n channels=1 .*Volume\(channels"):
        VolumeEncoder()(torch.randn(2, 3, 8, 8, 8))
    with pytest.raises(ValueError, match=r"8 voxels along each side at least, got \[7, 8, 8\]"):
        VolumeEncoder()(torch.randn(2, 1, 7, 8, 8))


def test_every_direction_counts():
    """A bar along depth is told from the same bar along height: no axis is lost before it is read."""
    torch.manual_seed(0)
    encoder = VolumeEncoder(dim=8).eval()
    bar = torch.zeros(1, 1, 16, 16, 16)
    bar[..., 2:14, 8, 8] = 4.0
    along = [encoder(bar).values, encoder(bar.transpose(2, 3)).values, encoder(bar.transpose(2, 4)).values]
    assert all((along[a] - along[b]).abs().max() > 1e-3 for a, b in ((0, 1), (0, 2), (1, 2)))


def test_it_learns_which_way_a_tube_runs():
    """The mean of the voxels is the same for all three directions."""
    torch.manual_seed(0)
    draw = torch.Generator().manual_seed(0)

    def tubes(count):
        way = torch.randint(0, 3, (count,), generator=draw)
        voxels = 0.3 * torch.randn(count, 1, 12, 12, 12, generator=draw)
        for row in range(count):
            one, two = torch.randint(2, 10, (2,), generator=draw).tolist()
            voxels[row, 0].movedim(int(way[row]), 0)[:, one : one + 2, two : two + 2] += 2.0
        return voxels, way

    encoder, head = VolumeEncoder(dim=16), nn.Linear(16, 3)
    optimiser = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=5e-3)
    voxels, way = tubes(120)
    for _ in range(10):
        for rows in torch.arange(120).split(20):
            optimiser.zero_grad()
            nn.functional.cross_entropy(head(encoder(voxels[rows]).values[:, 0]), way[rows]).backward()
            optimiser.step()
    new, truth = tubes(120)
    with torch.no_grad():
        assert (head(encoder(new).values[:, 0]).argmax(1) == truth).float().mean() > 0.9
