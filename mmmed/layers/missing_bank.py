"""Learned stand-ins for missing modalities, which depend on what is there instead."""

from __future__ import annotations

import torch
from torch import Tensor, nn

EXACT = 8  # modalities whose combinations are told apart exactly: 256 of them
SCALE = 0.02  # at first hardly more than a mean, so that a combination never seen in training adds no noise


class MissingBank(nn.Module):
    """An embedding per observed combination and missing modality (Flex-MoE, Yun et al., arXiv:2410.08245).

    present [batch modality] bool -> [batch modality dim]; what stands at a present modality has no meaning.
    Differs from the paper: combinations of the first eight modalities have entries of their own, and each
    further modality that is there adds an embedding, so that the bank does not double with every modality.
    """

    def __init__(self, modalities: int, dim: int):
        super().__init__()
        exact = min(modalities, EXACT)
        self.entries = nn.Parameter(SCALE * torch.randn(2**exact, modalities, dim))
        self.pairs: nn.Parameter | None = None  # [further modality, missing modality, dim]
        if modalities > EXACT:
            self.pairs = nn.Parameter(SCALE * torch.randn(modalities - exact, modalities, dim))

    def forward(self, present: Tensor) -> Tensor:
        exact = min(present.shape[1], EXACT)
        powers = 2 ** torch.arange(exact, device=present.device)
        found = self.entries[(present[:, :exact] * powers).sum(1)]
        if self.pairs is not None:
            further = present[:, exact:].to(found.dtype)
            found = found + torch.einsum("bk,kmd->bmd", further, self.pairs)
        return found

    def grow(self) -> None:
        """One modality more, the last; the entries of records without it stay, and with it are the same."""
        combinations, modalities, dim = self.entries.shape
        if modalities < EXACT:
            combinations, old = 2 * combinations, self.entries.repeat(2, 1, 1)
        else:
            old = self.entries
            pairs = self._new(modalities - EXACT + 1, modalities + 1, dim)
            pairs[-1] = 0
            if self.pairs is not None:
                pairs[:-1, :-1] = self.pairs.detach()
            self.pairs = nn.Parameter(pairs)
        column = self._new(combinations, 1, dim)
        self.entries = nn.Parameter(torch.cat([old.detach(), column], dim=1))

    def _new(self, *shape: int) -> Tensor:
        return (SCALE * torch.randn(shape)).to(self.entries)
