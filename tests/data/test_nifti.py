"""NIfTI: any stored orientation arrives as one, spacing comes in mm; damaged files say so."""

import gzip
import sys

import numpy as np
import pytest

from mmmed.checks import UnreadableFile
from mmmed.data import volumes
from mmmed.data.volumes import read_spacing, read_volume

WHERE = 'record "a1", column "ct"'


def floats(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def robust(values):
    """The slow, obvious form."""
    low, high = np.percentile(values, (0.5, 99.5))
    return np.clip((values - low) / (high - low), 0, 1)


def message(source, **options):
    with pytest.raises(UnreadableFile) as error:
        read_volume(source, where=WHERE, **options)
    text = str(error.value)
    assert text.startswith(WHERE), text
    return text


def nifti(folder, values, affine=None, name="a.nii.gz", **header):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine)
    for key, value in header.items():
        image.header[key] = value
    nibabel.save(image, folder / name)
    return name


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "SAR", "PIL", "IRA"])
def test_any_stored_orientation_arrives_the_same(tmp_path, axes, name):
    """One bright voxel at the patient's right, front and top: depth last, height and width first."""
    nibabel = pytest.importorskip("nibabel")
    values = floats(5, 6, 7) * 0.1  # right, anterior, superior
    values[4, 5, 6] = 1  # the end of each axis: most right, most anterior, most superior
    image = nibabel.Nifti1Image(values, np.diag([1.0, 2.0, 3.0, 1.0]))
    wanted = nibabel.orientations.axcodes2ornt(axes)
    image = image.as_reoriented(
        nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), wanted)
    )
    assert "".join(nibabel.aff2axcodes(image.affine)) == axes
    nibabel.save(image, tmp_path / name)
    result = read_volume(name, folder=tmp_path)[0]
    assert result.shape == (7, 6, 5)
    assert result[6, 0, 0] == 1
    by_hand = robust(values)[::-1, ::-1].transpose(2, 1, 0)
    np.testing.assert_allclose(result, by_hand, atol=1e-5)
    assert read_spacing(name, folder=tmp_path) == pytest.approx((3.0, 2.0, 1.0))


def test_each_axis_runs_as_the_docstring_says(tmp_path):
    """Values that rise towards right, anterior and superior, one after the other."""
    right, anterior, superior = np.indices((5, 6, 7)).astype(np.float32)
    width = read_volume(nifti(tmp_path, right), folder=tmp_path)[0]
    height = read_volume(nifti(tmp_path, anterior), folder=tmp_path)[0]
    depth = read_volume(nifti(tmp_path, superior), folder=tmp_path)[0]
    assert (np.diff(width, axis=2) < 0).all()  # from the patient's right to the left
    assert (np.diff(height, axis=1) < 0).all()  # from the front to the back
    assert (np.diff(depth, axis=0) > 0).all()  # from below upwards


