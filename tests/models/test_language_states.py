"""States of phrases: what a language model has read of picture and words where it would ask for a mask."""

import pytest
import torch

from mmmed.language.language_model import small_llama
from mmmed.language.lora import add_lora
from mmmed.language.questions import ASK_REPORT
from mmmed.language.tokenizer import SEGMENT
from mmmed.models.language_states import report_states, states_of
from mmmed.types import Report, Sentence
from tests.small_reporter import make_cohort, make_reporter, shaken

PHRASES = ["the nodule on the left", "nodule", "the smaller of the two solid nodules in the upper zone"]
REPORT = "A small solid nodule in the left upper zone. No effusion. LDH is raised."


@pytest.fixture(scope="module")
def cohort():
    return make_cohort()


@pytest.fixture(scope="module")
def reporter(cohort):
    return shaken(make_reporter(cohort))


@pytest.fixture(scope="module")
def records(cohort):
    """The first of all, one without its picture, one of whom nothing is there."""
    whole = cohort[0]
    return [whole, cohort[1].without("image"), cohort[2].without("image", "table", "text")]


def slowly(reporter, record, phrase):
    """One row, no cache, no padding: prompt, phrase and the mask word; the state before the mask word."""
    batch = reporter._batch([record])
    segments = [reporter.prompt.segments(reporter.tokenizer, ASK_REPORT)]
    answer = [*reporter.tokenizer.encode(phrase), reporter.tokenizer._tokenizer.token_to_id(SEGMENT)]
    with torch.no_grad():
        ready = reporter.network.prepare(batch, segments, [answer], reporter.tokenizer.bos)
        out = reporter.network.language_model(inputs_embeds=ready.values, output_hidden_states=True)
    return out.hidden_states[-1][0, -2]


def test_a_state_is_the_last_hidden_one_of_the_place_that_predicts_the_mask_word(reporter, records):
    found = states_of(reporter, records, [PHRASES] * 3)
    for record, states in zip(records, found, strict=True):
        expected = torch.stack([slowly(reporter, record, phrase) for phrase in PHRASES])
        torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-4)


def test_neither_other_records_nor_other_phrases_change_a_state(reporter, records):
    asked = [PHRASES, [], PHRASES[:1]]
    together = states_of(reporter, records, asked)
    assert [len(states) for states in together] == [3, 0, 1]
    for record, own, states in zip(records, asked, together, strict=True):
        for phrase, state in zip(own, states, strict=True):
            (alone,) = states_of(reporter, [record], [[phrase]])
            torch.testing.assert_close(alone[0], state, atol=1e-5, rtol=1e-4)
    one_by_one = states_of(reporter, records, asked, batch=1)
    torch.testing.assert_close(one_by_one, together, atol=1e-5, rtol=1e-4)


def test_more_phrases_than_fit_into_one_pass_are_read_alike(reporter, records, monkeypatch):
    whole = torch.cat(states_of(reporter, records, [PHRASES] * 3))
    monkeypatch.setattr("mmmed.models.language_states.ROWS", 4)
    parts = torch.cat(states_of(reporter, records, [PHRASES] * 3))
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-4)


def test_picture_and_words_and_absence_each_change_the_state(reporter, cohort):
    record = cohort[0]
    (states,) = states_of(reporter, [record], [PHRASES])
    (other,) = states_of(reporter, [record.with_input("image", cohort[3].inputs["image"])], [PHRASES])
    (without,) = states_of(reporter, [record.without("image")], [PHRASES])
    assert torch.isfinite(without).all()
    for one, two in ((states, other), (states, without), (states[:1], states[1:2])):
        assert (one - two).abs().amax(1).min() > 1e-3


def test_a_picture_is_encoded_once_for_all_its_phrases(reporter, cohort, monkeypatch):
    encoder, seen = reporter.network.encoders["image"], []
    real = encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda *given, **named: seen.append(1) or real(*given, **named))
    states_of(reporter, [cohort[0], cohort[1]], [PHRASES * 30, PHRASES], batch=1)
    assert len(seen) == 2


def test_states_learn_nothing_unless_asked_and_then_reach_lora(cohort):
    reporter = shaken(make_reporter(cohort))
    lora = add_lora(reporter.network.language_model, rank=2)
    (frozen,) = states_of(reporter, [cohort[0]], [PHRASES])
    torch.nn.Linear(frozen.shape[1], 1)(frozen).sum().backward()  # what inference mode would forbid
    assert not frozen.requires_grad
    (states,) = states_of(reporter, [cohort[0]], [PHRASES], learn=True)
    torch.testing.assert_close(states.detach(), frozen)
    states.square().sum().backward()
    named = dict(reporter.network.language_model.named_parameters())
    assert all(named[name].grad is not None for name in lora)
    assert all(weight.grad is None for weight in reporter.network.encoders.parameters())


def test_the_modes_of_all_parts_come_back_and_dropout_rests(cohort):
    reporter = shaken(make_reporter(cohort))
    reporter.network.train()
    reporter.network.encoders["image"].eval()
    one, two = (states_of(reporter, [cohort[0]], [PHRASES])[0] for _ in range(2))
    assert torch.equal(one, two)
    assert reporter.network.training
    assert not reporter.network.encoders["image"].training


def test_a_blind_reporter_reads_the_words_alone(cohort):
    reporter = shaken(make_reporter(cohort))
    reporter.blind = True
    one, two = states_of(reporter, [cohort[0], cohort[1]], [PHRASES] * 2)
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


def test_nothing_gives_nothing(reporter, cohort):
    width = reporter.network.words.embedding_dim
    assert states_of(reporter, [], []) == []
    assert states_of(reporter, [cohort[0]], [[]])[0].shape == (0, width)
    assert report_states(reporter, cohort[0], "").shape == (0, width)
    assert report_states(reporter, cohort[0], Report("a", ())).shape == (0, width)


def test_a_report_has_one_state_for_each_sentence(reporter, records):
    report = Report("a", tuple(Sentence(text) for text in REPORT.replace(". ", ".|").split("|")))
    for record in records:
        states = report_states(reporter, record, report)
        assert len(states) == 3
        torch.testing.assert_close(states, report_states(reporter, record, REPORT))
        said = ""
        for sentence, state in zip(report.sentences, states, strict=True):
            said = f"{said} {sentence.text}".strip()
            torch.testing.assert_close(state, slowly(reporter, record, said), atol=1e-5, rtol=1e-4)
        (alone,) = states_of(reporter, [record], [[report.sentences[0].text]])
        torch.testing.assert_close(states[0], alone[0], atol=1e-5, rtol=1e-4)


def test_a_language_model_without_a_mask_word_gives_the_same_place(cohort):
    """Named language models have no `<seg>`; what follows a place never changes its state."""
    own = make_reporter(cohort).tokenizer
    lm = small_llama(len(own), width=32, layers=1, heads=2, length=256)
    reporter = shaken(make_reporter(cohort, language_model=(lm, own)))
    (states,) = states_of(reporter, [cohort[0]], [PHRASES])
    expected = slowly(reporter, cohort[0], PHRASES[0])
    torch.testing.assert_close(states[0], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("phrases", "told"),
    [
        (["the nodule"], "one list of phrases per record"),
        ("the nodule", "one list of phrases per record"),
        ([], "one list of phrases per record"),
        ([["  "]], "say what to look for"),
        ([["nodule " * 300]], "language model reads"),
    ],
)
def test_wrong_phrases_are_answered_with_what_to_do(reporter, cohort, phrases, told):
    with pytest.raises(ValueError, match=told):
        states_of(reporter, [cohort[0]], phrases)
