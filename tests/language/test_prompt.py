"""The prompt and its slots: a row is the same in any batch, and every vector stands where it should."""

import time
from dataclasses import FrozenInstanceError

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmmed.language.prompt import Assembled, Prompt, assemble
from mmmed.types import Tokens

WIDTH, WORDS = 6, 50
MODALITIES = ("image", "table", "text")


class Letters:
    """A tokenizer by hand: each letter is its place in the alphabet."""

    def encode(self, text):
        return [ord(letter) % WORDS for letter in text]


def case(batch=4, seed=0):
    """Image for rows 0, 2, 3 with 5, 1 and 3 real tokens; a table of 2 tokens for row 1; nobody has text."""
    draw = torch.Generator().manual_seed(seed)
    slots = {
        "image": Tokens(
            torch.randn(3, 5, WIDTH, generator=draw),
            torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 0, 0], [1, 0, 1, 1, 0]]).bool(),
        ),
        "table": Tokens(torch.randn(1, 2, WIDTH, generator=draw), torch.ones(1, 2).bool()),
    }
    rows = {"image": torch.tensor([0, 2, 3]), "table": torch.tensor([1])}
    missing = {name: torch.full((WIDTH,), 10.0 + index) for index, name in enumerate(MODALITIES)}
    embedding = torch.nn.Embedding(WORDS, WIDTH)
    with torch.no_grad():
        embedding.weight.normal_(generator=draw)
    return slots, rows, batch, embedding, missing


SEGMENTS = (("image", "table", [7, 8], "text", [9]),)
ANSWERS = ([11, 12, 2], [13, 2], [2], [14, 15, 16, 2])


def expected_row(row, slots, rows, embedding, missing, segments, answer=(), bos=None):
    """The vectors of a row, one by one."""
    vectors = [] if bos is None else [embedding.weight[bos]]
    for segment in segments:
        if not isinstance(segment, str):
            vectors += [embedding.weight[index] for index in segment]
        elif segment in rows and row in rows[segment].tolist():
            place = rows[segment].tolist().index(row)
            tokens = slots[segment]
            vectors += [v for v, real in zip(tokens.values[place], tokens.mask[place], strict=True) if real]
        else:
            vectors.append(missing[segment])
    return torch.stack(vectors + [embedding.weight[index] for index in answer])


def test_a_row_holds_its_vectors_in_the_order_of_the_prompt():
    slots, rows, batch, embedding, missing = case()
    made = assemble(SEGMENTS, slots, rows, batch, embedding, missing, ANSWERS, bos=1)
    for row in range(batch):
        wanted = expected_row(row, slots, rows, embedding, missing, SEGMENTS[0], ANSWERS[row], bos=1)
        pad = made.mask.shape[1] - len(wanted)
        assert torch.equal(made.values[row, pad:], wanted)
        assert not made.values[row, :pad].any()
        assert made.mask[row].tolist() == [False] * pad + [True] * len(wanted)
        assert made.positions[row, pad:].tolist() == list(range(len(wanted)))
        start = made.mask.shape[1] - len(ANSWERS[row])
        assert made.answer_start[row] == start
        assert made.labels[row].tolist() == [-100] * start + ANSWERS[row]


def test_a_span_points_at_exactly_the_vectors_of_its_slot():
    slots, rows, batch, embedding, missing = case()
    made = assemble(SEGMENTS, slots, rows, batch, embedding, missing, ANSWERS)
    for place, row in enumerate([0, 2, 3]):
        begin, end = made.spans["image"][row]
        assert torch.equal(
            made.values[row, begin:end], slots["image"].values[place][slots["image"].mask[place]]
        )
    for name, row in [("image", 1), ("table", 0), ("text", 0), ("text", 3)]:
        begin, end = made.spans[name][row]
        assert end - begin == 1
        assert torch.equal(made.values[row, begin], missing[name])


def only(row, slots, rows):
    """The tokens of one row, as the row of a batch of one."""
    here = {name: (places == row).nonzero().squeeze(1) for name, places in rows.items()}
    here = {name: places for name, places in here.items() if len(places)}
    return {n: slots[n][p] for n, p in here.items()}, {n: torch.zeros(1, dtype=torch.long) for n in here}


