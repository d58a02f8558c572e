"""A saved model gives bit-equal answers; a damaged folder is refused by name; what is of others stays."""

import hashlib
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from small_model import SCHEMA, SmallCohort, calibrated, make_encoders, make_model, make_record, make_records
from torch import nn

from mmmed.fusion.multimodn import MultiModN
from mmmed.models import files
from mmmed.models import folder as folders
from mmmed.models.create import add_modality, create_model
from mmmed.models.files import load_model, save_model
from mmmed.models.folder import hash_of
from mmmed.models.inference import predict_proba, prediction_sets
from mmmed.models.multimodal import MultimodalModel
from mmmed.models.predict import predict
from mmmed.types import Binary, Number, Schema, Tabular


@pytest.fixture
def model(fusion):
    model = calibrated(make_model(fusion))
    model.card = {
        "data": "60 simulated patients.",
        "training": {"epochs": 0},
        "tables": {"Scores": "| a |\n| - |"},
    }
    return model


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def load(folder):
    return load_model(folder, parts=make_encoders())


def rewrite(path, change):
    """Edit a JSON file in place."""
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_loaded_model_gives_bit_equal_answers(model, folder):
    loaded, cohort = load(folder), SmallCohort(make_records(20, seed=9))
    for name, answer in predict_proba(model, cohort).items():
        np.testing.assert_array_equal(predict_proba(loaded, cohort)[name], answer)
    record = make_record(0, np.random.default_rng(3))
    assert predict(loaded, record) == predict(model, record)  # with intervals, contributions, trajectory
    assert not loaded.training


def test_a_loaded_model_knows_all_that_the_saved_one_knew(model, folder):
    loaded = load(folder)
    assert loaded.schema == model.schema
    assert loaded.card == model.card
    assert loaded.thresholds == model.thresholds
    assert loaded.config == model.config


def test_the_sets_of_a_loaded_model_are_those_of_the_saved_one(model, folder):
    loaded, cohort = load(folder), SmallCohort(make_records(20, seed=9))
    sets = prediction_sets(model, cohort)
    assert set(sets) == set(SCHEMA.tasks)
    for name, allowed in prediction_sets(loaded, cohort).items():
        np.testing.assert_array_equal(allowed, sets[name])
    assert loaded.conformal["sick"].records((True, True, True)) > 0


def test_a_folder_of_before_there_were_patterns_and_sets_still_loads(model, folder):
    def make_old(data):
        del data["conformal"]
        for fit in data["tasks"].values():
            del fit["patterns"], fit["records"]

    rewrite(folder / "calibration.json", make_old)
    digest = hashlib.sha256((folder / "calibration.json").read_bytes()).hexdigest()
    rewrite(folder / "config.json", lambda data: data["sha256"].update({"calibration.json": digest}))
    loaded, record = load(folder), make_record(0, np.random.default_rng(3))
    answer = predict(loaded, record)["sick"]
    general = replace(model.calibration["sick"], patterns={})
    model.calibration["sick"] = general
    assert answer.values == predict(model, record)["sick"].values
    assert answer.set is None


def test_the_card_says_how_many_records_stand_behind_each_pattern(model, folder):
    card = (folder / "README.md").read_text()
    count = model.calibration["sick"].of((True, True, True)).records
    assert f"| image + table + note | {count} |" in card
    assert "| nothing | 60 |" in card


def test_saving_twice_gives_the_same_bytes(model, folder, tmp_path):
    load(folder).save_pretrained(tmp_path / "again")
    assert snapshot(tmp_path / "again") == snapshot(folder)


def test_the_folder_holds_five_files_and_no_pickle(folder):
    assert sorted(snapshot(folder)) == [
        "README.md",
        "calibration.json",
        "config.json",
        "model.safetensors",
        "schema.json",
    ]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["model"]  # no leftovers beside it


def test_the_card_says_what_was_measured_and_nothing_else(folder, tmp_path):
    card = (folder / "README.md").read_text()
    for part in ("60 simulated patients.", "epochs: 0", "## Scores", "Research use only", "age"):
        assert part in card
    make_model().save_pretrained(tmp_path / "bare")
    bare = (tmp_path / "bare" / "README.md").read_text()
    assert "never calibrated" in bare
    assert "never calibrated" not in card
    assert "## Data" not in bare


def test_an_existing_model_is_replaced(model, folder):
    before = snapshot(folder)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    model.save_pretrained(folder)
    assert snapshot(folder)["model.safetensors"] != before["model.safetensors"]
    assert torch.equal(next(load(folder).parameters()), next(model.parameters()))


