"""BLEU-4 and ROUGE-L: equal to the library and to counting by hand, defined for empty texts."""

import math
import sys

import numpy as np
import pytest
from small_reports import reports

from mmmed.evaluation.report_overlap import (
    bleu,
    bleu_counts,
    bleu_from_counts,
    bleu_pairs,
    rouge_l,
    rouge_l_pairs,
)

pytest.importorskip("sacrebleu")
pytest.importorskip("rouge_score")


def test_bleu_by_hand():
    # 5 of 6 words match, 3 of 5 pairs, 2 of 4 triples, 1 of 3 fours; equal length
    told, said = "there is a small left effusion", "there is a small right effusion"
    assert bleu([told], [said]) == pytest.approx((5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)


def test_a_short_text_pays_the_brevity_penalty():
    told, said = "the heart is not enlarged at all", "the heart is not enlarged"
    assert bleu([told], [said]) == pytest.approx(math.exp(1 - 7 / 5))


def test_rouge_l_by_hand():
    # longest common subsequence "there is a effusion": 4 of 6 words and 4 of 5
    assert rouge_l(["there is a small left effusion"], ["there is a right effusion"]) == pytest.approx(8 / 11)


def test_the_set_is_scored_as_sacrebleu_scores_it():
    from sacrebleu.metrics import BLEU

    told, said = reports(40)
    theirs = BLEU(lowercase=True, tokenize="13a").corpus_score(said, [told]).score / 100
    assert bleu(told, said) == pytest.approx(theirs, abs=1e-12)


def test_the_set_is_the_sum_of_the_counts_of_its_reports_whatever_is_drawn():
    told, said = reports(30)
    weights = np.random.default_rng(1).integers(0, 3, size=(20, 30))
    fast = bleu_from_counts(weights @ bleu_counts(told, said))
    for row, value in zip(weights, fast, strict=True):
        index = np.repeat(np.arange(30), row)
        assert bleu([told[i] for i in index], [said[i] for i in index]) == pytest.approx(value, abs=1e-12)


def test_case_and_space_around_a_text_count_nothing():
    assert bleu(["No effusion is seen."], [" no Effusion is SEEN. "]) == pytest.approx(1)
    assert rouge_l(["No effusion is seen."], [" no Effusion is SEEN "]) == pytest.approx(1)


@pytest.mark.parametrize("text", ["Normal.", "No effusion.", "There is a small nodule on the right."])
def test_the_reference_itself_scores_one_however_short(text):
    assert bleu([text], [text]) == pytest.approx(1)
    assert rouge_l([text], [text]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("told", "said", "value"), [("", "", 1), (" ", "\n", 1), ("a b c d", "", 0), ("", "a b", 0)]
)
def test_empty_texts_have_a_score(told, said, value):
    assert bleu_pairs([told], [said]) == pytest.approx([value])
    assert rouge_l_pairs([told], [said]) == pytest.approx([value])
    assert bleu([told], [said]) == pytest.approx(value)


def test_an_empty_text_in_a_set_costs_brevity_and_nothing_more():
    text = "there is a small left effusion"  # 6 of 12 words said, all of them right
    assert bleu([text, text], [text, ""]) == pytest.approx(math.exp(1 - 12 / 6))


def test_lists_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="equally long and not empty, got 2 and 1"):
        bleu(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="not empty, got 0 and 0"):
        rouge_l([], [])
    with pytest.raises(ValueError, match="lists of texts"):
        bleu("a", ["a"])
    with pytest.raises(ValueError, match="got None in row 1"):
        rouge_l(["a", None], ["a", "b"])


@pytest.mark.parametrize(("package", "score"), [("sacrebleu", bleu), ("rouge_score", rouge_l)])
def test_a_missing_package_is_named_with_the_line_to_install(package, score, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r'pip install "mmmed\[language\]"'):
        score(["a b"], ["a c"])
