"""The index of components: a table of names. Listing imports nothing; creating imports one file."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib import import_module
from types import MappingProxyType
from typing import Any

from mmmed.checks import check_known

KINDS = (
    "image encoder",
    "volume encoder",
    "tabular encoder",
    "text encoder",
    "series encoder",
    "fusion",
    "word-pixel fusion",
    "adapter",
    "reference model",
)


@dataclass(frozen=True)
class Component:
    """One row: where a class lives, which paper it follows, and the options of a tiny instance for tests."""

    name: str
    kind: str
    place: str  # "package.module:Class"
    source: str
    tiny: MappingProxyType = field(default_factory=lambda: MappingProxyType({}))

    def load(self) -> type:
        """Import the one module that holds the class."""
        module, name = self.place.split(":")
        return getattr(import_module(module), name)


def _row(name: str, kind: str, place: str, source: str, /, **tiny: Any) -> Component:
    return Component(name, kind, f"mmmed.{place}", source, MappingProxyType(tiny))


ROWS = (
    _row("cnn", "image encoder", "encoders.image:SmallImageEncoder", "He et al., arXiv:1512.03385"),
    _row(
        "timm",
        "image encoder",
        "encoders.image:TimmImageEncoder",
        "Wightman, doi:10.5281/zenodo.4414861",
        name="mobilenetv2_050",
    ),
    _row(
        "cropped",
        "image encoder",
        "encoders.crops:CroppedImageEncoder",
        "Zhang et al., arXiv:2406.08487",
        crops=(2, 2),
    ),
    _row(
        "open_clip",
        "image encoder",
        "encoders.open_clip_image:OpenClipImageEncoder",
        "Radford et al., arXiv:2103.00020",
        name={
            "model_cfg": {
                "embed_dim": 12,
                "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 16, "head_width": 8, "layers": 2},
            }
        },
    ),
    _row("cnn3d", "volume encoder", "encoders.volume:VolumeEncoder", "He et al., arXiv:1512.03385"),
    _row("mlp", "tabular encoder", "encoders.tabular:TabularEncoder", "Gorishniy et al., arXiv:2106.11959"),
    _row("transformer", "text encoder", "encoders.text:TextEncoder", "Vaswani et al., arXiv:1706.03762"),
    _row(
        "huggingface", "text encoder", "encoders.text:HuggingFaceTextEncoder", "Wolf et al., arXiv:1910.03771"
    ),
    _row("irregular", "series encoder", "encoders.series:SeriesEncoder", "Kazemi et al., arXiv:1907.05321"),
    _row("multimodn", "fusion", "fusion.multimodn:MultiModN", "Swamy et al., arXiv:2309.14118"),
    _row("cascade", "fusion", "fusion.cascade:Cascade", "Liu et al., arXiv:2210.00255", heads=2, latents=2),
    _row(
        "perceiver",
        "fusion",
        "fusion.perceiver:Perceiver",
        "Hemker et al., arXiv:2311.09115",
        heads=2,
        latents=3,
    ),
    _row("lstm", "fusion", "fusion.lstm:LSTM", "Hayat et al., arXiv:2207.07027"),
    _row("concat", "fusion", "fusion.concat:Concat", "Soenksen et al., doi:10.1038/s41746-022-00689-4"),
    _row("late", "fusion", "fusion.late:Late", "Kittler et al., doi:10.1109/34.667881"),
    _row(
        "gated_attention",
        "fusion",
        "fusion.gated_attention:GatedAttention",
        "Ilse et al., arXiv:1802.04712",
    ),
    _row(
        "token_transformer",
        "fusion",
        "fusion.token_transformer:TokenTransformer",
        "Dosovitskiy et al., arXiv:2010.11929",
        layers=1,
        heads=2,
    ),
    _row("moe", "fusion", "fusion.moe:MixtureOfExperts", "Yun et al., arXiv:2410.08245", experts=3, hidden=8),
    _row(
        "svla",
        "word-pixel fusion",
        "segmentation.svla_fusion:SVLAFusion",
        "LSMS, arXiv:2408.17347",
        strips=(3, 5),
    ),
    _row(
        "pwam",
        "word-pixel fusion",
        "segmentation.pwam_fusion:PWAMFusion",
        "Yang et al., arXiv:2112.02244",
    ),
    _row(
        "film",
        "word-pixel fusion",
        "segmentation.film_fusion:FiLMFusion",
        "Perez et al., arXiv:1709.07871",
    ),
    _row(
        "plain",
        "word-pixel fusion",
        "segmentation.plain_fusion:PlainFusion",
        "He et al., arXiv:1512.03385",
    ),
    _row(
        "mlp_adapter",
        "adapter",
        "language.mlp_adapter:MLPAdapter",
        "Zambrano Chaves et al., arXiv:2403.08002",
    ),
    _row(
        "perceiver_adapter",
        "adapter",
        "language.perceiver_adapter:PerceiverAdapter",
        "Jaegle et al., arXiv:2103.03206",
        queries=4,
        heads=2,
    ),
    _row(
        "mixture_adapter",
        "adapter",
        "language.mixture_adapter:MixtureAdapter",
        "Zhang et al., arXiv:2406.08487",
        heads=2,
    ),
    _row(
        "local_adapter",
        "adapter",
        "language.local_adapter:LocalAdapter",
        "Zhang et al., arXiv:2406.08487",
        queries=2,
        keep=3,
        heads=2,
    ),
    _row(
        "slime_adapter",
        "adapter",
        "language.global_local_adapter:GlobalLocalAdapter",
        "Zhang et al., arXiv:2406.08487",
        crops=(1, 1),
    ),
    _row(
        "logistic_regression",
        "reference model",
        "models.reference:LogisticReference",
        "Cox, doi:10.1111/j.2517-6161.1958.tb00292.x",
    ),
    _row(
        "gradient_boosting",
        "reference model",
        "models.reference:BoostingReference",
        "Friedman, doi:10.1214/aos/1013203451",
    ),
)


def list_components(pattern: str = "*", kind: str | None = None) -> list[str]:
    """Names that match a shell pattern, of one kind or of all: list_components("*modn"),
    list_components(kind="fusion")."""
    if kind is not None:
        check_known(kind, KINDS, what="kind of component")
    return [row.name for row in ROWS if fnmatchcase(row.name, pattern) and kind in (None, row.kind)]


def find(name: str, kind: str | None = None) -> Component:
    """The row of that name. Raises ValueError with the nearest name if there is none."""
    rows = {row.name: row for row in ROWS if kind in (None, row.kind)}
    return rows[check_known(name, rows, what=kind or "component")]


def create(name: str, *arguments: Any, **options: Any) -> Any:
    """Build a component by name: create("multimodn", ["image", "labs"], dim=64, state_dim=32)."""
    return find(name).load()(*arguments, **options)
