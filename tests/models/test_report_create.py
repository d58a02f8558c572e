"""What a generator is made of: defaults, names, options, LoRA; wrong calls end in a sentence."""

import json

import pytest
import torch
from small_reporter import TINY, assert_same_weights, make_cohort, make_reporter, weights

import mmmed
from mmmed.language.finding_tables import finding_table
from mmmed.language.language_model import digest_of_weights, is_named, open_language_model, small_llama
from mmmed.language.lora import add_lora, has_lora, lora_settings, merge_lora
from mmmed.language.perceiver_adapter import PerceiverAdapter
from mmmed.language.tokenizer import ReportTokenizer, train_tokenizer
from mmmed.models.files import load_model
from mmmed.models.report_create import rebuild_network, table_for
from mmmed.training.report_finetune import finetune_reports
from mmmed.training.report_stages import Stage, default_stages
from mmmed.types import Image, Number, Schema, Tabular


@pytest.fixture(scope="module")
def cohort():
    return make_cohort()


@pytest.fixture(scope="module")
def llama(cohort, tmp_path_factory):
    """The folder of a language model that somebody else trained."""
    folder = tmp_path_factory.mktemp("somewhere") / "llama"
    tokenizer = ReportTokenizer(train_tokenizer([text for text in cohort.column("report") if text], 300))
    small_llama(len(tokenizer), width=32, layers=1, heads=2, length=512).save_pretrained(folder)
    tokenizer.save(folder)
    return folder


def lora_stages(epochs=1):
    return (Stage("lora", epochs, ("adapters", "lora"), lr=1e-2, batch_size=16, asides=0),)


# ------------------------------------------------------------------------------------------------- making


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone(cohort):
    before = torch.random.get_rng_state()
    one, two, other = (weights(make_reporter(cohort, seed=seed)) for seed in (1, 1, 2))
    assert_same_weights(one, two)
    assert not torch.equal(one["missing"], other["missing"])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_pictures_keep_their_places_and_notes_their_words(cohort):
    reporter = make_reporter(cohort, adapters=None)
    assert reporter.network.grids["image"] is not None
    tokens = reporter.network.encode(cohort.collate(list(cohort[:4])))
    assert tokens["image"].values.shape[1] > 1
    assert tokens["text"].values.shape[1] > 1
    kinds = {name: type(adapter).__name__ for name, adapter in reporter.network.adapters.items()}
    assert kinds == {"image": "PerceiverAdapter", "table": "MLPAdapter", "text": "PerceiverAdapter"}


def test_a_network_is_rebuilt_from_its_description(cohort):
    reporter = make_reporter(
        cohort, fusion="multimodn", adapters={"image": ("perceiver", {"queries": 3}), "state": "mlp"}
    )
    told = json.loads(json.dumps(reporter.config))
    network, tokenizer, lm = rebuild_network(cohort.schema, reporter.tokenizer, reporter.labeller, told)
    assert tokenizer is reporter.tokenizer
    assert lm == told["language_model"]
    network.load_own_state(reporter.network.own_state())
    assert_same_weights(network.state_dict(), weights(reporter))
    assert isinstance(network.adapters["image"], PerceiverAdapter)


def test_a_finding_needs_the_modality_under_the_name_that_a_schema_gives_it():
    schema = Schema({"xray": Image("path"), "labs": Tabular((Number("ldh"),))}, {})
    table = table_for(finding_table("synthetic"), schema)
    needs = {finding.name: finding.needs for finding in table.findings}
    assert needs["effusion"] == ("xray",)
    assert needs["raised ldh"] == ("labs",)
    assert needs["cough"] == ("text",)  # which this schema has not: it can never be judged
    two = Schema({"front": Image("path"), "side": Image("other")}, {})
    seen = table_for(finding_table("synthetic"), two)
    assert {finding.needs for finding in seen.findings if finding.name == "effusion"} == {("front", "side")}
    assert seen.otherwise == ("front", "side")  # any of them will do


def test_a_language_model_may_be_a_folder_a_path_or_a_pair(cohort, llama):
    some = [
        make_reporter(cohort, language_model=given)
        for given in (str(llama), llama, open_language_model(llama))
    ]
    for reporter in some:
        assert reporter.config["language_model"] == {"kind": "named", "name": str(llama), "revision": None}
        assert_same_weights(weights(reporter), weights(some[0]))