@pytest.mark.parametrize("name", ["model.safetensors", "schema.json", "calibration.json", "config.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=rf"{name} is missing"):
        load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "schema.json", "calibration.json"])
def test_a_single_altered_byte_is_noticed(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[-3] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ValueError, match=rf"{name} was altered.*SHA-256"):
        load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "schema.json", "calibration.json"])
def test_a_file_cut_off_is_noticed(folder, name):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=f"{name} was altered or cut off"):
        load(folder)


def test_cut_weights_with_a_matching_checksum_are_no_traceback_of_safetensors(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    rewrite(folder / "config.json", lambda c: c["sha256"].update({path.name: hash_of(path)}))
    with pytest.raises(ValueError, match=r"model\.safetensors does not fit"):
        load(folder)


def test_weights_of_another_model_are_refused(folder):
    path = folder / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    weights.pop("fusion.init.value", None) if "fusion.init.value" in weights else weights.pop("fusion.means")
    safetensors.torch.save_file(weights, path)
    rewrite(folder / "config.json", lambda c: c["sha256"].update({path.name: hash_of(path)}))
    with pytest.raises(ValueError, match=r"does not fit the model that config\.json describes"):
        load(folder)


@pytest.mark.parametrize("version", [2, 99, "1", None])
def test_a_newer_format_is_refused(folder, version):
    rewrite(folder / "config.json", lambda c: c.update(format=version))
    with pytest.raises(ValueError, match=r"has format .*reads up to 1"):
        load(folder)


@pytest.mark.parametrize("text", ["", "{", "\x00\x01", "nonsense"])
def test_a_config_that_is_not_json_is_refused_by_name(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json is not JSON"):
        load(folder)


@pytest.mark.parametrize("text", ["[]", "3", '"a"', "null"])
def test_a_config_that_is_no_object_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match="should hold a JSON object"):
        load(folder)


def test_a_config_of_another_library_is_refused(folder):
    (folder / "config.json").write_text('{"model_type": "bert", "hidden_size": 8}')
    with pytest.raises(ValueError, match="describes no MultimodalModel"):
        load(folder)


@pytest.mark.parametrize("described", [{}, {"encoders": 3}, {"encoders": {}, "fusion": {}}, [], "x", 5])
def test_a_config_that_describes_no_model_is_refused(folder, described):
    rewrite(folder / "config.json", lambda c: c.update(model=described))
    with pytest.raises(ValueError, match=r"describes no model|fusion|encoder"):
        load(folder)


def test_a_place_that_is_no_folder_is_explained(tmp_path):
    with pytest.raises(ValueError, match="snapshot_download"):
        load_model("someone/some-model")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"config\.json is missing"):
        load_model(tmp_path / "empty")


def test_ready_made_parts_must_be_handed_over_again(folder):
    with pytest.raises(
        ValueError, match=r"ready-made modules for image, table, note.*parts=\{'image': module\}"
    ):
        load_model(folder)
    with pytest.raises(ValueError, match="ready-made modules for note"):
        load_model(folder, parts={k: v for k, v in make_encoders().items() if k != "note"})


def test_a_ready_made_fusion_is_handed_over_like_an_encoder(tmp_path):
    def part():
        return MultiModN(SCHEMA.modalities, dim=8, state_dim=8)

    model = make_model(part())
    save_model(model, tmp_path / "model")
    with pytest.raises(ValueError, match="ready-made modules for fusion"):
        load_model(tmp_path / "model", parts=make_encoders())
    loaded = load_model(tmp_path / "model", parts={**make_encoders(), "fusion": part()})
    record = make_record(0, np.random.default_rng(3))
    assert predict(loaded, record) == predict(model, record)


def test_a_model_put_together_by_hand_can_be_saved_but_says_why_it_cannot_be_rebuilt(tmp_path):
    heads = {name: nn.Linear(8, task.outputs) for name, task in SCHEMA.tasks.items()}
    model = MultimodalModel(make_encoders(), MultiModN(SCHEMA.modalities, dim=8, state_dim=8), heads, SCHEMA)
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="put together by hand"):
        load(tmp_path / "model")
    model.schema = None
    with pytest.raises(ValueError, match="without a schema cannot be saved"):
        model.save_pretrained(tmp_path / "other")


