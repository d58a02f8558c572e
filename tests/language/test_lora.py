"""LoRA: nothing changes before the first step, nothing but it learns, and its own file brings it back."""

import copy
import json

import pytest
import torch
from torch import nn

from mmmed.backbones.torchvision_guard import torchvision_state
from mmmed.language.language_model import describe_language_model, small_llama
from mmmed.language.lora import add_lora, has_lora, linear_layers, load_lora, merge_lora, save_lora

torchvision_state()  # without it, peft may seem not to be installed
peft = pytest.importorskip("peft")
IDS = torch.tensor([[1, 5, 9, 3], [1, 7, 7, 2]])
both = pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])


def fresh(width=32):
    return small_llama(40, width=width, layers=2, length=16).eval()


def disturbed(lm, seed=0):
    """As after some training: every trained weight has moved."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in lm.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=draw))
    return lm


@both
def test_nothing_changes_before_the_first_step(dora):
    lm = fresh()
    before = lm(IDS).logits
    add_lora(lm, rank=4, dora=dora)
    torch.testing.assert_close(lm(IDS).logits, before, atol=1e-6, rtol=0)


@both
def test_only_the_additions_learn(dora):
    lm = fresh()
    names = add_lora(lm, rank=4, dora=dora)
    frozen = {name: p.detach().clone() for name, p in lm.named_parameters() if name not in names}
    optimiser = torch.optim.SGD([p for p in lm.parameters() if p.requires_grad], lr=0.5)
    for _ in range(2):  # A has no gradient in the first step, since B is zero
        lm(IDS, labels=IDS).loss.backward()
        optimiser.step()
    assert all("lora_" in name for name in names)
    assert all(torch.equal(lm.get_parameter(name), value) for name, value in frozen.items())
    assert all(lm.get_parameter(name).grad.any() for name in names)
    assert not any(lm.get_parameter(name).requires_grad for name in frozen)


def test_every_linear_layer_but_the_last_gets_an_addition_of_the_rank():
    lm = fresh()
    layers = linear_layers(lm)
    assert len(layers) == 2 * 7
    assert "lm_head" not in layers
    names = add_lora(lm, rank=4)
    assert len(names) == 2 * len(layers)
    lengths = [name for name in add_lora(fresh(), rank=4, dora=True) if "lora_magnitude_vector" in name]
    assert len(lengths) == len(layers)
    for name, layer in layers.items():
        assert lm.get_parameter(f"{name}.lora_A.default.weight").shape == (4, layer.in_features)
        assert lm.get_parameter(f"{name}.lora_B.default.weight").shape == (layer.out_features, 4)
    assert type(lm.lm_head) is nn.Linear
    assert lm.lm_head.weight is lm.get_input_embeddings().weight


def test_what_stands_before_the_language_model_is_never_touched():
    whole = nn.ModuleDict({"lm": fresh(), "encoder": nn.Sequential(nn.Linear(8, 32))})
    whole["encoder"].add_module("q_proj", nn.Linear(32, 32))  # a name that the language model has too
    before = copy.deepcopy(whole["encoder"].state_dict())
    add_lora(whole["lm"], rank=4)
    assert all(torch.equal(value, before[name]) for name, value in whole["encoder"].state_dict().items())
    assert type(whole["encoder"].q_proj) is nn.Linear
    assert all(parameter.requires_grad for parameter in whole["encoder"].parameters())


def test_the_addition_is_alpha_over_rank_times_b_a():
    lm = fresh()
    layer = lm.model.layers[0].self_attn.q_proj
    weight = layer.weight.detach().clone()
    add_lora(lm, rank=4, alpha=12)
    disturbed(lm)
    tuned, x = (
        lm.model.layers[0].self_attn.q_proj,
        torch.randn(3, 32, generator=torch.Generator().manual_seed(0)),
    )
    wanted = x @ (weight + 12 / 4 * tuned.lora_B.default.weight @ tuned.lora_A.default.weight).T
    torch.testing.assert_close(tuned(x), wanted, atol=2e-4, rtol=0)


@both
def test_saved_and_loaded_it_is_the_same_to_the_last_bit(dora, tmp_path):
    lm = fresh()
    add_lora(lm, rank=4, alpha=8, dora=dora)
    save_lora(disturbed(lm), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    again = fresh()
    load_lora(again, tmp_path)
    assert torch.equal(again.eval()(IDS).logits, lm(IDS).logits)
    trained = {name for name, parameter in lm.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, parameter in again.named_parameters() if parameter.requires_grad}
    save_lora(again, tmp_path / "twice")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "twice" / name).read_bytes()


@both
def test_peft_reads_what_was_saved(dora, tmp_path):
    lm = fresh()
    add_lora(lm, rank=4, dora=dora)
    save_lora(disturbed(lm), tmp_path)
    theirs = peft.PeftModel.from_pretrained(fresh(), tmp_path).eval()
    torch.testing.assert_close(theirs(IDS).logits, lm(IDS).logits, atol=1e-6, rtol=0)


@both
def test_merged_it_is_the_same_function_without_lora(dora):
    lm = fresh()
    add_lora(lm, rank=4, dora=dora)
    wanted = disturbed(lm)(IDS).logits
    merge_lora(lm)
    torch.testing.assert_close(lm(IDS).logits, wanted, atol=2e-4, rtol=0)
    assert not has_lora(lm)
    assert sorted(lm.state_dict()) == sorted(fresh().state_dict())
    add_lora(lm, rank=2)  # and may have it anew
    assert has_lora(lm)


def test_a_merged_model_is_no_longer_described_by_its_name():
    lm = fresh()
    lm.opened_as = {"name": "somewhere/model", "revision": None}
    add_lora(lm, rank=4)
    assert describe_language_model(lm)["kind"] == "named"
    assert describe_language_model(merge_lora(lm))["kind"] == "small"


def test_the_generator_decides_and_the_global_one_is_left_alone():
    before = torch.random.get_rng_state()
    drawn = []
    for seed in (1, 1, 2):
        lm = fresh()
        name = add_lora(lm, rank=4, generator=torch.Generator().manual_seed(seed))[0]
        drawn.append(lm.get_parameter(name))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_new_layers_are_at_rest_if_the_model_is():
    lm = fresh()
    add_lora(lm, rank=4, dropout=0.5)
    assert not any(module.training for module in lm.modules())
    lm.train()
    assert torch.equal(lm.eval()(IDS).logits, lm(IDS).logits)


def test_a_lora_of_another_model_is_refused_and_changes_nothing(tmp_path):
    lm = fresh()
    add_lora(lm, rank=4)
    save_lora(lm, tmp_path)
    other = fresh(width=64)
    with pytest.raises(
        ValueError, match=r"was made for another language model: .* do not fit LlamaForCausalLM"
    ):
        load_lora(other, tmp_path)
    assert not has_lora(other)
    assert all(parameter.requires_grad for parameter in other.parameters())


def test_settings_that_do_not_fit_the_weights_are_refused(tmp_path):
    lm = fresh()
    add_lora(lm, rank=4)
    save_lora(lm, tmp_path)
    path = tmp_path / "adapter_config.json"
    good = json.loads(path.read_text())
    for change in ({"r": 8}, {"use_dora": True}):
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(ValueError, match="made for another language model"):
            load_lora(fresh(), tmp_path)
    for text in (json.dumps({"r": 4}), "[]", "{"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"adapter_config\.json .* no settings of LoRA"):
            load_lora(fresh(), tmp_path)


def test_wrong_calls_are_answered_in_a_sentence(tmp_path):
    lm = fresh()
    with pytest.raises(ValueError, match="has no LoRA to save"):
        save_lora(lm, tmp_path)
    with pytest.raises(ValueError, match="has no LoRA to merge"):
        merge_lora(lm)
    with pytest.raises(ValueError, match=r"No adapter_model\.safetensors in the folder"):
        load_lora(lm, tmp_path)
    with pytest.raises(ValueError, match="rank should be a whole number of at least 1, got 0"):
        add_lora(lm, rank=0)
    with pytest.raises(ValueError, match="dropout should be a number between 0 and 1"):
        add_lora(lm, dropout=2)
    for alpha in (0, "8", True, float("nan")):
        with pytest.raises(ValueError, match="alpha should be a positive number"):
            add_lora(lm, alpha=alpha)
    add_lora(lm, rank=2)
    with pytest.raises(ValueError, match="has LoRA already"):
        add_lora(lm, rank=2)
