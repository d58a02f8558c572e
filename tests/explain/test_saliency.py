"""Saliency: what must hold for any weights, what can be worked out by hand, and what an answer that cannot be
given says."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

import mmmed
from mmmed.catalogue import list_components
from mmmed.explain import saliency
from mmmed.explain.attribution_answer import ask_about
from mmmed.explain.attribution_pictures import blur
from mmmed.models.calibration import Calibration
from mmmed.models.multimodal import MultimodalModel
from mmmed.types import (
    Binary,
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
    Volume,
)

SIDE = 16
WORDS = ("[PAD]", "[UNK]", *"abcdefghijklmnopqrstuvwxyz", "cough", "fever", "no", ".")
MODALITIES = {
    "image": Image("image", (SIDE, SIDE)),
    "labs": Tabular((Number("crp", "mg/L"), Number("age", "y"), Number("sodium", "mmol/L"))),
    "note": Text("note", vocabulary=WORDS),
}
INTEGRATED = "integrated gradients"


def schema_with(task=None, **modalities):
    return Schema({**MODALITIES, **modalities}, {"sick": task or Binary("sick")})


def picture(seed=0, shape=(SIDE, SIDE)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def record():
    table = {"crp": 1.0, "age": -0.5}
    return Record("p1", {"image": picture(), "labs": table, "note": "no fever. cough"})


@pytest.fixture(scope="module")
def model():
    """With a calibration of its own for what the record has, and another for everything else."""
    model = mmmed.create_model(schema_with(), dim=16, state_dim=16, seed=3).eval()
    fit = lambda slope, **more: Calibration("binary", np.full((3, 1), slope), np.full((3, 1), -0.3), **more)  # noqa: E731
    model.calibration["sick"] = fit(0.5, patterns={(True, True, True): fit(1.7)})
    return model


class Weighted(nn.Module):
    """An encoder whose one token is the weighted sum of all pixels, beside a 1 that keeps norms away."""

    def __init__(self, weights):
        super().__init__()
        self.register_buffer("weights", torch.as_tensor(weights, dtype=torch.float32))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, pixels, views):
        total = self.scale * (pixels * self.weights).sum((2, 3, 4))
        return Tokens(total.unsqueeze(2), views)


class Passing(nn.Module):
    """A fusion whose state is the sum of the tokens of the picture."""

    modalities = ("image",)

    def forward(self, tokens, rows, present, order=None):
        from mmmed.types import Fused

        state = tokens["image"].values.sum(1)
        steps = torch.stack([torch.zeros_like(state), state], dim=1)
        return Fused(state, steps, torch.ones(steps.shape[:2], dtype=torch.bool), ("image",))


def linear(weights):
    """log-odds = sum of weights times standardised pixels."""
    head = nn.Linear(1, 1)
    nn.init.ones_(head.weight), nn.init.zeros_(head.bias)
    schema = Schema({"image": MODALITIES["image"]}, {"sick": Binary("sick")})
    return MultimodalModel({"image": Weighted(weights)}, Passing(), {"sick": head}, schema).eval()


# ----------------------------------------------------------------------------------------------- pictures


def test_integrated_gradients_add_up_to_what_the_picture_did(model, record):
    found = saliency(model, record, method=INTEGRATED, steps=300)
    assert found.explained == pytest.approx(found.total, abs=2e-3 + 0.01 * abs(found.total))
    assert found.map.sum() == pytest.approx(found.explained, abs=1e-5)
    rough = saliency(model, record, method=INTEGRATED, steps=300, smooth=0)
    assert found.explained == pytest.approx(rough.explained, abs=1e-5)  # smoothing keeps the sum


def test_total_is_the_difference_of_the_log_odds_that_predict_gives(model, record):
    """Also when calibrated: the slow way, with the blurred picture as a record of its own."""
    found = saliency(model, record)
    sharp = mmmed.predict(model, record)["sick"].value
    pixels = torch.as_tensor(record.inputs["image"] / 255.0, dtype=torch.float32)[None, None]
    blurred = record.with_input("image", blur(pixels)[0, 0].numpy())
    hazy = mmmed.predict(model, blurred)["sick"].value
    odds = [np.log(p / (1 - p)) for p in (sharp, hazy)]
    assert found.value == pytest.approx(sharp, abs=1e-6)
    assert found.total == pytest.approx(odds[0] - odds[1], abs=1e-4)


@pytest.mark.parametrize("method", ["occlusion", INTEGRATED])
def test_a_linear_model_by_hand(method):
    """Weight times (pixel - blurred pixel): exactly, or averaged over the patches above a pixel."""
    weights = np.random.default_rng(1).normal(0, 0.1, (SIDE, SIDE))
    record = Record("p1", {"image": picture()})
    found = saliency(linear(weights), record, method=method, smooth=0, patch=1 / SIDE)
    pixels = (torch.as_tensor(picture() / 255.0) - 0.5) / 0.25
    by_hand = weights * (pixels - blur(pixels[None, None])[0, 0]).numpy()
    np.testing.assert_allclose(found.map, by_hand, atol=2e-5)
    assert found.explained == pytest.approx(found.total, abs=1e-3)


@pytest.mark.parametrize("method", ["occlusion", INTEGRATED])
def test_a_pixel_that_cannot_matter_gets_nothing(method):
    weights = np.zeros((SIDE, SIDE))
    weights[:, : SIDE // 2] = 0.3
    found = saliency(linear(weights), Record("p1", {"image": picture()}), method=method, smooth=0)
    far = SIDE // 2 + 2  # further than a patch reaches
    assert not found.map[:, far:].any()
    assert np.abs(found.map[:, : SIDE // 2]).sum() > 0


def test_nothing_marked_where_nothing_moved_the_answer():
    found = saliency(linear(np.zeros((SIDE, SIDE))), Record("p1", {"image": picture()}))
    assert found.finding == "Nothing in the image moved sick = 1 (now 50 %)."
    assert not found.faithfulness.holds


def test_occlusion_equals_the_loop(model, record):
    """Patches of 4 pixels every 2: the fall of each, spread over its pixels, and the mean over patches."""
    found = saliency(model, record, patch=0.25)
    pixels = torch.as_tensor(record.inputs["image"] / 255.0, dtype=torch.float32)
    hazy = blur(pixels[None, None])[0, 0]
    odds = lambda p: np.log(p / (1 - p))  # noqa: E731
    total, count = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE))
    now = odds(mmmed.predict(model, record)["sick"].value)
    for row in range(0, SIDE - 3, 2):
        for column in range(0, SIDE - 3, 2):
            changed, box = pixels.clone(), (slice(row, row + 4), slice(column, column + 4))
            changed[box] = hazy[box]
            answer = mmmed.predict(model, record.with_input("image", changed.numpy()))["sick"].value
            total[box] += (now - odds(answer)) / 16
            count[box] += 1
    np.testing.assert_allclose(found.map, total / count, atol=1e-5)


def test_the_rest_of_the_record_counts(model, record):
    with_all, alone = saliency(model, record), saliency(model, record.only("image"))
    assert with_all.used == ("image", "labs", "note")
    assert alone.used == ("image",)
    assert np.abs(with_all.map - alone.map).max() > 1e-6


@pytest.mark.parametrize("fusion", list_components(kind="fusion"))
def test_every_fusion_family_can_be_asked(fusion, record):
    model = mmmed.create_model(schema_with(), fusion=fusion, dim=16, state_dim=16, seed=1).eval()
    found = saliency(model, record, method=INTEGRATED, steps=200)
    assert found.explained == pytest.approx(found.total, abs=5e-3 + 0.02 * abs(found.total))
    assert np.isfinite(saliency(model, record, patch=0.5).map).all()


@pytest.mark.parametrize("method", ["occlusion", INTEGRATED])
def test_several_views_have_a_map_each(model, record, method):
    views = record.with_input("image", [picture(1), picture(2, (40, 20)), picture(3)])
    found = saliency(model, views, method=method, steps=200)
    assert [part.shape for part in found.maps] == [(SIDE, SIDE), (40, 20), (SIDE, SIDE)]
    assert [part.shape for part in found.marked] == [part.shape for part in found.pictures]
    assert found.map is found.maps[found.view]
    if method == INTEGRATED:
        inside = sum(
            part.sum() for part in found.maps
        )  # a little of the map lies on the black beside the 2nd
        assert inside == pytest.approx(
            found.explained, abs=0.2 * np.abs(np.concatenate(found.maps, None)).sum()
        )


def test_the_map_lies_on_the_grid_of_the_picture_as_it_came(model, record):
    """Twice as many pixels along each side: each has a quarter."""
    large = record.inputs["image"].repeat(2, 0).repeat(2, 1)
    small = saliency(model, record, method=INTEGRATED)
    found = saliency(model, record.with_input("image", large), method=INTEGRATED)
    assert found.map.shape == found.picture.shape == (2 * SIDE, 2 * SIDE)
    assert found.map.sum() == pytest.approx(small.map.sum(), abs=0.1 * np.abs(small.map).sum())


def test_volumes_and_colour_pictures():
    modalities = {"ct": Volume("ct", (8, 12, 12)), "skin": Image("skin", (SIDE, SIDE), channels=3)}
    schema = Schema(modalities, {"sick": Binary("sick")})
    model = mmmed.create_model(schema, dim=16, state_dim=16).eval()
    record = Record("p1", {"ct": picture(1, (8, 12, 12)), "skin": picture(2, (SIDE, SIDE, 3))})
    for method in ("occlusion", INTEGRATED):
        solid = saliency(model, record, method=method, patch=0.5)
        assert solid.modality == "ct"
        assert solid.map.shape == (8, 12, 12)
        flat = saliency(model, record, "skin", method=method, patch=0.5)
        assert flat.map.shape == (SIDE, SIDE)
        assert flat.picture.shape == (SIDE, SIDE, 3)
        assert solid.overlay(slice=2).size == flat.overlay().size == (384, 384)
    with pytest.raises(ValueError, match="0 to 7"):
        solid.overlay(slice=8)
    with pytest.raises(ValueError, match="slice is for volumes"):
        flat.overlay(slice=1)


# ------------------------------------------------------------------------------------- tasks and levels


@pytest.mark.parametrize(
    ("task", "level"),
    [
        (Multiclass("kind", ("a", "b", "c")), "b"),
        (Multilabel(("effusion", "nodule")), "nodule"),
        (Regression("stay", "d", mean=5.0, scale=2.0), "stay"),
    ],
)
def test_every_kind_of_task_is_explained_on_its_own_scale(task, level, record):
    model = mmmed.create_model(schema_with(task), dim=16, state_dim=16, seed=2).eval()
    answer = mmmed.predict(model, record)["sick"]
    found = saliency(model, record, level=level)
    assert found.level == level
    assert found.value == pytest.approx(answer.values[level], rel=1e-5)
    assert found.unit == (task.unit if isinstance(task, Regression) else "log-odds")
    assert saliency(model, record).level == answer.leading
    with pytest.raises(ValueError, match="Unknown level"):
        saliency(model, record, level="nowhere")


# --------------------------------------------------------------------------------------- tables and words


def test_a_cell_counts_by_what_the_answer_is_without_it(model, record):
    found = saliency(model, record, "labs")
    odds = lambda one: np.log(one / (1 - one))  # noqa: E731
    now = odds(mmmed.predict(model, record)["sick"].value)
    assert found.names == ("crp", "age")  # sodium was not recorded
    for name, value in zip(found.names, found.map, strict=True):
        cells = {key: cell for key, cell in record.inputs["labs"].items() if key != name}
        without = odds(mmmed.predict(model, record.with_input("labs", cells))["sick"].value)
        assert value == pytest.approx(now - without, abs=1e-5)
    assert found.faithfulness is None
    assert found.error is None


def test_words_are_whole_and_punctuation_is_none(model, record):
    found = saliency(model, record, "note")
    assert found.names == ("no", "fever", "cough")
    assert np.abs(found.map).max() > 0
    longer = record.with_input("note", "no fever. xray-7")
    last = saliency(model, longer, "note")
    assert last.names == ("no", "fever", "xray-7")
    with torch.no_grad():
        question = ask_about(model, longer, "note", None, None)
        mask = question.values["mask"].clone()
        mask[0, -3:] = False  # the pieces xray, - and 7
        without = question({"ids": question.values["ids"], "mask": mask})
        assert last.map[-1] == pytest.approx((question(question.values) - without).item(), abs=1e-6)


def test_a_word_that_comes_twice_keeps_both_figures(model, record):
    twice = saliency(model, record.with_input("note", "no fever no cough"), "note")
    assert list(twice.to_dict()["values"]) == ["no", "fever", "no (2)", "cough"]


# --------------------------------------------------------------------------------------- what stays as it was


def test_weights_gradients_and_modes_stay_as_they_were(model, record):
    mixed = copy.deepcopy(model).train()
    mixed.encoders["note"].eval()
    before, modes = copy.deepcopy(mixed.state_dict()), [part.training for part in mixed.modules()]
    expected = saliency(model, record, method=INTEGRATED)
    found = saliency(mixed, record, method=INTEGRATED)
    np.testing.assert_array_equal(found.map, expected.map)  # dropout is off in the answer that is explained
    assert [part.training for part in mixed.modules()] == modes
    assert all(parameter.grad is None and parameter.requires_grad for parameter in mixed.parameters())
    for name, value in mixed.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("training", [False, True])
def test_threads_that_ask_one_model_get_what_each_gets_alone(model, record, training):
    shared = copy.deepcopy(model).train(training)
    records = [record.with_input("image", picture(k)) for k in range(4)]
    ask = lambda one: saliency(shared, one, method=INTEGRATED, steps=16).map  # noqa: E731
    alone = [ask(one) for one in records]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(ask, records * 3))
    for k, found in enumerate(together):
        np.testing.assert_array_equal(found, alone[k % 4])


def test_it_works_inside_inference_mode_and_leaves_it_on(model, record):
    expected = saliency(model, record, method=INTEGRATED)
    with torch.inference_mode():
        found = saliency(model, record, method=INTEGRATED)
        assert torch.is_inference_mode_enabled()
    np.testing.assert_array_equal(found.map, expected.map)


def test_the_map_is_another_one_when_the_weights_are_random(record):
    """The sanity check of Adebayo et al., arXiv:1810.03292: a map that stays would show the picture alone."""
    one = mmmed.create_model(schema_with(), dim=16, state_dim=16, seed=3).eval()
    other = mmmed.create_model(schema_with(), dim=16, state_dim=16, seed=4).eval()
    for method in ("occlusion", INTEGRATED):
        maps = [saliency(each, record, method=method).map.ravel() for each in (one, other)]
        assert abs(np.corrcoef(*maps)[0, 1]) < 0.5


# ------------------------------------------------------------------------------------- what cannot be asked


def test_an_absent_modality_is_answered_with_a_sentence(model, record):
    with pytest.raises(ValueError, match=r'Record "p1" has no image, so nothing in it moved .* labs, note'):
        saliency(model, record.without("image"), "image")
    with pytest.raises(ValueError, match="has no picture that could be explained"):
        saliency(model, record.without("image"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modality": "imagee"}, "Did you mean"),
        ({"method": "magic"}, "Unknown method"),
        ({"task": "sic"}, "Did you mean"),
        ({"patch": 0}, "patch should be larger than 0"),
        ({"steps": 0}, "steps should be"),
        ({"modality": "labs", "method": INTEGRATED}, "needs pixels"),
    ],
)
def test_what_cannot_be_asked_is_said(model, record, options, message):
    with pytest.raises(ValueError, match=message):
        saliency(model, record, **options)


def test_one_cell_or_word_alone_cannot_be_told_from_the_whole(model, record):
    with pytest.raises(ValueError, match="Two words at least"):
        saliency(model, record.with_input("note", "cough!"), "note")
    with pytest.raises(ValueError, match="Two recorded columns at least"):
        saliency(model, record.with_input("labs", {"crp": 1.0}), "labs")


def test_a_reference_model_is_refused_with_a_reason(record):
    reference = mmmed.create_model(schema_with(), fusion="logistic_regression")
    with pytest.raises(ValueError, match="Only a network"):
        saliency(reference, record)


def test_a_table_row_is_a_record_too(model):
    row = {"image": picture(), "crp": 1.0}
    assert saliency(model, row).used == ("image", "labs")


def test_frozen_weights_do_not_stop_the_gradient_to_the_picture(model, record):
    frozen = copy.deepcopy(model)
    for parameter in frozen.parameters():
        parameter.requires_grad_(False)
    expected = saliency(model, record, method=INTEGRATED)
    np.testing.assert_array_equal(saliency(frozen, record, method=INTEGRATED).map, expected.map)


def test_an_encoder_that_gives_no_gradient_is_named_and_occlusion_still_works():
    class Deaf(Weighted):
        @torch.no_grad()
        def forward(self, pixels, views):
            return super().forward(pixels, views)

    model, record = linear(np.ones((SIDE, SIDE))), Record("p1", {"image": picture()})
    model.encoders["image"] = Deaf(np.ones((SIDE, SIDE)))
    model.heads.requires_grad_(False)
    with pytest.raises(ValueError, match='method="occlusion"'):
        saliency(model, record, method=INTEGRATED)
    assert saliency(model, record).map.any()
