"""The whole and its crops: what is cut, in which order tokens come, and that small things are seen."""

import pytest
import torch
from torch import nn

from mmmed.encoders.crops import CroppedImageEncoder
from mmmed.encoders.image import SmallImageEncoder, TimmImageEncoder
from mmmed.types import Image, Tokens


class Pixels(nn.Module):
    """One token for each pixel: the grey value."""

    grid, channels, dim = True, 1, 1

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, pixels, views):
        values = self.gain * pixels.flatten(1).unsqueeze(2)
        return Tokens(values, views.repeat_interleave(pixels.shape[-1] * pixels.shape[-2], dim=1))


def test_whole_and_crops_by_hand():
    encoder = CroppedImageEncoder(Pixels(), size=(2, 4), crops=(2, 2))
    picture = torch.tensor([[1.0, 3, 10, 30], [5, 7, 50, 70]])
    tokens = encoder(picture[None, None, None], torch.ones(1, 1, dtype=torch.bool))
    assert (encoder.piece_size, encoder.global_grid, encoder.global_tokens) == ((1, 2), (1, 2), 2)
    #      mean of each block,  then the crops: upper left, upper right, lower left, lower right
    assert tokens.values.flatten().tolist() == [4, 40, 1, 3, 10, 30, 5, 7, 50, 70]


def test_the_wholes_of_all_views_come_before_any_crop():
    encoder = CroppedImageEncoder(Pixels(), size=(2, 2), crops=(1, 2))
    pixels = torch.arange(8.0).reshape(1, 2, 1, 2, 2)
    tokens = encoder(pixels, torch.tensor([[True, True]]))
    assert tokens.values.flatten().tolist() == [0.5, 2.5, 4.5, 6.5, 0, 2, 1, 3, 4, 6, 5, 7]
    tokens = encoder(pixels, torch.tensor([[False, True]]))
    assert tokens.mask.flatten().tolist() == [False] * 2 + [True] * 2 + [False] * 4 + [True] * 4
    assert tokens.values[tokens.mask].flatten().tolist() == [4.5, 6.5, 4, 6, 5, 7]


def small(size=(64, 48), crops=(2, 3), channels=1):
    torch.manual_seed(0)
    return CroppedImageEncoder.from_schema(
        Image("scan", size=size, channels=channels), dim=8, crops=crops
    ).eval()


def test_each_piece_has_the_tokens_that_the_network_gives_to_it_alone():
    encoder, pixels = small(), torch.randn(2, 1, 1, 64, 48)
    tokens = encoder(pixels, torch.ones(2, 1, dtype=torch.bool))
    pieces = [nn.functional.avg_pool2d(pixels[:, 0], (2, 3))]
    pieces += [
        pixels[:, 0, :, 32 * r : 32 * r + 32, 16 * c : 16 * c + 16] for r in range(2) for c in range(3)
    ]
    one = torch.ones(2, 1, dtype=torch.bool)
    wanted = torch.cat([encoder.encoder(piece.unsqueeze(1), one).values for piece in pieces], dim=1)
    torch.testing.assert_close(tokens.values, wanted, atol=1e-5, rtol=0)
    assert encoder.crop_grid == encoder.global_grid == (4, 2)


@pytest.mark.parametrize(("size", "crops"), [((65, 50), (2, 3)), ((64, 64), (1, 1)), ((33, 33), (2, 2))])
def test_any_size_and_any_number_of_crops(size, crops):
    encoder = small(size, crops, channels=3)
    tokens = encoder(torch.randn(2, 2, 3, *size), torch.tensor([[True, False], [True, True]]))
    assert tokens.values.shape == (2, 2 * (1 + crops[0] * crops[1]) * encoder.global_tokens, 8)
    assert tokens.mask.sum(1).tolist() == [tokens.mask.shape[1] // 2, tokens.mask.shape[1]]


def test_an_even_picture_stays_even_where_it_must_be_stretched():
    pieces = small((65, 50), (2, 3)).pieces(torch.full((1, 1, 65, 50), 0.7))
    torch.testing.assert_close(pieces, torch.full((1, 7, 1, 33, 17), 0.7))


def test_crops_hold_what_is_lost_in_the_whole():
    pixels = torch.zeros(1, 1, 64, 64)
    pixels[0, 0, ::2] = 1.0  # stripes one pixel wide: a plain grey once made small
    whole, crops = small((64, 64), (2, 2)).pieces(pixels)[0].split([1, 4])
    assert whole.std() == 0
    assert crops.std() > 0.4


def test_it_takes_a_network_of_timm():
    torch.manual_seed(0)
    inner = TimmImageEncoder("resnet18", dim=8, size=(32, 32), grid=True)
    encoder = CroppedImageEncoder(inner, size=(64, 64)).eval()
    tokens = encoder(torch.randn(2, 1, 1, 64, 64), torch.ones(2, 1, dtype=torch.bool))
    assert (encoder.crop_grid, tokens.values.shape) == ((1, 1), (2, 5, 8))
    assert inner.network.training is False


def test_what_does_not_fit_is_named():
    with pytest.raises(
        ValueError, match=r"SmallImageEncoder gives no grid of tokens. Build it with grid=True"
    ):
        CroppedImageEncoder(SmallImageEncoder(), size=(64, 64))
    with pytest.raises(ValueError, match="crops should be a whole number"):
        CroppedImageEncoder(SmallImageEncoder(grid=True), size=(64, 64), crops=(0, 2))
    with pytest.raises(ValueError, match=r"height=64 width=48.*built for this size"):
        small()(torch.randn(1, 1, 1, 48, 64), torch.ones(1, 1, dtype=torch.bool))
