"""Cached tokens of frozen encoders: the same as encoding, found again, and never used after a change."""

import copy
import os

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from tiny import SCHEMA, make_cohort, make_model, make_records

from mmmed.data.collate import Collator
from mmmed.training import token_cache
from mmmed.training.finetune import finetune
from mmmed.training.token_cache import TokenStore, cache_tokens
from mmmed.types import Record


class Counted(torch.nn.Module):
    """An encoder that counts the rows it was asked for."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.dim, self.rows = encoder, encoder.dim, 0

    def forward(self, pixels, views):
        self.rows += len(pixels)
        return self.encoder(pixels, views)


@pytest.fixture
def encoder():
    return Counted(make_model().encoders["image"])


@pytest.fixture
def records():
    """Some records with two views."""
    result = make_records(150)
    return [
        r.with_input("image", [r.inputs["image"], 1 - r.inputs["image"]])
        if i % 5 == 0 and "image" in r.inputs
        else r
        for i, r in enumerate(result)
    ]


def cached(encoder, records, folder, schema=SCHEMA):
    return cache_tokens(encoder, "image", records, Collator(schema), folder)


def test_cached_tokens_are_those_of_the_encoder_in_evaluation_mode(encoder, records, tmp_path, monkeypatch):
    monkeypatch.setattr(token_cache, "SHARD", 40)  # several files
    store = cached(encoder.train(), records, tmp_path)
    assert encoder.training  # as it was before
    assert len(list(store.folder.glob("*.safetensors"))) == 3
    having = [record for record in records if "image" in record.inputs]
    draw = torch.Generator().manual_seed(0)
    for _ in range(5):
        chosen = [having[i] for i in torch.randperm(len(having), generator=draw)[:9]]
        batch = Collator(SCHEMA)(chosen)
        with torch.inference_mode():
            fresh = encoder.eval()(**batch.values["image"])
        tokens = store(chosen)
        assert torch.equal(tokens.mask, fresh.mask)
        torch.testing.assert_close(tokens.values[tokens.mask], fresh.values[fresh.mask])


def test_the_second_time_nothing_is_encoded(encoder, records, tmp_path):
    first = cached(encoder, records, tmp_path)
    rows = encoder.rows
    assert rows == sum("image" in record.inputs for record in records)
    second = cached(encoder, records, tmp_path)
    assert encoder.rows == rows
    assert first.folder == second.folder


@pytest.mark.parametrize("what", ["weights", "records", "schema", "content"])
def test_a_change_makes_a_new_cache(encoder, records, tmp_path, what):
    first = cached(encoder, records, tmp_path)
    schema = SCHEMA
    if what == "weights":
        with torch.no_grad():
            next(encoder.parameters()).view(-1)[0] += 1e-6
    elif what == "records":
        records = records[:-5]
    elif what == "schema":
        schema = SCHEMA.with_modality(
            "image", type(SCHEMA.modalities["image"])("path", size=(12, 12), mean=0.4)
        )
    else:
        index = next(i for i, r in enumerate(records) if "image" in r.inputs and i % 5)
        records[index] = records[index].with_input("image", records[index].inputs["image"] * 0.5)
    assert cached(encoder, records, tmp_path, schema).folder != first.folder


def test_a_file_that_was_written_anew_is_encoded_anew(encoder, tmp_path):
    for index in range(3):
        Picture.fromarray(np.full((12, 12), 40 * index, np.uint8)).save(tmp_path / f"{index}.png")
    records = [Record(f"r{i}", {"image": f"{i}.png"}, folder=str(tmp_path)) for i in range(3)]
    first = cached(encoder, records, tmp_path / "tokens")
    Picture.fromarray(np.full((12, 12), 255, np.uint8)).save(tmp_path / "1.png")
    os.utime(tmp_path / "1.png", ns=(1, 1))
    second = cached(encoder, records, tmp_path / "tokens")
    assert second.folder != first.folder
    changed = [not torch.equal(first([r]).values, second([r]).values) for r in records]
    assert changed == [False, True, False]


def test_a_half_written_cache_is_never_found(encoder, records, tmp_path, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(token_cache, "_save", stop)
    with pytest.raises(KeyboardInterrupt):
        cached(encoder, records, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_one_id_for_two_records_is_refused(encoder, records, tmp_path):
    index = next(i for i, r in enumerate(records) if "image" in r.inputs)
    with pytest.raises(ValueError, match=records[index].id):
        cached(encoder, [*records, records[index]], tmp_path)


def test_a_record_that_was_not_cached_is_named(encoder, records, tmp_path):
    store = TokenStore(cached(encoder, records[:50], tmp_path).folder)
    late = next(r for r in records[50:] if "image" in r.inputs)
    with pytest.raises(ValueError, match=late.id):
        store([late])


def test_an_unreadable_file_counts_as_not_recorded(encoder, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    Picture.fromarray(np.zeros((12, 12), np.uint8)).save(tmp_path / "good.png")
    records = [Record(n, {"image": f"{n}.png"}, folder=str(tmp_path)) for n in ("bad", "good")]
    with pytest.warns(UserWarning, match="bad"):
        store = cache_tokens(
            encoder, "image", records, Collator(SCHEMA, unreadable="absent"), tmp_path / "tokens"
        )
    assert store.absent == {"bad"}
    assert len(store) == 1


def test_training_with_a_frozen_encoder_leaves_it_alone_and_equals_training_beside_it(tmp_path):
    """The cached run equals one in which the encoder runs in evaluation mode in every step."""
    cohort, cached_model = make_cohort(90), make_model(dropout=0.0)
    beside = copy.deepcopy(cached_model)
    before = {name: t.clone() for name, t in cached_model.encoders["image"].state_dict().items()}
    finetune(cached_model, cohort, epochs=2, frozen=["image"], output=tmp_path, progress=False)
    assert all(
        torch.equal(t, before[name]) for name, t in cached_model.encoders["image"].state_dict().items()
    )
    assert all(p.requires_grad for p in cached_model.encoders["image"].parameters())  # as before
    for parameter in beside.encoders["image"].parameters():
        parameter.requires_grad_(False)
    finetune(beside, cohort, epochs=2, augmentation=None, progress=False)
    gaps = [(a - b).abs().max() for a, b in zip(cached_model.parameters(), beside.parameters(), strict=True)]
    assert max(gaps) < 1e-6


def test_an_unknown_modality_cannot_be_frozen():
    with pytest.raises(ValueError, match='Did you mean "image"'):
        finetune(make_model(), make_cohort(30), epochs=1, frozen=["imagee"], progress=False)
