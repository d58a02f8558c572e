import pytest
import torch

from mmmed.backbones.small_cnn import SmallCNN


@pytest.mark.parametrize(("space", "size"), [(2, (64, 48)), (2, (17, 31)), (3, (8, 12, 9))])
def test_it_gives_a_pyramid_of_maps_from_fine_to_coarse(space, size):
    pyramid = SmallCNN(1, (8, 16, 32), space)(torch.randn(2, 1, *size))
    for maps, width, fold in zip(pyramid, (16, 32), (4, 8), strict=True):
        assert maps.shape == (2, width, *[-(-side // fold) for side in size])


@pytest.mark.parametrize("space", [2, 3])
def test_a_picture_is_read_alone_even_while_learning(space):
    network = SmallCNN(1, (8, 16), space).train()
    pictures = torch.randn(3, 1, *[16] * space)
    torch.testing.assert_close(network(pictures)[0][:1], network(pictures[:1])[0], atol=1e-5, rtol=1e-4)


def test_the_layout_in_memory_changes_speed_and_nothing_else():
    torch.manual_seed(0)
    network = SmallCNN(3, (8, 16, 32))
    pictures = torch.randn(2, 3, 32, 32)
    expected = network(pictures)
    network.to(memory_format=torch.contiguous_format)
    network.layout = torch.contiguous_format
    for mine, plain in zip(expected, network(pictures), strict=True):
        torch.testing.assert_close(mine, plain, atol=1e-5, rtol=1e-4)
