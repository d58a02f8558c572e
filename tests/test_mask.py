"""A mask says where, how large and how sure, is seen when drawn, and never lets data become markup."""

import io
import json
import re
from base64 import b64decode

import numpy as np
import pytest
from PIL import Image

from mmmed.palette import PALETTE
from mmmed.types import Mask
from mmmed.types.mask import card_of, overlay_of

NOTICE = "Research use only. Not a medical device."


def disk(height=40, width=60, row=20, column=30, radius=8):
    y, x = np.mgrid[:height, :width]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def mask(pixels=None, **given):
    pixels = disk() if pixels is None else pixels
    given = {"presence": 0.97, "present": bool(pixels.any()), **given}
    return Mask("a1", "the left lesion", pixels, **given)


def square(**given):
    pixels = np.zeros((10, 20), dtype=bool)
    pixels[2:5, 4:8] = True  # 12 of 200 pixels
    return mask(pixels, **given)


# ---------------------------------------------------------------------------------------------------- numbers


def test_size_is_pixels_times_spacing_and_unknown_without_it():
    assert (square().size, square().unit) == (None, None)
    flat = square(spacing=(0.5, 2))
    assert (flat.size, flat.unit) == (12.0, "mm²")
    assert flat.share == pytest.approx(0.06)
    solid = mask(np.arange(24).reshape(2, 3, 4) < 6, spacing=(3, 1, 1))
    assert (solid.size, solid.unit, solid.share) == (18.0, "mm³", 0.25)


def test_the_box_is_the_smallest_around_it():
    assert square().box == {"row": (2, 5), "column": (4, 8)}
    solid = np.zeros((4, 5, 6), dtype=bool)
    solid[1, 2, 3] = solid[2, 4, 3] = True
    box = mask(solid).box
    assert box == {"depth": (1, 3), "row": (2, 5), "column": (3, 4)}
    cut = solid[tuple(slice(*ends) for ends in box.values())]
    assert cut.sum() == solid.sum()
    assert mask(np.zeros((3, 3), bool)).box is None


def test_words_say_whether_how_sure_and_how_large():
    assert "there (presence 97 %), 12 mm², 6.0 % of the picture" in str(square(spacing=(1, 1)))
    assert "there (presence 97 %), 6.0 % of the picture" in str(square())
    assert "12,000 mm²" in str(square(spacing=(100, 10)))
    absent = mask(
        np.zeros((3, 3), bool), presence=0.03, spacing=(1, 1), notes=("too dark",), missing=("text",)
    )
    assert str(absent).splitlines() == [
        'record a1, "the left lesion"',
        "  not there (presence 3 %)",
        "  used: nothing; missing: text",
        "  note: too dark",
        f"  {NOTICE}",
    ]
    assert "25.0 % of the volume" in str(mask(np.arange(24).reshape(2, 3, 4) < 6))


@pytest.mark.parametrize("presence", [0.0, 1.0, 1e-5, 1 - 1e-9, 0.9994, 0.0006])
def test_no_model_is_ever_quite_sure(presence):
    pixels = np.zeros((200, 200), dtype=bool)
    pixels[:, :] = True
    for shown in (mask(pixels, presence=presence), mask(pixels & (np.indices((200, 200)).sum(0) == 0))):
        assert not re.search(r"\b(0|100|0\.0|100\.0) %", str(shown))


def test_plain_form_is_json_without_pixels():
    given = square(spacing=(1, 1), used=["image"], missing=["labs"], notes=["n"], presence=np.float32(0.5))
    plain = json.loads(json.dumps(given.to_dict()))
    assert plain == {
        "id": "a1",
        "phrase": "the left lesion",
        "present": True,
        "presence": 0.5,
        "size": 12.0,
        "unit": "mm²",
        "share": pytest.approx(0.06),
        "box": {"row": [2, 5], "column": [4, 8]},
        "shape": [10, 20],
        "spacing": [1.0, 1.0],
        "used": ["image"],
        "missing": ["labs"],
        "notes": ["n"],
        "notice": NOTICE,
    }
    assert json.loads(json.dumps(mask(np.zeros((3, 3), bool)).to_dict()))["box"] is None


