"""A saved segmenter gives the same masks, bit by bit; what is damaged is named, others' things stay."""

import json
import shutil

import pytest
import safetensors.torch
from small_reporter import make_cohort, make_reporter
from small_segmenter import (
    PICTURE,
    TEXTS,
    VOLUMES,
    assert_same,
    make_segmenter,
    phrases,
    record_of,
    volume_record,
)

import mmmed
from mmmed.data.tokenization import tokenizer_of
from mmmed.encoders.text import TextEncoder
from mmmed.models import segmenter_files
from mmmed.models.folder import hash_of
from mmmed.models.phrase_reader import vocabulary_of
from mmmed.models.referring_segmenter import ReferringSegmenter
from mmmed.types import Binary, Image, Number, Schema, Tabular, Text

BASE = ["README.md", "config.json", "model.safetensors", "phrases.json", "schema.json"]
KINDS = {
    "words": {},
    "classes": {"query": "classes"},
    "hashed classes": {"query": ("classes", {"rows": 16})},
    "attention": {"fusion": "pwam"},
    "strips": {"fusion": ("svla", {"strips": (3, 5)})},
    "weak": {"weak": True},
    "volumes": {"schema": VOLUMES},
    "slices": {"schema": VOLUMES, "by_slice": True},
}


def record_for(segmenter):
    return volume_record() if "flair" in segmenter.modalities else record_of()


def asked_of(segmenter):
    return ["the spot"] if segmenter.reader.kind == "classes" else list(TEXTS)


def assert_comes_back(segmenter, folder, parts=None):
    segmenter.save_pretrained(folder)
    loaded = mmmed.load_model(folder, parts)
    record, asked = record_for(segmenter), asked_of(segmenter)
    for one, other in zip(segmenter.segment(record, asked), loaded.segment(record, asked), strict=True):
        assert_same(one, other, exact=True)
    return loaded


@pytest.fixture
def folder(tmp_path):
    made = make_segmenter(threshold=0.25)
    made.card = {
        "data": "4 | phrases",
        "training": {"seed": 0},
        "tables": {"Masks": "| Dice |\n|---|\n| 0.1 |"},
    }
    made.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_segmenter_gives_the_same_masks(kind, tmp_path):
    segmenter = make_segmenter(**KINDS[kind])
    loaded = assert_comes_back(segmenter, tmp_path / "model")
    assert isinstance(loaded, ReferringSegmenter)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == BASE
    assert loaded.modalities == segmenter.modalities
    assert loaded.config == json.loads(json.dumps(segmenter.config))
    assert not any(module.training for module in loaded.network.modules())
    assert_comes_back(loaded, tmp_path / "again")


def test_threshold_and_card_come_back_and_the_card_is_written_for_people(folder):
    loaded = ReferringSegmenter.from_pretrained(folder)
    assert loaded.threshold == 0.25
    assert loaded.card["training"] == {"seed": 0}
    card = (folder / "README.md").read_text()
    for words in ("Research use only", "referring-segmentation", "4 | phrases", "| seed | 0 |", "| 0.1 |"):
        assert words in card
    weak = make_segmenter(weak=True)
    assert "from their presence alone" in segmenter_files.segmenter_card(weak)


def test_only_the_pictures_of_a_schema_are_kept(tmp_path):
    whole = Schema(
        {**PICTURE.modalities, "t": Tabular((Number("a"),))}, {"y": Binary("y")}, group="p", id="i"
    )
    made = make_segmenter()
    made = ReferringSegmenter(made.network, whole, made.reader)
    made.config = make_segmenter().config
    made.save_pretrained(tmp_path / "model")
    schema = mmmed.load_model(tmp_path / "model").schema
    assert schema == Schema(dict(PICTURE.modalities), group="p", id="i")


