"""A report says what it rests on and what was missing, and never lets data become markup."""

import json

import pytest

from mmmed.types import Reply, Report, Sentence


def sentence(**given):
    return Sentence(
        "No effusion.", **{"score": -0.1, "evidence": {"image": 0.8, "text": 0.0}, "grounding": 0.9, **given}
    )


def test_a_sentence_rests_on_the_modality_whose_loss_hurts_most():
    assert sentence().rests_on == "image"
    assert not sentence().from_habit


def test_a_sentence_that_nothing_makes_likelier_is_a_habit_of_the_language():
    habit = sentence(evidence={"image": 0.01, "text": -0.3}, grounding=0.02)
    assert habit.from_habit
    assert habit.rests_on == ""


def test_what_two_modalities_tell_alike_is_no_habit():
    shared = sentence(evidence={"image": 0.0, "text": 0.0}, grounding=0.9)
    assert not shared.from_habit
    assert "the inputs together +0.90" in str(Report("a", (shared,)))


def test_what_was_not_measured_is_no_habit_and_has_no_brackets():
    plain = sentence(evidence={}, grounding=None)
    assert not plain.from_habit
    assert "[" not in str(Report("a", (plain,)))


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ((), ""),
        (("image",), "Not available: image."),
        (("image", "text"), "Not available: image and text."),
        (("image", "table", "text"), "Not available: image, table and text."),
    ],
)
def test_what_is_missing_is_said_in_words(missing, said):
    assert Report("a", (), missing=missing).statement == said


def test_text_of_a_record_is_escaped_in_the_notebook():
    nasty = "<script>alert(1)</script>"
    report = Report(
        nasty,
        (Sentence(nasty),),
        used=(nasty,),
        missing=(nasty,),
        withheld=(Sentence(nasty, reason=nasty),),
        notes=(nasty,),
    )
    shown = report._repr_html_()
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") == 7


def test_reports_and_replies_become_json_and_carry_the_notice():
    report = Report(
        "a", (sentence(),), used=("image",), missing=("text",), withheld=(sentence(reason="too uncertain"),)
    )
    told = json.loads(json.dumps(report.to_dict()))
    assert told["sentences"][0]["evidence"] == {"image": 0.8, "text": 0.0}
    assert told["withheld"][0]["reason"] == "too uncertain"
    assert "Research use only" in told["notice"]
    reply = Reply("a", "Is there an effusion?", "No.", -0.2, {"image": 0.5}, 0.6)
    assert json.loads(json.dumps(reply.to_dict()))["grounding"] == 0.6
    assert "Is there an effusion?" in str(reply)


def test_an_abstention_says_so_everywhere():
    report = Report("a", (), missing=("image",), abstained=True)
    assert report.text == ""
    assert "No report" in str(report)
    assert "No report" in report._repr_html_()
