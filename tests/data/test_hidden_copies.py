"""Hidden copies: found whatever the scale, never among sequences that are only alike."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as Picture

from mmmed.data.folders import load_cohort
from mmmed.data.hidden_copies import LOOK, blank_volumes, hidden_copies, without_hidden_copies
from mmmed.types import Image, Record, Schema, Text, Volume

SHAPE = (6, 40, 40)  # more voxels than the first look takes


@pytest.fixture
def head():
    """A ball of noise in air."""
    generator = np.random.default_rng(0)
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    inside = sum(axis**2 for axis in axes) < 1
    return np.where(inside, generator.integers(20, 250, SHAPE), 0).astype(np.uint8)


def test_a_copy_is_found_whatever_its_scale_type_or_rounding(head):
    half = (head // 2 + 10).astype(np.uint8)
    volumes = {
        "flair": head,
        "same": head.copy(),
        "scaled": head * 3.5 - 100,
        "half": half,
        "negative": 255 - head,
    }
    assert head.size > LOOK
    assert hidden_copies(volumes) == dict.fromkeys(("same", "scaled", "half", "negative"), "flair")


def test_the_first_by_order_is_the_original(head):
    other = np.random.default_rng(1).permutation(head.reshape(-1)).reshape(SHAPE)
    assert hidden_copies({"post": head, "pre": other, "flair": head}) == {"flair": "post"}
    assert hidden_copies({"a": other, "b": head, "c": other * 2.0, "d": head}) == {"c": "a", "d": "b"}


def test_air_around_the_head_does_not_make_two_sequences_alike(head):
    noise = np.random.default_rng(2).normal(0, 8, SHAPE)
    other = np.where(head > 0, 120 + 0.02 * head + noise, 0)  # the same outline, other contents
    assert np.corrcoef(head.reshape(-1), other.reshape(-1))[0, 1] > 0.7
    assert hidden_copies({"flair": head, "post": other}) == {}
    assert hidden_copies({"flair": head, "post": other}, least=0.5) == {}
    assert hidden_copies({"flair": head, "post": other}, least=0.05) == {"post": "flair"}


def test_a_lesion_that_enhances_makes_it_no_copy(head):
    post = head.astype(float)
    post[2:4, 15:22, 15:22] += 200
    assert hidden_copies({"pre": head, "post": post}) == {}


def test_the_full_look_judges_what_the_first_cannot_see(head):
    step = head.size // LOOK
    other = head.astype(float).reshape(-1)
    hidden = np.arange(other.size) % step != 0
    other[hidden] = other[hidden][::-1]  # equal wherever the first look looks
    other = other.reshape(SHAPE)
    assert np.array_equal(other.reshape(-1)[::step], head.reshape(-1)[::step])
    assert hidden_copies({"flair": head, "post": other}) == {}


def test_blank_volumes_are_no_copies(head):
    volumes = {"a": np.zeros(SHAPE), "b": np.zeros(SHAPE), "c": head, "d": np.full(SHAPE, 7)}
    assert hidden_copies(volumes) == {}
    assert blank_volumes(volumes) == ("a", "b", "d")
    assert hidden_copies({}) == {}


def test_other_shapes_are_not_compared_and_words_are_refused(head):
    assert hidden_copies({"a": head, "b": head[:, ::2, ::2]}) == {}
    with pytest.raises(ValueError, match="a should be an array of numbers"):
        hidden_copies({"a": np.array(["x"])})
    with pytest.raises(ValueError, match="between 0 and 1"):
        hidden_copies({}, least=1.5)


def test_a_record_loses_its_copies_and_says_so(tmp_path, head):
    other = np.random.default_rng(1).permutation(head.reshape(-1)).reshape(SHAPE)
    np.savez(tmp_path / "a.npz", flair=head, pre=other, post=head // 2, late=np.zeros(SHAPE, np.uint8))
    names = ("flair", "pre", "post", "late")
    schema = Schema({**{name: Volume("file", key=name) for name in names}, "note": Text("note")}, {})
    record = Record("a", {**dict.fromkeys(names, "a.npz"), "note": "words"}, folder=str(tmp_path))
    kept, notes = without_hidden_copies(record, schema)
    assert kept.present == ("flair", "pre", "note")
    assert notes == (
        "post is a copy of flair: it counts as not recorded",
        "late has one value everywhere: it counts as not recorded",
    )
    assert without_hidden_copies(kept, schema) == (kept, ())
    # a copy of what is absent is the only one there is
    assert without_hidden_copies(record.without("flair", "late"), schema)[1] == ()


def test_pictures_are_compared_with_pictures_and_several_views_are_left_alone(tmp_path, head):
    Picture.fromarray(head[3]).save(tmp_path / "a.png")
    schema = Schema({"front": Image("front"), "side": Image("side"), "views": Image("views")}, {})
    record = Record(
        "a", {"front": "a.png", "side": ["a.png"], "views": ["a.png", "a.png"]}, folder=str(tmp_path)
    )
    kept, notes = without_hidden_copies(record, schema)
    assert kept.present == ("front", "views")
    assert notes == ("side is a copy of front: it counts as not recorded",)


@pytest.mark.real_data
def test_no_copy_is_left_in_the_prepared_brain_volumes_and_a_planted_one_is_found(real_cohorts):
    cohort = load_cohort("lgg-mri", root=real_cohorts)
    assert len(cohort) == 76
    records = list(cohort)
    assert [without_hidden_copies(record, cohort.schema)[1] for record in records] == [()] * 76
    filled = next(record for record in records if "post" not in record.present)
    planted = filled.with_input("post", filled.inputs["flair"])
    modalities = {**cohort.schema.modalities, "post": cohort.schema.modalities["flair"]}
    schema = replace(cohort.schema, modalities=modalities)
    kept, notes = without_hidden_copies(planted, schema)
    assert notes == ("post is a copy of flair: it counts as not recorded",)
    assert kept.present == filled.present
