"""The border checks: what came, what was expected, what to do."""

import numpy as np
import pytest

from mmmed.checks import (
    MissingFile,
    UnreadableFile,
    UnsafePath,
    check_count,
    check_known,
    check_scale,
    check_shape,
    check_share,
    listing,
    needs,
    plain,
    suggestion,
)


def test_the_special_errors_can_all_be_caught_as_value_errors():
    assert all(issubclass(kind, ValueError) for kind in (MissingFile, UnreadableFile, UnsafePath))


def test_any_value_is_shown_on_one_short_line():
    assert plain("a\nb") == r"'a\nb'"
    assert len(plain("x" * 500)) == 60
    assert plain("x" * 500).endswith("...")


def test_names_are_listed_and_cut():
    assert listing([]) == "none"
    assert listing(["age", 3]) == "age, 3"
    assert listing("abcde", limit=3) == "a, b, c, and 2 more"
    assert listing(iter(["a", "b"])) == "a, b"


def test_a_near_miss_is_suggested_and_nothing_else():
    assert suggestion("imge", ["image", "labs"]) == ' Did you mean "image"?'
    assert suggestion("zebra", ["image", "labs"]) == ""
    assert suggestion("imge", []) == ""


def test_a_known_name_comes_back_and_an_unknown_one_is_explained():
    assert check_known("labs", iter(["image", "labs"]), what="modality") == "labs"
    with pytest.raises(
        ValueError, match=r"Unknown modality 'lab'\. Did you mean \"labs\"\? Known: image, labs\."
    ):
        check_known("lab", ["image", "labs"], what="modality")
    with pytest.raises(ValueError, match="Unknown modality"):
        check_known(["labs"], ["image", "labs"], what="modality")


def test_shapes_are_named_by_their_axes():
    check_shape(np.zeros((4, 12)), "batch features", name="labs", features=12)
    check_shape(np.zeros((0, 12)), "batch features", name="labs")
    wanted = r"labs should have shape \[batch features=12\], got \[4, 11\]\. Pass 12\."
    with pytest.raises(ValueError, match=wanted):
        check_shape(np.zeros((4, 11)), "batch features", name="labs", features=12, hint="Pass 12.")
    with pytest.raises(ValueError, match=r"\[batch features\], got \[4\]\.$"):
        check_shape(np.zeros(4), "batch features", name="labs")


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float64(0.5)])
def test_a_share_lies_between_nought_and_one(value):
    assert check_share(value, name="rate") == float(value)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), "0.5", None])
def test_what_is_no_share_is_refused(value):
    with pytest.raises(ValueError, match="rate should be a number between 0 and 1"):
        check_share(value, name="rate")


def test_a_count_is_a_whole_number_of_some_size():
    assert check_count(3, name="folds", least=3) == 3
    for value in (2, 3.0, "3", True, None):
        with pytest.raises(ValueError, match="folds should be a whole number of at least 3"):
            check_count(value, name="folds", least=3)


def test_what_standardises_is_finite_and_does_not_divide_by_zero():
    check_scale(0.0, 1e-9, name="age")
    for mean, scale in ((0, 0), (0, -1), (float("nan"), 1), (0, float("inf")), (float("inf"), 1)):
        with pytest.raises(ValueError, match="age: mean must be finite and scale positive"):
            check_scale(mean, scale, name="age")


def test_a_missing_package_comes_with_the_line_that_installs_it():
    assert 'pip install "mmmed[imaging]"' in str(needs("pydicom", "imaging"))
