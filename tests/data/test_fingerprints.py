"""Copies are found, shrunk or recompressed or inverted; different pictures are not; absent sequences are
seen."""

import io
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmmed.data.fingerprints import BITS, DUPLICATE, SUSPECT, copies, fingerprint, near_duplicates


def chest(seed, size=256):
    """A picture with structure at many scales, as radiographs have: blurred noise of several widths."""
    draw = np.random.default_rng(seed)
    total = np.zeros((size, size))
    for grid, weight in ((4, 4.0), (8, 2.0), (16, 1.0), (64, 0.3)):
        small = Image.fromarray(draw.random((grid, grid), dtype=np.float32))
        total += weight * np.asarray(small.resize((size, size), Image.Resampling.BICUBIC))
    total -= total.min()
    return (total / total.max() * 255).astype(np.uint8)


def jpeg(image, quality):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


CHANGES = {
    "half size": lambda image: np.asarray(
        Image.fromarray(image).resize((128, 128), Image.Resampling.BILINEAR)
    ),
    "odd size": lambda image: np.asarray(
        Image.fromarray(image).resize((311, 197), Image.Resampling.BILINEAR)
    ),
    "JPEG quality 30": lambda image: jpeg(image, 30),
    "gamma 1.3": lambda image: (255 * (image / 255) ** 1.3).astype(np.uint8),
    "brighter": lambda image: (image * 0.7 + 60).astype(np.uint8),
    "inverted": lambda image: 255 - image,
}


# ------------------------------------------------------------------------------------------------------- hash


def slow_fingerprint(image):
    """Area average by cutting every pixel into 16 x 17 small ones; then neighbours, one by one."""
    fine = np.repeat(np.repeat(image.astype(float), 16, 0), 17, 1)
    height, width = image.shape
    small = fine.reshape(16, height, 17, width).mean((1, 3))
    return np.array([small[r, c + 1] > small[r, c] for r in range(16) for c in range(16)])


@pytest.mark.parametrize("shape", [(16, 17), (32, 34), (23, 41), (7, 5), (100, 3)])
def test_the_hash_equals_a_slow_obvious_one(shape):
    image = np.random.default_rng(0).random(shape)
    np.testing.assert_array_equal(fingerprint(image), slow_fingerprint(image))


def test_a_ramp_is_all_ones_and_its_mirror_all_zeros():
    ramp = np.tile(np.arange(64.0), (48, 1))
    assert fingerprint(ramp).all()
    assert not fingerprint(ramp[:, ::-1]).any()
    assert fingerprint(ramp).shape == (BITS,)


def test_flat_parts_do_not_hash_their_rounding_errors():
    assert not fingerprint(np.full((97, 101), 0.1)).any()
    assert not fingerprint(np.full((97, 101), 255, np.uint8)).any()


def test_one_channel_in_front_is_fine_and_three_are_not():
    image = chest(0)
    np.testing.assert_array_equal(fingerprint(image[None]), fingerprint(image))
    np.testing.assert_array_equal(fingerprint(image / 255), fingerprint(image))
    for wrong in (np.zeros((3, 8, 8)), np.zeros(8), np.zeros((0, 4)), np.full((4, 4), np.nan)):
        with pytest.raises(ValueError, match=r"\[height width\] and finite"):
            fingerprint(wrong)


@pytest.mark.parametrize("change", list(CHANGES))
def test_a_changed_copy_is_a_duplicate(change):
    for seed in range(5):
        image = chest(seed)
        pairs = near_duplicates(np.stack([fingerprint(image), fingerprint(CHANGES[change](image))]))
        assert len(pairs) == 1
        assert pairs[0][2] <= DUPLICATE


def test_different_pictures_are_no_pairs():
    assert near_duplicates(np.stack([fingerprint(chest(seed)) for seed in range(60)]), limit=SUSPECT) == []


# ------------------------------------------------------------------------------------------------------ pairs


@pytest.mark.parametrize("block", [1, 3, 7, 64])
def test_blocks_give_what_a_loop_over_all_pairs_gives(block):
    draw = np.random.default_rng(1)
    bits = draw.random((40, BITS)) < 0.5
    for i, flips in enumerate((0, 5, 16, 32, 33)):  # planted copies of row 0 at known distances
        bits[10 + i] = bits[0]
        bits[10 + i, :flips] ^= True
    bits[30] = ~bits[1]
    expected = []
    for i in range(40):
        for j in range(i + 1, 40):
            distance = int((bits[i] != bits[j]).sum())
            distance = min(distance, BITS - distance)
            if distance <= SUSPECT:
                expected.append((i, j, distance))
    found = near_duplicates(bits, block=block)
    assert sorted(found) == sorted(expected)
    assert [pair[2] for pair in found] == sorted(pair[2] for pair in found)
    assert (0, 10, 0) in found
    assert (0, 13, 32) in found
    assert (1, 30, 0) in found
    assert not any(pair[:2] == (0, 14) for pair in found)


