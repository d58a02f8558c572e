"""A mask lies where its picture lies, comes back to the picture's grid, and is binary or says why not."""

import io

import numpy as np
import pytest
from PIL import Image as Picture

from mmmed.checks import MissingFile, UnreadableFile, UnsafePath
from mmmed.data.masks import fit_mask, read_mask, unfit
from mmmed.data.readers import read_image
from mmmed.data.volumes import read_volume
from mmmed.types import Mask

WHERE = 'record "a1", column "mask"'


def blob(*shape, seed=0):
    """A smooth ellipse somewhere in the picture, a third as long as it."""
    draw = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.arange(length) / length for length in shape), indexing="ij")
    centre = draw.uniform(0.35, 0.65, len(shape))
    return sum(((axis - middle) / 0.3) ** 2 for axis, middle in zip(axes, centre, strict=True)) < 1


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def png(folder, values, name="a.png", mode=None, **options):
    picture = Picture.fromarray(values)
    (picture if mode is None else picture.convert(mode)).save(folder / name, **options)
    return name


def message(source, **options):
    with pytest.raises(ValueError, match=WHERE) as error:
        read_mask(source, where=WHERE, **options)
    text = str(error.value)
    assert text.startswith(WHERE), text
    return text


# --------------------------------------------------------------------------------------- there and back again

SHAPES = [(64, 64), (101, 77), (77, 101), (333, 150), (61, 400), (40, 33), (65, 64)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [(64, 64), (63, 80)])
def test_a_smooth_mask_survives_the_way_there_and_back(shape, size):
    for seed in range(3):
        mask = blob(*shape, seed=seed)
        there = fit_mask(mask, size)
        assert (there.shape, there.dtype) == (size, np.float32)
        back = unfit(there, shape)
        assert (back.shape, back.dtype) == (shape, np.float32)
        # Of (61, 400) in 64 columns only ten rows are left.
        assert dice(back > 0.5, mask) > (0.97 if min(shape) / max(shape) > 0.3 else 0.94)


def test_a_volume_survives_the_way_there_and_back():
    mask = blob(15, 50, 41)
    back = unfit(fit_mask(mask, (12, 40, 48)), mask.shape)
    assert back.shape == mask.shape
    assert dice(back > 0.5, mask) > 0.97


@pytest.mark.parametrize("shape", SHAPES)
def test_a_picture_of_the_mask_lands_where_the_mask_does(tmp_path, shape):
    """The promise of the whole file: what a model sees and what it is asked for agree to the grey level."""
    mask = blob(*shape)
    name = png(tmp_path, mask)
    seen = read_image(png(tmp_path, mask.astype(np.uint8) * 255, "p.png"), size=(48, 56), folder=tmp_path)[0]
    asked = fit_mask(read_mask(name, folder=tmp_path), (48, 56))
    np.testing.assert_allclose(asked, seen, atol=1.01 / 255)


