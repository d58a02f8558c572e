"""Any timm network as a pyramid: fine to coarse, odd sides, gradients, pixels as weights expect them."""

from copy import deepcopy

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import group_norm, interpolate

from mmmed.backbones.timm_maps import TimmPyramid

CONVOLUTIONS = ("resnet10t", "tf_efficientnet_lite0")
VIT = "vit_tiny_patch16_224"
BEHIND = ("norm.", "conv_head.", "bn2.")  # the last map; of the residual network nothing starts so


def seen(pyramid, pixels):
    count = len(pixels)
    return pyramid({"image": pixels}, {"image": torch.arange(count)}, count)


@pytest.fixture(scope="module")
def pyramids():
    torch.manual_seed(0)
    made = {name: TimmPyramid("image", name) for name in CONVOLUTIONS}
    return made | {VIT: TimmPyramid("image", VIT)}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("size", [(64, 64), (64, 96), (65, 43)])
def test_every_scale_comes_once_fine_to_coarse_for_any_size(pyramids, name, size):
    pyramid = pyramids[name].eval()
    with torch.no_grad():
        maps = seen(pyramid, torch.randn(2, 1, *size))
    assert tuple(map_.shape[1] for map_ in maps) == pyramid.widths
    sides = [tuple(map_.shape[2:]) for map_ in maps]
    assert sides == [tuple(-(-side // 2**level) for side in size) for level in range(1, 6)]


def test_a_vit_gives_its_last_block_twice_the_first_time_enlarged(pyramids):
    pyramid = pyramids[VIT].eval()
    pixels = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        finer, last = seen(pyramid, pixels)
        grid = pyramid.backbone.grid(pixels)
    assert pyramid.widths == (192, 192)
    assert last.shape[2:] == (4, 4)
    torch.testing.assert_close(finer, interpolate(last, scale_factor=2, mode="bilinear", align_corners=False))
    # The same block that `grid` gives, there behind the last norm.
    norm = pyramid.backbone.network.norm
    torch.testing.assert_close(norm(last.flatten(2).transpose(1, 2)), grid, atol=1e-4, rtol=1e-4)


def test_the_coarsest_map_is_what_the_network_says_of_the_picture(pyramids):
    pyramid, pixels = pyramids["resnet10t"].eval(), torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        last = seen(pyramid, pixels)[-1]
        grid = group_norm(pyramid.backbone.grid(pixels).transpose(1, 2), 1)
    torch.testing.assert_close(last.flatten(2), grid, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", [*CONVOLUTIONS, VIT])
def test_the_gradient_reaches_every_weight_before_the_last_map(pyramids, name):
    pyramid = deepcopy(pyramids[name]).train()
    with torch.no_grad():  # some gains are zero at first
        for parameter in pyramid.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    maps = seen(pyramid, torch.randn(2, 1, 64, 64))
    sum((map_ * torch.randn(map_.shape)).sum() for map_ in maps).backward()
    network = pyramid.backbone.network
    still = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert [n for n in still if not n.startswith(BEHIND)] == []


def test_in_training_a_batch_of_one_does_not_learn_statistics_of_itself(pyramids):
    pyramid = pyramids["resnet10t"].train()
    before = pyramid.backbone.network.bn1.running_mean.clone()
    seen(pyramid, torch.randn(1, 1, 64, 64))
    assert torch.equal(pyramid.backbone.network.bn1.running_mean, before)
    seen(pyramid, torch.randn(2, 1, 64, 64))
    assert not torch.equal(pyramid.backbone.network.bn1.running_mean, before)


def test_pixels_are_brought_to_what_stored_weights_expect(torchvision, tmp_path):
    """The maps of a colour network, grey pictures as three equal colours, standardised as timm states."""
    import timm

    torch.manual_seed(0)
    network = timm.create_model("resnet10t").eval()
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    pyramid = TimmPyramid(
        "image", "resnet10t", weights=tmp_path / "w.safetensors", mean=0.4, scale=0.2
    ).eval()
    raw = torch.rand(2, 1, 64, 64)
    grey = [sum(network.pretrained_cfg[key]) / 3 for key in ("mean", "std")]
    with torch.no_grad():
        given = ((raw - grey[0]) / grey[1]).expand(-1, 3, -1, -1)
        expected = network.forward_intermediates(given, intermediates_only=True)
        found = seen(pyramid, (raw - 0.4) / 0.2)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, group_norm(other, 1), atol=1e-4, rtol=1e-3)


def test_a_record_without_its_picture_has_nothing_to_draw_on(pyramids):
    pyramid, pixels = pyramids["resnet10t"], torch.randn(1, 1, 64, 64)
    with pytest.raises(ValueError, match="Every record needs its image"):
        pyramid({"image": pixels}, {"image": torch.tensor([1])}, 2)
    with pytest.raises(ValueError, match="Every record needs its image"):
        pyramid({}, {}, 1)
    with pytest.raises(ValueError, match="picture of this pyramid"):
        pyramid({"scan": pixels}, {"scan": torch.tensor([0])}, 1)
    with pytest.raises(ValueError, match='Did you mean "resnet10t"'):
        TimmPyramid("image", "resnet10x")
