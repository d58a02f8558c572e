"""Checkpoints: a run that was killed ends as if it had not been; anything else is refused in plain words."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import make_cohort, make_model

from mmmed.training import checkpoint as module
from mmmed.training.checkpoint import Checkpoint, Progress, check_writable, load_checkpoint, save_checkpoint
from mmmed.training.finetune import finetune
from mmmed.training.optimisation import Optimisation
from mmmed.training.policy import Policy

HERE = Path(__file__).parent


def files(folder):
    """Every tensor of the only checkpoint and of the saved model."""
    (place,) = (folder / "checkpoints").iterdir()
    found = [*place.glob("*.safetensors"), *(folder / "model").glob("*.safetensors")]
    assert len(found) == 4
    return {
        f"{file.parent.name} {file.name} {name}": t for file in found for name, t in load_file(file).items()
    }


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(tmp_path):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(HERE / "killed.py"), str(tmp_path), "3", "0"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["failed"] == 0, done.stderr
    assert None not in result["killed at"], "a kill came too late"
    whole, killed = files(tmp_path / "whole"), files(tmp_path / "killed")
    assert whole.keys() == killed.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, killed[name]), name
    lines = [
        [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("whole", "killed")
    ]
    for line in (*lines[0], *lines[1]):
        line.pop("seconds")
    assert lines[0] == lines[1]


def run(folder, model=None, cohort=None, **options):
    options = {"epochs": 2, "progress": False, **options}
    return finetune(model or make_model(), cohort or make_cohort(60), output=folder, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    run(folder)
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_a_finished_run_is_not_run_again(copied):
    before, model = files(copied), make_model(seed=5)
    again = run(copied, model)
    assert len(again.history) == 2
    assert all(torch.equal(t, files(copied)[name]) for name, t in before.items())
    best = load_file(next((copied / "checkpoints").iterdir()) / "best.safetensors")
    assert all(torch.equal(t, best[name]) for name, t in model.state_dict().items())
    assert len((copied / "metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(("change", "words"), [
    ({"epochs": 3}, "epochs was 2 and is 3"),
    ({"seed": 1}, "seed was 0 and is 1"),
    ({"policy": Policy(dropout=0.5)}, "policy dropout was 0.3 and is 0.5"),
    ({"optimisation": Optimisation(lr=0.1)}, "optimisation lr was 0.001 and is 0.1"),
    ({"cohort": make_cohort(60, seed=1)}, "training content of image"),
    ({"cohort": make_cohort(66)}, "training records"),
    ({"frozen": ["table"]}, "frozen was"),
])  # fmt: skip
def test_resuming_with_something_changed_says_what(copied, change, words):
    with pytest.raises(ValueError, match="another run") as error:
        run(copied, **change)
    assert words in str(error.value)
    assert "resume=False" in str(error.value)


def test_starting_over_throws_the_old_checkpoints_away(copied):
    again = run(copied, epochs=1, resume=False)
    assert len(again.history) == 1
    assert len(list((copied / "checkpoints").iterdir())) == 1
    assert len((copied / "metrics.jsonl").read_text().splitlines()) == 1


def test_a_broken_checkpoint_is_named(copied):
    (place,) = (copied / "checkpoints").iterdir()
    (place / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"checkpoints.*cannot be read"):
        run(copied)


def small_checkpoint(epoch=1):
    weights = {"w": torch.full((3,), float(epoch))}
    return Checkpoint(Progress(epoch=epoch), weights, weights, {"0.step": torch.tensor(1.0)})


def test_a_checkpoint_comes_back_as_it_was_and_replaces_the_one_before(tmp_path):
    for epoch in (1, 2):
        save_checkpoint(tmp_path, small_checkpoint(epoch), {"seed": 0})
    assert len(list(tmp_path.iterdir())) == 1
    loaded = load_checkpoint(tmp_path, {"seed": 0})
    assert loaded.progress == Progress(epoch=2)
    assert torch.equal(loaded.model["w"], torch.full((3,), 2.0))
    assert torch.equal(loaded.optimiser["0.step"], torch.tensor(1.0))
    assert load_checkpoint(tmp_path / "nothing", {}) is None


@pytest.mark.parametrize("broken", ["save_file", "replace", "write_text"])
def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch, broken):
    save_checkpoint(tmp_path, small_checkpoint(1), {})

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    place = {
        "save_file": "safetensors.torch.save_file",
        "replace": "os.replace",
        "write_text": "pathlib.Path.write_text",
    }
    monkeypatch.setattr(place[broken], full)
    with pytest.raises(ValueError, match="No space left"):
        save_checkpoint(tmp_path, small_checkpoint(2), {})
    monkeypatch.undo()
    assert load_checkpoint(tmp_path, {}).progress.epoch == 1
    assert len(list(tmp_path.iterdir())) == 1  # nothing half-written stays


def test_an_output_that_cannot_be_written_is_refused_before_training(tmp_path):
    (tmp_path / "file").write_text("in the way")
    model = make_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match="Nothing was trained"):
        run(tmp_path / "file" / "run", model)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert [place.name for place in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_refused_before_training_and_nothing_is_left(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(ValueError, match="are needed"):
        check_writable(tmp_path / "a" / "b", 10**6)
    assert list(tmp_path.iterdir()) == []
