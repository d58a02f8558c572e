"""Words to numbers: a vocabulary free of chance, that spells what it does not list and needs no file."""

import random

import pytest
import torch

from mmmed.checks import MissingFile
from mmmed.data.tokenization import PAD, UNKNOWN, learn_vocabulary, tokenize, tokenizer_of
from mmmed.types import Text

TEXTS = ["Cough and fever.", "No fever, 12 mm nodule", "cough; no cough", "ÉCHO: 21 mm"]


def text(vocabulary=None, length=64):
    return Text(
        "note", length=length, vocabulary=learn_vocabulary(TEXTS) if vocabulary is None else vocabulary
    )


def pieces(sentence, modality=None):
    modality = modality or text()
    ids, mask = tokenize([sentence], modality)
    return [modality.vocabulary[i] for i in ids[0][mask[0]].tolist()]


def test_padding_and_unknown_come_first_and_no_piece_twice():
    vocabulary = learn_vocabulary(TEXTS)
    assert vocabulary[:2] == (PAD, UNKNOWN)
    assert len(set(vocabulary)) == len(vocabulary)


def test_words_that_return_are_pieces_of_their_own():
    assert {"cough", "fever", "no", "mm"} <= set(learn_vocabulary(TEXTS))
    assert "nodule" not in learn_vocabulary(TEXTS)  # once is no pattern; it is spelled in letters
    assert pieces("cough no fever") == ["cough", "no", "fever"]


@pytest.mark.parametrize("seed", range(5))
def test_the_same_texts_give_the_same_vocabulary_in_any_order(seed):
    shuffled = TEXTS * 3
    random.Random(seed).shuffle(shuffled)
    assert learn_vocabulary(shuffled) == learn_vocabulary(TEXTS * 3)


def test_case_accents_blanks_and_punctuation_do_not_tell_words_apart():
    assert pieces("Cough,FEVER") == ["cough", ",", "fever"]
    assert pieces("  cough\n\tfever ") == ["cough", "fever"]
    assert pieces("ECHO") == pieces("écho")


def test_digits_are_split_so_that_sizes_share_their_pieces():
    assert pieces("12 mm") == ["1", "2", "mm"]
    assert pieces("21mm") == ["2", "1", "mm"]


@pytest.mark.parametrize("word", ["enodul", "guh", "ecoh", "mmm"])
def test_a_word_of_known_letters_is_never_unknown_wherever_they_stand(word):
    found = pieces(word)
    assert UNKNOWN not in found
    assert "".join(piece.removeprefix("##") for piece in found) == word


def test_a_character_that_no_text_had_makes_its_word_unknown_and_no_other():
    assert pieces("cough 漢 fever") == ["cough", UNKNOWN, "fever"]


def test_a_text_of_nothing_that_can_be_read_is_one_unknown_piece():
    assert pieces("\u200b") == [UNKNOWN]


@pytest.mark.parametrize("size", [8, 20, 1000])
def test_the_vocabulary_keeps_to_its_size_and_the_frequent(size):
    vocabulary = learn_vocabulary(["aa bb", "aa cc", "aa bb"] * 5, size)
    assert len(vocabulary) <= size
    if size >= 20:
        assert vocabulary.index("aa") < vocabulary.index("bb") < vocabulary.index("cc")


def test_no_texts_give_the_special_pieces_only():
    assert learn_vocabulary([]) == (PAD, UNKNOWN)
    with pytest.raises(ValueError, match="size should be a whole number of at least 8"):
        learn_vocabulary(TEXTS, size=3)


def test_texts_are_padded_to_the_longest_and_cut_at_the_length():
    ids, mask = tokenize(["cough", "no cough no fever"], text(length=3))
    assert ids.shape == (2, 3)
    assert mask.tolist() == [[True, False, False], [True, True, True]]
    assert ids[0, 1:].tolist() == [0, 0]
    assert (ids.dtype, mask.dtype) == (torch.int64, torch.bool)


def test_a_text_is_read_alike_alone_and_beside_longer_ones():
    modality = text()
    alone, _ = tokenize(["cough"], modality)
    beside, mask = tokenize(["no fever, 12 mm nodule", "cough"], modality)
    assert torch.equal(beside[1][mask[1]], alone[0])


def test_without_a_vocabulary_it_says_how_to_get_one():
    with pytest.raises(ValueError, match=r"column 'note' has no vocabulary yet.*cohort\.refit\(\)"):
        tokenizer_of(Text("note"))


def test_a_tokenizer_of_hugging_face_is_read_from_its_folder(tmp_path):
    own = tokenizer_of(text())
    own.save(str(tmp_path / "tokenizer.json"))
    modality = Text("note", length=4, tokenizer=str(tmp_path))
    for left, right in zip(tokenize(TEXTS, modality), tokenize(TEXTS, text(length=4)), strict=True):
        assert torch.equal(left, right)


def test_a_tokenizer_that_is_not_here_is_not_downloaded(tmp_path, monkeypatch):
    import socket

    monkeypatch.setattr(socket, "socket", None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in (str(tmp_path), "someone/no-such-tokenizer"):
        with pytest.raises(MissingFile, match=r"No tokenizer\.json.*snapshot_download"):
            tokenizer_of(Text("note", tokenizer=name))
