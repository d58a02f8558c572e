"""Volumes arrive in one orientation and in 0..1, at the wanted size; what cannot be read says why."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmmed.checks import MissingFile, UnreadableFile, UnsafePath
from mmmed.data import volumes
from mmmed.data.volumes import read_volume, resample

WHERE = 'record "a1", column "ct"'


def floats(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def robust(values):
    """The slow, obvious form."""
    low, high = np.percentile(values, (0.5, 99.5))
    return np.clip((values - low) / (high - low), 0, 1)


def message(source, kind=UnreadableFile, **options):
    with pytest.raises(kind) as error:
        read_volume(source, where=WHERE, **options)
    text = str(error.value)
    assert text.startswith(WHERE), text
    return text


# -------------------------------------------------------------------------------------------------- intensity


def test_uint8_and_bool_are_taken_as_prepared():
    values = np.array([0, 51, 255], np.uint8).reshape(1, 1, 3)
    np.testing.assert_allclose(read_volume(values)[0], [[[0, 0.2, 1]]], atol=1e-7)
    np.testing.assert_array_equal(read_volume(values > 100)[0], [[[0, 0, 1]]])


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.float32, np.float64, np.int32])
def test_all_other_types_are_scaled_by_the_robust_range(dtype):
    values = (floats(6, 20, 20) * 3000 - 1000).clip(0 if dtype is np.uint16 else None).astype(dtype)
    result = read_volume(values)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result[0], robust(values), atol=1e-5)


def test_one_bright_voxel_does_not_darken_the_rest():
    values = floats(8, 16, 16)
    metal = values.copy()
    metal[0, 0, 0] = 1e6
    np.testing.assert_allclose(read_volume(metal)[0, 1:], read_volume(values)[0, 1:], atol=0.01)


def test_a_constant_volume_is_black_and_a_sparse_mask_keeps_its_spot():
    np.testing.assert_array_equal(read_volume(np.full((3, 4, 5), 7.0)), 0)
    mask = np.zeros((10, 20, 20), np.int16)
    mask[5, 5, 5] = 3
    assert read_volume(mask)[0].sum() == 1


def test_numbers_near_the_end_of_the_range_do_not_overflow():
    values = np.array([-1.7e308, 0.0, 1.7e308]).reshape(1, 1, 3)
    np.testing.assert_allclose(read_volume(values)[0, 0, 0], [0, 0.5, 1], atol=0.01)


def test_a_large_volume_is_scaled_by_a_sample(monkeypatch):
    values = floats(20, 40, 40)
    whole = read_volume(values)
    monkeypatch.setattr(volumes, "_SAMPLE", 3000)
    np.testing.assert_allclose(read_volume(values), whole, atol=0.02)


def test_channels_are_scaled_each_on_its_own():
    values = np.stack([floats(4, 5, 6), 1000 * floats(4, 5, 6, seed=1)])
    result = read_volume(values, channels=2)
    for channel in range(2):
        np.testing.assert_allclose(result[channel], robust(values[channel]), atol=1e-5)


# ------------------------------------------------------------------------------------------------------- axes


def test_channels_may_come_last_or_first():
    values = floats(4, 5, 6, 2)
    last = read_volume(values, channels=2)
    assert last.shape == (2, 4, 5, 6)
    np.testing.assert_array_equal(read_volume(np.moveaxis(values, 3, 0), channels=2), last)
    np.testing.assert_array_equal(read_volume(values[..., :1]), read_volume(values[..., 0]))


@pytest.mark.parametrize(
    ("shape", "channels", "words"),
    [
        ((4, 5), 1, "should have shape [depth height width], got [4, 5]"),
        ((4, 5, 6, 7), 1, "got [4, 5, 6, 7]. If the fourth axis is time or sequence, choose one"),
        ((4, 5, 6), 3, "should have shape [depth height width 3], got [4, 5, 6]"),
        ((2, 2, 2, 2, 2), 2, "got [2, 2, 2, 2, 2]"),
        ((0, 5, 6), 1, "no voxels: shape [0, 5, 6]"),
    ],
)
def test_a_wrong_shape_says_what_was_expected(shape, channels, words):
    assert words in message(np.zeros(shape), channels=channels)


# --------------------------------------------------------------------------------------------------- resizing


@pytest.mark.parametrize("size", [(20, 20), (64, 48), (31, 90), (7, 300)])
def test_each_slice_is_resized_as_pillow_does_it(size):
    picture = floats(60, 80)
    expected = np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR))
    np.testing.assert_allclose(resample(picture[None, None], (1, *size))[0, 0], expected, atol=2e-3)


def test_the_three_axes_are_resized_alike():
    values = floats(1, 12, 12, 12)
    small = resample(values, (5, 5, 5))
    turned = resample(values.transpose(0, 3, 1, 2), (5, 5, 5))
    np.testing.assert_allclose(turned, small.transpose(0, 3, 1, 2), atol=1e-6)


def test_enlarging_equals_torch():
    torch = pytest.importorskip("torch")
    values = floats(2, 4, 5, 6)
    expected = torch.nn.functional.interpolate(torch.from_numpy(values)[None], (9, 8, 13), mode="trilinear")
    np.testing.assert_allclose(resample(values, (9, 8, 13)), expected[0].numpy(), atol=1e-5)


def test_shrinking_averages_and_a_constant_stays():
    board = (np.indices((16, 16, 16)).sum(0) % 2).astype(np.float32)[None]
    np.testing.assert_allclose(resample(board, (4, 4, 4))[0, 1:-1, 1:-1, 1:-1], 0.5, atol=0.01)
    np.testing.assert_allclose(resample(np.ones((1, 7, 9, 11), np.float32), (3, 20, 5)), 1, atol=1e-6)


def test_the_size_comes_out_and_stays_in_0_to_1():
    result = read_volume(floats(9, 33, 17), size=(16, 20, 24))
    assert result.shape == (1, 16, 20, 24)
    assert result.flags.c_contiguous
    assert 0 <= result.min() < result.max() <= 1


# ------------------------------------------------------------------------------------------------ npz and npy


def test_npy_and_npz_equal_the_array(tmp_path):
    values = floats(3, 4, 5)
    np.save(tmp_path / "a.npy", values)
    np.save(tmp_path / "f.npy", np.asfortranarray(values))
    np.savez(tmp_path / "one.npz", values)
    np.savez_compressed(tmp_path / "two.npz", flair=values, mask=values > 0.5)
    expected = read_volume(values)
    for name, key in (("a.npy", None), ("f.npy", None), ("one.npz", None), ("two.npz", "flair")):
        np.testing.assert_array_equal(read_volume(name, key=key, folder=tmp_path), expected)
    np.testing.assert_array_equal(read_volume("two.npz", key="mask", folder=tmp_path)[0], values > 0.5)


def test_a_wrong_or_missing_key_lists_the_keys(tmp_path):
    np.savez(tmp_path / "a.npz", flair=floats(3, 4, 5), mask=floats(3, 4, 5))
    text = message("a.npz", folder=tmp_path)
    assert "holds several arrays; its keys: flair, mask. Name one of them as key=." in text
    text = message("a.npz", key="flare", folder=tmp_path)
    assert "has no array 'flare'; its keys: flair, mask. Did you mean \"flair\"?" in text
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("readme.txt", "no arrays")
    assert "holds no arrays; its keys: none" in message("b.npz", folder=tmp_path)


class Trap:
    """What a pickle may do when it is read."""

    sprung = False

    def __reduce__(self):
        return (setattr, (Trap, "sprung", True))


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_objects_are_never_unpickled(tmp_path, name):
    objects = np.array([[[Trap()]]], dtype=object)
    (np.save if name.endswith("npy") else np.savez)(tmp_path / name, objects, allow_pickle=True)
    text = message(name, folder=tmp_path)
    assert "Python objects" in text
    assert "save the volume as a plain numeric array" in text
    (tmp_path / name).write_bytes(pickle.dumps(objects))
    message(name, folder=tmp_path)
    assert not Trap.sprung


def header(shape, descr="'<f8'"):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(118) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize("inside_npz", [False, True])
def test_an_array_bomb_is_refused_from_its_header(tmp_path, inside_npz):
    data = header((100_000, 100_000, 100))
    name = "a.npz" if inside_npz else "a.npy"
    if inside_npz:
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("ct.npy", data + bytes(10_000_000))
    else:
        (tmp_path / name).write_bytes(data)
    assert "100000 x 100000 x 100 voxels, more than the limit" in message(name, folder=tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty (0 bytes)"),
        (b"words", "cannot be read"),
        (header((3, 4, 5)) + bytes(100), "cut off"),
        (header((3, 4, 5), "'<U9'"), "holds values of type <U9"),
        (header((3, 4, 5), "[('a', '<f8')]"), "holds values of type"),
        (header("__import__('os').getcwd()"), "cannot be read"),
        (header((-3, 4, 5)) + bytes(1000), "cannot be read"),
    ],
)
def test_a_damaged_array_says_so(tmp_path, content, words):
    (tmp_path / "a.npy").write_bytes(content)
    text = message("a.npy", folder=tmp_path)
    assert words in text
    assert "a.npy" in text


def test_a_damaged_archive_says_so(tmp_path):
    stream = io.BytesIO()
    np.savez_compressed(stream, ct=floats(9, 9, 9))
    data = stream.getvalue()
    (tmp_path / "a.npz").write_bytes(data[: len(data) // 2])
    assert "cut off" in message("a.npz", folder=tmp_path)
    broken = bytearray(data)
    broken[len(data) // 2] ^= 255
    (tmp_path / "a.npz").write_bytes(broken)
    assert "Copy it again" in message("a.npz", folder=tmp_path)


# ------------------------------------------------------------------------------------------------ other input


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (3.5, "3.5 should be a path or an array, got float"),
        ({"bytes": b""}, "should be a path or an array, got dict"),
        (np.array([[["a"]]]), "holds values of type <U1, not numbers"),
        (np.zeros((2, 2, 2), complex), "not numbers"),
    ],
)
def test_a_wrong_source_says_what_came(source, words):
    assert words in message(source)


@pytest.mark.parametrize("name", ["a.png", "a.dcm", "a.gz", "a"])
def test_a_file_of_another_kind_says_what_is_read(tmp_path, name):
    (tmp_path / name).write_bytes(b"data")
    text = message(name, folder=tmp_path)
    assert "a volume should be .nii, .nii.gz, .npz or .npy" in text
    assert "declare a single picture as an Image" in text


def test_paths_are_checked(tmp_path):
    assert "no such file" in message("no.nii", MissingFile, folder=tmp_path)
    assert "leads out" in message("../no.nii", UnsafePath, folder=tmp_path)
    (tmp_path / "a.nii").mkdir()
    assert "is a directory" in message("a.nii", folder=tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channels": 0}, "channels should be a whole number"),
        ({"size": (4, 4)}, "size should be (depth, height, width)"),
        ({"size": (4, 4, 0)}, "size should be (depth, height, width)"),
    ],
)
def test_a_wrong_call_is_no_fault_of_the_file(options, words):
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the words are checked below)
        read_volume(floats(3, 3, 3), **options)
    assert words in str(error.value)
    assert not isinstance(error.value, UnreadableFile)


@pytest.mark.real_data
def test_a_real_patient_reads():
    root = os.environ.get("MMMED_DATA")
    if not root:
        pytest.skip("MMMED_DATA does not name the folder of real cohorts")
    folder = Path(root) / "lgg-mri"
    file = sorted((folder / "volumes").glob("*.npz"))[0]
    result = read_volume(file.relative_to(folder), key="flair", size=(16, 64, 64), folder=folder)
    assert result.shape == (1, 16, 64, 64)
    assert 0.02 < result.mean() < 0.6