def test_one_encoder_for_two_modalities_can_be_saved(tmp_path):
    # Left and right share their weights; safetensors alone would refuse tensors that share memory.
    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(1, 4)

        def forward(self, cells, known):
            return self.linear(cells)

    schema = Schema({"left": Tabular((Number("l"),)), "right": Tabular((Number("r"),))}, {"y": Binary("y")})
    shared = Cell()
    model = create_model(schema, encoders={"left": shared, "right": shared}, dim=4, state_dim=4)
    model.save_pretrained(tmp_path / "model")
    again = Cell()
    loaded = load_model(tmp_path / "model", parts={"left": again, "right": again})
    assert predict(loaded, {"l": 1.0, "r": 2.0}) == predict(model, {"l": 1.0, "r": 2.0})


@pytest.mark.parametrize("stranger", ["notes.txt", ".git", "pytorch_model.bin"])
def test_a_folder_with_anything_else_in_it_is_not_touched(model, folder, stranger):
    (folder / stranger).write_text("mine")
    before = snapshot(folder)
    with pytest.raises(ValueError, match=f"holds {stranger}.*nothing was written"):
        model.save_pretrained(folder)
    assert snapshot(folder) == before


def test_a_folder_of_another_library_is_not_touched(model, tmp_path):
    other = tmp_path / "bert"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "bert"}')
    (other / "model.safetensors").write_bytes(b"weights")
    before = snapshot(other)
    with pytest.raises(ValueError, match="no model folder"):
        model.save_pretrained(other)
    assert snapshot(other) == before


def test_a_file_in_the_place_of_the_folder_is_not_touched(model, tmp_path):
    (tmp_path / "model").write_text("mine")
    with pytest.raises(ValueError, match="nothing was written"):
        model.save_pretrained(tmp_path / "model")
    assert (tmp_path / "model").read_text() == "mine"


def test_an_empty_folder_and_missing_parents_are_fine(model, tmp_path):
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "a" / "b" / "model"):
        model.save_pretrained(place)
        assert (place / "config.json").is_file()


@pytest.mark.parametrize(
    ("module", "step"),
    [
        (files, "write_json"),
        (folders, "hash_of"),
        (files, "model_card"),
        (folders, "_swap"),
        (files, "_weights"),
    ],
)
def test_a_failed_save_leaves_the_old_model_intact_and_nothing_behind(
    model, folder, monkeypatch, module, step
):
    before = snapshot(folder)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(module, step, fail)
    with pytest.raises(OSError, match="disk full"):
        model.save_pretrained(folder)
    assert snapshot(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_save_that_fails_between_the_two_moves_puts_the_old_model_back(model, folder, monkeypatch):
    before, move, moves = snapshot(folder), os.replace, []

    def second_fails(source, target):
        if str(target) == str(folder):
            moves.append(target)
            if len(moves) == 1:
                raise OSError("disk full")
        move(source, target)

    monkeypatch.setattr(folders.os, "replace", second_fails)
    with pytest.raises(OSError, match="disk full"):
        model.save_pretrained(folder)
    assert snapshot(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_options_that_json_cannot_hold_fail_before_anything_is_replaced(model, folder):
    before = snapshot(folder)
    model.card["data"] = object()
    with pytest.raises(TypeError):
        model.save_pretrained(folder)
    assert snapshot(folder) == before


def test_a_place_that_cannot_be_written_is_a_plain_sentence(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot be written .*Choose a place"):
        model.save_pretrained(tmp_path / "file" / "model")


def test_a_read_only_parent_is_a_plain_sentence(model, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    parent = tmp_path / "locked"
    parent.mkdir()
    parent.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match="cannot be written"):
            model.save_pretrained(parent / "model")
    finally:
        parent.chmod(0o700)


def test_a_folder_may_be_moved(model, folder, tmp_path):
    shutil.move(folder, tmp_path / "elsewhere")
    record = make_record(0, np.random.default_rng(3))
    assert predict(load(tmp_path / "elsewhere"), record) == predict(model, record)


def test_a_grown_model_can_be_saved(model, tmp_path):
    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(1, 8)

        def forward(self, cells, known):
            return self.linear(cells)

    grown = add_modality(model, "extra", Tabular((Number("lactate"),)), Cell()).eval()
    grown.save_pretrained(tmp_path / "grown")
    loaded = load_model(tmp_path / "grown", parts={**make_encoders(), "extra": Cell()})
    record = make_record(0, np.random.default_rng(3)).with_input("extra", {"lactate": 2.0})
    assert predict(loaded, record) == predict(grown, record)
