"""A segmenter that is made in a moment: small pictures, noise for weights, so that every input matters."""

import numpy as np
import torch

from mmmed.models.phrase_reader import learn_reader
from mmmed.models.referring_segmenter import ReferringSegmenter
from mmmed.models.segmentation_create import create_network
from mmmed.types import Image, Phrase, Record, Schema, Volume

TEXTS = ("the spot on the left", "the spot on the right", "a large ring", "the small ring in the upper zone")
PICTURE = Schema({"image": Image("picture", size=(16, 24))})
SEQUENCES = ("flair", "pre", "post")
VOLUMES = Schema({name: Volume(name, size=(4, 16, 16)) for name in SEQUENCES})
SMALL = {"pyramid": ("small", {"widths": (4, 6, 8)}), "width": 8}


def phrases(texts=TEXTS, **options):
    """Phrases about nothing that is there: enough to learn words from."""
    return [Phrase("r0", text, category="spot", acquisition="test", **options) for text in texts]


def make_segmenter(schema=PICTURE, texts=TEXTS, query="words", dim=16, threshold=0.0, seed=0, **options):
    """What `from_cohort` makes, without a cohort; it draws something for every phrase."""
    told = phrases(texts) if all(isinstance(text, str) for text in texts) else texts
    reader, module, described = learn_reader(query, told, dim=dim, seed=seed)
    options = {**SMALL, **options}
    names = tuple(schema.modalities)
    network, config = create_network(schema, names, query=module, dim=dim, seed=seed, **options)
    made = ReferringSegmenter(network, schema, reader, names, threshold)
    made.config = {**config, "query": described}
    return shaken(made)


def shaken(segmenter, scale=0.1, seed=0):
    """The same segmenter with noise on every weight; presence stays away from 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    decoder = segmenter.network.decoder
    with torch.no_grad():
        for parameter in segmenter.network.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)
        for layer in (decoder.match.word, decoder.doubt[-1]):
            layer.weight *= 0.1
            layer.bias *= 0.1
    return segmenter


def picture(shape=(16, 24), seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def record_of(seed=0, shape=(16, 24), names=("image",), **options):
    inputs = {name: picture(shape, 10 * seed + place) for place, name in enumerate(names)}
    return Record(f"r{seed}", inputs, **options)


def volume_record(seed=0, shape=(4, 16, 16), names=SEQUENCES):
    return record_of(seed, shape, names)


def assert_same(one, other, exact=False):
    """Two answers to one question are the same."""
    assert (one.phrase, one.present, one.notes) == (other.phrase, other.present, other.notes)
    if exact:
        assert one.presence == other.presence
        np.testing.assert_array_equal(one.probability, other.probability)
        np.testing.assert_array_equal(one.pixels, other.pixels)
    else:
        np.testing.assert_allclose(one.presence, other.presence, atol=1e-5)
        # another number of rows, another order of sums: 1.1e-5 was seen behind a deep network
        np.testing.assert_allclose(one.probability, other.probability, atol=1e-4)
