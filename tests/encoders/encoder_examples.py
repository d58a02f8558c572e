"""What encoders are given in these tests: for each kind of modality a schema entry and batches with holes."""

import torch

from mmmed.types import Category, Image, Number, Series, Tabular, Text, Volume

MODALITIES = {
    "image encoder": Image("scan", size=(32, 32)),
    "volume encoder": Volume("ct", size=(8, 12, 12)),
    "tabular encoder": Tabular(
        (Number("crp"), Category("sex", ("f", "m")), Number("age"), Category("smoker", ("no", "ex", "yes")))
    ),
    "text encoder": Text(
        "note",
        length=12,
        vocabulary=("[PAD]", "[UNK]", *"abcdefghijkl"),
    ),
    "series encoder": Series("vitals", channels=(Number("pulse"), Number("pressure"))),
}
# names of the tensors that say what is there, and the axis along which a batch is padded
MASKS = {
    "image encoder": "views",
    "tabular encoder": "known",
    "text encoder": "mask",
    "series encoder": "known",
}
PADDED = ("image encoder", "text encoder", "series encoder")


def inputs(kind, rows=4, seed=0, dtype=torch.float32):
    """Keyword arguments of an encoder of that kind, some cells, views, words and steps missing."""
    draw = torch.Generator().manual_seed(seed)
    result = globals()[f"_{kind.split()[0]}"](rows, draw)
    return {name: item.to(dtype) if item.is_floating_point() else item for name, item in result.items()}


def _image(rows, draw):
    views = torch.rand(rows, 3, generator=draw) < 0.5
    views[:, 0] = True
    return {"pixels": torch.randn(rows, 3, 1, 32, 32, generator=draw), "views": views}


def _volume(rows, draw):
    return {"voxels": torch.randn(rows, 1, 8, 12, 12, generator=draw)}


def _tabular(rows, draw):
    cells = torch.randn(rows, 4, generator=draw)
    cells[:, 1] = torch.randint(0, 2, (rows,), generator=draw)
    cells[:, 3] = torch.randint(0, 3, (rows,), generator=draw)
    known = torch.rand(rows, 4, generator=draw) < 0.7
    known[0] = True
    known[:, 0] |= ~known.any(1)
    return {"cells": cells, "known": known}


def _text(rows, draw):
    lengths = torch.randint(2, 11, (rows, 1), generator=draw)
    mask = torch.arange(11) < lengths
    ids = torch.randint(2, 14, (rows, 11), generator=draw)
    return {"ids": ids * mask, "mask": mask}


def _series(rows, draw):
    times = -torch.rand(rows, 6, generator=draw).sort(1, descending=True).values
    known = torch.rand(rows, 6, 2, generator=draw) < 0.6
    known[:, 0, 0] = True
    return {"times": times, "values": torch.randn(rows, 6, 2, generator=draw), "known": known}


def unread(kind, batch, filling):
    """The same batch with `filling` wherever the masks say that nothing is there."""
    batch = dict(batch)
    if kind == "image encoder":
        batch["pixels"] = torch.where(batch["views"][..., None, None, None], batch["pixels"], filling)
    elif kind == "tabular encoder":
        batch["cells"] = torch.where(batch["known"], batch["cells"], filling)
    elif kind == "text encoder":
        batch["ids"] = torch.where(batch["mask"], batch["ids"], 5)
    elif kind == "series encoder":
        batch["values"] = torch.where(batch["known"], batch["values"], filling)
        batch["times"] = torch.where(batch["known"].any(2), batch["times"], filling)
    return batch


def padded(kind, batch, more=2):
    """The same batch with `more` columns of padding."""
    return {
        name: torch.cat([item, item.new_zeros(item.shape[0], more, *item.shape[2:])], dim=1)
        for name, item in batch.items()
    }