def test_slope_and_intercept_of_the_file_are_applied_before_the_range(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    values = (floats(5, 6, 7) * 100).astype(np.float64)
    image = nibabel.Nifti1Image(values, np.eye(4))
    image.set_data_dtype(np.int16)  # saving chooses slope and intercept
    nibabel.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(
        read_volume("a.nii", folder=tmp_path)[0], robust(values)[::-1, ::-1].transpose(2, 1, 0), atol=1e-3
    )


def test_a_nifti_2_file_reads(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti2Image(floats(3, 4, 5), np.eye(4)), tmp_path / "a.nii.gz")
    assert read_volume("a.nii.gz", folder=tmp_path).shape == (1, 5, 4, 3)


def test_a_fourth_axis_is_channels_if_it_fits_and_never_the_first(tmp_path):
    name = nifti(tmp_path, floats(3, 4, 5, 2))
    assert read_volume(name, channels=2, folder=tmp_path).shape == (2, 5, 4, 3)
    assert "got [5, 4, 3, 2]" in message(name, channels=1, folder=tmp_path)
    assert "got [5, 4, 3, 2]" in message(name, channels=5, folder=tmp_path)
    assert read_volume(nifti(tmp_path, floats(3, 4, 5, 1)), folder=tmp_path).shape == (1, 5, 4, 3)


@pytest.mark.parametrize(("unit", "scale"), [(1, 1000.0), (2, 1.0), (3, 0.001), (0, 1.0)])
def test_spacing_is_in_millimetres(tmp_path, unit, scale):
    name = nifti(tmp_path, floats(3, 4, 5), np.diag([0.5, 0.75, 5.0, 1.0]), xyzt_units=unit)
    assert read_spacing(name, folder=tmp_path) == pytest.approx((5.0 * scale, 0.75 * scale, 0.5 * scale))


def test_an_array_file_does_not_tell_its_spacing(tmp_path):
    np.save(tmp_path / "a.npy", floats(3, 4, 5))
    assert read_spacing("a.npy", folder=tmp_path) is None


def test_nan_voxels_are_counted_and_the_way_out_is_named(tmp_path):
    values = floats(3, 4, 5)
    values[0, 0, :2], values[1, 1, 1] = np.nan, np.inf
    for source in (nifti(tmp_path, values), values):
        text = message(source, folder=tmp_path)
        assert "3 of 60 voxels that are NaN or infinite" in text
        assert "Replace them (by 0 if they are background)" in text


def test_a_nifti_bomb_is_refused_from_its_header(tmp_path, monkeypatch):
    name = nifti(tmp_path, floats(3, 4, 5), name="a.nii")
    data = bytearray((tmp_path / name).read_bytes())
    data[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    (tmp_path / name).write_bytes(data)
    text = message(name, folder=tmp_path)
    assert "30000 x 30000 x 30000 voxels, more than the limit of 300,000,000. Crop" in text
    monkeypatch.setattr(volumes, "VOXEL_LIMIT", 59)
    assert "3 x 4 x 5 voxels" in message(nifti(tmp_path, floats(3, 4, 5)), folder=tmp_path)


def test_a_nifti_whose_voxels_begin_far_away_is_refused(tmp_path):
    name = nifti(tmp_path, floats(3, 4, 5), name="a.nii")
    data = bytearray((tmp_path / name).read_bytes())
    for offset in (1e30, -5.0, np.nan):
        data[108:112] = np.float32(offset).tobytes()
        (tmp_path / name).write_bytes(data)
        assert "voxels should begin at byte" in message(name, folder=tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda data: b"", "is empty (0 bytes). Copy it again"),
        (lambda data: b"not gzip", "cannot be read: it is damaged"),
        (lambda data: data[: len(data) // 2], "cut off"),
        (lambda data: gzip.compress(b"too short"), "cannot be read"),
        (lambda data: gzip.compress(gzip.decompress(data)[:-50]), "cut off"),
        (lambda data: gzip.compress(b"\0" * 600), "cannot be read"),
    ],
)
def test_a_damaged_nifti_says_so(tmp_path, content, words):
    name = nifti(tmp_path, floats(8, 8, 8))
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content(data))
    text = message(name, folder=tmp_path)
    assert words in text
    assert name in text


def test_a_nifti_of_colours_or_of_two_axes_says_what_it_needs(tmp_path):
    colours = np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert "not plain numbers" in message(nifti(tmp_path, colours), folder=tmp_path)
    assert "not plain numbers" in message(nifti(tmp_path, np.zeros((3, 4, 5), np.complex64)), folder=tmp_path)
    assert "a volume has three axes" in message(nifti(tmp_path, floats(3, 4)), folder=tmp_path)


def test_without_nibabel_the_line_to_install_is_shown(tmp_path, monkeypatch):
    name = nifti(tmp_path, floats(3, 4, 5))
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(ImportError, match=r'"mmmed\[imaging\]"'):
        read_volume(name, folder=tmp_path)
    np.save(tmp_path / "a.npy", floats(3, 4, 5))
    assert read_volume("a.npy", folder=tmp_path).shape == (1, 3, 4, 5)
