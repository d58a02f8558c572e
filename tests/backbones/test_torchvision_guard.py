"""A torchvision of another kind than torch is made usable, and a sound one is left alone. Each test has its
own process, because what was imported cannot be taken back."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(code: str, *paths: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=110,
        env={"PYTHONPATH": ":".join(map(str, [*paths, ROOT])), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def fake_torchvision(folder: Path, code: str) -> Path:
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text(code)
    return folder


def test_after_the_guard_timm_can_be_imported():
    code = """
from mmmed.backbones.torchvision_guard import torchvision_state
print(torchvision_state())
import timm
print(torchvision_state())
"""
    states = run(code).split()
    assert states in (["untouched"] * 2, ["repaired"] * 2)


def test_it_also_heals_a_process_in_which_the_import_has_failed():
    code = """
try:
    import timm
except RuntimeError as error:
    assert "torchvision::nms" in str(error)
from mmmed.backbones.torchvision_guard import torchvision_state
torchvision_state()
import timm
from torchvision.ops import box_iou
from transformers import CLIPModel
print(timm.create_model("resnet18").num_classes)
"""
    pytest.importorskip("transformers")
    assert run(code) == "1000"


def test_a_sound_torchvision_is_left_alone(tmp_path):
    """A stand-in that imports without an error: the guard declares nothing, whatever it is asked."""
    code = """
import sys, torchvision
from mmmed.backbones.torchvision_guard import torchvision_state
print(torchvision_state(), sys.modules["torchvision"] is torchvision, "torch" in sys.modules)
"""
    assert run(code, fake_torchvision(tmp_path, "")) == "untouched True False"


def test_an_import_that_fails_for_another_reason_is_not_hidden(tmp_path):
    code = """
import sys
from mmmed.backbones.torchvision_guard import torchvision_state
try:
    torchvision_state()
except RuntimeError as error:
    print(error, "torch" in sys.modules)
"""
    failing = fake_torchvision(tmp_path, "raise RuntimeError('disk on fire')")
    assert run(code, failing) == "disk on fire False"  # and no operator was declared, which needs torch


def test_without_torchvision_there_is_nothing_to_do():
    code = """
import sys
from mmmed.backbones.torchvision_guard import torchvision_state
sys.modules["torchvision"] = None
print(torchvision_state())
"""
    assert run(code) == "absent"


def test_importing_the_package_touches_neither_torch_nor_torchvision():
    code = """
import sys, mmmed, mmmed.backbones.torchvision_guard
print({"torch", "torchvision"} & set(sys.modules))
"""
    assert run(code) == "set()"
