"""The panel of masks and words that training did not have: said once, and nothing found is a guess."""

import re

import numpy as np
from mmmed_demo.panels.masks import masks
from small_segmenter import make_segmenter, picture

from mmmed.types import Mask

NEVER = tuple(f'the word "{word}" was never seen in training' for word in ("star", "shaped", "faint"))


def read(text):
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())


def found(phrase="a faint nodule", there=False, notes=()):
    pixels = np.zeros((6, 8), bool)
    pixels[2:4, 3:5] = there
    return Mask(
        "a1", phrase, pixels, 0.9 if there else 0.02, there, picture=np.zeros((6, 8), np.uint8), notes=notes
    )


def test_all_words_that_were_never_seen_stand_in_one_line_each_once():
    text = masks([found(notes=(*NEVER, "read as a class")), found("faint", notes=NEVER[2:])])
    assert text.count("Never seen in training: star, shaped, faint.") == 1
    assert "was never seen" not in text
    assert "Note: read as a class" in text


def test_nothing_found_by_unknown_words_is_said_to_mean_little():
    text = read(masks([found(notes=NEVER)]))
    assert text.startswith("Nothing was found, which says little: words of the phrase were never seen")
    assert "Nothing to mark" not in text
    both = read(masks([found(notes=NEVER), found("the nodule")]))
    assert both.startswith("Nothing was found. Where words were never seen, that says little.")
    assert both.count("Nothing to mark in this picture.") == 1, "the answer to the known words stands"


def test_known_words_and_what_was_found_are_told_as_before():
    assert read(masks([found()])).startswith("Nothing to mark in this picture for: a faint nodule")
    there = read(masks([found(there=True, notes=NEVER)]))
    assert there.startswith("Found: a faint nodule Never seen in training: star, shaped, faint.")
    assert "Never seen" not in read(masks([found()]))


def test_nothing_marked_reads_right_for_a_denial_as_well():
    denied = read(masks([found("No effusion.")])).replace("\u00a0", " ")
    assert denied.startswith("Nothing to mark in this picture for: No effusion.")
    assert "Probability that there is something: 2 %." in denied
    assert "no such thing" not in denied, "there is no such thing as no effusion"
    both = read(masks([found("No effusion."), found("the nodule")]))
    assert both.startswith("Nothing to mark in this picture for any of these phrases.")
    scan = Mask(
        "a1", "No effusion.", np.zeros((3, 4, 5), bool), 0.02, False, picture=np.zeros((3, 4, 5), np.uint8)
    )
    assert read(masks([scan])).startswith("Nothing to mark in this volume for: No effusion.")


def test_the_notes_of_a_segmenter_are_understood():
    mask = make_segmenter().segment(picture(), "the star-shaped <b>spot</b>", threshold=1)
    text = masks([mask])
    assert "Never seen in training: star, shaped, b." in text
    assert "<b>spot" not in text
