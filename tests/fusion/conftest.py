"""Random records with holes, and a short training, for the families of fusion."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from mmmed.types import Tokens

NAMES = ("a", "b", "c")
PRESENT = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0], [0, 0, 1]]).bool()


def values(seed=0, names=NAMES, records=5, tokens=3, dim=4):
    """{name: (values [records tokens dim], mask [records tokens])}; the number of real tokens varies."""
    draw = torch.Generator().manual_seed(seed)
    result = {}
    for name in names:
        real = torch.randint(1, tokens + 1, (records, 1), generator=draw)
        result[name] = (torch.randn(records, tokens, dim, generator=draw), torch.arange(tokens) < real)
    return result


def pack(full, present=PRESENT):
    """Tokens and rows of what is there, and who has what."""
    tokens, rows = {}, {}
    for index, (name, (content, mask)) in enumerate(full.items()):
        here = present[:, index].nonzero().squeeze(1)
        if len(here):
            tokens[name], rows[name] = Tokens(content[here], mask[here]), here
    return tokens, rows, present


def real(full, name, record):
    """The real tokens of one record: [tokens dim]"""
    content, mask = full[name]
    return content[record][mask[record]]


def learn(fusion, full, present, label, steps=80, rate=1e-2):
    """Train on all steps of all records and -> accuracy of the final state on those records."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = nn.Linear(fusion.state_dim, 1)
        optimizer = torch.optim.Adam([*fusion.parameters(), *head.parameters()], lr=rate)
        batch = pack(full, present)
        for _ in range(steps):
            fused = fusion.train()(*batch)
            logits = head(fused.steps).squeeze(2)
            wanted = label.float()[:, None].expand_as(logits)
            loss = binary_cross_entropy_with_logits(logits, wanted, reduction="none")
            loss = loss[fused.step_mask].mean() + sum(fused.extra.values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            answer = head(fusion.eval()(*batch).state).squeeze(1) > 0
    return (answer == label).float().mean().item()


def exclusive(records=128):
    """Two modalities of one token; the label is whether their signs differ: neither tells a thing alone."""
    draw = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (records, 2), generator=draw).float() * 2 - 1
    full = {}
    for index, name in enumerate(("a", "b")):
        noise = 0.2 * torch.randn(records, 1, 4, generator=draw)
        noise[..., 0] += signs[:, index, None]
        full[name] = (noise, torch.ones(records, 1, dtype=torch.bool))
    return full, torch.ones(records, 2, dtype=torch.bool), signs[:, 0] != signs[:, 1]


def marked(records=192, tokens=6):
    """One modality of several tokens, of which a marked one counts: the mean over tokens hardly shows it."""
    draw = torch.Generator().manual_seed(0)
    content = torch.randn(records, tokens, 4, generator=draw)
    content[..., 0] = 0
    content[..., 1] = 3 * (torch.randint(0, 2, (records, tokens), generator=draw).float() * 2 - 1)
    which = torch.randint(0, tokens, (records,), generator=draw)
    content[torch.arange(records), which, 0] = 3
    label = content[torch.arange(records), which, 1] > 0
    return (
        {"a": (content, torch.ones(records, tokens, dtype=torch.bool))},
        torch.ones(records, 1).bool(),
        label,
    )


@pytest.fixture
def cases():
    """The functions above, for a test to call."""
    return SimpleNamespace(
        values=values,
        pack=pack,
        real=real,
        learn=learn,
        exclusive=exclusive,
        marked=marked,
        present=PRESENT,
        names=NAMES,
    )
