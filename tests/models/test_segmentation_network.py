"""Pictures are seen once, whoever asks how much; batches become pictures; slices keep their order."""

import numpy as np
import pytest
import torch
from small_segmenter import PICTURE, SEQUENCES, VOLUMES, make_segmenter, phrases, picture

from mmmed.data.collate import Collator
from mmmed.layers.foreground import foreground_norm
from mmmed.types import Image, Record, Schema, Volume

FLAIR = Schema({"flair": Volume("flair", size=(4, 16, 16))})


def batch_of(schema, shapes, missing=()):
    """Records of noise; `missing` are pairs of record and modality."""
    records = []
    for row, shape in enumerate(shapes):
        inputs = {
            name: picture(shape, 10 * row + place)
            for place, name in enumerate(schema.modalities)
            if (row, name) not in missing
        }
        records.append(Record(f"r{row}", inputs))
    return Collator(schema)(records)


def asked(segmenter, texts):
    return segmenter.network.ask(**segmenter.reader.read(phrases(texts)))


@pytest.fixture(scope="module")
def segmenter():
    return make_segmenter()


def test_a_picture_is_seen_once_for_all_its_phrases(segmenter, monkeypatch):
    network, calls = segmenter.network, []
    forward, summary = type(network.pyramid).forward, type(network.decoder.match).summary
    monkeypatch.setattr(
        type(network.pyramid), "forward", lambda *given: (calls.append("seen"), forward(*given))[1]
    )
    monkeypatch.setattr(
        type(network.decoder.match), "summary", lambda *given: (calls.append("summary"), summary(*given))[1]
    )
    segmenter.segment(picture(), ["the spot on the left", "a large ring"] * 20)
    assert calls == ["seen", "summary"]


def test_the_logits_lie_on_the_grid_that_is_asked_for(segmenter):
    network = segmenter.network
    seen = network.see(*network.inputs_of(batch_of(PICTURE, [(16, 24)] * 2)))
    words, which = asked(segmenter, ["a large ring", "the spot on the left"]), torch.tensor([1, 0])
    own = network.draw(seen, words, which)
    assert own.logits.shape[2:] == seen.maps[0].shape[2:]
    enlarged = network.draw(seen, words, which, (16, 24))
    assert enlarged.logits.shape == (2, 1, 16, 24)
    assert torch.equal(enlarged.presence, own.presence)


def test_a_record_is_judged_alone_in_any_batch(segmenter):
    network = segmenter.network
    shapes = [(16, 24), (40, 20), (9, 9)]
    together = network.see(*network.inputs_of(batch_of(PICTURE, shapes)))
    for row, shape in enumerate(shapes):
        record = Record("one", {"image": picture(shape, 10 * row)})
        alone = network.see(*network.inputs_of(Collator(PICTURE)([record])))
        for one, several in zip(alone.maps, together.maps, strict=True):
            torch.testing.assert_close(one, several[row : row + 1], atol=1e-4, rtol=1e-4)


def test_of_several_views_the_first_is_drawn_on(segmenter):
    record = Record("a", {"image": [picture(seed=1), picture(seed=2)]})
    values, rows, count = segmenter.network.inputs_of(Collator(PICTURE)([record]))
    first = Collator(PICTURE)([Record("a", {"image": picture(seed=1)})]).values["image"]["pixels"][:, 0]
    assert torch.equal(values["image"], first)
    assert (rows["image"].tolist(), count) == ([0], 1)


@pytest.mark.parametrize("missing", [(), ((1, "flair"),), ((0, "flair"), (2, "flair"))])
def test_slices_of_a_volume_become_pictures_in_order(missing):
    network = make_segmenter(VOLUMES, by_slice=True).network
    batch = batch_of(VOLUMES, [(4, 16, 16)] * 3, missing)
    values, rows, count = network.inputs_of(batch)
    assert count == 12
    for name in SEQUENCES:
        volumes = foreground_norm(batch.values[name]["voxels"])  # standardised whole, not slice by slice
        having = batch.rows[name].tolist()
        assert rows[name].tolist() == [record * 4 + k for record in having for k in range(4)]
        for place, row in enumerate(rows[name].tolist()):
            expected = volumes[having.index(row // 4), :, row % 4]
            assert torch.equal(values[name][place], expected)


def test_whole_volumes_are_standardised_and_pictures_are_not(segmenter):
    network = make_segmenter(FLAIR).network
    batch = batch_of(FLAIR, [(4, 16, 16)])
    values, _, count = network.inputs_of(batch)
    assert (count, network.space, network.by_slice) == (1, 3, False)
    assert torch.equal(values["flair"], foreground_norm(batch.values["flair"]["voxels"]))
    batch = batch_of(PICTURE, [(16, 24)])
    assert torch.equal(segmenter.network.inputs_of(batch)[0]["image"], batch.values["image"]["pixels"][:, 0])


def test_a_hidden_sequence_looks_like_one_that_was_never_recorded():
    network = make_segmenter(VOLUMES).network
    whole = batch_of(VOLUMES, [(4, 16, 16)] * 2)
    mask = torch.tensor([[True, False, True], [True, True, True]])
    hidden = network.see(*network.inputs_of(whole.keep(mask)))
    bare = network.see(*network.inputs_of(batch_of(VOLUMES, [(4, 16, 16)] * 2, ((0, "pre"),))))
    for one, other in zip(hidden.maps, bare.maps, strict=True):
        torch.testing.assert_close(one, other)


def test_other_modalities_of_a_batch_are_left_alone():
    schema = Schema({"image": Image("picture", size=(16, 24)), "scan": Image("scan", size=(8, 8))})
    batch = batch_of(schema, [(16, 24)])
    network = make_segmenter().network
    assert list(network.inputs_of(batch)[0]) == ["image"]
    assert np.prod(batch.values["scan"]["pixels"].shape) == 64
