"""Two processes under torchrun learn what one learns."""

import json

import pytest
import torch
from safetensors.torch import load_file
from several import train
from two_processes import in_two_processes


def test_two_processes_equal_one(tmp_path):
    in_two_processes("several.py", tmp_path, within=100)
    for accumulate in (1, 2):
        alone = train(tmp_path / f"alone-{accumulate}", accumulate)
        line = json.loads((tmp_path / f"line-{accumulate}.json").read_text())
        assert line["processes"] == 2
        for rank in (0, 1):
            weights = load_file(tmp_path / f"weights-{accumulate}-{rank}.safetensors")
            gap = max(float((weights[n] - t).abs().max()) for n, t in alone["weights"].items())
            assert gap < 1e-6, (accumulate, rank)
        for name in ("train_loss", "val_loss", "val_auroc", "ess", "lr"):
            assert line[name] == pytest.approx(alone["line"][name], abs=1e-6), name
        assert len((tmp_path / f"run-{accumulate}" / "metrics.jsonl").read_text().splitlines()) == 1
        saved = load_file(tmp_path / f"run-{accumulate}" / "model" / "model.safetensors")
        assert torch.equal(
            saved["fusion.init.value"],
            load_file(tmp_path / f"weights-{accumulate}-0.safetensors")["fusion.init.value"],
        )
