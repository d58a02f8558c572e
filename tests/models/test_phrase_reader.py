"""A phrase is read tomorrow as it was in training, and what could not be read is said."""

import json

import pytest
import torch
from small_reporter import make_cohort, make_reporter
from small_segmenter import TEXTS, phrases
from torch import nn

from mmmed.encoders.text import TextEncoder
from mmmed.models.language_states import states_of
from mmmed.models.phrase_reader import ClassReader, WordReader, learn_reader, vocabulary_of
from mmmed.segmentation.class_table import ClassTable, hashed_rows
from mmmed.types import Phrase, Text

ASKED = [Phrase("r", text) for text in ("the spot", "a large ring on the left")]


def told(*texts, category="", acquisition=""):
    return [Phrase("r", text, category=category, acquisition=acquisition) for text in texts]


# ------------------------------------------------------------------------------------- words


def test_every_word_of_training_is_known_and_so_is_its_opposite():
    reader, _, _ = learn_reader("words", told("the larger nodule in the left upper zone", "a RUL lesion"))
    for text in ("a larger nodule", "the SMALLER nodule", "the right lower zone", "the LUL lesion."):
        assert reader.unknown(text) == (), text
    strange = reader.unknown("the huge zebra of the zebra, 7 stripes!")
    assert strange == ("huge", "zebra", "of", "7", "stripes")


def test_a_word_that_was_met_once_is_known():
    assert "nodule" in vocabulary_of(told("the nodule"))


def test_middle_and_medium_bring_the_words_they_are_swapped_for():
    vocabulary = vocabulary_of(told("the medium nodule in the middle zone"))
    assert {"large", "lower"} <= set(vocabulary)


def test_the_vocabulary_does_not_depend_on_the_order():
    assert vocabulary_of(phrases()) == vocabulary_of(phrases(TEXTS[::-1]))


def test_words_become_ids_and_the_query_maker_takes_them():
    reader, module, description = learn_reader("words", phrases(), dim=16)
    read = reader.read(ASKED)
    assert set(read) == {"ids", "mask"}
    words = module.eval()(**read)
    assert words.values.shape == (2, 6, 16)
    assert words.mask.sum(1).tolist() == [2, 6]
    alone = module(**reader.read(ASKED[:1]))
    torch.testing.assert_close(alone.values[0], words.values[0, :2], atol=1e-5, rtol=0)
    assert description == {"name": "words", "options": {}}


def test_a_stop_at_the_end_is_no_other_phrase():
    reader, _, _ = learn_reader("words", told("the spot.", "a ring"))
    one, other = (reader.read(told(text)) for text in ("the spot", "The spot. "))
    assert torch.equal(one["ids"], other["ids"])


def test_a_phrase_that_is_too_long_is_cut_and_that_is_said():
    reader, module, _ = learn_reader("words", phrases(), dim=16)
    (note,) = reader.notes(Phrase("r", " ".join(["the spot"] * 40)))
    assert note == "only the first 64 pieces of the phrase were read"
    module(**reader.read([Phrase("r", " ".join(["the spot"] * 40))]))


def test_letters_that_no_phrase_had_are_unknown_and_do_no_harm():
    reader, module, _ = learn_reader("words", phrases(), dim=16)
    odd = Phrase("r", "очаг 病変 <image> [PAD]")
    assert "очаг" in reader.unknown(odd.text)
    assert module(**reader.read([odd])).values.isfinite().all()


def test_options_reach_the_encoder_and_the_seed_its_weights():
    options = ("words", {"layers": 1, "heads": 2})
    _, one, description = learn_reader(options, phrases(), dim=16, seed=1)
    _, same, _ = learn_reader(options, phrases(), dim=16, seed=1)
    _, other, _ = learn_reader(options, phrases(), dim=16, seed=2)
    assert description["options"] == {"layers": 1, "heads": 2}
    assert torch.equal(one.pieces.weight, same.pieces.weight)
    assert not torch.equal(one.pieces.weight, other.pieces.weight)


# ----------------------------------------------------------------------------------- classes


@pytest.fixture
def classes():
    return ClassReader(("liver", "left lung", "lung"), ("ct", "mr"))


@pytest.mark.parametrize(
    ("text", "category", "acquisition"),
    [
        ("The liver.", "liver", ""),
        ("there is a left lung in this MR", "left lung", "mr"),
        ("the LEFT  lung, on CT", "left lung", "ct"),
        ("the right lung", "lung", ""),
    ],
)
def test_the_longest_class_among_the_words_is_meant(classes, text, category, acquisition):
    phrase = Phrase("r", text)
    assert (classes.category(phrase), classes.acquisition(phrase)) == (category, acquisition)


def test_what_a_phrase_says_itself_goes_before_its_words(classes):
    phrase = Phrase("r", "the left lung on ct", category="Liver", acquisition="MR")
    read = classes.read([phrase, Phrase("r", "the lung")])
    assert read["category"].tolist() == [0, 2]
    assert read["acquisition"].tolist() == [1, -1]


