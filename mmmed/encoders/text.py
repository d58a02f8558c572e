"""Text to tokens: a small transformer for a vocabulary of our own, and any text network of Hugging Face."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from mmmed.backbones.torchvision_guard import torchvision_state
from mmmed.checks import check_shape, listing, needs, plain
from mmmed.layers.pooling import AttentionPool, masked_mean
from mmmed.layers.transformer import Transformer
from mmmed.types import Text, Tokens


class TextEncoder(nn.Module):
    """A transformer that is small enough to learn from a few hundred notes.

    ids [n length] long, mask [n length] bool (False = padding) -> Tokens [n 1 dim]: the words, weighted by
    learned attention; with `tokens` [n length dim], one token per word piece. vocabulary: number of pieces;
    length: longest text, longer ones raise ValueError. Source: Vaswani et al., arXiv:1706.03762. Differs: the
    norm first, learned positions, and every piece first sees its two neighbours through a convolution (Kim,
    arXiv:1408.5882, sec. 2). So "no effusion" is told from "no fever, effusion" after some hundred notes,
    which attention alone does not learn from so few.
    """

    def __init__(
        self,
        vocabulary: int,
        dim: int = 64,
        length: int = 64,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        tokens: bool = False,
    ):
        super().__init__()
        self.vocabulary, self.dim, self.length = vocabulary, dim, length
        self.pieces = nn.Embedding(vocabulary, dim)
        self.positions = nn.Embedding(length, dim)
        nn.init.normal_(self.pieces.weight, std=dim**-0.5)
        nn.init.normal_(self.positions.weight, std=0.5 * dim**-0.5)
        self.neighbours = nn.Conv1d(dim, dim, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.network = Transformer(dim, layers, heads, dropout)
        self.pool = None if tokens else AttentionPool(dim, heads)

    @classmethod
    def from_schema(
        cls,
        modality: Text,
        dim: int = 64,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        tokens: bool = False,
    ) -> TextEncoder:
        """For the text that a schema describes, with its vocabulary or that of its tokenizer."""
        return cls(_vocabulary_size(modality), dim, modality.length, layers, heads, dropout, tokens)

    def forward(self, ids: Tensor, mask: Tensor) -> Tokens:
        ids, mask = _trim(ids, mask, self.length)
        if bool((ids.amax() >= self.vocabulary) | (ids.amin() < 0)):
            raise ValueError(
                f"ids should lie in 0 to {self.vocabulary - 1}, got {ids.min()} to {ids.max()}. "
                "Was the text read with another vocabulary?"
            )
        values = (self.pieces(ids) + self.positions.weight[: ids.shape[1]]) * mask.unsqueeze(2)
        around = self.neighbours(values.transpose(1, 2)).transpose(1, 2)
        values = self.network(self.dropout(values + gelu(around)), mask)  # [n length dim]
        return _as_tokens(values, mask, self.pool)


class HuggingFaceTextEncoder(nn.Module):
    """Any text encoder of transformers (Wolf et al., arXiv:1910.03771), read from files that are here
    already.

    ids [n length] long, mask [n length] bool -> Tokens [n 1 dim]: mean over the pieces; with `tokens` [n
    length dim]. name: a folder with config.json, the name of a hub model that is in the local cache, or the
    content of config.json as a dict. weights: None for random ones, or a folder or .safetensors file with the
    stored ones. Nothing is downloaded; `huggingface_hub.snapshot_download(name)` does that. length: longest
    text.
    """

    def __init__(
        self,
        name: str | os.PathLike[str] | Mapping[str, Any],
        dim: int = 64,
        length: int = 64,
        weights: str | os.PathLike[str] | None = None,
        tokens: bool = False,
    ):
        super().__init__()
        self.dim, self.length, self.tokens = dim, length, tokens
        self.network = _build(name, length)
        if weights is not None:
            _load(self.network, weights)
        width = self.network.config.hidden_size
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, dim)

    @classmethod
    def from_schema(
        cls,
        modality: Text,
        dim: int = 64,
        name: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        weights: str | os.PathLike[str] | None = None,
        tokens: bool = False,
    ) -> HuggingFaceTextEncoder:
        """For the text that a schema describes; name: left out, the place of the schema's tokenizer."""
        name = modality.tokenizer if name is None else name
        if name is None:
            raise ValueError(
                "name should be a folder with config.json, a cached hub model or a dict; got none."
            )
        return cls(name, dim, modality.length, weights, tokens)

    @property
    def rebuild(self) -> dict[str, Any]:
        """Options of `from_schema` that build the same network, weights apart, where the folder is gone."""
        config = self.network.config.to_dict()
        config.pop("_name_or_path", None)  # a place on this machine
        return {"name": config, "tokens": self.tokens}

    def forward(self, ids: Tensor, mask: Tensor) -> Tokens:
        ids, mask = _trim(ids, mask, self.length)
        values = self.network(input_ids=ids, attention_mask=mask.long()).last_hidden_state  # [n length width]
        if self.tokens:
            return _as_tokens(self.project(self.norm(values)), mask, None)
        values = self.project(self.norm(masked_mean(values, mask))).unsqueeze(1)
        return Tokens(values, torch.ones_like(mask[:, :1]))


