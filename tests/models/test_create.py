"""create_model: names and parts become a model; a seed decides its weights; a modality can be added later."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from small_model import SCHEMA, CellEncoder, calibrated, make_encoders, make_model, make_record, make_records
from torch import nn

from mmmed.data.collate import Collator
from mmmed.fusion.concat import Concat
from mmmed.fusion.multimodn import MultiModN
from mmmed.models.create import add_modality, create_model, seeded
from mmmed.models.files import load_model
from mmmed.models.predict import predict
from mmmed.types import Image, Number, Schema, Series, Tabular, Text, Volume


class OneCell(CellEncoder):
    def __init__(self):
        super().__init__(columns=1)


def weights(model):
    return torch.cat([p.flatten() for p in model.parameters()])


def test_fusions_are_named_or_ready_made():
    assert isinstance(make_model().fusion, MultiModN)
    assert isinstance(make_model("concat").fusion, Concat)
    assert make_model(("multimodn", {"compat": "multimodn"})).fusion.compat == "multimodn"
    ready = MultiModN(SCHEMA.modalities, dim=8, state_dim=5)
    model = make_model(ready)
    assert model.fusion is ready
    assert model.heads["sick"][0].normalized_shape == (5,)  # the heads follow the fusion


def test_the_seed_decides_every_weight_and_leaves_the_global_one_alone():
    def fresh(seed):
        torch.manual_seed(0)
        return create_model(SCHEMA, encoders=make_encoders(), dim=8, state_dim=8, seed=seed)

    torch.manual_seed(0)
    make_encoders()
    wanted = torch.rand(3)
    a, b, c = fresh(1), fresh(1), fresh(2)
    assert torch.equal(torch.rand(3), wanted)
    assert torch.equal(weights(a), weights(b))
    assert not torch.equal(weights(a), weights(c))


def test_seeded_gives_back_the_random_state_even_after_an_error():
    state = torch.get_rng_state()

    def fails_midway():
        with seeded(5):
            torch.rand(3)
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        fails_midway()
    assert torch.equal(torch.get_rng_state(), state)
    with seeded(5):
        first = torch.rand(3)
    with seeded(5):
        assert torch.equal(torch.rand(3), first)


def test_a_schema_that_asks_nothing_is_refused():
    with pytest.raises(ValueError, match="asks nothing"):
        create_model(Schema({"table": Tabular((Number("age"),))}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fusion": "multimod"}, 'Did you mean "multimodn"'),
        ({"fusion": "mlp"}, "Unknown fusion 'mlp'"),
        ({"fusion": 3}, "A fusion should be a name, a pair"),
        ({"fusion": ("multimodn",)}, "a pair \\(name, options\\)"),
        ({"encoders": {"imge": "cnn"}}, 'Did you mean "image"'),
        ({"encoders": {"image": "mlp"}}, "Unknown image encoder 'mlp'"),
        ({"encoders": {"image": 5}}, "An encoder should be a name"),
        ({"dim": 0}, "dim should be a whole number of at least 1"),
        ({"state_dim": "64"}, "state_dim should be a whole number"),
    ],
)
def test_what_cannot_be_built_is_explained(options, message):
    options = {"encoders": make_encoders(), **options}
    with pytest.raises(ValueError, match=message):
        create_model(SCHEMA, **options)


def test_what_it_got_is_kept_for_saving():
    model = make_model(("concat", {"hidden": 16}))
    assert model.config["fusion"] == {"name": "concat", "options": {"hidden": 16}}
    assert model.config["encoders"] == dict.fromkeys(SCHEMA.modalities)  # ready-made: None
    assert (model.config["dim"], model.config["state_dim"], model.config["seed"]) == (8, 8, 0)


# ------------------------------------------------------------------ by name


ALL = SCHEMA.with_modality("image", Image("path", size=(16, 16)))
ALL = ALL.with_modality("scan", Volume("scan", size=(8, 8, 8)))
ALL = ALL.with_modality(
    "vitals", Series("vitals", (Number("hr", mean=80.0, scale=10.0), Number("sbp")), time_scale=24.0)
)


def full_record(index=0):
    draw = np.random.default_rng(index)
    record = make_record(index, draw).with_input("scan", draw.random((8, 8, 8)).astype(np.float32))
    steps = [
        {"time": 0.0, "hr": draw.normal(80, 10)},
        {"time": 2.0 + index, "sbp": 1.2, "hr": draw.normal(90, 10)},
    ]
    return record.with_input("vitals", steps[: 1 + index % 2])


def holed_records(count=7):
    draw = np.random.default_rng(1)
    return [
        full_record(i).only(*(name for name in ALL.modalities if draw.random() < 0.6)) for i in range(count)
    ]


def test_every_modality_has_a_default_encoder_and_the_model_can_be_saved_by_name(fusion, tmp_path):
    model = create_model(ALL, fusion=fusion, dim=8, state_dim=8).eval()
    assert {name: part["name"] for name, part in model.config["encoders"].items()} == {
        "image": "cnn",
        "table": "mlp",
        "note": "transformer",
        "scan": "cnn3d",
        "vitals": "irregular",
    }
    assert all(encoder.dim == 8 for encoder in model.encoders.values())
    model.save_pretrained(tmp_path / "model")
    loaded, records = load_model(tmp_path / "model"), holed_records()
    assert predict(loaded, full_record()) == predict(model, full_record())
    left, right = (m(Collator(ALL)(records)) for m in (model, loaded))
    assert all(torch.equal(left[task], right[task]) for task in ALL.tasks)


def test_a_mixed_batch_equals_its_records_one_by_one_with_the_default_encoders(fusion):
    model, records = create_model(ALL, fusion=fusion, dim=8, state_dim=8).eval(), holed_records()
    together = model(Collator(ALL)(records))
    for index, record in enumerate(records):
        alone = model(Collator(ALL)([record]))
        for task in ALL.tasks:
            torch.testing.assert_close(alone[task][0], together[task][index], atol=1e-5, rtol=0)


def test_in_training_too_the_default_encoders_and_fusions_judge_a_record_alone(fusion):
    model, records = create_model(ALL, fusion=fusion, dim=8, state_dim=8).train(), holed_records()
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        if isinstance(getattr(part, "dropout", None), float):  # that of the attention
            part.dropout = 0.0
    together = deepcopy(model)(Collator(ALL)(records))
    for index, record in enumerate(records):
        alone = deepcopy(model)(Collator(ALL)([record]))
        for task in ALL.tasks:
            torch.testing.assert_close(alone[task][0], together[task][index], atol=1e-5, rtol=0)


def test_gradients_reach_every_weight_of_the_default_model(fusion):
    model = create_model(ALL, fusion=fusion, dim=8, state_dim=8).eval()
    outputs = model(Collator(ALL)([full_record(i) for i in range(4)]))
    sum(outputs.steps[task].square().sum() for task in ALL.tasks).backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not silent


def test_an_unknown_option_of_an_encoder_is_an_error():
    with pytest.raises((TypeError, ValueError)):
        create_model(SCHEMA, encoders={**make_encoders(), "table": ("mlp", {"colour": 3})})


def test_weights_from_a_file_are_not_looked_for_again_when_a_model_is_loaded(monkeypatch):
    import mmmed.models.create as module

    class Timm(nn.Module):
        @classmethod
        def from_schema(cls, modality, dim, name, weights=None):
            encoder = cls()
            encoder.given = (name, weights)
            return encoder

    monkeypatch.setattr(module, "find", lambda name, kind: type("Row", (), {"load": lambda self: Timm})())
    part, kept = module.build_encoder(
        ("timm", {"name": "lite", "weights": "folder"}), SCHEMA.modalities["image"], 8
    )
    assert part.given == ("lite", "folder")
    assert kept == {"name": "timm", "options": {"name": "lite"}}
    assert module.build_encoder("timm:lite", SCHEMA.modalities["image"], 8)[0].given == ("lite", None)
    Timm.rebuild = {"name": {"width": 8}}  # an encoder that knows how to be built where no file is at hand
    _, kept = module.build_encoder(("timm", {"name": "/a/folder"}), SCHEMA.modalities["image"], 8)
    assert kept == {"name": "timm", "options": {"name": {"width": 8}}}


# ------------------------------------------------------------------ add_modality


@pytest.fixture
def grown(fusion):
    model = make_model(fusion)
    return model, add_modality(model, "extra", Tabular((Number("lactate"),)), OneCell())


def test_records_without_the_new_modality_get_the_answers_they_had(grown, fusion):
    model, larger = grown
    for record in make_records():
        before, after = predict(model, record), predict(larger, record)
        assert after.missing == (*before.missing, "extra")
        for task, answer in before.answers.items():
            assert after[task].values == pytest.approx(answer.values, abs=1e-6)
            assert after[task].prior == pytest.approx(answer.prior, abs=1e-6)
    if fusion == "multimodn":  # the states do not even change in the last bit
        states = [m(Collator(m.schema)(make_records())).fused.state for m in (model, larger)]
        assert torch.equal(*states)


def test_the_given_model_is_left_as_it_is(grown, fusion):
    model, larger = grown
    assert model.modalities == tuple(SCHEMA.modalities) == tuple(model.schema.modalities)
    assert torch.equal(weights(model), weights(make_model(fusion)))
    assert larger.modalities == (*SCHEMA.modalities, "extra") == tuple(larger.schema.modalities)
    assert "extra" not in model.config["encoders"]
    assert larger.config["encoders"]["extra"] is None


def test_the_new_modality_is_used_and_learns(grown):
    _, larger = grown
    record = make_record(0, np.random.default_rng(3)).with_input("extra", {"lactate": 4.0})
    assert predict(larger, record).used == larger.modalities
    optimiser = torch.optim.SGD(larger.parameters(), lr=0.1)
    batch = Collator(larger.schema)([record])
    for _ in range(2):  # a slot that starts at zero passes no gradient to its encoder in the first step
        larger.zero_grad()
        larger(batch)["sick"].sum().backward()
        optimiser.step()
    assert sum(p.grad.abs().sum() for p in larger.encoders["extra"].parameters()) > 0


def test_a_grown_model_is_wholly_in_the_mode_of_the_old_one(fusion):
    for training in (True, False):
        model = make_model(fusion).train(training)
        larger = add_modality(model, "extra", Tabular((Number("lactate"),)), OneCell())
        assert {part.training for part in larger.modules()} == {training}


def test_what_was_calibrated_stays_calibrated(fusion):
    model = calibrated(make_model(fusion))
    larger = add_modality(model, "extra", Tabular((Number("lactate"),)), OneCell())
    assert set(larger.calibration) == set(model.calibration)
    assert larger.thresholds == model.thresholds


def test_what_cannot_be_added_is_explained():
    model = make_model()
    with pytest.raises(ValueError, match="already has a modality 'note'"):
        add_modality(model, "note", Text("other"))
    with pytest.raises(ValueError, match="schema entry"):
        add_modality(model, "extra", "lactate")
    with pytest.raises(ValueError, match="both an input and a target"):
        add_modality(model, "extra", Tabular((Number("days"),)), OneCell())
    model.schema = None
    with pytest.raises(ValueError, match="Only a model of create_model, with a schema"):
        add_modality(model, "extra", Tabular((Number("lactate"),)), OneCell())
