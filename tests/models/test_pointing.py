"""A report and its masks: one for each sentence, whatever wrote and whatever draws."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmmed.models.language_states import report_states, states_of
from mmmed.models.pointing import ReportReader, ReportWithMasks, answer_with_masks
from mmmed.models.referring_segmenter import ReferringSegmenter
from mmmed.types import Mask, Phrase, Record, Report, Sentence
from tests.small_reporter import make_cohort, make_reporter, shaken, taught

SAID = ("A nodule <b>here</b>.", "...", "No effusion.")


class Says:
    """A reporter that says the same of everyone, and nothing of whom nothing is known."""

    def generate(self, records):
        return [Report(r.id, tuple(map(Sentence, SAID)) if r.inputs else ()) for r in records]


class Draws:
    """A segmenter that draws the upper half unless the phrase says no."""

    def segment(self, record, phrases, *, spacing=None):
        half = np.arange(4)[:, None].repeat(4, 1) < 2
        masks = []
        for text in phrases:
            there = not text.startswith("No")
            masks.append(Mask(record.id, text, half & there, 0.9 if there else 0.1, there, spacing=spacing))
        return masks


@pytest.fixture(scope="module")
def cohort():
    return make_cohort()


@pytest.fixture(scope="module")
def reporter(cohort):
    return shaken(make_reporter(cohort))


def segmenter_of(cohort, query):
    return ReferringSegmenter.from_cohort(cohort, query=query, width=8, dim=8)


def test_each_sentence_with_words_has_its_mask(cohort):
    answer = answer_with_masks(Says(), Draws(), cohort[0], spacing=(2.0, 2.0))
    report, masks = answer
    assert report is answer.report
    assert masks == list(answer.masks)
    assert [mask.phrase for mask in masks] == [SAID[0], SAID[2]]
    assert [mask.present for mask in masks] == [True, False]
    assert [mask.phrase for mask in answer.shown] == [SAID[0]]
    assert masks[0].size == 8 * 4.0
    assert answer.to_dict()["masks"][1]["present"] is False


def test_the_card_shows_report_and_masks_and_runs_no_text(cohort):
    answer = answer_with_masks(Says(), Draws(), cohort[0])
    page = answer._repr_html_()
    assert "<b>here</b>" not in page
    assert "&lt;b&gt;here" in page
    assert "not there" in page
    assert page.count("data:image/png") == 1
    assert "A nodule <b>here</b>.  [50.0 % of the picture]" in str(answer)
    assert "No effusion.  [not there]" in str(answer)


def test_where_nothing_can_be_said_nothing_is_drawn(cohort):
    answer = answer_with_masks(Says(), Draws(), Record("empty", {}))
    assert answer.masks == ()
    assert "no sentence" in answer._repr_html_()
    assert "nothing was asked" in str(answer)


def test_masks_that_belong_to_other_sentences_are_refused(cohort):
    report, masks = answer_with_masks(Says(), Draws(), cohort[0])
    with pytest.raises(ValueError, match="one mask for each sentence"):
        ReportWithMasks(report, masks[:1])
    with pytest.raises(ValueError, match="one mask for each sentence"):
        ReportWithMasks(report, masks[::-1])


@pytest.mark.filterwarnings("ignore:The grounding gap")
def test_a_generator_and_a_segmenter_of_its_states_answer_together(cohort):
    reporter = taught(cohort)
    segmenter = segmenter_of(cohort, reporter)
    answer = answer_with_masks(reporter, segmenter, cohort[0])
    expected = segmenter.point(cohort[0], answer.report)
    assert answer.masks
    for mask, other in zip(answer.masks, expected, strict=True):
        assert mask.phrase == other.phrase
        assert np.array_equal(mask.pixels, other.pixels)
        assert mask.presence == other.presence


def test_without_a_picture_the_report_stays_and_no_mask_shows_anything(cohort, reporter):
    segmenter = segmenter_of(cohort, reporter)
    for in_one_pass in (False, True):
        answer = answer_with_masks(Says(), segmenter, cohort[0].without("image"), in_one_pass=in_one_pass)
        assert len(answer.masks) == 2
        assert not answer.shown
        assert "nothing to segment" in answer.masks[0].notes[0]


def test_in_one_pass_the_states_are_those_of_the_report(cohort, reporter):
    said = ["A nodule in the left upper zone.", "No effusion.", "LDH is raised."]
    phrases = [Phrase(cohort[row].id, text) for text in said for row in (0, 1)]
    read = ReportReader(reporter).read(phrases, [cohort[0], cohort[1]], [0, 1] * 3)["states"]
    for row in (0, 1):
        torch.testing.assert_close(read[row::2], report_states(reporter, cohort[row], said))
    alone = torch.cat(states_of(reporter, [cohort[0]], [said]))
    torch.testing.assert_close(read[0], alone[0], atol=1e-5, rtol=1e-4)
    assert (read[4] - alone[2]).abs().max() > 1e-3  # the last one has read those before it


def test_one_pass_draws_with_the_same_weights_and_leaves_the_segmenter_as_it_was(cohort, reporter):
    segmenter = segmenter_of(cohort, reporter)
    reader, record = segmenter.reader, cohort[0]
    report = Report(record.id, tuple(map(Sentence, ["A nodule on the left.", "A nodule on the right."])))
    writer = type("Writer", (), {"generate": lambda self, records: [report]})()
    alone = answer_with_masks(writer, segmenter, record).masks
    passed = answer_with_masks(writer, segmenter, record, in_one_pass=True).masks
    assert segmenter.reader is reader
    assert np.allclose(alone[0].probability, passed[0].probability, atol=1e-4)
    assert not np.allclose(alone[1].probability, passed[1].probability, atol=1e-4)


def test_one_pass_needs_a_segmenter_that_reads_states(cohort):
    with pytest.raises(ValueError, match="query=reporter"):
        answer_with_masks(Says(), Draws(), cohort[0], in_one_pass=True)
    by_words = segmenter_of(cohort, "words")
    with pytest.raises(ValueError, match="this one reads 'words'"):
        answer_with_masks(Says(), by_words, replace(cohort[0], id="a"), in_one_pass=True)