def _trim(ids: Tensor, mask: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Check, and cut the columns behind the longest text, which hold nothing but padding."""
    check_shape(ids, "n length", name="ids")
    check_shape(mask, "n length", name="mask", n=ids.shape[0], length=ids.shape[1])
    if not bool(mask.any(1).all()):
        raise ValueError("A row of mask is all False. Leave rows without a text out of the batch.")
    longest = int(mask.any(0).nonzero().max()) + 1
    if longest > length:
        raise ValueError(
            f"A text has {longest} word pieces, the encoder takes {length}. Build it with length={longest}, "
            "or cut the text by the schema's Text(length=...)."
        )
    return ids[:, :longest], mask[:, :longest]


def _as_tokens(values: Tensor, mask: Tensor, pool: nn.Module | None) -> Tokens:
    if pool is None:
        return Tokens(values * mask.unsqueeze(2), mask)
    return Tokens(pool(values, mask).unsqueeze(1), torch.ones_like(mask[:, :1]))


def _vocabulary_size(modality: Text) -> int:
    if modality.tokenizer is None:
        if not modality.vocabulary:
            raise ValueError(
                f"The text modality of column {modality.column!r} has no vocabulary yet. Learn one from "
                "the training rows (cohort.refit() does), or name a tokenizer: Text(column, tokenizer=...)."
            )
        return len(modality.vocabulary)
    from mmmed.data.tokenization import tokenizer_of

    return tokenizer_of(modality).get_vocab_size()


# ---------------------------------------------------------------------------------------------- transformers


def _build(name: str | os.PathLike[str] | Mapping[str, Any], length: int) -> nn.Module:
    """A network with random weights. Raises ValueError if it cannot be found here or is no text encoder."""
    torchvision_state()
    try:
        from transformers import AutoConfig, AutoModel
    except ImportError as error:
        raise needs("transformers", "language") from error

    try:
        if isinstance(name, Mapping):
            config = AutoConfig.for_model(**name)
        else:
            config = AutoConfig.from_pretrained(name, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{plain(name)} is neither a folder with config.json, nor a hub model in the local cache, nor a "
            f"dict with model_type. Fetch a hub model first: huggingface_hub.snapshot_download(name). "
            f"({error})"
        ) from error
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(f"{plain(name)} is an encoder with a decoder. Choose a text encoder such as BERT.")
    most = getattr(config, "max_position_embeddings", None) or length
    if length > most:
        raise ValueError(
            f"{plain(name)} reads {most} word pieces, the schema keeps {length}. Set Text(length={most})."
        )
    network = AutoModel.from_config(config)
    if getattr(network, "pooler", None) is not None:
        network.pooler = None  # works on the first token only, which nobody here reads
    return network


def _load(network: nn.Module, weights: str | os.PathLike[str]) -> None:
    """Put stored weights into the network, all of them."""
    from safetensors.torch import load_file

    path = Path(weights)
    path = path / "model.safetensors" if path.is_dir() else path
    if not path.is_file() or path.suffix != ".safetensors":
        raise ValueError(f'There is no file of weights at "{path}". Give a .safetensors file or its folder.')
    prefix = f"{network.base_model_prefix}."
    stored = {key.removeprefix(prefix): tensor for key, tensor in load_file(path).items()}
    missing, _ = network.load_state_dict(stored, strict=False)
    if missing:
        raise ValueError(f"{path} lacks {len(missing)} tensors of the network: {listing(missing, 4)}.")