def test_words_beside_the_class_are_not_read_and_that_is_said(classes):
    assert classes.notes(Phrase("r", "the liver", acquisition="ct")) == ()
    left, open_ = classes.notes(Phrase("r", "the liver on the left"))
    assert left == 'read as the class "liver"; the other words are not read'
    assert "acquisition=" in open_


def test_a_table_whose_names_have_an_article_is_read_too():
    """A `ClassTable` keeps "a square"; the reader must not look for "square" in it."""
    reader, _, _ = learn_reader(ClassTable(("a square", "a ring."), ("an MR", "CT"), 8), told("x"))
    phrase = Phrase("r", "it", category="a square", acquisition="MR")
    assert (reader.category(phrase), reader.acquisition(phrase)) == ("a square", "an mr")
    for text in ("the square", "A square.", "the large square on the left"):
        assert reader.category(Phrase("r", text)) == "a square"
    assert reader.category(Phrase("r", "the ring")) == "a ring."
    assert reader.notes(Phrase("r", "the square", acquisition="ct")) == ()
    both = ClassReader(("square", "a square"))
    assert [both.category(Phrase("r", "x", category=name)) for name in both.categories] == list(
        both.categories
    )


@pytest.mark.parametrize("text", ["the spleen", "a liver-like thing", "livers"])
def test_a_class_that_there_is_not_is_refused(classes, text):
    with pytest.raises(ValueError, match="Unknown class"):
        classes.read([Phrase("r", text)])
    with pytest.raises(ValueError, match="Unknown acquisition"):
        classes.read([Phrase("r", "the liver", acquisition="pet")])


def test_classes_come_from_the_phrases_and_the_only_acquisition_needs_no_word():
    reader, module, _ = learn_reader(
        "classes", told("a", "b", category="The Lesion", acquisition="ultrasound")
    )
    assert (reader.categories, reader.acquisitions) == (("lesion",), ("ultrasound",))
    assert reader.notes(Phrase("r", "the lesion")) == ()
    assert reader.read(told("the lesion"))["acquisition"].tolist() == [0]
    assert isinstance(module, ClassTable)
    bare, module, _ = learn_reader("classes", told("a", category="lesion"), dim=8)
    assert module(**bare.read(told("lesion"))).values.shape == (1, 1, 8)
    with pytest.raises(ValueError, match="names its category"):
        learn_reader("classes", told("a"))


def test_a_table_of_hashed_names_may_be_asked_for_by_its_width():
    some = told("a", category="lesion", acquisition="mr")
    reader, module, description = learn_reader(("classes", {"rows": 32}), some, dim=8)
    assert module.rows.shape == (2, 2, 32)
    assert description["options"] == {"rows": 32}
    _, own, description = learn_reader(
        ("classes", {"rows": hashed_rows(["lesion"], ["mr"], 16)}), some, dim=8
    )
    assert description["options"] == {"rows": 16}
    json.dumps(description)
    reader, ready, description = learn_reader(own, some)
    assert ready is own
    assert description is None
    assert reader.categories == ("lesion",)


# ------------------------------------------------------------------------------------ states


@pytest.fixture(scope="module")
def cohort():
    return make_cohort()


def test_states_are_those_of_the_language_model_in_the_order_of_the_phrases(cohort):
    reporter, records = make_reporter(cohort), list(cohort[:2])
    reader, module, _ = learn_reader(reporter, phrases(), dim=8)
    which = [1, 0, 1, 1]
    asked = told("the spot on the left", "a ring", "the large nodule", "a small ring")
    read = reader.read(asked, [record.with_input("other", 3) for record in records], which)
    for row, (phrase, place) in enumerate(zip(asked, which, strict=True)):
        (alone,) = states_of(reporter, [records[place]], [[phrase.text]])
        torch.testing.assert_close(read["states"][row], alone[0], atol=1e-4, rtol=1e-4)
    assert module(**read).values.shape == (4, 1, 8)
    assert reader.read([], records, [])["states"].shape == (0, 32)
    assert reader.schema is reporter.schema
    assert reader.notes(asked[0]) == ()


# ------------------------------------------------------------------------------------ making


def test_a_module_of_ones_own_comes_with_the_text_that_it_reads():
    text = Text("phrase", vocabulary=vocabulary_of(phrases()))
    own = TextEncoder.from_schema(text, dim=8, tokens=True)
    reader, module, description = learn_reader((own, text), phrases())
    assert isinstance(reader, WordReader)
    assert module is own
    assert description is None
    for wrong, message in (((own, "text"), "comes with the Text"), (nn.Identity(), "as a pair")):
        with pytest.raises(ValueError, match=message):
            learn_reader(wrong, phrases())


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("word", 'Did you mean "words"'),
        (3, "query should be a name"),
        (("words", {"layer": 2}), "cannot be made"),
        (("huggingface", {}), "no vocabulary yet|name should be a folder"),
        (("huggingface", {"name": "/nowhere"}), "neither a folder"),
    ],
)
def test_a_query_that_cannot_be_made_is_named(query, message):
    with pytest.raises(ValueError, match=message):
        learn_reader(query, phrases(), dim=16)
    with pytest.raises(ValueError, match="dim should be"):
        learn_reader("words", phrases(), dim=0)
