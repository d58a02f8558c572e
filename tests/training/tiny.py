"""A small cohort in memory and a small real model for the tests of training."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from mmmed.fusion.multimodn import MultiModN
from mmmed.heads.linear import make_head
from mmmed.models.multimodal import MultimodalModel
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

SCHEMA = Schema(
    modalities={
        "image": Image("path", size=(12, 12)),
        "table": Tabular((Number("age"), Number("crp"), Category("sex", levels=("f", "m")))),
        "extra": Tabular((Number("lactate"),)),
    },
    tasks={"sick": Binary("sick")},
)
ALL_TASKS = {
    "sick": Binary("sick"),
    "stage": Multiclass("stage", levels=("0", "1", "2")),
    "signs": Multilabel(("cough", "fever")),
    "days": Regression("days", unit="d", mean=5.0, scale=2.0),
}


class TinyCohort:
    """Records in memory, with the parts of `Cohort` that training uses."""

    def __init__(self, records, schema, splits, name="tiny"):
        self.records, self.schema, self.splits, self.name = list(records), schema, np.array(splits), name
        self.missing_files = self.unreadable = "error"

    def __len__(self):
        return len(self.records)

    def __getitem__(self, key):
        if isinstance(key, str):
            here = [i for i, split in enumerate(self.splits) if split == key]
            return TinyCohort([self.records[i] for i in here], self.schema, self.splits[here], self.name)
        return self.records[key]

    def __iter__(self):
        return iter(self.records)

    @property
    def ids(self):
        return np.array([record.id for record in self.records], dtype=str)

    @property
    def present(self):
        return np.array([[name in r.inputs for name in self.schema.modalities] for r in self.records])

    def with_schema(self, schema):
        return TinyCohort(self.records, schema, self.splits, self.name)


def make_records(count: int, missing: float = 0.3, seed: int = 0, unknown: float = 0.1) -> list[Record]:
    """Patients whose sickness shows in the picture, in crp and in lactate; modalities missing at random."""
    draw = np.random.default_rng(seed)
    records = []
    for index in range(count):
        sick = int(draw.random() < 0.5)
        pixels = (0.4 + 0.08 * draw.standard_normal((12, 12))).clip(0, 1).astype(np.float32)
        if sick:
            pixels[4:8, 4:8] += 0.3
        inputs = {
            "image": pixels.clip(0, 1),
            "table": {
                "age": draw.normal(),
                "crp": draw.normal(1.5 * sick - 0.75),
                "sex": draw.choice(["f", "m"]),
            },
            "extra": {"lactate": draw.normal(1.5 * sick - 0.75)},
        }
        here = draw.random(3) >= missing
        targets = {
            "sick": sick,
            "stage": int(draw.integers(0, 2) + sick),
            "cough": sick,
            "fever": int(draw.random() < 0.3),
            "days": 5 + 2 * sick + draw.normal(),
        }
        inputs = {name: value for (name, value), stays in zip(inputs.items(), here, strict=True) if stays}
        targets = {name: value for name, value in targets.items() if draw.random() >= unknown}
        records.append(Record(f"r{index}", inputs, targets, group=f"p{index}"))
    return records


def make_cohort(count: int = 120, schema: Schema = SCHEMA, **options) -> TinyCohort:
    """Two thirds training, one sixth validation, one sixth test."""
    splits = [("train", "train", "train", "train", "val", "test")[i % 6] for i in range(count)]
    return TinyCohort(make_records(count, **options), schema, splits)


class PixelEncoder(nn.Module):
    """pixels [n views channels height width] -> Tokens [n views dim]."""

    def __init__(self, pixels: int = 144, dim: int = 8, dropout: float = 0.1):
        super().__init__()
        self.dim = dim
        self.net = nn.Sequential(
            nn.Linear(pixels, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, dim), nn.LayerNorm(dim)
        )

    def forward(self, pixels: Tensor, views: Tensor) -> Tokens:
        return Tokens(self.net(pixels.flatten(2)), views)


class CellEncoder(nn.Module):
    """cells, known [n columns] -> Tokens [n 1 dim]."""

    def __init__(self, columns: int, dim: int = 8, dropout: float = 0.1):
        super().__init__()
        self.dim = dim
        self.net = nn.Sequential(
            nn.Linear(2 * columns, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, dim)
        )

    def forward(self, cells: Tensor, known: Tensor) -> Tokens:
        values = self.net(torch.cat([cells, known.float()], dim=1))[:, None]
        return Tokens(values, values.new_ones(values.shape[:2], dtype=torch.bool))


class WordEncoder(nn.Module):
    """ids, mask [n length] -> Tokens [n length dim]."""

    def __init__(self, vocabulary: int, dim: int = 8):
        super().__init__()
        self.dim = dim
        self.words = nn.Embedding(vocabulary, dim)

    def forward(self, ids: Tensor, mask: Tensor) -> Tokens:
        return Tokens(self.words(ids), mask)


def make_model(schema: Schema = SCHEMA, seed: int = 0, dropout: float = 0.1, fusion=None) -> MultimodalModel:
    """A real MultimodalModel with small encoders."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoders = {}
        for name, modality in schema.modalities.items():
            if isinstance(modality, Image):
                pixels = modality.size[0] * modality.size[1] * modality.channels
                encoders[name] = PixelEncoder(pixels, dropout=dropout)
            elif isinstance(modality, Text):
                encoders[name] = WordEncoder(len(modality.vocabulary))
            else:
                encoders[name] = CellEncoder(len(modality.cells), dropout=dropout)
        fusion = fusion or MultiModN(schema.modalities, dim=8, state_dim=8, hidden=8, dropout=dropout)
        heads = {name: make_head(task, 8, hidden=8, dropout=dropout) for name, task in schema.tasks.items()}
        return MultimodalModel(encoders, fusion, heads, schema)
