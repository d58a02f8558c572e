"""Twins of sentences: other words of the same meaning, and one word of another, tied to the picture anew."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mmmed.data.folders import load_cohort
from mmmed.data.phrase_truth import _Others, _twins, known_phrases, report_phrases, taught_phrases
from mmmed.data.phrase_twins import KINDS, kinds_of, reworded, turned, wordings
from mmmed.data.phrases import lesions_of
from mmmed.data.synthetic.text import parse

SENTENCES = (
    "A small smooth solid nodule in the left upper zone.",
    "A further star-shaped half-solid opacity in the right lower zone, 25 mm.",
    "Wavy part-solid lesion RMZ, 16 mm.",
    "Minute round ground-glass nodule LUZ.",
    "An opacity of 35 mm in the left middle zone.",
    "Big lesion RLZ.",
    "Pleural fluid on the right.",
    "Eff left.",
)
MILLIMETRES = {"tiny": (8, 10), "small": (15, 16), "medium": (25,), "large": (34, 35)}


@pytest.fixture(scope="module")
def cohort():
    return load_cohort("synthetic", patients=60, seed=3, lesions=(0, 3), missingness="sequential")


def chance(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_other_words_state_the_same(sentence):
    (own,) = parse(sentence)
    said = wordings(sentence, 30, chance())
    assert said[0] == sentence
    assert len(said) == len(set(said))
    assert {parse(other)[0] for other in said} == {own}
    assert len(said) > 2 or own.finding == "effusion"
    assert len(wordings(sentence, 1, chance())) == 1


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_turned_word_changes_its_own_meaning_and_no_other(sentence):
    (own,) = parse(sentence)
    for kind in kinds_of(own):
        values = set()
        for seed in range(40):
            (other,) = parse(turned(sentence, kind, chance(seed), MILLIMETRES))
            kept = {"millimetres": own.millimetres} if kind == "size" else {}
            assert replace(other, **{kind: getattr(own, kind)}, **kept) == own
            assert bool(other.millimetres) == bool(own.millimetres)
            values.add(getattr(other, kind))
        assert getattr(own, kind) not in values
        assert len(values) == {"side": 1, "size": 3}.get(kind, 2), "every other meaning is drawn"


def test_what_is_not_stated_stays_unstated_and_articles_fit():
    for kind in KINDS:
        assert turned("No effusion.", kind, chance(), MILLIMETRES) == "No effusion."
    assert turned("Nodule, 16 mm.", "size", chance(), {"small": (15, 16)}) == "Nodule, 16 mm."
    said = {reworded("A nodule of 35 mm in the left upper zone.", chance(seed)) for seed in range(20)}
    assert {text.split(" of")[0] for text in said} == {"A nodule", "A lesion", "An opacity"}


def scene_of_two(cohort):
    """A row with two nodules, and the generator of masks."""
    made = cohort.truth.made
    row = next(
        row
        for row, scene in enumerate(made.scenes)
        if len(scene.lesions) == 2 and scene.lesions[0].side != scene.lesions[1].side
    )
    return made, row, made.scenes[row].lesions


def test_by_hand_twins_of_a_picture_with_two_nodules_point_where_they_fit(cohort):
    made, row, (large, tiny) = scene_of_two(cohort)
    fluid = np.zeros((64, 64), bool)
    own = made.mask("lesion 1")[row]
    others = _Others({("nodule", "absent"): ["No nodule."]}, MILLIMETRES)
    said = [(f"A nodule in the {large.side} {large.zone} zone.", own)]
    twins = dict(_twins(made, row, said, fluid, others, chance()))
    assert twins["No nodule."] is None, "a denial has nothing to draw, though it is false"
    (side,) = (text for text in twins if f"{tiny.side} {large.zone}" in text)
    fits = large.zone == tiny.zone  # the other nodule lies across
    assert (twins[side] is not None) == fits
    across = [(f"A nodule on the {large.side}.", own)]
    ((text, mask),) = _twins(made, row, across, fluid, _Others({}, MILLIMETRES), chance())
    assert text == f"A nodule on the {tiny.side}."
    assert np.array_equal(mask, made.mask("lesion 2")[row]), "the changed word is true of the other nodule"


def test_a_twin_that_fits_several_nodules_is_left_out(cohort):
    made = cohort.truth.made
    row, lesions = next(
        (row, scene.lesions)
        for row, scene in enumerate(made.scenes)
        if len(scene.lesions) == 3 and scene.lesions[1].side == scene.lesions[2].side != scene.lesions[0].side
    )
    said = [(f"A nodule on the {lesions[0].side}.", made.mask("lesion 1")[row])]
    assert _twins(made, row, said, np.zeros((64, 64), bool), _Others({}, MILLIMETRES), chance()) == []


@pytest.mark.parametrize("column", ["findings", "impression"])
def test_every_true_sentence_stays_and_twins_are_tied_by_what_they_state(cohort, column):
    made = cohort.truth.made
    rows = dict(zip(cohort.ids.tolist(), cohort.rows.tolist(), strict=True))
    plain, twinned = report_phrases(cohort, column), report_phrases(cohort, column, twins=True)
    told = {(phrase.record, phrase.text): phrase for phrase in twinned}
    assert len(told) == len(twinned), "no text comes twice about a record"
    for phrase in plain:
        assert np.array_equal(told[phrase.record, phrase.text].mask, phrase.mask)
    for phrase in twinned:
        scene, (statement,) = made.scenes[rows[phrase.record]], parse(phrase.text)
        kinds = [*kinds_of(statement), *["millimetres"] * bool(statement.millimetres)]
        stated = {kind: getattr(statement, kind) for kind in kinds}
        fitting = [
            place
            for place, lesion in enumerate(scene.lesions, 1)
            if all(getattr(lesion, kind) == value for kind, value in stated.items())
        ]
        if statement.status == "absent":
            assert phrase.empty
        elif statement.finding == "nodule":
            assert len(fitting) == (not phrase.empty)
            if fitting:
                assert np.array_equal(phrase.mask, made.mask(f"lesion {fitting[0]}")[rows[phrase.record]])
        else:
            there = scene.effusion == "present" and statement.side == scene.effusion_side
            assert phrase.empty == (not there)


def test_what_is_denied_in_truth_is_claimed_falsely_and_the_other_way_round(cohort):
    made = cohort.truth.made
    rows = dict(zip(cohort.ids.tolist(), cohort.rows.tolist(), strict=True))
    told = Counter(
        (p.category, statement.status, made.scenes[rows[p.record]].effusion, p.empty)
        for p in report_phrases(cohort, twins=True)
        for statement in parse(p.text)
        if p.category == "effusion"
    )
    assert told["effusion", "present", "absent", True] == told["effusion", "absent", "absent", True] > 0
    assert told["effusion", "absent", "present", True] == told["effusion", "present", "present", False] > 0
    assert not [key for key in told if key[2] == "uncertain"], "whether it is there is not known"
    lesions = lesions_of(cohort)
    nodules = [p for p in report_phrases(cohort, twins=True) if lesions.get(p.record) == "none"]
    claims = [p for p in nodules if p.category == "nodule" and parse(p.text)[0].status == "present"]
    assert claims
    assert all(p.empty for p in claims)


def test_as_many_sentences_about_nodules_fit_as_do_not_in_the_same_words(cohort):
    told = [
        phrase
        for phrase in report_phrases(load_cohort("synthetic", patients=100, seed=1), twins=True)
        if phrase.category == "nodule"
    ]
    count = Counter(phrase.empty for phrase in told)
    assert abs(count[True] - count[False]) < 0.03 * len(told)
    kinds = {empty: Counter(_words(told, empty)) for empty in (True, False)}
    rare = {word for word in kinds[False] if word.isalpha() and kinds[True][word] < 0.5 * kinds[False][word]}
    assert not rare, "a word that only true sentences have would tell the answer"


def _words(told, empty):
    texts = (phrase.text.lower().strip(".").replace(",", "") for phrase in told if phrase.empty == empty)
    return [word for text in texts for word in text.split()]


def test_twins_are_the_same_for_a_seed_and_for_a_record_in_any_part(cohort):
    def of_nodules(view, seed=0):
        told = [p for p in report_phrases(view, twins=True, seed=seed) if p.category == "nodule"]
        drawn = {p.record for p in told if not p.empty}  # the others have sentences of other records
        return {(p.record, p.text) for p in told if p.record in drawn and not p.text.startswith("N")}

    whole, val = of_nodules(cohort), cohort["val"]
    assert whole == of_nodules(cohort)
    assert whole != of_nodules(cohort, seed=1)
    assert of_nodules(val) == {(record, text) for record, text in whole if record in set(val.ids.tolist())}


def test_what_is_taught_is_short_phrases_and_sentences_of_training_and_validation(cohort):
    taught = taught_phrases(cohort)
    short = [p for part in ("train", "val") for p in known_phrases(cohort[part], whole=True)]
    texts = Counter((p.record, p.text) for p in taught)
    assert not Counter((p.record, p.text) for p in short) - texts
    assert len(taught) == len(short) + sum(
        len(report_phrases(cohort[part], twins=True)) for part in ("train", "val")
    )
    assert not {p.record for p in taught} & set(cohort["test"].ids.tolist())
    assert len(taught_phrases(cohort, twins=False)) < len(taught)
