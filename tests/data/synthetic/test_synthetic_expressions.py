"""Phrases point at exactly one lesion or at none; questions have the answer that counting gives."""

import re
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from mmmed.data.synthetic import generate
from mmmed.data.synthetic.expressions import VALUES


@pytest.fixture(scope="module")
def cohort():
    return generate(500, seed=11)


def _read(text, lesions):
    """The lesions that a phrase means, from its words alone."""
    words = re.findall(r"[a-z-]+", text.replace("medium-sized", "medium"))
    fitting = [
        place
        for place, lesion in enumerate(lesions)
        if all(getattr(lesion, name) in words for name, values in VALUES.items() if set(values) & set(words))
    ]
    if "two" in words:
        if len(fitting) != 2:
            return []
        fitting.sort(key=lambda place: lesions[place].millimetres)
        return [fitting["larger" in words]]
    return fitting


def test_each_phrase_has_exactly_one_target_or_is_marked_empty(cohort):
    for phrase in cohort.expressions:
        lesions = cohort.scenes[phrase.row].lesions
        expected = [] if phrase.target is None else [phrase.target]
        assert phrase.fits(lesions) == expected, phrase
        assert _read(phrase.text, lesions) == expected, phrase


def test_phrases_with_and_without_a_target_are_one_to_one(cohort):
    targets = [phrase.target is not None for phrase in cohort.expressions]
    assert sum(targets) * 2 == len(targets) == 2 * len(cohort)
    assert np.bincount([phrase.row for phrase in cohort.expressions]).tolist() == [2] * len(cohort)


def test_no_condition_of_a_phrase_can_be_left_out(cohort):
    for phrase in cohort.expressions:
        lesions = cohort.scenes[phrase.row].lesions
        for count in range(1, len(phrase.conditions)):
            for fewer in combinations(phrase.conditions, count):
                if phrase.relation:
                    continue
                places = [
                    place
                    for place, lesion in enumerate(lesions)
                    if all(getattr(lesion, name) == word for name, word in fewer)
                ]
                assert len(places) != (1 if phrase.target is not None else 0), phrase


def test_relations_and_every_attribute_occur_with_and_without_a_target(cohort):
    for wanted in (True, False):
        phrases = [phrase for phrase in cohort.expressions if (phrase.target is not None) == wanted]
        assert {phrase.relation for phrase in phrases} == {"", "larger", "smaller"}
        assert {name for phrase in phrases for name, _ in phrase.conditions} == set(VALUES)
    assert {phrase.target for phrase in cohort.expressions} == {None, 0, 1, 2}


def test_the_words_alone_hardly_tell_whether_there_is_a_target(cohort):
    seen = Counter()
    for phrase in cohort.expressions[:500]:
        seen[phrase.text] += 1 if phrase.target is not None else -1
    right = [(seen[phrase.text] > 0) == (phrase.target is not None) for phrase in cohort.expressions[500:]]
    assert np.mean(right) < 0.64


def test_the_mask_of_a_phrase_is_its_lesion_or_nothing(cohort):
    few = generate(40, seed=11, views=2)
    for phrase in few.expressions:
        mask = few.target_mask(phrase)
        if phrase.target is None:
            assert not mask.any()
        else:
            assert (mask == few.mask(f"lesion {phrase.target + 1}")[phrase.row, 0]).all()
            assert mask.any()


def test_questions_have_the_answers_that_counting_gives(cohort):
    kinds = Counter()
    for question in cohort.questions:
        scene = cohort.scenes[question.row]
        sides = Counter(lesion.side for lesion in scene.lesions)
        largest = max(scene.lesions, key=lambda lesion: lesion.radius)
        kinds[question.kind, question.answer if question.kind == "yes or no" else ""] += 1
        if question.kind == "how many":
            assert question.answer == str(sum(sides.values()))
        elif question.kind == "where":
            assert question.answer == f"{largest.side} {largest.zone} zone"
        elif question.kind == "which":
            assert dict(sides) == {"left": 1, "right": 1}
            assert question.answer == largest.side
        elif "effusion" in question.text:
            assert (question.answer == "yes") == (scene.effusion == "present")
            assert scene.effusion != "uncertain"
        else:
            side = "left" if "left" in question.text else "right"
            assert (question.answer == "yes") == (sides[side] > 0)
    assert min(kinds.values()) > 30
    assert len(kinds) == 5


def test_a_picture_without_lesions_has_an_empty_phrase_and_no_question_about_where():
    cohort = generate(80, lesions=(0, 3))
    empty = [row for row, scene in enumerate(cohort.scenes) if not scene.lesions]
    assert empty
    for row in empty:
        (phrase,) = [phrase for phrase in cohort.expressions if phrase.row == row]
        assert phrase.target is None
        assert "where" not in {question.kind for question in cohort.questions if question.row == row}
