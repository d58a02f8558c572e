"""On which grid tokens lie: told without running where that can be, and never wrong."""

import math

import pytest
import torch

from mmmed.encoders.crops import CroppedImageEncoder
from mmmed.encoders.grids import grid_of, token_grid
from mmmed.encoders.image import SmallImageEncoder, TimmImageEncoder
from mmmed.encoders.tabular import TabularEncoder
from mmmed.encoders.volume import VolumeEncoder
from mmmed.types import Image, Number, Tabular, Text, Volume


def one(modality):
    pixels = torch.zeros(1, modality.channels, *modality.size)
    return (pixels,) if isinstance(modality, Volume) else (pixels.unsqueeze(1), torch.ones(1, 1) > 0)


@pytest.mark.parametrize(
    ("build", "modality", "grid"),
    [
        (SmallImageEncoder, Image("scan"), (8, 8)),
        (SmallImageEncoder, Image("scan", size=(37, 90)), (5, 12)),
        (VolumeEncoder, Volume("ct"), (2, 8, 8)),
        (VolumeEncoder, Volume("ct", size=(9, 20, 33)), (2, 3, 5)),
    ],
)
def test_small_networks_need_not_be_run(build, modality, grid):
    encoder = build.from_schema(modality, dim=4, grid=True)
    assert encoder(*one(modality)).values.shape[1] == math.prod(grid)
    encoder.forward = None
    assert token_grid(encoder, modality) == grid


@pytest.mark.parametrize(
    ("name", "size", "grid"),
    [
        ("resnet18", (64, 96), (2, 3)),
        ("mobilenetv2_050", (64, 64), (2, 2)),
        ("vit_tiny_patch16_224", (48, 32), (3, 2)),
    ],
)
def test_networks_of_timm_are_run_once_and_stay_as_they_were(name, size, grid):
    modality = Image("scan", size=size)
    encoder = TimmImageEncoder.from_schema(modality, dim=4, name=name, grid=True).train()
    encoder.norm.eval()
    before, modes = encoder.state_dict(), [module.training for module in encoder.modules()]
    before = {key: tensor.clone() for key, tensor in before.items()}
    assert token_grid(encoder, modality) == grid
    assert modes == [module.training for module in encoder.modules()]
    assert all(torch.equal(tensor, before[key]) for key, tensor in encoder.state_dict().items())


def test_the_cropped_encoder_tells_the_grid_of_one_crop():
    modality = Image("scan", size=(64, 64))
    assert token_grid(CroppedImageEncoder.from_schema(modality), modality) == (4, 4)


def test_others_have_none():
    assert token_grid(SmallImageEncoder(), Image("scan")) is None
    assert token_grid(VolumeEncoder(), Volume("ct")) is None
    table = Tabular((Number("crp"),))
    assert token_grid(TabularEncoder.from_schema(table), table) is None
    assert token_grid(torch.nn.Identity(), Text("note")) is None


def test_a_grid_is_found_from_the_number_of_places():
    assert grid_of(60, (37, 90)) == (5, 12)
    assert grid_of(6, (48, 32)) == (3, 2)
    assert grid_of(1, (64, 64)) == (1, 1)
    assert grid_of(32, (16, 32, 32)) == (2, 4, 4)
    with pytest.raises(ValueError, match=r"7 tokens are the places of no regular grid on \[64, 64\]"):
        grid_of(7, (64, 64))
