"""Distilling one encoder inside a frozen model: what changes, what must not, and that it teaches."""

import numpy as np
import pytest
import torch
from tiny import (
    ALL_TASKS,
    SCHEMA,
    CellEncoder,
    PixelEncoder,
    TinyCohort,
    make_cohort,
    make_model,
    make_records,
)
from torch import nn

from mmmed.models.create import create_model
from mmmed.models.files import load_model
from mmmed.models.inference import predict_proba
from mmmed.pretraining.distil import StitchedEncoder, distil_encoder
from mmmed.training.finetune import finetune
from mmmed.training.optimisation import Optimisation
from mmmed.types import Schema, Tokens

FAST = Optimisation(lr=5e-3, batch_size=16)


def snapshot(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(module, before):
    return all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def make_teacher(dim=8, seed=1):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return PixelEncoder(144, dim)


def test_only_the_student_changes_and_everything_may_learn_again_afterwards():
    model, teacher = make_model(), make_teacher(dim=5)
    model.encoders["extra"].requires_grad_(False)
    model.train()
    old, others, taught = snapshot(model.encoders["image"]), snapshot(model), snapshot(teacher)
    wanted = [p.requires_grad for p in model.parameters()]
    run = distil_encoder(model, "image", teacher, make_cohort(60), epochs=2, optimisation=FAST)
    assert not same(model.encoders["image"], old)
    for name, tensor in model.state_dict().items():
        assert name.startswith("encoders.image.") or torch.equal(tensor, others[name])
    assert same(teacher, taught)
    assert [p.requires_grad for p in model.parameters()] == wanted
    assert model.fusion.training
    assert all(p.grad is None for name, p in model.named_parameters() if "encoders.image" not in name)
    assert len(run.history) == 2


def test_the_global_random_stream_is_left_alone_and_the_seed_decides():
    before = torch.get_rng_state()
    answers = []
    for _ in range(2):
        model = make_model()
        distil_encoder(model, "image", make_teacher(), make_cohort(40), epochs=1, seed=3, optimisation=FAST)
        answers.append(snapshot(model))
    assert torch.equal(torch.get_rng_state(), before)
    assert same(model, answers[0])


class Counting(PixelEncoder):
    """Counts the pictures it is given, and refuses any that is no number."""

    def forward(self, pixels, views):
        assert pixels.isfinite().all()
        self.seen = getattr(self, "seen", 0) + len(pixels)
        return super().forward(pixels, views)


def test_a_record_without_the_modality_costs_nothing():
    records = make_records(60, missing=0.5)
    having = [r for r in records if "image" in r.inputs]
    splits = ["train"] * len(records)
    results = []
    for chosen in (records, having):
        model, teacher = make_model(), Counting()
        teacher.load_state_dict(make_teacher().state_dict())
        cohort = TinyCohort(chosen, SCHEMA, splits[: len(chosen)])
        distil_encoder(model, "image", teacher, cohort, epochs=1, optimisation=FAST)
        assert teacher.seen == len(having) + 1  # one record is tried before
        results.append(snapshot(model))
    assert len(having) < 45
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_with_alpha_1_no_label_is_needed_and_with_alpha_0_no_teacher_is_heard():
    records = make_records(40)
    bare = [type(r)(r.id, r.inputs, {}, group=r.group) for r in records]
    cohort = TinyCohort(bare, SCHEMA, ["train"] * 40)
    model = make_model()
    old = snapshot(model.encoders["image"])
    distil_encoder(model, "image", make_teacher(), cohort, epochs=1, alpha=1.0, optimisation=FAST)
    assert not same(model.encoders["image"], old)
    deaf = []
    for seed in (1, 2):
        model = make_model()
        distil_encoder(model, "image", make_teacher(seed=seed), make_cohort(40), epochs=1, alpha=0.0)
        deaf.append(snapshot(model.encoders["image"]))
    assert all(torch.equal(deaf[0][name], deaf[1][name]) for name in deaf[0])


@pytest.mark.parametrize("name", list(ALL_TASKS))
def test_every_kind_of_task_can_be_taught(name):
    schema = Schema(SCHEMA.modalities, {name: ALL_TASKS[name]})
    run = distil_encoder(
        make_model(schema), "image", make_teacher(6), make_cohort(60, schema), epochs=2, tau=2.0
    )
    assert all(np.isfinite([line["train_loss"], line["val_loss"]]).all() for line in run.history)


def test_a_student_of_another_width_gets_a_stitch_of_its_own():
    model = make_model()
    distil_encoder(model, "image", make_teacher(11), make_cohort(40), make_teacher(5), epochs=1)
    assert isinstance(model.encoders["image"], StitchedEncoder)
    assert len(predict_proba(model, make_cohort(10))["sick"]) == 10


def test_the_student_takes_over_what_the_teacher_knows():
    # The student starts at random inside a trained model, without one label: all it learns comes from the
    # teacher.
    cohort = make_cohort(240, missing=0.2, unknown=0.0)
    model = make_model()
    finetune(model, cohort, epochs=15, progress=False, optimisation=FAST, augmentation=None)
    teacher = model.encoders["image"]
    test = cohort["test"]
    alone = [record.only("image") for record in test if "image" in record.inputs]
    alone = TinyCohort(alone, SCHEMA, ["test"] * len(alone))
    truth = np.array([r.targets["sick"] for r in alone])

    def accuracy():
        return ((predict_proba(model, alone)["sick"][:, 0] > 0.5) == truth).mean()

    good = accuracy()
    model.encoders["image"] = make_teacher(seed=9)
    bad = accuracy()
    distil_encoder(model, "image", teacher, cohort, alpha=1.0, epochs=15, optimisation=FAST)
    assert good > 0.9
    assert bad < 0.75
    assert accuracy() > good - 0.05


def measured(alpha, teacher, still=True, **options):
    """Validation loss of a student that does not move, beside the model's own encoder as the teacher or
    another."""
    settings = Optimisation(lr=0.0 if still else 1e-3)
    model = make_model()
    run = distil_encoder(
        model,
        "image",
        teacher or make_model().encoders["image"],
        make_cohort(60),
        make_teacher(seed=5),
        alpha=alpha,
        epochs=1,
        optimisation=settings,
        **options,
    )
    return run.history[0]["val_loss"]


def test_the_loss_is_a_mixture_of_labels_and_teacher():
    labels, taught = measured(0.0, None), measured(1.0, None)
    assert measured(0.3, None) == pytest.approx(0.7 * labels + 0.3 * taught, rel=1e-4)
    assert taught > 1e-4
    assert measured(1.0, make_teacher(seed=5)) == pytest.approx(0, abs=1e-6)  # it is its own teacher
    assert measured(1.0, None, per="number") == pytest.approx(taught / 2, rel=1e-4)


def test_a_model_with_a_student_by_name_is_saved_and_read_again(tmp_path):
    schema = Schema({name: SCHEMA.modalities[name] for name in ("table", "extra")}, SCHEMA.tasks)
    records = [r.only("table", "extra") for r in make_records(60)]
    cohort = TinyCohort(records, schema, ["train", "train", "val"] * 20)
    model = create_model(schema, dim=8, state_dim=8)
    distil_encoder(model, "table", CellEncoder(3, 5), cohort, ("mlp", {"hidden": 4}), epochs=1)
    assert "from CellEncoder on" in model.card["training"]["distilled, table"]
    model.save_pretrained(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert model.config["encoders"]["table"]["options"] == {"hidden": 4}
    assert np.array_equal(predict_proba(again, cohort)["sick"], predict_proba(model, cohort)["sick"])


class Maps(nn.Module):
    def forward(self, pixels, views):
        return Tokens(pixels, views)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modality": "imagee"}, "image"),
        ({"teacher": Maps()}, r"Tokens of values \[n tokens dim\]"),
        (
            {"cohort": TinyCohort([r.without("image") for r in make_records(9)], SCHEMA, ["train"] * 9)},
            "No training",
        ),
        ({"alpha": 1.5}, "alpha"),
        ({"tau": 0.0}, "tau"),
        ({"per": "batch"}, "divisor"),
    ],
)
def test_mistakes_are_explained_and_leave_the_model_as_it_was(change, message):
    model = make_model()
    before = snapshot(model)
    given = {"modality": "image", "teacher": make_teacher(), "cohort": make_cohort(30), "epochs": 1} | change
    with pytest.raises(ValueError, match=message):
        distil_encoder(model, **given)
    assert same(model, before)
    assert all(p.requires_grad for p in model.parameters())