def test_a_row_is_the_same_alone_and_among_others():
    slots, rows, batch, embedding, missing = case()
    made = assemble(SEGMENTS, slots, rows, batch, embedding, missing, ANSWERS, bos=1)
    for row in range(batch):
        alone = assemble(
            SEGMENTS, *only(row, slots, rows), 1, embedding, missing, ANSWERS[row : row + 1], bos=1
        )
        pad = made.mask.shape[1] - alone.mask.shape[1]
        assert torch.equal(made.values[row, pad:], alone.values[0])
        assert torch.equal(made.labels[row, pad:], alone.labels[0])
        for name in MODALITIES:
            assert torch.equal(made.spans[name][row] - pad, alone.spans[name][0])


@given(seed=st.integers(0, 1000), data=st.data())
@settings(max_examples=60, deadline=None)
def test_rows_may_have_prompts_of_their_own(seed, data):
    slots, rows, batch, embedding, missing = case(seed=seed)
    words = st.lists(st.integers(0, WORDS - 1), max_size=4)
    prompts, answers = [], []
    for _ in range(batch):
        names = data.draw(st.permutations(MODALITIES))[: data.draw(st.integers(0, 3))]
        parts = [data.draw(words.filter(bool))]
        for name in names:
            parts += [name, data.draw(words)]
        prompts.append(tuple(parts))
        answers.append(data.draw(words))
    made = assemble(prompts, slots, rows, batch, embedding, missing, answers)
    for row in range(batch):
        wanted = expected_row(row, slots, rows, embedding, missing, prompts[row], answers[row])
        assert torch.equal(made.values[row][made.mask[row]], wanted)
        used = [name for name in MODALITIES if (made.spans[name][row, 1] - made.spans[name][row, 0])]
        assert set(used) == {part for part in prompts[row] if isinstance(part, str)}


def test_gradients_reach_the_missing_vectors_the_words_and_the_real_tokens_alone():
    slots, rows, batch, embedding, missing = case()
    missing = {name: vector.requires_grad_() for name, vector in missing.items()}
    values = slots["image"].values.requires_grad_()
    assemble(SEGMENTS, slots, rows, batch, embedding, missing).values.sum().backward()
    assert [missing[name].grad[0].item() for name in MODALITIES] == [1, 3, 4]  # rows that lack it
    assert torch.equal(values.grad.any(2), slots["image"].mask)
    assert embedding.weight.grad.any(1).nonzero().squeeze(1).tolist() == [7, 8, 9]


def test_what_stands_in_padding_tokens_reaches_nobody():
    slots, rows, batch, embedding, missing = case()
    spoilt = (
        slots["image"].values.masked_fill(~slots["image"].mask.unsqueeze(2), float("nan")).requires_grad_()
    )
    other = {**slots, "image": Tokens(spoilt, slots["image"].mask)}
    clean = assemble(SEGMENTS, slots, rows, batch, embedding, missing)
    made = assemble(SEGMENTS, other, rows, batch, embedding, missing)
    assert torch.equal(made.values, clean.values)
    made.values.square().sum().backward()
    assert spoilt.grad.isfinite().all()


def test_a_slot_of_padding_alone_is_as_good_as_absent():
    slots, rows, batch, embedding, missing = case()
    blank = {**slots, "image": Tokens(slots["image"].values, slots["image"].mask.clone())}
    blank["image"].mask[1] = False
    made = assemble(SEGMENTS, blank, rows, batch, embedding, missing)
    begin, end = made.spans["image"][2]
    assert end - begin == 1
    assert torch.equal(made.values[2, begin], missing["image"])


def test_as_mask_an_absent_slot_is_empty():
    slots, rows, batch, embedding, missing = case()
    made = assemble(SEGMENTS, slots, rows, batch, embedding, missing, missing_as="mask")
    assert made.mask.sum(1).tolist() == [5 + 3, 2 + 3, 1 + 3, 3 + 3]
    assert (made.spans["text"][:, 0] == made.spans["text"][:, 1]).all()
    with pytest.raises(ValueError, match="Unknown way to show that a modality is missing 'zeros'"):
        assemble(SEGMENTS, slots, rows, batch, embedding, missing, missing_as="zeros")