# ---------------------------------------------------------------------------------------------------- border


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"pixels": np.ones((3, 3))}, "bool array"),
        ({"pixels": np.ones(3, bool)}, "bool array"),
        ({"pixels": np.ones((0, 3), bool)}, "some pixels"),
        ({"pixels": [[True]]}, "got list"),
        ({"presence": 1.2}, "presence should be a number between 0 and 1"),
        ({"presence": float("nan")}, "presence should be"),
        ({"present": False}, "present is False, but 12 pixels are set"),
        ({"pixels": np.zeros((10, 20), bool), "present": True}, "present is True, but 0 pixels"),
        ({"probability": np.zeros((20, 10))}, r"\[10, 20\], got \[20, 10\]"),
        ({"picture": np.zeros((10, 20))}, "uint8"),
        ({"picture": np.zeros((10, 21), np.uint8)}, r"or \[10, 20, 3\]"),
        ({"picture": np.zeros((10, 20, 4), np.uint8)}, "picture should be"),
        ({"spacing": (1, 1, 1)}, r"one length per axis \(row, column\)"),
        ({"spacing": (0, 1)}, "all positive"),
        ({"phrase": " "}, "what to look for"),
    ],
)
def test_what_does_not_fit_together_is_refused(wrong, said):
    given = {"id": "a1", "phrase": "x", "pixels": square().pixels, "presence": 0.5, "present": True, **wrong}
    with pytest.raises(ValueError, match=said):
        Mask(**given)


def test_masks_can_be_compared_and_kept_in_sets():
    one = square()
    assert one != square()  # another answer, although its arrays are alike
    assert len({one, one, square()}) == 2


# --------------------------------------------------------------------------------------------------- drawing


@pytest.mark.parametrize("picture", [None, "grey", "colour"])
def test_an_empty_mask_leaves_the_plain_picture(picture):
    values = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    given = {None: None, "grey": values[:, :, 0], "colour": values}[picture]
    drawn = np.asarray(mask(np.zeros((40, 60), bool), picture=given).overlay())
    wanted = {None: 0 * values, "grey": values[:, :, :1].repeat(3, 2), "colour": values}[picture]
    np.testing.assert_array_equal(drawn, wanted)


@pytest.mark.parametrize("ground", [0, 40, 128, 230, 255])
@pytest.mark.parametrize("colour", [None, *PALETTE])
def test_the_outline_is_seen_on_any_ground(ground, colour):
    """Along every row through the disk some outline pixel is far from the ground in lightness or colour."""
    drawn = mask(picture=np.full((40, 60), ground, np.uint8)).overlay(colour=colour)
    far = np.abs(np.asarray(drawn).astype(int) - ground).max(axis=2)
    assert (far[14:27, :30].max(axis=1) >= 100).all()
    assert (far[14:27, 31:].max(axis=1) >= 100).all()


def test_the_picture_is_still_seen_inside_and_untouched_outside():
    picture = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)
    drawn = np.asarray(mask(picture=picture).overlay(colour="#ff0000", opacity=0.25)).astype(float)
    assert drawn.shape == (40, 60, 3)
    middle = picture[17:23, 27:33].astype(float)
    np.testing.assert_allclose(drawn[17:23, 27:33, 0], 0.75 * middle + 0.25 * 255, atol=0.51)
    np.testing.assert_allclose(drawn[17:23, 27:33, 1], 0.75 * middle, atol=0.51)
    outside = ~disk(radius=10)
    np.testing.assert_array_equal(drawn[outside], picture[outside][:, None].repeat(3, 1))


def test_drawing_changes_neither_the_picture_nor_the_mask():
    picture = np.full((40, 60, 3), 7, np.uint8)
    one = mask(picture=picture)
    one.overlay()
    one._repr_html_()
    assert (picture == 7).all()
    assert (one.pixels == disk()).all()


def test_several_masks_are_each_seen_where_they_overlap_or_are_the_same():
    def colours(masks, where):
        return {tuple(pixel) for pixel in np.asarray(overlay_of(masks))[where].tolist()}

    orange, blue = (tuple(bytes.fromhex(PALETTE[place][1:])) for place in (4, 5))
    left, right = disk(column=25), disk(column=35)
    both = [mask(left), mask(right)]
    assert {orange, blue} <= colours(both, left | right)
    core = disk(column=30, radius=2)  # on black ground, inside both: the mean of the two tints
    wanted = np.rint(0.45 * (np.array(orange) + np.array(blue)) / 2).astype(int)
    (seen,) = colours(both, core)
    assert seen == tuple(wanted.tolist())
    assert {orange, blue} <= colours([mask(left), mask(left)], left)
    assert colours(both[::-1], core) == {seen}  # the first wins nothing


