"""Records with holes for the contract of every fusion: random tokens for whichever modalities a record has.

Padding tokens hold NaN throughout, so whoever reads one is found out.
"""

import torch
from torch import nn

from mmmed.catalogue import ROWS
from mmmed.types import Tokens

FUSIONS = [row for row in ROWS if row.kind == "fusion"]
# Sparse experts have shapes that depend on the data.
SIDE_BY_SIDE = [row for row in FUSIONS if row.name != "moe"]
SEQUENTIAL = [row for row in FUSIONS if row.name in ("multimodn", "cascade", "lstm")]
NAMES = ("image", "table", "note")
DIM, STATE, LONGEST = 6, 5, 3
PATTERNS = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0], [0, 0, 1], [1, 1, 0]]).bool()


def build(row, names=NAMES, seed=0):
    """A tiny instance in evaluation mode; its buffers hold something, as after training."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fusion = row.load()(names, dim=DIM, state_dim=STATE, **row.tiny).eval()
        for buffer in fusion.buffers():
            if buffer.is_floating_point():
                buffer.normal_()
    return fusion


def without_dropout(fusion):
    for part in fusion.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        elif isinstance(getattr(part, "dropout", None), float):
            part.dropout = 0.0
    return fusion


def dense(records, seed=0, names=NAMES):
    """Tokens of every record for every modality, also of those it will lack: {name: (values, mask)}."""
    draw = torch.Generator().manual_seed(seed)
    result = {}
    for name in names:
        values = torch.randn(records, LONGEST, DIM, generator=draw)
        lengths = torch.randint(1, LONGEST + 1, (records, 1), generator=draw)
        mask = torch.arange(LONGEST) < lengths
        result[name] = (values.masked_fill(~mask.unsqueeze(2), torch.nan), mask)
    return result


def pack(full, present, names=NAMES):
    """Only what is there: tokens and rows as a batch holds them."""
    tokens, rows = {}, {}
    for index, name in enumerate(names):
        here = present[:, index].nonzero().squeeze(1)
        if len(here):
            tokens[name] = Tokens(full[name][0][here], full[name][1][here])
            rows[name] = here
    return tokens, rows, present


def list_all(full, present, garbage=1e3):
    """Every record listed, as many models side by side need it; what is absent holds something else."""
    tokens = {}
    for index, (name, (values, mask)) in enumerate(full.items()):
        gone = ~present[:, index, None]
        tokens[name] = Tokens(values.masked_fill(gone.unsqueeze(2), garbage), mask | gone)
    return tokens, dict.fromkeys(full, torch.arange(len(present))), present


def run(fusion, full, present, order=None):
    return fusion(*pack(full, present), order)


def one(full, present, index):
    """Record `index` alone."""
    return {k: (v[index : index + 1], m[index : index + 1]) for k, (v, m) in full.items()}, present[
        index : index + 1
    ]
