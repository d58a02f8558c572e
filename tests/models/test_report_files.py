"""A saved generator writes the same reports; of a named language model only the additions are kept; what is
damaged, or of others, is named and left alone."""

import json
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch
from small_reporter import assert_same_weights, make_cohort, make_reporter, weights
from torch import nn

from mmmed.language.language_model import is_named, open_language_model, small_llama
from mmmed.language.lora import add_lora, has_lora, merge_lora
from mmmed.language.tokenizer import ReportTokenizer, train_tokenizer
from mmmed.models import folder as folders
from mmmed.models import report_files
from mmmed.models.create import create_model
from mmmed.models.files import load_model
from mmmed.models.folder import hash_of, read_folder
from mmmed.models.report_files import load_report_generator
from mmmed.models.report_generator import ReportGenerator
from mmmed.types import Binary, Number, Schema, Tabular

KINDS = ("small", "small with lora", "named", "named with lora", "named with dora", "merged")
LORA = ("lora/adapter_config.json", "lora/adapter_model.safetensors")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
BASE = ("README.md", "config.json", "findings.json", "model.safetensors", "schema.json")


@pytest.fixture(scope="module")
def cohort():
    return make_cohort()


@pytest.fixture(scope="module")
def records(cohort):
    some = list(cohort[:4])
    return [*some, some[0].without("image"), some[1].only("text")]


@pytest.fixture(scope="module")
def llama(cohort, tmp_path_factory):
    """The folder of a language model that somebody else trained."""
    return make_llama(cohort, tmp_path_factory.mktemp("somewhere") / "llama")


def make_llama(cohort, place, seed=0):
    texts = [text for text in cohort["train"].column("report") if text]
    tokenizer = ReportTokenizer(train_tokenizer(texts, 300))
    lm = small_llama(len(tokenizer), width=32, layers=1, heads=2, length=256, seed=seed)
    disturb(lm, 0.2)
    lm.save_pretrained(place)
    tokenizer.save(place)
    return place


@torch.no_grad()
def disturb(module, scale=0.1, chosen=lambda name: True):
    """As after some training: weights have moved, and what is written differs from patient to patient."""
    draw = torch.Generator().manual_seed(1)
    for name, parameter in module.named_parameters():
        if chosen(name):
            parameter.add_(scale * torch.randn(parameter.shape, generator=draw))


def make(kind, cohort, llama):
    named = kind.startswith(("named", "merged"))
    reporter = make_reporter(cohort, **({"language_model": str(llama)} if named else {}))
    lm = reporter.network.language_model
    if kind not in ("small", "named"):
        add_lora(lm, rank=2, alpha=3, dora="dora" in kind)
    own = reporter.network.own_state()
    disturb(reporter.network, chosen=lambda name: name in own)
    if kind == "merged":
        merge_lora(lm)
    reporter.threshold, reporter.card = -20.0, {"data": "40 simulated patients.", "training": {"seed": 3}}
    return reporter


@pytest.fixture(scope="module", params=KINDS)
def reporter(request, cohort, llama):
    return make(request.param, cohort, llama)


@pytest.fixture(scope="module")
def tuned(cohort, llama):
    return make("named with lora", cohort, llama)


@pytest.fixture(scope="module")
def small(cohort, llama):
    return make("small with lora", cohort, llama)


@pytest.fixture
def folder(tuned, tmp_path):
    tuned.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def assert_same_reports(some, others):
    """Word by word, with the same evidence. (Scores of a sum of floats depend on where it lies in memory.)"""
    for one, other in zip(some, others, strict=True):
        assert (one.text, one.findings, one.notes) == (other.text, other.findings, other.notes)
        for own, their in zip(one.sentences, other.sentences, strict=True):
            assert own.score == pytest.approx(their.score, abs=1e-5)
            assert own.evidence == pytest.approx(their.evidence, abs=1e-5)


def load(folder, **parts):
    where, config = read_folder(folder, {"ReportGenerator": 1})
    return load_report_generator(
        where, config, {name.replace("_of_", ":"): part for name, part in parts.items()}
    )


def names_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def snapshot(folder):
    return {name: (folder / name).read_bytes() for name in names_in(folder)}


def rewrite(folder, change, name="config.json"):
    """Edit a JSON file in place, with its checksum, so that nothing but its content is wrong."""
    data = json.loads((folder / name).read_text())
    change(data)
    (folder / name).write_text(json.dumps(data))
    if name != "config.json":
        rewrite(folder, lambda c: c["sha256"].update({name: hash_of(folder / name)}))


# ------------------------------------------------------------------------------------- the same generator