def test_a_batch_of_none_and_a_batch_without_any_modality_can_be_assembled():
    *_, embedding, missing = case()
    nobody = assemble([SEGMENTS[0]], {}, {}, 0, embedding, missing)
    assert nobody.values.shape == (0, 0, WIDTH)
    assert len(nobody) == 0
    blind = assemble([SEGMENTS[0]], {}, {}, 2, embedding, missing)
    assert blind.mask.sum(1).tolist() == [6, 6]
    assert blind.answer_start.tolist() == [6, 6]
    words = assemble([[[1, 2]]], {}, {}, 2, embedding, {})
    assert words.values.shape == (2, 2, WIDTH)


def test_an_epoch_of_2000_rows_is_assembled_in_less_than_a_second():
    *_, embedding, missing = case()
    slots = {"image": Tokens(torch.randn(32, 16, WIDTH), torch.ones(32, 16).bool())}
    answers = [[3] * 60] * 32
    start = time.process_time()
    for _ in range(63):
        assemble(SEGMENTS, slots, {"image": torch.arange(32)}, 32, embedding, missing, answers)
    assert time.process_time() - start < 1


def test_the_default_prompt_has_a_slot_for_every_modality():
    prompt = Prompt.for_modalities(MODALITIES, "findings:")
    assert prompt == Prompt("<image><table><text> findings:", MODALITIES)
    assert prompt.segments(Letters()) == ("image", "table", "text", Letters().encode(" findings:"))
    assert prompt.without_slot == ()
    with pytest.raises(FrozenInstanceError):
        prompt.template = ""


def test_a_modality_without_a_slot_is_reported():
    assert Prompt("Look: <text>", MODALITIES).without_slot == ("image", "table")


def test_a_question_takes_its_place_and_opens_no_slot():
    prompt = Prompt("<image>Q: {question} A:", MODALITIES)
    asked = prompt.segments(Letters(), "Is <table> {question} there?")
    assert asked == ("image", Letters().encode("Q: Is <table> {question} there? A:"))
    assert prompt.asks
    assert prompt.segments(Letters()) == ("image", Letters().encode("Q:  A:"))


def test_a_modality_may_be_called_as_it_likes_in_the_table():
    prompt = Prompt("<lab values><x-ray> findings:", ("lab values", "x-ray"))
    assert prompt.slots == ("lab values", "x-ray")


def test_wrong_prompts_are_answered_in_a_sentence():
    with pytest.raises(ValueError, match=r"Unknown slot of the prompt 'imag'\. Did you mean \"image\"\?"):
        Prompt("<imag> findings:", MODALITIES)
    with pytest.raises(ValueError, match="The slot <image> is in the prompt twice"):
        Prompt("<image><image> findings:", MODALITIES)
    with pytest.raises(ValueError, match="The prompt is empty"):
        Prompt(" ", MODALITIES)
    with pytest.raises(ValueError, match=r"has no \{question\}: it cannot be asked one"):
        Prompt("<image> findings:", MODALITIES).segments(Letters(), "Is it?")
    with pytest.raises(ValueError, match="The question has 6 tokens, and there is room for 5"):
        Prompt("<image>{question}", MODALITIES).segments(Letters(), "Is it?", room=5)


def test_wrong_tokens_are_answered_in_a_sentence():
    slots, rows, batch, embedding, missing = case()

    def assembled(segments=SEGMENTS, slots=slots, rows=rows, batch=batch, missing=missing, **options):
        return assemble(segments, slots, rows, batch, embedding, missing, **options)

    with pytest.raises(ValueError, match="segments and answers for each of 4 rows, got 2 and 4"):
        assembled([SEGMENTS[0]] * 2)
    with pytest.raises(ValueError, match="for each of 4 rows, got 4 and 1"):
        assembled(answers=[[1]])
    with pytest.raises(ValueError, match="Tokens came for image, table, but rows for image"):
        assembled(rows={"image": rows["image"]})
    with pytest.raises(ValueError, match="Unknown modality with a learned missing vector 'table'"):
        assembled(missing={"image": missing["image"]})
    with pytest.raises(ValueError, match="Unknown slot 'prior'"):
        assembled([["prior"]])
    with pytest.raises(ValueError, match=r"table should have shape \[n=1 tokens width=6\], got \[1, 2, 5\]"):
        assembled(slots={**slots, "table": Tokens(torch.zeros(1, 2, 5), torch.ones(1, 2).bool())})
    with pytest.raises(ValueError, match="A row has no prompt at all"):
        assembled([[[]]])
    assert isinstance(assembled(), Assembled)
