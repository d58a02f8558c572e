"""Crops compressed to a few tokens each, of which a router keeps those that the question asks for.

Source: SliME (Zhang et al., arXiv:2406.08487), the local view. Differs from the released code, where the
router sees the answer while it learns, has nothing to learn, and keeps nearly everything: here the score is
learned, reads the question alone, and keeps a fixed number of tokens, so that shapes do not vary. The
gradient of the choice is that of the logarithm of the share (straight-through, Bengio et al.,
arXiv:1308.3432); forward every kept token has the weight 1. There is no noise.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from mmmed.checks import check_count, check_shape, check_share
from mmmed.language.mlp_adapter import Adapter, Projector, check_grid
from mmmed.language.perceiver_adapter import GridReader, place_positions
from mmmed.types import Tokens


class PromptRouter(nn.Module):
    """A score for every token, from the token and the words of a prompt: values [n tokens dim], prompt Tokens
    [n words width] or None -> [n tokens].

    A token counts if any word asks for it: the soft maximum of its products with the words, to which a score
    without a prompt is added. Rows whose prompt is empty have that one alone. The words are normalised, as
    embeddings may be of any size, and receive no gradient.
    """

    def __init__(self, dim: int, width: int):
        super().__init__()
        self.plain = nn.Linear(dim, 1, bias=False)  # without bias: softmax would not see it
        self.token = nn.Linear(dim, dim)
        self.word = nn.Linear(width, dim, bias=False)

    def forward(self, values: Tensor, prompt: Tokens | None) -> Tensor:
        scores = self.plain(values).squeeze(2)
        if prompt is None or not prompt.mask.shape[1]:
            return scores
        hint = "Give the embedded words of the question, one row for each row of tokens."
        width = self.word.in_features
        check_shape(prompt.values, "n words width", name="prompt", n=len(values), width=width, hint=hint)
        words = prompt.values.detach().to(values.dtype).masked_fill(~prompt.mask.unsqueeze(2), 0)
        words = self.word(layer_norm(words, words.shape[2:]))
        products = self.token(values) @ words.transpose(1, 2) / values.shape[2] ** 0.5  # [n tokens words]
        low = torch.finfo(products.dtype).min / 2
        count = prompt.mask.sum(1, keepdim=True)  # [n 1]
        asked = products.masked_fill(~prompt.mask.unsqueeze(1), low).logsumexp(2) - count.clamp(min=1).log()
        return scores + asked.masked_fill(count == 0, 0)


class LocalAdapter(Adapter):
    """Crops to the tokens that matter: Tokens [n crops*places dim] -> Tokens [n kept width].

    grid: the places of one crop; without it, all tokens are one crop. queries: tokens for each crop. keep:
    how many are kept in each row, in their order, or all where there are fewer. top_p: if given, only the
    smallest set of these with at least that share (softmax of the scores over the row) stays real; shapes
    stay as they are. prompt: the question, never the answer; without it, a score of the token alone decides.
    A kept token knows the number of its crop. scale: see `mmmed.language.mlp_adapter.Projector`.
    """

    def __init__(
        self,
        dim: int,
        width: int,
        queries: int = 4,
        keep: int = 16,
        top_p: float | None = None,
        heads: int = 4,
        scale: float | None = None,
    ):
        super().__init__(dim, width)
        self.keep = check_count(keep, name="keep")
        self.top_p = None if top_p is None else check_share(top_p, name="top_p")
        self.reader = GridReader(dim, queries, heads=heads)
        self.router = PromptRouter(dim, width)
        self.project = Projector(dim, width, scale)

    def forward(
        self, tokens: Tokens, grid: tuple[int, ...] | None = None, prompt: Tokens | None = None
    ) -> Tokens:
        compressed = self.compress(tokens, grid)
        shares = self._log_shares(compressed, prompt)
        index, mask = self._choose(shares.detach())
        kept = compressed.values.gather(1, index.unsqueeze(2).expand(-1, -1, self.dim))
        score = shares.gather(1, index).masked_fill(~mask, 0)
        weight = (score - score.detach()).exp()  # exactly 1, with the gradient of the score
        return Tokens(self.project(kept) * weight.unsqueeze(2), mask)

    def compress(self, tokens: Tokens, grid: tuple[int, ...] | None = None) -> Tokens:
        """All crops before the router: Tokens [n crops*queries dim]."""
        values, mask = self.real(tokens, grid), tokens.mask
        crops = check_grid(grid, values.shape[1])
        values, mask = (part.unflatten(1, (crops, -1)) for part in (values, mask))  # [n crops places ...]
        there = mask.any(2)  # [n crops]
        # a crop that is not there reads zeros: attention cannot do without a token
        readable = mask | ~there.unsqueeze(2)
        latents = self.reader(values.flatten(0, 1), readable.flatten(0, 1), grid).unflatten(0, there.shape)
        # numbered among the crops that are there, so that padding shifts no number
        number = (there.cumsum(1) - 1).clamp(min=0)
        latents = latents + place_positions((crops,), self.dim).to(latents)[number].unsqueeze(2)
        return Tokens(latents.flatten(1, 2), there.unsqueeze(2).expand(latents.shape[:3]).flatten(1, 2))

    def shares(
        self, tokens: Tokens, grid: tuple[int, ...] | None = None, prompt: Tokens | None = None
    ) -> Tensor:
        """What the router gives to each compressed token: [n crops*queries], with a sum of 1 in each row."""
        return self._log_shares(self.compress(tokens, grid), prompt).exp()

    def chosen(
        self, tokens: Tokens, grid: tuple[int, ...] | None = None, prompt: Tokens | None = None
    ) -> tuple[Tensor, Tensor]:
        """Which compressed tokens are kept: positions [n kept], ascending, and which of them are real
        [n kept] bool."""
        return self._choose(self._log_shares(self.compress(tokens, grid), prompt))

    def _log_shares(self, compressed: Tokens, prompt: Tokens | None) -> Tensor:
        scores = self.router(compressed.values, prompt)
        return scores.masked_fill(~compressed.mask, -torch.inf).log_softmax(1)

    def _choose(self, shares: Tensor) -> tuple[Tensor, Tensor]:
        best = shares.topk(min(self.keep, shares.shape[1]), dim=1)  # best first
        real = best.values.isfinite()
        if self.top_p is not None:
            mass = best.values.exp()
            real &= mass.cumsum(1) - mass < self.top_p  # what stands before it is not enough yet
            real[:, 0] = True
        index, order = best.indices.sort(dim=1)
        return index, real.gather(1, order)