def test_packed_types_none_and_one_are_fine():
    bits = np.random.default_rng(0).random((6, BITS)) < 0.5
    bits[5] = bits[2]
    assert near_duplicates(bits.astype(np.uint8)) == [(2, 5, 0)]
    assert near_duplicates(bits[:1]) == []
    assert near_duplicates(np.zeros((0, BITS), bool)) == []
    with pytest.raises(ValueError, match=r"shape \[images 256\], got \[3, 64\]"):
        near_duplicates(np.zeros((3, 64)))


def test_the_same_picture_thousands_of_times_ends_with_a_warning():
    with pytest.warns(UserWarning, match="More than 1,000 pairs"):
        pairs = near_duplicates(np.zeros((500, BITS), bool), most=1000, block=100)
    assert len(pairs) == 1000


def test_twenty_thousand_pictures_fit_into_memory_and_seconds():
    bits = np.random.default_rng(0).random((20_000, BITS)) < 0.5
    bits[19_999] = bits[3]
    start = time.perf_counter()
    assert near_duplicates(bits) == [(3, 19_999, 0)]
    assert time.perf_counter() - start < 20  # measured 4 s on one core


# ------------------------------------------------------------------------------------------- absent sequences


def sequences():
    draw = np.random.default_rng(0)
    head = np.zeros((4, 32, 32), bool)
    head[:, 8:24, 8:24] = True
    return {
        name: np.where(head, draw.integers(40, 250, head.shape), 0).astype(np.uint8)
        for name in ("flair", "pre", "post")
    }


def test_three_recordings_are_three_recordings_although_they_share_their_background():
    assert copies(sequences()) == {}


def test_a_copy_put_in_for_an_absent_sequence_is_named():
    volumes = sequences()
    volumes["post"] = volumes["flair"].copy()
    volumes["pre"] = volumes["flair"].copy()
    assert copies(volumes) == {"pre": "flair", "post": "flair"}


def test_a_copy_is_one_above_the_threshold_in_the_foreground():
    volumes = sequences()
    head = np.argwhere(volumes["flair"] > 0)  # 1024 voxels
    for changed, found in ((15, {"post": "flair"}), (25, {})):  # 98.5 % and 97.6 % equal
        copy = volumes["flair"].copy()
        for z, y, x in head[:changed]:
            copy[z, y, x] ^= 1
        assert copies({"flair": volumes["flair"], "post": copy}) == found
        assert copies({"flair": volumes["flair"], "post": copy}, threshold=0.97) == {"post": "flair"}


def test_a_constant_sequence_is_absent_and_other_shapes_are_no_copies():
    volumes = sequences()
    volumes["pre"] = np.full((4, 32, 32), 7, np.uint8)
    volumes["post"] = volumes["flair"][:2]
    assert copies(volumes) == {"pre": None}
    assert copies({"one": np.zeros((0, 3, 3))}) == {"one": None}


# -------------------------------------------------------------------------------------------------- real data


@pytest.fixture
def real():
    root = os.environ.get("MMMED_DATA")
    if not root:
        pytest.skip("MMMED_DATA does not name the folder of real cohorts")
    return Path(root)


@pytest.mark.real_data
def test_real_radiographs_keep_their_published_distances(real):
    files = sorted((real / "covid-cxr" / "images").rglob("*.png"))[:20]
    images = [np.asarray(Image.open(file).convert("L")) for file in files]
    for change in ("JPEG quality 30", "gamma 1.3"):
        distances = [(fingerprint(i) != fingerprint(CHANGES[change](i))).sum() for i in images]
        assert np.median(distances) <= 4
        assert max(distances) <= DUPLICATE
    halves = [(fingerprint(i) != fingerprint(np.asarray(Image.fromarray(i).reduce(2)))).sum() for i in images]
    assert max(halves) <= DUPLICATE


@pytest.mark.real_data
def test_a_copy_put_back_into_a_real_patient_is_found(real):
    with np.load(sorted((real / "lgg-mri" / "volumes").glob("*.npz"))[0], allow_pickle=False) as file:
        volumes = {name: file[name] for name in ("flair", "pre", "post")}
    assert copies(volumes) == {}
    assert copies({**volumes, "post": volumes["flair"]}) == {"post": "flair"}
