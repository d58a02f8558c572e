"""Writing: the same tokens as transformers, the same with and without a cache, alone and among others."""

import pytest
import torch

from mmmed.backbones.torchvision_guard import torchvision_state
from mmmed.language.decoding import generate
from mmmed.language.language_model import hidden_states, next_token_logits, small_llama, token_losses
from mmmed.language.lora import add_lora
from mmmed.language.prompt import assemble
from mmmed.types import Tokens

torchvision_state()
transformers = pytest.importorskip("transformers")

SEGMENTS = [["image", [7, 8], "text", [9]]]
EOS, LIMIT = 37, 25
BATCH = 8


@pytest.fixture(scope="module")
def lm():
    """Weights of spread 0.2, so that the model has opinions and some rows end early."""
    lm = small_llama(40, width=32, layers=2, length=64, seed=3).eval()
    with torch.no_grad():
        for parameter in lm.parameters():
            if parameter.ndim > 1:
                parameter.mul_(0.2 * 32**0.5)
    return lm


def prompts(lm, batch=BATCH, answers=None, only=None):
    """Rows with 1 to 5 tokens of a picture, or none of it."""
    draw = torch.Generator().manual_seed(0)
    have = torch.tensor([row for row in range(batch) if row % 3 != 1], dtype=torch.long)
    values = torch.randn(len(have), 5, 32, generator=draw)
    mask = torch.arange(5) <= torch.randint(0, 5, (len(have), 1), generator=draw)
    missing = {"image": torch.randn(32, generator=draw), "text": torch.randn(32, generator=draw)}
    if only is not None:
        kept = have == only
        values, mask, have, batch = values[kept], mask[kept], have[kept] * 0, 1
        answers = answers and [answers[only]]
    slots, rows = {"image": Tokens(values, mask)}, {"image": have}
    embed = lm.get_input_embeddings()
    with torch.no_grad():
        return assemble(SEGMENTS, slots, rows, batch, embed, missing, answers, bos=1)


def by_hand(lm, assembled, row):
    """Greedy, one row, every step computed anew."""
    values = assembled.values[row : row + 1, assembled.mask[row]]
    ids, scores = [], []
    with torch.no_grad():
        for _ in range(LIMIT):
            logits = lm(inputs_embeds=values, use_cache=False).logits[0, -1].log_softmax(0)
            token = int(logits.argmax())
            scores.append(float(logits[token]))
            if token == EOS:
                return ids, scores, True
            ids.append(token)
            values = torch.cat([values, lm.get_input_embeddings()(torch.tensor([[token]]))], dim=1)
    return ids, scores, False


def test_the_cache_changes_nothing_and_each_row_is_written_as_if_alone(lm):
    batch = prompts(lm)
    made = generate(lm, batch, eos=EOS, limit=LIMIT)
    for row in range(BATCH):
        ids, scores, finished = by_hand(lm, batch, row)
        assert made.ids[row] == ids
        assert made.finished[row] == finished
        assert made.scores[row] == pytest.approx(scores, abs=1e-4)
    assert len({len(ids) for ids in made.ids}) > 2, "rows should end at different times, or nothing is tested"
    assert 0 < sum(made.finished) < BATCH


def test_a_batch_of_one_writes_the_same(lm):
    together = generate(lm, prompts(lm), eos=EOS, limit=LIMIT)
    for row in range(BATCH):
        alone = generate(lm, prompts(lm, only=row), eos=EOS, limit=LIMIT)
        assert alone.ids[0] == together.ids[row]


@pytest.mark.parametrize("forbid", [(), (5, 11, 30)])
def test_it_equals_the_generation_of_transformers(lm, forbid):
    batch = prompts(lm)
    theirs = lm.generate(
        inputs_embeds=batch.values,
        attention_mask=batch.mask.long(),
        max_new_tokens=LIMIT,
        do_sample=False,
        eos_token_id=EOS,
        pad_token_id=0,
        suppress_tokens=list(forbid) or None,
        return_dict_in_generate=True,
        output_scores=True,
    )
    marks = lm.compute_transition_scores(theirs.sequences, theirs.scores, normalize_logits=True)
    ours = generate(lm, batch, eos=EOS, limit=LIMIT, forbid=forbid)
    for row in range(BATCH):
        written = [*ours.ids[row], *([EOS] if ours.finished[row] else [])]
        assert theirs.sequences[row, : len(written)].tolist() == written
        assert marks[row, : len(written)].tolist() == pytest.approx(ours.scores[row], abs=1e-4)
    assert not set(forbid) & {token for ids in ours.ids for token in ids}


def test_a_model_that_looks_back_only_so_far_writes_as_in_transformers():
    config = transformers.MistralConfig(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        sliding_window=6,
    )
    lm, draw = transformers.MistralForCausalLM(config).eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in lm.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3, generator=draw)
    batch, inputs = prompts(lm), {"do_sample": False, "max_new_tokens": LIMIT, "pad_token_id": 0}
    for end in range(3, 40, 6):
        theirs = lm.generate(
            inputs_embeds=batch.values, attention_mask=batch.mask.long(), eos_token_id=end, **inputs
        ).tolist()
        ours = generate(lm, batch, eos=end, limit=LIMIT).ids
        assert ours == [row[: row.index(end)] if end in row else row for row in theirs]