# --------------------------------------------------------------------------------------------------- LoRA


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_lora_learns_behind_a_named_language_model_whose_own_weights_stay(cohort, llama, dora, tmp_path):
    reporter = make_reporter(cohort, language_model=llama)
    lm = reporter.network.language_model
    add_lora(lm, rank=3, alpha=5, dora=dora)
    before, digest = weights(reporter), digest_of_weights(lm)
    run = finetune_reports(reporter, cohort, stages=lora_stages(), output=tmp_path, progress=False)
    assert "lora" in run.gaps
    after = weights(reporter)
    for name in before:
        if name.startswith("language_model."):
            assert torch.equal(before[name], after[name]) == ("lora_" not in name), name
    assert digest_of_weights(lm) == digest
    loaded = load_model(tmp_path / "model")
    assert_same_weights(weights(loaded), after)
    assert lora_settings(loaded.network.language_model) == {
        "rank": 3,
        "alpha": 5,
        "dropout": 0.05,
        "dora": dora,
    }


def test_a_small_language_model_may_have_lora_too(cohort, tmp_path):
    reporter = make_reporter(cohort)
    assert "lora" not in [part for stage in default_stages(reporter) for part in stage.trains]
    add_lora(reporter.network.language_model, rank=2)
    assert default_stages(reporter)[-1].trains[-1] == "lora"
    before = weights(reporter)
    finetune_reports(reporter, cohort, stages=lora_stages(), progress=False)
    assert_same_weights(
        *(
            {n: t for n, t in state.items() if n.startswith("language_model.") and "lora_" not in n}
            for state in (before, weights(reporter))
        )
    )
    reporter.save_pretrained(tmp_path / "model")
    assert_same_weights(weights(load_model(tmp_path / "model")), weights(reporter))


def test_lora_is_added_where_nobody_did(cohort, llama):
    reporter = make_reporter(cohort, language_model=llama)
    assert [stage.name for stage in default_stages(reporter)] == ["findings", "align", "lora"]
    finetune_reports(reporter, cohort, stages=lora_stages(), progress=False)
    assert lora_settings(reporter.network.language_model)["rank"] == 16


def test_a_lora_of_ones_own_is_resumed(cohort, llama, tmp_path):
    def begun():
        reporter = make_reporter(cohort, language_model=llama)
        add_lora(reporter.network.language_model, rank=3)
        return reporter

    whole, cut = begun(), begun()
    finetune_reports(whole, cohort, stages=lora_stages(2), output=tmp_path / "whole", progress=False)
    with pytest.MonkeyPatch.context() as patch:
        stop_after_one_epoch(patch)
        with pytest.raises(KeyboardInterrupt):
            finetune_reports(cut, cohort, stages=lora_stages(2), output=tmp_path / "cut", progress=False)
    again = begun()
    finetune_reports(again, cohort, stages=lora_stages(2), output=tmp_path / "cut", progress=False)
    assert_same_weights(weights(again), weights(whole))


def stop_after_one_epoch(patch):
    """As if the process were killed after its first epoch."""
    from mmmed.training.report_loop import StageLoop

    learn = StageLoop.epoch

    def epoch(self, number, after):
        if number == 1:
            raise KeyboardInterrupt
        return learn(self, number, after)

    patch.setattr(StageLoop, "epoch", epoch)


def test_merged_lora_belongs_to_the_language_model_and_may_be_followed_by_another(cohort, llama):
    reporter = make_reporter(cohort, language_model=llama)
    lm = reporter.network.language_model
    add_lora(lm, rank=2)
    assert is_named(merge_lora(lm)) is False
    assert "language_model.lm_head.weight" in reporter.network.own_state()
    add_lora(lm, rank=4)
    assert has_lora(lm)


