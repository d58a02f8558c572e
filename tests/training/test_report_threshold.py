"""The threshold keeps at most one in ten sentences false, and withholds no more than that takes."""

import numpy as np
import pytest

from mmmed.training.report_threshold import is_false, threshold_for
from mmmed.types import Sentence


def test_nothing_is_withheld_where_few_sentences_are_false():
    scores = -np.arange(30) / 10
    assert threshold_for(scores, np.zeros(30, bool)) == (None, "")
    assert threshold_for(scores, np.arange(30) == 29) == (None, "")  # (1 + 1) / 31


def test_the_lowest_score_above_which_one_in_ten_is_false():
    # scores 0, -1, ... -39; false from the 31st on. Of k kept, k - 30 are false, and
    # (k - 30 + 1) / (k + 1) <= 0.1 holds up to k = 32 (3 / 33), not for 33 (4 / 34).
    scores, false = -np.arange(40.0), np.arange(40) >= 30
    threshold, note = threshold_for(scores, false)
    assert (threshold, note) == (-31.0, "")
    assert (scores >= threshold).sum() == 32


def test_equal_scores_are_kept_or_withheld_together():
    # 25 sure and true sentences, then ten of one score, five of them false: 6 / 36 is too much for all of
    # these, and the first of them alone (2 / 27) may not be kept without the rest
    scores = np.r_[np.zeros(25), np.full(10, -1.0)]
    false = np.r_[np.zeros(25, bool), np.arange(10) % 2 == 0]
    assert threshold_for(scores, false) == (0.0, "")
    shuffled = np.random.default_rng(0).permutation(35)
    assert threshold_for(scores[shuffled], false[shuffled]) == (0.0, "")


def test_where_no_score_helps_everything_is_withheld_and_this_is_said():
    scores = -np.arange(25.0)
    threshold, note = threshold_for(scores, np.ones(25, bool))
    assert (scores < threshold).all()
    assert "every sentence that is written will be withheld" in note


def test_where_nothing_is_false_but_the_sentences_are_few_no_threshold_is_fixed():
    threshold, note = threshold_for(-np.arange(19.0), np.ones(19, bool))
    assert threshold is None
    assert "Only 19 validation sentences" in note
    assert threshold_for(-np.arange(20.0), np.ones(20, bool))[0] is not None
    assert threshold_for(np.zeros(0), np.zeros(0, bool))[0] is None


def test_what_is_kept_has_the_risk_that_was_asked_for():
    generator = np.random.default_rng(1)
    rates = []
    for _ in range(200):
        scores = generator.normal(size=400)
        false = generator.random(400) < 1 / (1 + np.exp(3 * scores))  # the higher, the truer
        threshold = threshold_for(scores[:200], false[:200], 0.2)[0]
        kept = scores[200:] >= threshold
        rates.append(false[200:][kept].mean())
    assert np.mean(rates) < 0.21


@pytest.mark.parametrize(
    ("said", "stated", "false"),
    [
        ({"nodule": "present"}, {"nodule": "present"}, False),
        ({"nodule": "present"}, {"nodule": "uncertain"}, False),
        ({"nodule": "present"}, {"nodule": "absent"}, True),
        ({"nodule": "present"}, {}, True),  # made up
        ({"nodule": "absent"}, {"nodule": "present"}, True),  # overlooked
        ({"nodule": "absent"}, {"nodule": "uncertain"}, False),
        ({"nodule": "absent"}, {}, False),
        ({"nodule": "uncertain"}, {"nodule": "absent"}, False),
        ({"nodule": "present", "cough": "present"}, {"nodule": "present"}, True),  # one false part is enough
        ({}, {"nodule": "present"}, False),
    ],
)
def test_a_sentence_is_false_if_it_invents_or_denies(said, stated, false):
    assert is_false(Sentence("words", findings=said), stated) is false
