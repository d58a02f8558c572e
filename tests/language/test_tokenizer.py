"""The tokenizer of reports: any text comes back, the same texts give the same pieces, and data stays data."""

import copy
import json
import os
import pickle
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmmed.language.tokenizer import EOS, SPECIAL, ReportTokenizer, train_tokenizer

TEXTS = [
    f"{size} nodule of {mm} mm in the {side} {zone} lobe. No pleural effusion."
    for mm in range(5, 25)
    for size, side, zone in [("Small", "right", "upper"), ("Large", "left", "lower")]
]
TYPED = ["The note says <eos> and <bos> and <seg> and <pad>."] * 5
PARTS = [*SPECIAL, " ", "<", "eos", ">", "\n", "12 mm", "é", "<|im_end|>"]
LEARN = """
import hashlib, random, sys
from mmmed.language.tokenizer import train_tokenizer
draw = random.Random(0)
words = ["".join(draw.choice("abcdef") for _ in range(draw.randint(2, 6))) for _ in range(300)]
texts = [" ".join(draw.choices(words, k=12)) for _ in range(60)]
random.Random(int(sys.argv[1])).shuffle(texts)
print(hashlib.sha256(train_tokenizer(texts, 600).to_str().encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def tokenizer():
    return ReportTokenizer(train_tokenizer(TEXTS + TYPED, 400))


@given(text=st.text())
@settings(max_examples=100, deadline=None)
def test_every_text_comes_back_exactly(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(text=st.lists(st.sampled_from(PARTS)).map("".join))
@settings(max_examples=100, deadline=None)
def test_special_pieces_typed_in_a_text_are_plain_characters(tokenizer, text):
    ids = tokenizer.encode(text)
    assert not {0, 1, 2, 3} & set(ids)
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda tokenizer: pickle.loads(pickle.dumps(tokenizer))])
def test_a_copy_reads_no_special_pieces_in_a_text_either(tokenizer, copied):
    assert copied(tokenizer).encode("<eos>") == tokenizer.encode("<eos>")


def test_half_of_a_surrogate_pair_is_read_as_a_question_mark(tokenizer):
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a?b"


def test_the_same_texts_give_the_same_pieces_in_any_order_and_process():
    # Six letters and few words: many pairs are equally frequent, so that a tie broken by chance would show.
    found = set()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", LEARN, seed],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(done.stdout)
    assert len(found) == 1


def test_special_pieces_come_first_and_every_byte_has_an_id(tokenizer):
    assert [tokenizer.pad, tokenizer.bos, tokenizer.eos] == [0, 1, 2]
    bare = ReportTokenizer(train_tokenizer(["a"], 260))
    assert len(bare) == 260
    assert len(set(bare.encode("\U0001f600é"))) == 6  # its bytes
    assert 260 < len(tokenizer) <= 400


def test_digits_stand_alone_so_that_numbers_share_their_pieces(tokenizer):
    twelve, one, two = (tokenizer.encode(text) for text in ("12", "1", "2"))
    assert twelve == one + two


def test_frequent_words_are_one_piece(tokenizer):
    assert len(tokenizer.encode(" nodule")) == 1
    assert len(tokenizer.encode(" qzxvkj")) > 4


def test_special_ids_leave_no_trace_in_the_text(tokenizer):
    ids = tokenizer.encode("No effusion.")
    assert tokenizer.decode([tokenizer.bos, *ids, tokenizer.eos, tokenizer.pad, 3]) == "No effusion."


def test_a_text_is_cut_to_the_room_at_either_end(tokenizer):
    ids = tokenizer.encode("No pleural effusion.")
    assert tokenizer.fit("No pleural effusion.", len(ids)) == (ids, False)
    assert tokenizer.fit("No pleural effusion.", 2) == (ids[:2], True)
    assert tokenizer.fit("No pleural effusion.", 2, keep="tail") == (ids[-2:], True)
    assert tokenizer.fit("No pleural effusion.", 0, keep="tail") == ([], True)
    assert tokenizer.fit("", 0) == ([], False)
    with pytest.raises(ValueError, match="Unknown end to keep 'middle'"):
        tokenizer.fit("No", 2, keep="middle")


def test_a_saved_tokenizer_is_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = ReportTokenizer.load(tmp_path)
    for text in (*TEXTS[:4], EOS, "  two  blanks\n"):
        assert again.encode(text) == tokenizer.encode(text)
    assert (again.pad, again.bos, again.eos, len(again)) == (0, 1, 2, len(tokenizer))
    again.save(tmp_path / "twice")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "twice" / name).read_bytes()


def test_transformers_reads_what_was_saved_and_its_tokenizer_can_be_wrapped(tokenizer, tmp_path, torchvision):
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert theirs.padding_side == "left"
    text = "Small nodule of 12 mm <eos>."
    assert theirs(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text)
    assert (theirs.pad_token_id, theirs.bos_token_id, theirs.eos_token_id) == (0, 1, 2)
    wrapped = ReportTokenizer.from_transformers(theirs)
    assert wrapped.encode(text) == tokenizer.encode(text)
    assert (wrapped.pad, wrapped.bos, wrapped.eos, len(wrapped)) == (0, 1, 2, len(tokenizer))


def test_where_a_hub_tokenizer_has_no_padding_its_end_stands_in(tokenizer, tmp_path, torchvision):
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    few = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("pad_token", "bos_token")}
    path.write_text(json.dumps(few))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    wrapped = ReportTokenizer.from_transformers(theirs)
    assert (wrapped.pad, wrapped.bos, wrapped.eos) == (2, 2, 2)


def test_a_tokenizer_that_would_read_data_as_special_pieces_is_refused():
    from tokenizers import AddedToken, Tokenizer, models

    unsafe = Tokenizer(models.Unigram([("<eos>", -1.0), ("a", -2.0), ("?", -9.0)], unk_id=2))
    unsafe.add_special_tokens([AddedToken("<eos>", special=True)])
    with pytest.raises(ValueError, match="reads '<eos>' in plain text as a special piece"):
        ReportTokenizer(unsafe, pad="<eos>", bos="<eos>")


def test_wrapping_changes_nothing_of_the_tokenizer_that_was_given():
    inner = train_tokenizer(TEXTS, 300)
    before = inner.to_str()
    ReportTokenizer(inner)
    assert inner.to_str() == before
    assert inner.encode("<eos>").ids == [2]


def test_wrong_inputs_are_answered_in_a_sentence(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="There is no text to learn a tokenizer from"):
        train_tokenizer(["", ""])
    with pytest.raises(ValueError, match="size should be a whole number of at least 260, got 100"):
        train_tokenizer(TEXTS, 100)
    with pytest.raises(ValueError, match="A text should be a string, got None"):
        train_tokenizer(["a", None])
    with pytest.raises(ValueError, match="A text should be a string, got nan"):
        tokenizer.encode(float("nan"))
    with pytest.raises(ValueError, match=r"No tokenizer\.json in the folder"):
        ReportTokenizer.load(tmp_path)
    with pytest.raises(ValueError, match="has no piece '</s>' for eos"):
        ReportTokenizer(train_tokenizer(TEXTS, 300), eos="</s>")
    assert tokenizer.encode("") == []
    assert tokenizer.decode([]) == ""