def test_what_cannot_be_drawn_together_says_why():
    for masks, said in [
        ([], "At least one mask"),
        ([mask(), square()], "one record and grid"),
        ([mask(), Mask("a2", "x", disk(), 0.5, True)], "'a1'.*'a2'"),
    ]:
        with pytest.raises(ValueError, match=said):
            overlay_of(masks)
    for wrong in (
        {"colour": "red"},
        {"colour": "#12345"},
        {"colour": "#gggggg"},
        {"opacity": 2},
        {"slice": 1},
    ):
        with pytest.raises(ValueError, match=r"colour|opacity|slice"):
            mask().overlay(**wrong)


def test_of_a_volume_the_slice_with_most_is_drawn_or_the_middle_or_the_given_one():
    pixels = np.zeros((5, 8, 8), dtype=bool)
    picture = (np.arange(5, dtype=np.uint8)[:, None, None] * 10).repeat(8, 1).repeat(8, 2)
    corner = lambda one, **given: np.asarray(one.overlay(**given))[7, 7, 0]  # noqa: E731
    assert corner(mask(pixels, picture=picture)) == 20
    pixels[1, 2, 2] = pixels[3, 2:4, 2] = True
    one = mask(pixels, picture=picture)
    assert corner(one) == 30
    assert corner(one, slice=1) == 10
    assert "slice 3 of 0 to 4" in one._repr_html_()
    for wrong in (-1, 5, 1.0, True):
        with pytest.raises(ValueError, match="from 0 to 4"):
            one.overlay(wrong)


# ------------------------------------------------------------------------------------------- files and cards


def test_a_saved_picture_is_one_bit_and_comes_back(tmp_path):
    square().save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "1"
        np.testing.assert_array_equal(np.asarray(picture), square().pixels)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("spacing", [None, (3, 1, 0.5)])
def test_a_saved_volume_keeps_its_spacing(tmp_path, spacing):
    pixels = np.arange(24).reshape(2, 3, 4) % 5 == 0
    mask(pixels, spacing=spacing).save(str(tmp_path / "a.npz"))
    with np.load(tmp_path / "a.npz") as saved:
        assert saved["mask"].dtype == np.uint8
        np.testing.assert_array_equal(saved["mask"], pixels)
        assert spacing is None or tuple(saved["spacing"]) == spacing
        assert ("spacing" in saved) == (spacing is not None)


def test_another_suffix_says_which_one_to_use(tmp_path):
    with pytest.raises(ValueError, match=r"saved as \.png, got 'a\.jpg'\. Name it a\.png"):
        square().save(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"volume is saved as \.npz.*Name it a\.npz"):
        mask(np.ones((2, 2, 2), bool)).save(tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_text_of_a_record_is_escaped_in_the_notebook():
    nasty = '"><script>alert(1)</script>'
    one = Mask(nasty, nasty, disk(), 0.5, True, notes=(nasty,), used=(nasty,), missing=(nasty,))
    shown = one._repr_html_()
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") == 6  # id, phrase, its picture's alt text, note, used, missing
    assert 'alt="&quot;&gt;' in shown


def test_the_card_holds_the_picture_itself_and_the_notice_once():
    one = square(picture=np.full((10, 20), 90, np.uint8))
    shown = one._repr_html_()
    (data,) = re.findall(r"data:image/png;base64,([^\"]+)", shown)
    inside = np.asarray(Image.open(io.BytesIO(b64decode(data))))
    np.testing.assert_array_equal(inside, np.asarray(one.overlay()))
    assert shown.count(NOTICE) == 1
    assert "max-width" in shown
    assert not re.search(r"(?<!-)color:", shown)  # text keeps the notebook's colour, light or dark
    large = mask(disk(1200, 900, 500, 400, 200))._repr_html_()
    assert len(large) < 100_000


def test_a_card_of_several_has_a_chip_of_each_colour_but_none_for_what_is_not_there():
    absent = Mask("a1", "the cyst", np.zeros((40, 60), bool), 0.02, False, notes=("same",))
    shown = card_of([mask(notes=("same",)), absent, mask()])
    assert shown.count("<img") == 1
    assert [shown.count(f"background:{PALETTE[place]}") for place in (4, 5, 3)] == [1, 0, 1]
    assert "not there (presence 2 %)" in shown
    assert shown.count("same") == 1
    assert shown.count(NOTICE) == 1
