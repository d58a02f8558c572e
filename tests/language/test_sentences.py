"""Sentences and clauses: nothing is lost, and no point of a number or abbreviation ends one."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmmed.language.sentences import LONGEST, clauses, sentences


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", []),
        (" \n\t ", []),
        ("No effusion", ["No effusion"]),
        ("A nodule of 1.5 cm. No effusion.", ["A nodule of 1.5 cm.", "No effusion."]),
        (
            "Seen by Dr. XXXX. Devices, e.g. a tube, approx. 3 cm.",
            ["Seen by Dr. XXXX.", "Devices, e.g. a tube, approx. 3 cm."],
        ),
        ("1. No effusion. 2. Atelectasis.", ["1. No effusion.", "2. Atelectasis."]),
        ("No effusion.Heart normal.", ["No effusion.", "Heart normal."]),
        ("no effusion.heart normal", ["no effusion.", "heart normal"]),
        ("No effusion . heart normal .", ["No effusion .", "heart normal ."]),
        ("No effusion\nHeart normal", ["No effusion", "Heart normal"]),
        (
            "The right lower\nlobe is XXXX.\n\n- Edema\n- No mass",
            ["The right lower\nlobe is XXXX.", "- Edema", "- No mass"],
        ),
        ("Effusion? ?pneumonia. Query mass", ["Effusion?", "?pneumonia.", "Query mass"]),
        ("XXXX XXXX. XXXX lungs.", ["XXXX XXXX.", "XXXX lungs."]),
        (
            "Kein Erguss, z.B. links. 胸水なし。心拡大。",
            ["Kein Erguss, z.B. links.", "胸水なし。", "心拡大。"],
        ),
        ("Really!! (No effusion.) Yes", ["Really!!", "(No effusion.)", "Yes"]),
    ],
)
def test_sentences_by_hand(text, wanted):
    assert sentences(text) == wanted


@given(st.text(alphabet=st.sampled_from("aZ1 .?!;,\n\r\t\x00\x1f)-。é\u200b"), max_size=200))
def test_no_character_but_white_space_is_lost(text):
    together = "".join("".join(sentence.split()) for sentence in sentences(text))
    assert together == "".join(text.split())


@given(st.text(max_size=300))
def test_reading_sentences_again_changes_nothing_that_matters(text):
    for sentence in sentences(text):
        assert sentence == sentence.strip()
        assert 0 < len(sentence) <= LONGEST
        assert "".join("".join(clauses(sentence)).split())  # a sentence has at least one clause


def test_a_text_without_points_is_cut_at_spaces():
    pieces = sentences("effusion " * 1000)
    assert all(piece.endswith("effusion") for piece in pieces)
    assert sentences("x" * (2 * LONGEST + 1)) == ["x" * LONGEST, "x" * LONGEST, "x"]


@pytest.mark.parametrize(
    "unit", ["word ", "a. ", "1. ", "\n", " ", "?", "e.g. ", ". . ", "No effusion.", "((", "."]
)
def test_time_is_linear_in_the_length(unit):
    def seconds(count):
        start = time.process_time()
        sentences(unit * count)
        return time.process_time() - start

    assert seconds(20_000) < 0.5  # a quadratic reading takes tens of seconds


@pytest.mark.parametrize(
    "unit", [".", "?", "!?", ".)", ".'", "? ", "\n", "\n ", " ", "a.", "。", "(.", "-\n"]
)
@pytest.mark.parametrize("end", ["a", " A", ""])
def test_a_hundred_thousand_signs_take_less_than_a_second(unit, end):
    text = (unit * 100_000)[:100_000] + end
    start = time.process_time()
    found = sentences(text)
    assert time.process_time() - start < 1, (unit, end)
    assert "".join("".join(found).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("sentence", "wanted"),
    [
        ("No effusion", ["No effusion"]),
        ("No effusion, but a mass.", ["No effusion", "but a mass."]),
        ("No effusion; mild edema", ["No effusion", "mild edema"]),
        ("Cardiomegaly with no edema", ["Cardiomegaly", "with no edema"]),
        ("Opacity, possibly pneumonia, no effusion", ["Opacity", "possibly pneumonia", "no effusion"]),
        ("No effusion, mass or edema", ["No effusion, mass or edema"]),
        ("No effusion and the heart is normal", ["No effusion", "the heart is normal"]),
        ("Effusion on the right, none on the left", ["Effusion on the right", "none on the left"]),
        ("Nodules, none of them large", ["Nodules, none of them large"]),
        ("Although small, however present", ["Although small", "however present"]),
        ("A butterfly pattern", ["A butterfly pattern"]),
        (";", [";"]),
    ],
)
def test_clauses_by_hand(sentence, wanted):
    assert clauses(sentence) == wanted
