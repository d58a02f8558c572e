"""A table of classes is asked once for each class of a record, for everything that belongs to it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from squares import SIDE, cohort_of, make_segmenter, paint, square

from mmmed.training.mask_finetune import finetune_masks, lessons_of
from mmmed.training.mask_recipe import MaskRecipe
from mmmed.types import Phrase

LEFT, RIGHT, LOW = square((8, 8)), square((8, 24)), square((24, 16))
TOLD = [
    Phrase("r0", "the nodule on the left", LEFT, category="nodule"),
    Phrase("r0", "the mass", LOW, category="mass"),
    Phrase("r0", "the nodule on the right", RIGHT, category="nodule"),
    Phrase("r0", "the nodule below", None, category="nodule"),
    Phrase("r1", "the nodule on the left", None, category="nodule"),
    Phrase("r1", "the nodule on the right", None, category="nodule"),
    Phrase("r1", "the mass", None, category="mass"),
]


def taught(phrases, learned=TOLD):
    generator = np.random.default_rng(0)
    cohort = cohort_of([paint([LEFT, RIGHT, LOW], generator) for _ in range(2)], ["train"] * 2)
    segmenter = make_segmenter(cohort, learned, query="classes")
    return segmenter, cohort, lessons_of(segmenter, cohort["train"], phrases, "training")


def told(lessons):
    """(record, class) -> (there, known, pixels)."""
    targets = lessons.target(torch.arange(len(lessons.phrases))).numpy()
    facts = zip(lessons.phrases, lessons.there.tolist(), lessons.known.tolist(), targets, strict=True)
    return {(phrase.record, phrase.text): (there, known, target) for phrase, there, known, target in facts}


def test_one_question_for_each_class_of_a_record_points_at_all_of_it():
    lessons = taught(TOLD)[2]
    found = told(lessons)
    assert len(lessons.phrases) == 4
    nothing = np.zeros((SIDE, SIDE))
    expected = {
        ("r0", "nodule"): (True, LEFT | RIGHT),
        ("r0", "mass"): (True, LOW),
        ("r1", "nodule"): (False, nothing),
        ("r1", "mass"): (False, nothing),
    }
    assert found.keys() == expected.keys()
    for key, (there, pixels) in expected.items():
        assert found[key][:2] == (there, True)
        np.testing.assert_array_equal(found[key][2], pixels)
    assert lessons.row.tolist() == [0, 0, 1, 1]
    assert (lessons.true_of, lessons.false_of) == ({0: (0, 1)}, {1: (2, 3)})


def test_a_class_of_which_one_thing_was_not_drawn_is_there_but_nobody_knows_where_all_of_it_is():
    found = told(taught([TOLD[0], replace(TOLD[2], mask=True), TOLD[1]])[2])
    assert found["r0", "nodule"][:2] == (True, False)
    assert not found["r0", "nodule"][2].any()
    assert found["r0", "mass"][:2] == (True, True)


def test_a_class_is_read_from_the_words_where_the_phrase_does_not_say_it():
    bare = [replace(phrase, category="") for phrase in TOLD]
    spoken, silent = (told(taught(phrases)[2]) for phrases in (TOLD, bare))
    assert spoken.keys() == silent.keys()
    for key, (*facts, pixels) in spoken.items():
        assert list(silent[key][:2]) == facts
        np.testing.assert_array_equal(silent[key][2], pixels)
    with pytest.raises(ValueError, match="cyst"):
        taught([*TOLD, Phrase("r0", "the cyst", LEFT)])


def test_acquisitions_are_asked_for_one_by_one():
    two = [
        replace(TOLD[0], acquisition="ultrasound"),
        replace(TOLD[2], acquisition="mammography"),
    ]
    lessons = taught(two, two)[2]
    assert [phrase.acquisition for phrase in lessons.phrases] == ["ultrasound", "mammography"]
    np.testing.assert_array_equal(lessons.target(torch.tensor([0]))[0].numpy(), LEFT)


def test_a_table_of_classes_can_be_taught_and_its_pictures_are_not_mirrored():
    segmenter, cohort, _ = taught(TOLD)
    run = finetune_masks(segmenter, cohort, TOLD, recipe=MaskRecipe(first=0.0), epochs=1, progress=False)
    assert run.counts["train phrases"] == 4
    assert np.isfinite(run.history[0]["loss"])
