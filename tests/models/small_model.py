"""A small schema with every kind of task, small real encoders, and records with holes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from mmmed.models import calibration
from mmmed.models.create import create_model
from mmmed.models.inference import calibrate
from mmmed.types import (
    Binary,
    Category,
    Image,
    Multiclass,
    Multilabel,
    Number,
    Record,
    Regression,
    Schema,
    Tabular,
    Text,
    Tokens,
)

WORDS = ("[PAD]", "[UNK]", "cough", "fever", "none", "a")
SCHEMA = Schema(
    modalities={
        "image": Image("path", size=(6, 6)),
        "table": Tabular(
            (
                Number("age", unit="y", mean=60.0, scale=12.0),
                Number("crp"),
                Category("sex", levels=("f", "m")),
            )
        ),
        "note": Text("history", length=5, vocabulary=WORDS),
    },
    tasks={
        "sick": Binary("sick", levels=("no", "yes")),
        "stage": Multiclass("stage", levels=("0", "1", "2")),
        "signs": Multilabel(("cough", "fever")),
        "days": Regression("days", unit="d", mean=5.0, scale=2.0),
    },
    group="patient",
    id="record",
)


class PixelEncoder(nn.Module):
    """pixels [n views channels height width] -> Tokens [n views dim]."""

    def __init__(self, pixels: int = 36, dim: int = 8):
        super().__init__()
        self.dim = dim
        self.net = nn.Sequential(nn.Linear(pixels, dim), nn.SiLU(), nn.Dropout(0.1), nn.LayerNorm(dim))

    def forward(self, pixels: Tensor, views: Tensor) -> Tokens:
        return Tokens(self.net(pixels.flatten(2)), views)


class CellEncoder(nn.Module):
    """cells, known [n columns] -> Tokens [n 1 dim]."""

    def __init__(self, columns: int = 3, dim: int = 8):
        super().__init__()
        self.dim = dim
        self.net = nn.Sequential(nn.Linear(2 * columns, dim), nn.SiLU(), nn.Dropout(0.1), nn.Linear(dim, dim))

    def forward(self, cells: Tensor, known: Tensor) -> Tokens:
        values = self.net(torch.cat([cells, known.float()], dim=1))[:, None]
        return Tokens(values, values.new_ones(values.shape[:2], dtype=torch.bool))


class WordEncoder(nn.Module):
    """ids, mask [n length] -> Tokens [n length dim]."""

    def __init__(self, words: int = len(WORDS), dim: int = 8):
        super().__init__()
        self.dim = dim
        self.table = nn.Embedding(words, dim)

    def forward(self, ids: Tensor, mask: Tensor) -> Tokens:
        return Tokens(self.table(ids), mask)


def make_encoders(dim: int = 8) -> dict[str, nn.Module]:
    return {"image": PixelEncoder(dim=dim), "table": CellEncoder(dim=dim), "note": WordEncoder(dim=dim)}


def make_model(fusion="multimodn", schema: Schema = SCHEMA, seed: int = 0, **options):
    """An untrained model whose running statistics, where it has any, hold something, as after training."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts = {name: part for name, part in make_encoders().items() if name in schema.modalities}
        model = create_model(schema, fusion=fusion, encoders=parts, dim=8, state_dim=8, seed=seed, **options)
        for buffer in model.fusion.buffers():
            buffer.normal_()
    return model.eval()


def calibrated(model, records: int = 60):
    """Calibrated on simulated records, with few draws for the interval: how wide it is matters elsewhere."""
    draws, calibration.DRAWS = calibration.DRAWS, 10
    try:
        return calibrate(model, SmallCohort(make_records(records, seed=5)))
    finally:
        calibration.DRAWS = draws


def make_record(index: int, draw: np.random.Generator, here=(True, True, True)) -> Record:
    sick = int(draw.random() < 0.5)
    inputs = {
        "image": (0.6 * draw.random((6, 6)) + 0.3 * sick).astype(np.float32),
        "table": {"age": draw.normal(60, 12), "crp": draw.normal(sick), "sex": str(draw.choice(["f", "m"]))},
        "note": "cough and fever" if draw.random() < 0.3 + 0.4 * sick else "none",
    }
    targets = {
        "sick": ("no", "yes")[sick],
        "stage": int(draw.integers(0, 3)),
        "cough": int(draw.random() < 0.5),
        "fever": sick,
        "days": draw.normal(5 + sick, 2),
    }
    inputs = {name: value for (name, value), stays in zip(inputs.items(), here, strict=True) if stays}
    return Record(f"r{index}", inputs, targets, group=f"p{index // 2}")


def make_records(count: int = 12, missing: float = 0.4, seed: int = 0) -> list[Record]:
    """Records with each modality missing at random; the last one has nothing at all."""
    draw = np.random.default_rng(seed)
    records = [make_record(i, draw, draw.random(3) >= missing) for i in range(count - 1)]
    return [*records, make_record(count - 1, draw, (False, False, False))]


class SmallCohort:
    """What `mmmed.models.inference` asks of a cohort, in memory."""

    def __init__(
        self, records, schema: Schema = SCHEMA, missing_files: str = "error", unreadable: str = "error"
    ):
        self.records, self.schema = list(records), schema
        self.missing_files, self.unreadable = missing_files, unreadable

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Record:
        return self.records[index]

    def __iter__(self):
        return iter(self.records)