def test_a_loaded_generator_writes_the_same_reports_word_by_word(reporter, records, tmp_path):
    reporter.save_pretrained(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert_same_weights(weights(loaded), weights(reporter))
    said = reporter.generate(records, limit=12)
    assert len({report.text for report in said}) > 1
    assert_same_reports(loaded.generate(records, limit=12), said)
    question = "Is there an effusion on the right?"
    assert loaded.answer(records[0], question).text == reporter.answer(records[0], question).text
    for one, other in zip(
        loaded.finding_probabilities(records), reporter.finding_probabilities(records), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert not loaded.network.training


def test_saving_what_was_loaded_gives_the_same_bytes(reporter, tmp_path):
    reporter.save_pretrained(tmp_path / "model")
    load_model(tmp_path / "model").save_pretrained(tmp_path / "again")
    assert snapshot(tmp_path / "again") == snapshot(tmp_path / "model")


def test_a_loaded_generator_knows_all_that_the_saved_one_knew(cohort, llama, tmp_path):
    from mmmed.language.prompt import Prompt

    reporter = make("small", cohort, llama)
    prompt = Prompt("<text><image> look: {question}", reporter.network.slots)
    blank = make_reporter(cohort, findings=False)
    other = ReportGenerator(
        blank.network, reporter.schema, blank.tokenizer, None, "findings", prompt, blind=True
    )
    other.config = blank.config
    for saved in (reporter, other):
        saved.save_pretrained(tmp_path / "model")
        loaded = load_model(tmp_path / "model")
        for name in ("schema", "target", "prompt", "blind", "threshold", "card", "config"):
            assert getattr(loaded, name) == getattr(saved, name), name
        assert (loaded.labeller is None) == (saved.labeller is None)
    loaded = load_model(tmp_path / "model")
    assert loaded.generate(cohort[0], limit=8).text == other.generate(cohort[0], limit=8).text


# ------------------------------------------------------------------------------------------ what is stored


def test_of_a_named_language_model_only_the_name_and_the_additions_are_stored(tuned, folder, llama):
    assert names_in(folder) == sorted([*BASE, *LORA])
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    assert not [name for name in stored if name.startswith("language_model")]
    size = sum(tensor.numel() * tensor.element_size() for tensor in stored.values())
    assert (folder / "model.safetensors").stat().st_size < size + 100 * len(stored) + 1000
    told = json.loads((folder / "config.json").read_text())["model"]["language_model"]
    assert told == {"kind": "named", "name": str(llama), "revision": None}
    added = safetensors.torch.load_file(folder / LORA[1])
    assert all(".lora_" in name for name in added)


def test_a_language_model_from_scratch_is_stored_whole(small, tmp_path):
    small.save_pretrained(tmp_path / "model")
    assert names_in(tmp_path / "model") == sorted([*BASE, *LORA, *TOKENIZER])
    stored = set(safetensors.torch.load_file(tmp_path / "model" / "model.safetensors"))
    assert stored == {name for name in small.network.state_dict() if "lora_" not in name}


def test_a_named_language_model_whose_own_weights_learned_is_stored_whole(cohort, llama, records, tmp_path):
    reporter = make("named", cohort, llama)
    disturb(reporter.network.language_model, 0.01)
    reporter.save_pretrained(tmp_path / "model")
    assert not is_named(reporter.network.language_model)
    loaded = load_model(tmp_path / "model")
    assert_same_reports(loaded.generate(records, limit=8), reporter.generate(records, limit=8))


def test_peft_reads_the_lora_by_itself(tuned, folder, llama):
    peft = pytest.importorskip("peft")
    ids = torch.tensor([[1, 9, 30, 4]])
    theirs = peft.PeftModel.from_pretrained(open_language_model(llama)[0], folder / "lora").eval()
    torch.testing.assert_close(
        theirs(ids).logits, tuned.network.language_model(ids).logits, atol=1e-5, rtol=0
    )


def test_transformers_reads_the_tokenizer_by_itself(small, tmp_path):
    from transformers import AutoTokenizer

    small.save_pretrained(tmp_path / "model")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "model", local_files_only=True)
    text = "No pleural effusion. Nodule of 12 mm."
    assert theirs.encode(text, add_special_tokens=False) == small.tokenizer.encode(text)


def test_the_card_says_what_was_measured_and_how_to_use_it(tuned, folder, llama):
    card = (folder / "README.md").read_text()
    for part in ("40 simulated patients.", "Research use only", "`report`", "effusion, right", str(llama)):
        assert part in card
    assert "mmmed.load_model" in card


# ---------------------------------------------------------------------------- a language model that moved


def test_a_language_model_that_is_gone_is_named_and_may_be_handed_over(cohort, records, tmp_path):
    reporter = make("named with lora", cohort, make_llama(cohort, tmp_path / "llama"))
    reporter.save_pretrained(tmp_path / "model")
    shutil.move(tmp_path / "llama", tmp_path / "moved")
    with pytest.raises(ValueError, match=r"No language model could be opened at .*llama.*parts=\{"):
        load_model(tmp_path / "model")
    loaded = load(tmp_path / "model", language_model=open_language_model(tmp_path / "moved"))
    assert_same_reports(loaded.generate(records, limit=8), reporter.generate(records, limit=8))
    assert loaded.config["language_model"]["name"] == str(tmp_path / "moved")
    loaded.save_pretrained(tmp_path / "model")  # and is found in its new place from then on
    again = load_model(tmp_path / "model")
    assert_same_reports(again.generate(records, limit=8), reporter.generate(records, limit=8))


def test_another_language_model_under_the_same_name_is_refused(cohort, tmp_path):
    place = make_llama(cohort, tmp_path / "llama")
    make("named with lora", cohort, place).save_pretrained(tmp_path / "model")
    make_llama(cohort, place, seed=5)
    with pytest.raises(ValueError, match="not the one that this generator was trained with"):
        load_model(tmp_path / "model")


def test_a_language_model_that_has_lora_already_is_refused(folder, llama):
    pair = open_language_model(llama)
    add_lora(pair[0])
    with pytest.raises(ValueError, match="has LoRA already"):
        load(folder, language_model=pair)


def test_what_is_no_language_model_or_is_not_wanted_is_refused(small, folder, llama, tmp_path):
    with pytest.raises(ValueError, match="a pair of a model and its ReportTokenizer"):
        load(folder, language_model=str(llama))
    small.save_pretrained(tmp_path / "small")
    with pytest.raises(ValueError, match="leave language_model out of parts"):
        load(tmp_path / "small", language_model=open_language_model(llama))
    with pytest.raises(ValueError, match=r"Unknown part 'encoder:imag'.*encoder:image"):
        load(folder, encoder_of_imag=nn.Linear(2, 2))


# ---------------------------------------------------------------------------------------- ready-made modules


def test_ready_made_modules_must_be_handed_over_again(cohort, records, tmp_path):
    def parts(seed):
        made = make_reporter(cohort, fusion="multimodn", seed=seed).network
        return made.encoders["image"], made.adapters["image"], made.fusion

    encoder, adapter, fusion = parts(0)
    reporter = make_reporter(cohort, encoders={"image": encoder}, adapters={"image": adapter}, fusion=fusion)
    reporter.save_pretrained(tmp_path / "model")
    with pytest.raises(
        ValueError, match=r"modules for encoder:image, adapter:image, fusion\. Hand them over"
    ):
        load_model(tmp_path / "model")
    encoder, adapter, fusion = parts(1)
    loaded = load(tmp_path / "model", encoder_of_image=encoder, adapter_of_image=adapter, fusion=fusion)
    assert loaded.network.encoders["image"] is encoder
    assert_same_reports(loaded.generate(records, limit=8), reporter.generate(records, limit=8))
    assert loaded.config == reporter.config


def test_a_generator_put_together_by_hand_says_why_it_cannot_be_saved(small, tmp_path):
    reporter = ReportGenerator(small.network, small.schema, small.tokenizer)
    with pytest.raises(ValueError, match=r"put together by hand.*from_cohort"):
        reporter.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


# --------------------------------------------------------------------------------------------------- damage

TUNED = ("model.safetensors", "schema.json", "findings.json", *LORA)
every_file = pytest.mark.parametrize(
    ("kind", "name"), [*(("tuned", name) for name in TUNED), *(("small", name) for name in TOKENIZER)]
)


@pytest.fixture
def saved(request, kind, tmp_path):
    request.getfixturevalue(kind).save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@every_file
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(ValueError, match=rf"{name} is missing"):
        load_model(saved)


@every_file
def test_a_single_altered_byte_and_a_cut_file_are_noticed(saved, name):
    data = (saved / name).read_bytes()
    for damaged in (data[:-3] + bytes([data[-3] ^ 1]) + data[-2:], data[: len(data) // 2]):
        (saved / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"{name} was altered or cut off.*SHA-256"):
            load_model(saved)


def test_cut_weights_with_a_matching_checksum_are_no_traceback_of_safetensors(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    rewrite(folder, lambda c: c["sha256"].update({path.name: hash_of(path)}))
    with pytest.raises(ValueError, match=r"model\.safetensors does not fit"):
        load_model(folder)
    path = folder / LORA[1]
    path.write_bytes(path.read_bytes()[:-8])
    rewrite(folder, lambda c: c["sha256"].update({LORA[1]: hash_of(path)}))
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors cannot be read"):
        load_model(folder)


@pytest.mark.parametrize("change", ["less", "more", "other shape"])
def test_weights_of_another_generator_are_refused(folder, change):
    path = folder / "model.safetensors"
    stored = safetensors.torch.load_file(path)
    name = sorted(stored)[0]
    if change == "less":
        del stored[name]
    else:
        stored[name if change == "other shape" else "language_model.more"] = torch.zeros(3, 1, 7)
    safetensors.torch.save_file(stored, path)
    rewrite(folder, lambda c: c["sha256"].update({path.name: hash_of(path)}))
    with pytest.raises(ValueError, match=r"does not fit the generator that config\.json describes"):
        load_model(folder)


@pytest.mark.parametrize("version", [2, "1", None])
def test_a_newer_format_is_refused(folder, version):
    rewrite(folder, lambda c: c.update(format=version))
    with pytest.raises(ValueError, match=r"has format .*reads up to 1"):
        load_model(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"model": None},
        {"model": []},
        {"model": {"language_model": "small"}},
        {"model": {"language_model": {"kind": "named"}}},
        {"sha256": None},
        {"sha256": []},
        {"prompt": "<nothing> {question}"},
        {"prompt": 3},
        {"threshold": "low"},
    ],
)
def test_a_config_that_describes_no_generator_is_refused(folder, change):
    rewrite(folder, lambda c: c.update(change))
    with pytest.raises(ValueError, match=r"describes no generator|was altered|slot of the prompt|threshold"):
        load_model(folder)


@pytest.mark.parametrize("name", ["model", "target", "prompt", "blind", "threshold", "lora"])
def test_a_config_that_lacks_something_is_refused(folder, name):
    rewrite(folder, lambda c: c.pop(name))
    with pytest.raises(ValueError, match="describes no generator"):
        load_model(folder)


def test_a_table_of_findings_that_is_none_is_refused(folder):
    rewrite(
        folder,
        lambda data: data["table"].update(findings=[{"name": "x", "patterns": ["("]}]),
        "findings.json",
    )
    with pytest.raises(ValueError, match="no regular expression"):
        load_model(folder)


# -------------------------------------------------------------------------------- what is of others stays


def make_model():
    return create_model(Schema({"t": Tabular((Number("a"),))}, {"y": Binary("y")}), dim=8, state_dim=8)


def test_a_model_and_a_generator_may_replace_each_other(small, folder):
    make_model().save_pretrained(folder)
    assert load_model(folder).modalities == ("t",)
    assert not (folder / "lora").exists()
    small.save_pretrained(folder)
    assert load_model(folder).target == "report"


@pytest.mark.parametrize("stranger", ["notes.txt", ".git", "pytorch_model.bin", "lora/notes.txt"])
@pytest.mark.parametrize("maker", ["small", None])
def test_a_folder_with_anything_else_in_it_is_not_touched(folder, stranger, maker, request):
    (folder / stranger).write_text("mine")
    before = snapshot(folder)
    model = request.getfixturevalue(maker) if maker else make_model()
    with pytest.raises(ValueError, match=f"holds {stranger}.*nothing was written"):
        model.save_pretrained(folder)
    assert snapshot(folder) == before


def test_the_folder_of_the_language_model_itself_is_not_touched(tuned, llama):
    before = snapshot(llama)
    with pytest.raises(ValueError, match="nothing was written"):
        tuned.save_pretrained(llama)
    assert snapshot(llama) == before


@pytest.mark.parametrize(
    ("module", "step"),
    [
        (report_files, "write_json"),
        (report_files, "save_lora"),
        (report_files, "report_card"),
        (report_files, "_weights"),
        (folders, "hash_of"),
        (folders, "_swap"),
    ],
)
def test_a_failed_save_leaves_the_old_generator_and_nothing_behind(small, folder, monkeypatch, module, step):
    before = snapshot(folder)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(module, step, fail)
    with pytest.raises(OSError, match="disk full"):
        small.save_pretrained(folder)
    assert snapshot(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_lora_is_still_there_to_be_trained_on_after_loading(folder):
    lm = load_model(folder).network.language_model
    assert has_lora(lm)
    assert all(p.requires_grad == ("lora_" in name) for name, p in lm.named_parameters())
