"""A place as numbers: by hand on four pixels, one code for each place, the same for any number of axes."""

from math import cos, pi, sin

import pytest
import torch

from mmmed.segmentation.positions import count_channels, position_code


def test_four_pixels_by_hand():
    code = position_code((1, 4), frequencies=2)[0, :, 0]
    places = [-0.75, -0.25, 0.25, 0.75]  # middles of the pixels, from -1 to 1 at the borders
    assert code[0].tolist() == [0.0] * 4  # the only row is in the middle
    assert code[5].tolist() == places
    for k in (1, 2):
        expected = [[f(k * pi / 2 * u) for u in places] for f in (sin, cos)]
        torch.testing.assert_close(code[4 + 2 * k : 6 + 2 * k], torch.tensor(expected))


@pytest.mark.parametrize("grid", [(3, 5), (2, 3, 4)])
def test_every_place_has_a_code_of_its_own(grid):
    code = position_code(grid)
    assert code.shape == (1, count_channels(len(grid)), *grid)
    flat = code.flatten(2)[0].T
    assert len(flat.unique(dim=0)) == len(flat)
    assert code.abs().max() <= 1


def test_each_axis_speaks_of_itself_alone():
    volume, picture = position_code((2, 3, 4)), position_code((3, 4))
    own = count_channels(1)
    for slice_ in volume.unbind(2):
        torch.testing.assert_close(slice_[:, own:], picture)
    assert (volume[:, :own].flatten(3).std(3) < 1e-6).all()


def test_mirroring_a_picture_turns_the_odd_channels_round():
    """Left and right differ in the place and the sines, and in nothing else."""
    code = position_code((3, 6))[0, count_channels(1) :]
    sign = torch.tensor([-1.0] + [-1.0, 1.0] * 4).view(-1, 1, 1)
    torch.testing.assert_close(code.flip(-1), code * sign)


def test_it_takes_the_type_of_what_it_is_added_to():
    assert position_code((2, 2), like=torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert position_code((2, 2)).dtype == torch.float32