def test_a_foreign_tokenizer_goes_along_and_its_old_place_may_vanish(tmp_path):
    text = Text("phrase", vocabulary=vocabulary_of(phrases()))
    (tmp_path / "bert").mkdir()
    tokenizer_of(text).save(str(tmp_path / "bert" / "tokenizer.json"))
    bert = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    bert |= {"intermediate_size": 16, "vocab_size": len(text.vocabulary), "max_position_embeddings": 64}
    query = ("huggingface", {"name": bert, "tokenizer": str(tmp_path / "bert")})
    segmenter = make_segmenter(query=query)
    expected = segmenter.segment(record_of(), TEXTS[2])
    segmenter.save_pretrained(tmp_path / "model")
    shutil.rmtree(tmp_path / "bert")
    shutil.move(tmp_path / "model", tmp_path / "elsewhere")
    loaded = mmmed.load_model(tmp_path / "elsewhere")
    assert_same(loaded.segment(record_of(), TEXTS[2]), expected, exact=True)
    assert str(tmp_path) not in (tmp_path / "elsewhere" / "config.json").read_text()
    assert_comes_back(loaded, tmp_path / "again")
    (tmp_path / "elsewhere" / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json was altered"):
        mmmed.load_model(tmp_path / "elsewhere")


def test_a_ready_made_module_is_handed_over_again(tmp_path):
    text = Text("phrase", vocabulary=vocabulary_of(phrases()))

    def own():
        return TextEncoder.from_schema(text, dim=16, tokens=True)

    segmenter = make_segmenter(query=(own(), text))
    assert_comes_back(segmenter, tmp_path / "model", {"query": own()})
    with pytest.raises(ValueError, match="Hand it over again"):
        mmmed.load_model(tmp_path / "model")
    with pytest.raises(ValueError, match='Did you mean "query"'):
        mmmed.load_model(tmp_path / "model", {"qery": own()})


def test_the_report_generator_that_reads_the_phrases_is_saved_inside(tmp_path):
    cohort = make_cohort()
    segmenter = ReferringSegmenter.from_cohort(cohort, query=make_reporter(cohort), dim=16, width=8)
    segmenter.threshold = 0.0
    record = next(record for record in cohort if "image" in record.inputs)
    before = segmenter.segment(record, TEXTS[0])
    segmenter.save_pretrained(tmp_path / "model")
    assert_same(mmmed.load_model(tmp_path / "model").segment(record, TEXTS[0]), before, exact=True)
    segmenter.save_pretrained(tmp_path / "model")  # in the place of the old one
    (tmp_path / "model" / "reporter" / "mine.txt").write_text("keep me")
    with pytest.raises(ValueError, match=r"reporter/mine\.txt"):
        segmenter.save_pretrained(tmp_path / "model")
    weights = tmp_path / "model" / "reporter" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(ValueError, match="was altered"):
        mmmed.load_model(tmp_path / "model")


@pytest.mark.parametrize("name", ["model.safetensors", "schema.json", "phrases.json"])
def test_a_file_that_is_missing_or_altered_is_named(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-2] + b" }")
    with pytest.raises(ValueError, match=f"{name} was altered"):
        mmmed.load_model(folder)
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        mmmed.load_model(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "Update mmmed"),
        ({"kind": "Thing"}, "describes no"),
        ({"model": {}}, "describes no segmenter"),
        ({"model": None}, "describes no segmenter"),
        ({"threshold": "high"}, "threshold should be"),
    ],
)
def test_a_config_that_says_something_else_is_refused(folder, change, message):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ValueError, match=message):
        mmmed.load_model(folder)


def test_weights_of_another_segmenter_are_refused(folder):
    other = make_segmenter(width=12)
    weights = {name: tensor.contiguous() for name, tensor in other.network.state_dict().items()}
    safetensors.torch.save_file(weights, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    config["sha256"]["model.safetensors"] = hash_of(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="does not fit the segmenter"):
        mmmed.load_model(folder)


def test_what_lies_there_and_is_no_model_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds thesis\.txt"):
        make_segmenter().save_pretrained(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_segmenter_may_replace_a_model_of_another_kind(tmp_path):
    schema = Schema({"t": Tabular((Number("a"),))}, {"y": Binary("y")})
    mmmed.create_model(schema, dim=8, state_dim=8).save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="describes no ReferringSegmenter"):
        ReferringSegmenter.from_pretrained(tmp_path / "model")
    make_segmenter().save_pretrained(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == BASE


def test_a_segmenter_that_was_put_together_by_hand_cannot_be_saved(tmp_path):
    made = make_segmenter()
    with pytest.raises(ValueError, match="put together by hand"):
        ReferringSegmenter(made.network, PICTURE, made.reader).save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_first_weights_from_a_file_are_not_looked_for_again(torchvision, tmp_path):
    import timm

    schema = Schema({"image": Image("picture", size=(32, 32))})
    name = "timm:mobilenetv2_050"
    stored = timm.create_model("mobilenetv2_050", pretrained=False)
    path = tmp_path / "stored.safetensors"
    safetensors.torch.save_file({k: v.contiguous() for k, v in stored.state_dict().items()}, path)
    segmenter = make_segmenter(schema, pyramid=(name, {"weights": str(path)}))
    path.unlink()
    segmenter.save_pretrained(tmp_path / "model")
    loaded = mmmed.load_model(tmp_path / "model")
    record = record_of(0, (32, 32))
    for one, other in zip(
        loaded.segment(record, list(TEXTS)), segmenter.segment(record, list(TEXTS)), strict=True
    ):
        assert_same(one, other, exact=True)
    # A record without its picture is no trouble to a network that needs one of every record.
    found = list(loaded.iterate([record.without("image"), record], [TEXTS, TEXTS]))
    assert_same(found[1][0], segmenter.segment(record, TEXTS[0]))


def test_pushing_uploads_what_saving_writes(monkeypatch):
    seen = {}

    class Api:
        def create_repo(self, repository, private, exist_ok):
            seen["private"] = private

        def upload_folder(self, repo_id, folder_path):
            seen["names"] = sorted(path.name for path in folder_path.iterdir())
            return f"https://hub/{repo_id}"

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert make_segmenter().push_to_hub("me/masks") == "https://hub/me/masks"
    assert seen == {"private": True, "names": BASE}
