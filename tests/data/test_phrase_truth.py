"""Phrases about synthetic pictures: expressions as they come, and sentences tied to exactly one structure."""

import numpy as np
import pytest

from mmmed.data.folders import load_cohort
from mmmed.data.phrase_truth import _tie, report_phrases, sentences
from mmmed.data.phrases import lesions_of, phrases_of
from mmmed.data.synthetic.text import parse


@pytest.fixture(scope="module")
def cohort():
    return load_cohort("synthetic", patients=60, seed=3, lesions=(0, 3), missingness="sequential")


def rows_of(cohort):
    return dict(zip(cohort.ids.tolist(), cohort.rows.tolist(), strict=True))


def test_expressions_come_as_generated_for_the_pictures_that_are_there(cohort):
    made, phrases = cohort.truth.made, phrases_of(cohort)
    shown = cohort.rows[cohort.present[:, list(cohort.schema.modalities).index("image")]]
    assert 0 < len(shown) < len(cohort)
    expected = [item for item in made.expressions if item.row in set(shown.tolist())]
    assert [phrase.text for phrase in phrases] == [item.text for item in expected]
    for phrase, item in zip(phrases, expected, strict=True):
        assert phrase.empty == (item.target is None)
        if not phrase.empty:
            assert phrase.mask.any()
            assert np.array_equal(phrase.mask, made.target_mask(item))
            assert phrase.group == cohort.groups[cohort.ids.tolist().index(phrase.record)]


def test_a_part_and_a_hidden_picture_change_which_records_are_spoken_of(cohort):
    part = cohort["val"]
    assert {phrase.record for phrase in phrases_of(part)} <= set(part.ids.tolist())
    half = cohort.keep(np.arange(len(cohort))[:, None] % 2 == np.zeros((1, 3)))
    assert {rows_of(cohort)[phrase.record] % 2 for phrase in phrases_of(half)} == {0}
    assert all(not phrase.empty for phrase in phrases_of(cohort, absent=False))


@pytest.mark.parametrize("column", ["findings", "impression", "report"])
def test_a_sentence_points_at_the_only_lesion_that_has_all_it_states(cohort, column):
    made, rows = cohort.truth.made, rows_of(cohort)
    nodules = [p for p in report_phrases(cohort, column) if p.category == "nodule" and not p.empty]
    assert nodules
    for phrase in nodules:
        (statement,) = parse(phrase.text)
        fitting = [
            place
            for place, lesion in enumerate(made.scenes[rows[phrase.record]].lesions)
            if (lesion.side, lesion.zone, lesion.size) == (statement.side, statement.zone, statement.size)
            and statement.margin in ("", lesion.margin)
            and statement.density in ("", lesion.density)
        ]
        (place,) = fitting
        assert np.array_equal(phrase.mask, made.mask(f"lesion {place + 1}")[rows[phrase.record]])


def test_a_sentence_that_fits_several_lesions_or_none_is_tied_to_nothing(cohort):
    made, told = cohort.truth.made, lesions_of(cohort)
    rows = {told.get(record, "one"): row for record, row in rows_of(cohort).items()}
    for kind, tied in (("one", True), ("several", False), ("none", False)):
        assert _tie(made, rows[kind], parse("A nodule.")[0], None)[0] == tied
    (lesion,) = made.scenes[rows["one"]].lesions
    other = {"left": "right", "right": "left"}[lesion.side]
    statement = parse(f"A nodule in the {other} {lesion.zone} zone.")[0]
    assert _tie(made, rows["one"], statement, None) == (False, None)


def test_fluid_is_pointed_at_and_what_is_denied_is_not_there(cohort):
    made, rows, phrases = cohort.truth.made, rows_of(cohort), report_phrases(cohort)
    fluid = [phrase for phrase in phrases if phrase.category == "effusion"]
    assert {phrase.empty for phrase in fluid} == {True, False}
    for phrase in fluid:
        scene = made.scenes[rows[phrase.record]]
        assert scene.effusion == ("absent" if phrase.empty else "present")
        if not phrase.empty:
            assert np.array_equal(phrase.mask, made.mask("effusion")[rows[phrase.record]])
    assert all(phrase.empty for phrase in phrases if phrase.category == "pneumothorax")


def test_doubt_suspicion_history_and_laboratory_are_left_out(cohort):
    stated = [parse(phrase.text)[0] for phrase in report_phrases(cohort, "report")]
    assert {statement.finding for statement in stated} == {"nodule", "effusion", "pneumothorax"}
    assert {statement.status for statement in stated} == {"present", "absent"}


def test_a_report_without_its_picture_gives_no_phrase(cohort):
    with pytest.raises(ValueError, match='both a picture and a text in "findings"'):
        report_phrases(cohort.without("image"))
    with pytest.raises(ValueError, match="Only the reports of a synthetic cohort"):
        report_phrases(load_cohort("diabetes"))


def test_sentences_keep_their_full_stop():
    assert sentences("No eff. Neg for nodule.") == ["No eff.", "Neg for nodule."]
    assert sentences("") == []


def test_two_views_of_a_patient_have_the_masks_of_the_first():
    cohort = load_cohort("synthetic", patients=30, views=2, size=32)
    for phrases in (phrases_of(cohort), report_phrases(cohort)):
        assert {phrase.mask.shape for phrase in phrases if not phrase.empty} == {(32, 32)}


def test_pictures_without_a_lesion_and_with_several_are_known(cohort):
    told = lesions_of(cohort)
    for record, row in rows_of(cohort).items():
        count = len(cohort.truth.made.scenes[row].lesions)
        assert told.get(record, "one") == ("none" if count == 0 else "one" if count == 1 else "several")