def test_a_volume_of_the_mask_lands_where_the_mask_does():
    mask = blob(9, 30, 21)
    seen = read_volume(mask, size=(8, 16, 32))[0]
    np.testing.assert_allclose(fit_mask(mask, (8, 16, 32)), seen, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_area_is_scaled_as_the_picture_is(shape):
    mask, size = blob(*shape), (64, 64)
    scale = min(64 / shape[0], 64 / shape[1])
    assert fit_mask(mask, size).sum() == pytest.approx(mask.sum() * scale**2, rel=0.08)


def test_by_hand():
    """Two rows of four, left half inside, in four by four: as it is, centred, black above and below."""
    mask = np.array([[1, 1, 0, 0]] * 2, dtype=bool)
    by_hand = np.array([[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(fit_mask(mask, (4, 4)), by_hand)
    padding = np.where([[1], [0], [0], [1]], 9.0, by_hand)  # what a model says about padding is cut away
    np.testing.assert_array_equal(unfit(padding, (2, 4)), mask)


def test_what_is_empty_stays_empty_and_values_stay_in_their_range():
    assert not fit_mask(np.zeros((30, 20), bool), (64, 64)).any()
    for shape in ((33, 90), (5, 33, 90)):
        size = (16, 64, 64)[-len(shape) :]
        there = fit_mask(blob(*shape), size)
        back = unfit(there, shape)
        assert there.min() >= 0 and there.max() <= 1  # noqa: PT018
        assert back.min() >= -1e-6 and back.max() <= 1 + 1e-6  # noqa: PT018


def test_negative_scores_survive_the_way_back():
    np.testing.assert_allclose(unfit(np.full((64, 64), -3.5), (20, 30)), -3.5)


def test_another_number_of_axes_is_refused():
    for call in (fit_mask, unfit):
        for values, size in [((4, 4), (2, 2, 2)), ((2, 4, 4), (4, 4)), ((4,), (4,)), ((4, 4), (0, 4))]:
            with pytest.raises(ValueError, match="both be"):
                call(np.zeros(values), size)


# ---------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "LA", "P", "CMYK"])
@pytest.mark.parametrize("suffix", ["png", "tiff", "bmp", "gif"])
def test_a_mask_reads_the_same_from_any_lossless_picture(tmp_path, mode, suffix):
    mask = blob(20, 31)
    try:
        name = png(tmp_path, mask, f"a.{suffix}", mode)
    except (OSError, ValueError):
        pytest.skip(f"{suffix} cannot hold {mode}")
    read = read_mask(name, folder=tmp_path, shape=(20, 31))
    assert read.dtype == bool
    np.testing.assert_array_equal(read, mask)


@pytest.mark.parametrize("value", [1, 2, 128, 255])
def test_any_one_value_is_inside(tmp_path, value):
    mask = blob(20, 31)
    values = mask.astype(np.uint8) * value
    grey = png(tmp_path, values)
    deep = png(tmp_path, values.astype(np.uint16) * 200, "deep.png")
    red = png(tmp_path, np.stack([values, 0 * values, 0 * values], axis=2), "red.png")
    content = (tmp_path / "a.png").read_bytes()
    picture = Picture.fromarray(values)
    for source in (grey, deep, red, content, {"bytes": content}, picture, values, values * 0.5, mask):
        np.testing.assert_array_equal(read_mask(source, folder=tmp_path, shape=(20, 31)), mask)


def test_colour_arrays_are_colours_only_where_the_picture_is_flat():
    mask = blob(20, 31)
    coloured = np.stack([mask] * 3, axis=2)
    np.testing.assert_array_equal(read_mask(coloured, shape=(20, 31)), mask)
    assert read_mask(coloured).shape == (20, 31, 3)
    for values in (mask[None], mask[:, :, None]):
        np.testing.assert_array_equal(read_mask(values, shape=(20, 31)), mask)


def test_a_palette_is_read_by_its_colours(tmp_path):
    """Index 0 may well be white."""
    mask = blob(20, 31)
    picture = Picture.fromarray((~mask).astype(np.uint8), mode="P")
    picture.putpalette([255, 255, 255, 0, 0, 0])
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask("a.png", folder=tmp_path), mask)


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.nii", "a.nii.gz"])
def test_a_volume_mask_lies_on_its_volume(tmp_path, name):
    """Stored left to right or right to left: one reader turns both."""
    mask = blob(6, 20, 31)
    values = mask.astype(np.uint8) * 3
    if name == "a.npz":
        np.savez(tmp_path / name, other=np.zeros(3), lesion=values)
    elif name == "a.npy":
        np.save(tmp_path / name, values)
    else:
        nibabel = pytest.importorskip("nibabel")
        nibabel.save(nibabel.Nifti1Image(values.T, np.diag([-1.0, -1, 2, 1])), tmp_path / name)
    key = "lesion" if name == "a.npz" else None
    read = read_mask(name, key=key, folder=tmp_path, shape=(6, 20, 31))
    np.testing.assert_array_equal(read, mask)
    np.testing.assert_array_equal(read, read_volume(name, key=key, folder=tmp_path)[0] > 0)


def test_what_a_mask_saves_is_read_again(tmp_path):
    for mask, name, key in ((blob(20, 31), "a.png", None), (blob(6, 20, 31), "a.npz", "mask")):
        Mask("a", "x", mask, 0.5, True, spacing=(1.0,) * mask.ndim).save(tmp_path / name)
        np.testing.assert_array_equal(read_mask(name, key=key, folder=tmp_path), mask)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_turned_file_is_read_upright_as_its_picture_is(tmp_path, turn, suffix):
    mask = blob(20, 31)
    exif = Picture.Exif()
    exif[0x0112] = turn
    name = png(tmp_path, mask.astype(np.uint8) * 255, f"a.{suffix}", exif=exif)
    seen = read_image(name, folder=tmp_path)[0]
    np.testing.assert_array_equal(read_mask(name, folder=tmp_path, shape=seen.shape), seen == 1)


def test_an_empty_mask_is_read_as_one(tmp_path):
    assert not read_mask(png(tmp_path, np.zeros((4, 5), np.uint8)), folder=tmp_path).any()
    assert not read_mask(np.zeros((2, 4, 5)), shape=(2, 4, 5)).any()


# ------------------------------------------------------------------------------------ what is no mask says so


def test_several_structures_ask_which_one(tmp_path):
    values = np.arange(20, dtype=np.uint8).reshape(4, 5) % 4
    name = png(tmp_path, values)
    for source in (name, values, values.astype(float)):
        text = message(source, folder=tmp_path)
        assert "got 0, 1, 2, 3. Choose one structure: pass array == value" in text
    assert "got 1, 2." in message(values % 2 + 1)  # 0 is outside, and there is none
    assert "-1, 0" in message(-(values == 1).astype(np.int8))


def test_a_grey_ramp_is_no_mask(tmp_path):
    mask = blob(64, 64).astype(np.uint8) * 255
    text = message(png(tmp_path, mask, "a.jpg", quality=50), folder=tmp_path)
    assert "saved as JPEG or resized" in text
    assert "more" in text  # the listing is cut
    assert len(text) < 500


def test_several_colours_are_no_mask(tmp_path):
    values = np.zeros((4, 5, 3), np.uint8)
    values[0, :, 0] = values[1, :, 1] = 255
    text = message(png(tmp_path, values), folder=tmp_path)
    assert "2 colours besides black: (0, 255, 0), (255, 0, 0)" in text


def test_transparency_that_contradicts_the_colour_is_refused(tmp_path):
    mask = blob(20, 31)
    white, opaque = np.full((20, 31), 255, np.uint8), mask.astype(np.uint8) * 255
    rgba = lambda colour, alpha: np.stack([colour] * 3 + [alpha], axis=2)  # noqa: E731
    for colour in (white, 0 * white):  # white on transparent white, black on nothing
        assert "transparent" in message(png(tmp_path, rgba(colour, opaque)), folder=tmp_path)
    for alpha in (opaque, white, white // 2):  # both say the same, or the alpha says nothing
        name = png(tmp_path, rgba(opaque, alpha))
        np.testing.assert_array_equal(read_mask(name, folder=tmp_path), mask)


def test_a_mask_of_everything_is_refused(tmp_path):
    for source in (
        np.ones((4, 5), bool),
        np.full((2, 4, 5), 7),
        png(tmp_path, np.full((4, 5), 255, np.uint8)),
    ):
        assert "covers every pixel" in message(source, folder=tmp_path)


def test_another_grid_names_both_sizes(tmp_path):
    mask = blob(20, 31)
    text = message(png(tmp_path, mask), folder=tmp_path, shape=(40, 62))
    assert "height 20 width 31, but its picture is height 40 width 62." in text
    assert "height and width are exchanged" in message(mask, shape=(31, 20))
    assert "its picture is depth 2 height 20 width 31" in message(mask, shape=(2, 20, 31))
    assert "depth 6 height 20 width 31, but its picture is height 20" in message(
        blob(6, 20, 31), shape=(20, 31)
    )


def test_numbers_that_are_none_and_things_that_are_no_array_say_so():
    broken = blob(4, 5).astype(float)
    broken[0, 0] = np.nan
    assert "1 of 20" in message(broken)
    assert "not numbers" in message(np.array([["a", "b"]]))
    assert "[2]" in message(np.zeros(2))
    assert "[2, 2, 2, 2]" in message(np.zeros((2, 2, 2, 2)))
    assert "shape" in message(np.zeros((0, 5)))
    assert "got int" in message(3)


def test_files_are_as_safe_as_those_of_pictures(tmp_path):
    (tmp_path / "cohort").mkdir()
    png(tmp_path, blob(4, 5), "outside.png")
    for source, error in [
        ("../outside.png", UnsafePath),
        (str(tmp_path / "outside.png"), UnsafePath),
        ("none.png", MissingFile),
    ]:
        with pytest.raises(error):
            read_mask(source, folder=tmp_path / "cohort")
    np.save(tmp_path / "cohort" / "o.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(UnreadableFile, match="never unpickled"):
        read_mask("o.npy", folder=tmp_path / "cohort")
    (tmp_path / "cohort" / "t.png").write_bytes(b"not a picture")
    (tmp_path / "cohort" / "e.png").write_bytes(b"")
    for name in ("t.png", "e.png"):
        with pytest.raises(UnreadableFile, match=name):
            read_mask(name, folder=tmp_path / "cohort")
    dicom = bytes(128) + b"DICM" + bytes(100)
    assert "Export the mask" in message(dicom)
    cut = io.BytesIO()
    Picture.fromarray(blob(40, 50)).save(cut, format="PNG")
    assert "cannot be read" in message(cut.getvalue()[:90])
