"""Cross-modal: inputs and reports in one space, so that the right report is the nearest one.

Two linear maps over frozen features: pooled tokens of the inputs that are there, and numbers of the report's
text. Source: LiT, Zhai et al., arXiv:2111.07991 (contrast over frozen features), with the learned temperature
of CLIP, Radford et al., arXiv:2103.00020, sec. 2.4. Training: `mmmed.training.contrast`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmmed.checks import check_count, check_shape, plain
from mmmed.layers.pooling import masked_mean
from mmmed.types import Tokens

HOTTEST = math.log(100.0)  # CLIP's bound: a sharper similarity makes training unstable


class CrossModal(nn.Module):
    """inputs [n inputs_dim], texts [m texts_dim] -> scaled cosine similarity [n m].

    Features are standardised by the mean and scale of the training rows, which are kept as buffers.
    """

    def __init__(self, inputs_dim: int, texts_dim: int, dim: int = 64):
        super().__init__()
        check_count(dim, name="dim")
        self.inputs = nn.Linear(inputs_dim, dim)
        self.texts = nn.Linear(texts_dim, dim)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        for side, width in (("inputs", inputs_dim), ("texts", texts_dim)):
            self.register_buffer(f"{side}_mean", torch.zeros(width))
            self.register_buffer(f"{side}_scale", torch.ones(width))

    @torch.no_grad()
    def standardise(self, inputs: Tensor, texts: Tensor) -> None:
        """Take mean and scale from training rows; a constant feature gets scale 1."""
        for side, values in (("inputs", inputs), ("texts", texts)):
            scale = values.std(dim=0, correction=0)
            getattr(self, f"{side}_mean").copy_(values.mean(dim=0))
            getattr(self, f"{side}_scale").copy_(torch.where(scale > 1e-6, scale, torch.ones_like(scale)))

    def embed_inputs(self, values: Tensor) -> Tensor:
        """[n inputs_dim] -> [n dim] of length 1."""
        check_shape(values, "n dim", name="inputs", dim=self.inputs.in_features)
        return normalize(self.inputs((values - self.inputs_mean) / self.inputs_scale), dim=-1)

    def embed_texts(self, values: Tensor) -> Tensor:
        """[m texts_dim] -> [m dim] of length 1."""
        check_shape(values, "n dim", name="texts", dim=self.texts.in_features)
        return normalize(self.texts((values - self.texts_mean) / self.texts_scale), dim=-1)

    def forward(self, inputs: Tensor, texts: Tensor) -> Tensor:
        scale = self.log_scale.exp()
        return scale * self.embed_inputs(inputs) @ self.embed_texts(texts).T  # [n m]


def pooled_inputs(
    tokens: Mapping[str, Tokens], rows: Mapping[str, Tensor], present: Tensor, dims: Mapping[str, int]
) -> Tensor:
    """The tokens of every modality as one row per patient: [batch features].

    tokens[modality]: of the n rows that have it, no key where nobody has; rows[modality] [n]: their places;
    present [batch modality] bool. dims: modality -> dim of its tokens, in the order of `present`, so that a
    batch without a modality gives as many features. Each modality gives the mean of its tokens and one number
    that says whether it is there; an absent one gives zeros, and after a linear map that is the same as one
    learned vector in its place.
    """
    check_shape(present, "batch modality", name="present", modality=len(dims))
    parts = []
    like = next(iter(tokens.values())).values if tokens else torch.zeros(0)
    for place, (name, dim) in enumerate(dims.items()):
        filled = like.new_zeros(len(present), dim)
        if name in tokens:
            pooled = masked_mean(tokens[name].values, tokens[name].mask)  # [n dim]
            filled = filled.index_copy(0, rows[name], pooled)
        parts += [filled, present[:, place : place + 1].to(filled)]
    return torch.cat(parts, dim=1)


class BagOfWords:
    """Texts as numbers: TF-IDF of words and word pairs, its leading directions (latent semantic analysis).

    Fitted on training reports: `BagOfWords(texts, dim=64)(texts)` -> [n dim]. A text of unknown words is all
    zeros. Negation stays visible through the pairs ("no effusion"). Source: Deerwester et al. 1990,
    doi:10.1002/(SICI)1097-4571(199009)41:6<391::AID-ASI1>3.0.CO;2-9. Raises ValueError if no text has a word.
    """

    def __init__(self, texts: Sequence[str], dim: int = 64, seed: int = 0):
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        check_count(dim, name="dim")
        self._counter = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"[^\W_]+")
        try:
            counts = self._counter.fit_transform(texts)
        except ValueError as error:
            raise ValueError(
                f"The {len(texts)} training texts hold no word, for example {plain(list(texts)[:1])}."
            ) from error
        self.dim = min(dim, counts.shape[1])
        self._directions: Any = None
        if self.dim < counts.shape[1]:
            self._directions = TruncatedSVD(self.dim, random_state=seed).fit(counts)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        counts = self._counter.transform(texts)
        values = counts.toarray() if self._directions is None else self._directions.transform(counts)
        return torch.tensor(values, dtype=torch.float32)