# -------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language_model": "nobody/knows-it"}, "opened at 'nobody/knows-it'.*snapshot_download"),
        ({"language_model": "smal"}, "No language model could be opened at 'smal'"),
        ({"language_model": 3}, "A language model should be a name"),
        ({"language_model": ("large", {})}, 'should be "small"'),
        ({"language_model": ("small", {"widht": 8})}, 'small language model .*Did you mean "width"'),
        ({"language_model": ("small", {"width": 30})}, "30 is no multiple of 4"),
        ({"findings": "chst"}, 'Did you mean "chest"'),
        ({"findings": {"nme": "x", "findings": []}}, "Unknown field of a finding table 'nme'"),
        ({"encoders": {"image": "cnnn"}}, 'Unknown image encoder .*Did you mean "cnn"'),
        ({"encoders": {"imag": "cnn"}}, 'Unknown modality .*Did you mean "image"'),
        ({"encoders": ["cnn"]}, "encoders should be a dict"),
        ({"adapters": "mpl"}, 'Unknown adapter .*Did you mean "mlp_adapter"'),
        ({"adapters": {"imag": "mlp"}}, "Unknown slot of an adapter 'imag'"),
        ({"adapters": {"state": "mlp"}}, "Unknown slot of an adapter 'state'"),
        ({"adapters": {"image": ("perceiver", {"query": 3})}}, 'Did you mean "queries"'),
        ({"adapters": 3}, "An adapter should be a name"),
        ({"fusion": "multimodm"}, 'Did you mean "multimodn"'),
        ({"dim": 0}, "dim should be a whole number"),
        ({"vocabulary": 10}, "size should be a whole number of at least 260"),
    ],
)
def test_a_wrong_part_is_answered_in_a_sentence(cohort, options, message):
    with pytest.raises(ValueError, match=message):
        make_reporter(cohort, **options)


@pytest.mark.parametrize("content", ["{", "", "[]", '{"name": "x"}', None])
def test_a_table_of_findings_in_a_broken_file_is_named(cohort, tmp_path, content):
    path = tmp_path / "table.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=r"finding table|findings"):
        make_reporter(cohort, findings=str(path))


def test_a_language_model_and_a_tokenizer_that_do_not_belong_together_are_refused(cohort, llama):
    lm, tokenizer = open_language_model(llama)
    with pytest.raises(
        ValueError, match=rf"has {len(tokenizer)} ids, but LlamaForCausalLM has 100 embeddings"
    ):
        make_reporter(cohort, language_model=(small_llama(100, width=32, layers=1), tokenizer))
    from transformers import AutoTokenizer

    with pytest.raises(ValueError, match=r"ReportTokenizer\.from_transformers\(tokenizer\)"):
        make_reporter(cohort, language_model=(lm, AutoTokenizer.from_pretrained(llama)))


def test_an_encoder_decoder_is_refused(cohort, llama, tmp_path):
    from transformers import T5Config, T5ForConditionalGeneration

    tokenizer = ReportTokenizer.load(llama)
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    t5 = T5ForConditionalGeneration(T5Config(vocab_size=len(tokenizer), **sizes))
    with pytest.raises(ValueError, match="T5ForConditionalGeneration is no causal language model"):
        make_reporter(cohort, language_model=(t5, tokenizer))
    t5.save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    with pytest.raises(ValueError, match="No language model could be opened at"):
        make_reporter(cohort, language_model=tmp_path)


def test_a_language_model_without_a_name_must_be_one_that_can_be_built_again(cohort, llama):
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = ReportTokenizer.load(llama)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    qwen = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), num_key_value_heads=1, **sizes))
    with pytest.raises(ValueError, match=r"Qwen2ForCausalLM has no name .*open_language_model\(folder\)"):
        make_reporter(cohort, language_model=(qwen, tokenizer))


def test_a_context_that_is_too_short_is_an_error_in_words(cohort):
    short = ("small", {**TINY[1], "length": 16})
    reporter = make_reporter(cohort, language_model=short)
    for call in (lambda: reporter.generate(cohort[0]), lambda: reporter.answer(cohort[0], "Cough?")):
        with pytest.raises(
            ValueError, match=r"A row has \d+ tokens, and the language model reads 16 at most"
        ):
            call()
    with pytest.raises(ValueError, match="the language model reads 16"):
        mmmed.finetune(reporter, cohort, epochs=1, progress=False)
