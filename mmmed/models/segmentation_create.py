"""Names and sizes -> the network of a referring segmenter, and what must be kept to build it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from mmmed.backbones.timm_maps import TimmPyramid
from mmmed.catalogue import find
from mmmed.checks import check_count, check_known, listing, plain
from mmmed.models.create import seeded
from mmmed.models.segmentation_network import SegmentationNetwork
from mmmed.segmentation.feature_pyramid import FeaturePyramid
from mmmed.segmentation.mask_decoder import MaskDecoder
from mmmed.segmentation.sequences import SequencePyramid
from mmmed.types import Image, Schema, Volume

WIDTHS = (24, 32, 48, 64)
LARGE = 192  # pixels; above it masks are drawn on a quarter of the grid, else on half of it


def create_network(
    schema: Schema,
    modalities: Sequence[str],
    *,
    query: nn.Module,
    dim: int = 48,
    pyramid: str | tuple[str, Mapping[str, Any]] = "small",
    fusion: str | tuple[str, Mapping[str, Any]] = "film",
    width: int = 32,
    by_slice: bool = False,
    weak: bool = False,
    seed: int = 0,
) -> tuple[SegmentationNetwork, dict[str, Any]]:
    """A network for the pictures of a schema, not yet trained, and its JSON-ready description.

    modalities: one Image, or Volumes of one size. query: the module that makes words, of width dim. pyramid:
    "small" (options widths, strides), or "timm:NAME" (options weights), for a single Image or the slices of a
    single Volume. fusion: a word-pixel fusion of the catalogue. by_slice: volumes are drawn slice by slice.
    weak: see `MaskDecoder`. seed: of the first weights. Raises ValueError for parts that do not fit.
    """
    modalities = tuple(modalities)
    kinds = check_pictures(schema, modalities, by_slice)
    check_count(width, name="width")
    name, options = _named(pyramid)
    fusing, fusing_options = _named(fusion)
    told = find(fusing, "word-pixel fusion")
    space = 2 if kinds is Image or by_slice else 3
    size = schema.modalities[modalities[0]].size
    size = size[1:] if by_slice else size
    with seeded(seed):
        seen = _pyramid(schema, modalities, name, options, by_slice)
        finest = _finest(seen, size)
        neck = FeaturePyramid(seen.widths[finest:], width, space)
        fusions = [
            told.load()(width, dim, space=space, **fusing_options)
            for _ in range(len(seen.widths) - 1 - finest)
        ]
        decoder = MaskDecoder(width, dim, fusions, space, weak=weak)
    network = SegmentationNetwork(
        modalities, seen, neck, decoder, query, by_slice, normalise=kinds is Volume, finest=finest
    )
    config = {
        "modalities": list(modalities),
        "dim": dim,
        "pyramid": [name, dict(options)],
        "fusion": [fusing, dict(fusing_options)],
        "width": width,
        "by_slice": by_slice,
        "weak": weak,
        "seed": seed,
    }
    return network, config


def check_pictures(schema: Schema, modalities: Sequence[str], by_slice: bool) -> type:
    """Image or Volume. Raises ValueError unless there is one picture, or volumes of one size and channels."""
    if not modalities:
        raise ValueError("A segmenter draws on a picture: name the image, or the volumes, of the schema.")
    found = [schema.modalities[check_known(name, schema.modalities, what="modality")] for name in modalities]
    kinds = {type(modality) for modality in found}
    if not kinds <= {Image, Volume} or len(kinds) > 1 or (kinds == {Image} and len(found) > 1):
        raise ValueError(f"{listing(modalities)} should be one Image, or Volumes only.")
    if len({modality.size for modality in found}) > 1:
        sizes = {name: modality.size for name, modality in zip(modalities, found, strict=True)}
        raise ValueError(
            f"All sequences are drawn on one grid; give them one size in the schema, got {sizes}."
        )
    kind = kinds.pop()
    if kind is Image and by_slice:
        raise ValueError("by_slice is for volumes; a picture has no slices.")
    return kind


def _finest(pyramid: nn.Module, size: Sequence[int]) -> int:
    """The scale that is drawn on: the finest, but for large pictures the first of a quarter of the grid or
    less. Words need a coarser one than that."""
    if max(size) <= LARGE:
        return 0
    coarse = [k for k, step in enumerate(pyramid.steps) if step >= 4]
    return min(coarse[0] if coarse else 0, len(pyramid.widths) - 2)


def _named(part: str | tuple[str, Mapping[str, Any]]) -> tuple[str, Mapping[str, Any]]:
    pair = (part, {}) if isinstance(part, str) else part
    whole = isinstance(pair, (tuple, list)) and len(pair) == 2
    if not whole or not isinstance(pair[0], str) or not isinstance(pair[1], Mapping):
        raise ValueError(f"A part is a name or (name, options), got {plain(part)}.")
    return pair[0], pair[1]


def _pyramid(
    schema: Schema, modalities: tuple[str, ...], name: str, options: Mapping[str, Any], by_slice: bool
) -> nn.Module:
    first = schema.modalities[modalities[0]]
    size = first.size[1:] if by_slice else first.size
    if name == "small":
        channels = {one: schema.modalities[one].channels for one in modalities}
        widths = (WIDTHS[0], *WIDTHS) if max(size) > LARGE else WIDTHS
        return SequencePyramid(modalities, size, channels, **{"widths": widths, **options})
    kind, _, model = name.partition(":")
    if kind != "timm" or not model:
        raise ValueError(f'A pyramid is "small" or "timm:NAME", got {plain(name)}.')
    if len(modalities) > 1 or len(size) != 2:
        raise ValueError(
            f"A timm network sees one picture, or the slices of one volume (by_slice=True), not "
            f"{listing(modalities)}. Use the small pyramid."
        )
    return TimmPyramid(
        modalities[0], model, first.channels, size, mean=first.mean, scale=first.scale, **options
    )
