"""A phrase has words; a spacing is a length; no mask means known to be empty."""

import numpy as np
import pytest

from mmmed.types import Phrase
from mmmed.types.phrase import check_phrase, check_spacing


def test_a_phrase_without_a_mask_is_known_to_be_empty():
    assert Phrase("a1", "the lesion").empty
    assert not Phrase("a1", "the lesion", mask="a1.png").empty
    assert not Phrase("a1", "the lesion", mask=np.zeros((2, 2), bool)).empty  # the file says, not the phrase


def test_phrases_can_be_compared_although_masks_are_arrays():
    mask = np.eye(3, dtype=bool)
    assert Phrase("a1", "the lesion", mask=mask) == Phrase("a1", "the lesion", mask=mask.copy())
    assert Phrase("a1", "the lesion") != Phrase("a1", "the other lesion")
    assert "array" not in repr(Phrase("a1", "the lesion", mask=mask))


@pytest.mark.parametrize("text", ["", "  ", "?!", None, 3, ["the lesion"]])
def test_a_phrase_without_words_says_what_to_write(text):
    with pytest.raises(ValueError, match='such as "the lesion on the left", got'):
        Phrase("a1", text)
    assert check_phrase("病变") == "病变"  # a letter of any script is a word


@pytest.mark.parametrize(
    "spacing", [(1,), (1, 1, 1, 1), (0, 1), (-1, 1), (float("nan"), 1), "ab", 3, (None, 1)]
)
def test_a_spacing_that_is_no_length_is_refused(spacing):
    with pytest.raises(ValueError, match="mm per pixel, all positive"):
        Phrase("a1", "the lesion", spacing=spacing)


def test_a_spacing_becomes_plain_numbers():
    assert check_spacing(np.array([1, 2], dtype=np.float32)) == (1.0, 2.0)
    assert Phrase("a1", "x", spacing=["0.5", 2, 3]).spacing == (0.5, 2.0, 3.0)
