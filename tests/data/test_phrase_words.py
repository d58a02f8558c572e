"""Words of place and size: what is swapped, what is left alone, and that every swap undoes itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmmed.data import phrase_words
from mmmed.data.phrase_words import (
    HEIGHTS,
    SIDES,
    SIDES_SHORT,
    SIZES,
    has_place,
    has_side,
    has_size,
    relation_swaps,
    swap_heights,
    swap_sides,
    swap_sizes,
    turns,
)

WORDS = [word for pair in (*SIDES, *SIDES_SHORT, *HEIGHTS, *SIZES) for word in pair]
SPOKEN = st.lists(
    st.sampled_from([*WORDS, *map(str.upper, WORDS), *map(str.title, WORDS), "L lung", "R", "-", ",", "lung"])
    | st.text(max_size=6)
).map(" ".join)


@given(SPOKEN | st.text())
def test_every_swap_undoes_itself(text):
    for swap in (swap_sides, swap_heights, swap_sizes):
        assert swap(swap(text)) == text


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("the nodule in the left upper zone", "the nodule in the right upper zone"),
        ("Left-sided, RIGHT and Right", "Right-sided, LEFT and Left"),
        ("leftmost", "rightmost"),
        ("R lung, RUL, LLZ", "L lung, LUL, RLZ"),
        (
            "R kidney, L-sided effusion, L pleural thickening",
            "L kidney, R-sided effusion, R pleural thickening",
        ),
        ("pain in the RUQ", "pain in the LUQ"),
        ("from left to right", "from right to left"),
    ],
)
def test_sides_change_and_keep_their_case(text, swapped):
    assert swap_sides(text) == swapped
    assert has_side(text)


@pytest.mark.parametrize(
    "text", ["a bright, upright cleft", "lead L, portable R", "RML", "the heart", "lEft"]
)
def test_what_only_looks_like_a_side_stays(text):
    assert swap_sides(text) == text
    assert not has_side(text)


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("the upper lobe", "the lower lobe"),
        ("Top left", "Bottom left"),
        ("superior to the hilum", "inferior to the hilum"),
        ("APICAL cap", "BASAL cap"),
        ("the supper room", "the supper room"),
    ],
)
def test_heights_change(text, swapped):
    assert swap_heights(text) == swapped


def test_a_phrase_with_all_three_has_three_other_sayings():
    assert relation_swaps("the small nodule in the left upper zone") == (
        ("side", "the small nodule in the right upper zone"),
        ("zone", "the small nodule in the left lower zone"),
        ("size", "the large nodule in the left upper zone"),
    )
    assert relation_swaps("the nodule") == ()


def test_a_middle_word_becomes_another_one_since_it_has_no_opposite():
    assert relation_swaps("the middle zone") == (("zone", "the lower zone"),)
    assert relation_swaps("the medium-sized nodule") == (("size", "the large nodule"),)
    # with an opposite in the same phrase, that one is turned and nothing else
    assert relation_swaps("between upper and middle zone") == (("zone", "between lower and middle zone"),)


def test_relations_of_size_are_turned_round():
    assert dict(relation_swaps("the larger of the two nodules"))["size"] == "the smaller of the two nodules"
    assert dict(relation_swaps("the smallest nodule"))["size"] == "the largest nodule"


@pytest.mark.parametrize("text", ["a nodule of 12 mm", "1.5cm mass", "the bigger one", "Tiny", "mid-sized"])
def test_sizes_are_words_or_measures(text):
    assert has_size(text)


@pytest.mark.parametrize("text", ["12 months", "the nodule", "T12 mmol", "enlarged"])
def test_what_only_looks_like_a_size_is_none(text):
    assert not has_size(text)


@pytest.mark.parametrize(
    "text",
    [
        "the mass at 2 o'clock",
        "the mass at 10 o’clock of the left breast",
        "3 oclock",
        "the cell in column 3",
        "row two",
        "the second row",
        "the 3rd column",
        "RML opacity",
        "the right middle lobe",
        "the lingula",
        "lingular consolidation",
        "marker L",
        "R, portable",
        "lEft lung",
        "leftwards of the hilum",
    ],
)
def test_places_that_a_mirrored_picture_does_not_turn_are_found(text):
    assert not turns(text)


@pytest.mark.parametrize(
    "text",
    [
        "the nodule",
        "the left lung",
        "L-sided effusion",
        "R kidney",
        "LUL and RUZ",
        "a column of air",
        "the leftmost column",
        "the vertebral column",
        "bright upright cleft",
        "der Knoten links",  # not known to be a place: only English words are
    ],
)
def test_all_other_phrases_turn_with_the_picture(text):
    assert turns(text)


def test_places_are_more_than_sides():
    for text in ("in the centre of the image", "upper zone", "on the left", "the frontal lobe"):
        assert has_place(text)
    assert not has_place("the solid nodule")


def test_no_word_is_swapped_by_two_tables():
    tables = (phrase_words._SIDES, phrase_words._HEIGHTS, phrase_words._SIZES)
    words = [word for table in tables for word in table]
    assert len(words) == len(set(words))
    assert all(table[twin] == word for table in tables for word, twin in table.items())