def test_scores_are_the_losses_of_what_was_written(lm):
    made = generate(lm, prompts(lm), eos=EOS, limit=LIMIT)
    answers = [[*ids, *([EOS] if end else [])] for ids, end in zip(made.ids, made.finished, strict=True)]
    batch = prompts(lm, answers=answers)
    losses = token_losses(lm, batch)
    for row, scores in enumerate(made.scores):
        assert (-losses[row, batch.answer_start[row] :]).tolist() == pytest.approx(scores, abs=1e-4)


def test_beams_write_something_at_least_as_likely_and_score_it_rightly(lm):
    end = 33  # a word to which some of the beams come
    greedy = generate(lm, prompts(lm), eos=end, limit=12)
    beams = generate(lm, prompts(lm), eos=end, limit=12, beams=4)
    assert 0 < sum(beams.finished) < BATCH
    answers = [[*ids, *([end] if done else [])] for ids, done in zip(beams.ids, beams.finished, strict=True)]
    batch = prompts(lm, answers=answers)
    losses = token_losses(lm, batch)
    for row, scores in enumerate(beams.scores):
        assert len(scores) == len(answers[row])
        assert (-losses[row, batch.answer_start[row] :]).tolist() == pytest.approx(scores, abs=1e-4)
    mean = [[sum(s) / len(s) for s in made.scores] for made in (greedy, beams)]
    assert sum(mean[1]) > sum(mean[0])


def test_settings_that_come_with_a_model_are_not_obeyed(lm):
    before = generate(lm, prompts(lm), eos=EOS, limit=8, beams=3)
    theirs = lm.generation_config
    lm.generation_config = transformers.GenerationConfig(repetition_penalty=9.0, do_sample=True, max_length=3)
    try:
        assert generate(lm, prompts(lm), eos=EOS, limit=8, beams=3).ids == before.ids
        assert lm.generation_config.repetition_penalty == 9.0
    finally:
        lm.generation_config = theirs


def test_the_stream_shows_each_token_when_it_is_written(lm):
    seen = []
    made = generate(lm, prompts(lm), eos=EOS, limit=LIMIT, stream=seen.append)
    assert seen[-1] == made.ids
    for step, rows in enumerate(seen, start=1):
        assert rows == [ids[:step] for ids in made.ids]
    seen.clear()
    made = generate(lm, prompts(lm), eos=EOS, limit=4, beams=2, stream=seen.append)
    assert seen == [made.ids]


def test_forbidding_the_end_writes_up_to_the_limit(lm):
    made = generate(lm, prompts(lm), eos=EOS, limit=LIMIT, forbid=[EOS])
    assert [len(ids) for ids in made.ids] == [LIMIT] * BATCH
    assert not any(made.finished)


def test_it_stops_where_the_model_has_no_more_positions():
    short = small_llama(40, width=32, layers=1, length=12).eval()
    batch = prompts(short)
    made = generate(short, batch, eos=EOS, limit=50, forbid=[EOS])
    assert {len(ids) for ids in made.ids} == {12 - batch.values.shape[1]}
    with pytest.raises(ValueError, match="A row has 11 tokens, and the language model reads 10 at most"):
        generate(small_llama(40, width=32, layers=1, length=10), batch, eos=EOS)


def test_dropout_is_off_while_writing_and_on_again_afterwards():
    lm = small_llama(40, width=32, layers=1, length=64)
    add_lora(lm, rank=2, dropout=0.9)
    with torch.no_grad():
        for name, parameter in lm.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.3)
    lm.train()
    lm.model.norm.eval()
    before = [module.training for module in lm.modules()]
    first, second = (generate(lm, prompts(lm), eos=EOS, limit=6).scores for _ in range(2))
    assert first == second
    assert [module.training for module in lm.modules()] == before


def test_a_model_with_lora_writes_with_it():
    lm = small_llama(40, width=32, layers=1, length=64).eval()
    plain = generate(lm, prompts(lm), eos=EOS, limit=6)
    add_lora(lm, rank=2)
    assert generate(lm, prompts(lm), eos=EOS, limit=6).scores == plain.scores  # B is zero at the start
    with torch.no_grad():
        for name, parameter in lm.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(0))
    tuned = generate(lm, prompts(lm), eos=EOS, limit=6)
    assert tuned.scores != plain.scores
    batch = prompts(lm)
    logits = next_token_logits(lm, hidden_states(lm, batch)[:, -1])
    assert [ids[0] for ids in tuned.ids] == logits.argmax(1).tolist()


def test_nobody_asked_nothing_written(lm):
    nobody = assemble(
        SEGMENTS, {}, {}, 0, lm.get_input_embeddings(), {n: torch.zeros(32) for n in ("image", "text")}
    )
    assert len(generate(lm, nobody, eos=EOS)) == 0
    with pytest.raises(ValueError, match="limit should be a whole number of at least 1, got 0"):
        generate(lm, prompts(lm), eos=EOS, limit=0)
