"""What is different on a GPU: its own random stream, weights that lie elsewhere, losses read later."""

from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch
from frames import make_tables
from small_reporter import by_pattern, make_reporter
from small_reporter import make_cohort as make_reports
from squares import make_segmenter, make_task
from tiny import SCHEMA, make_cohort, make_model, make_records
from torch import nn

from mmmed.data.collate import Collator
from mmmed.models.create import create_model
from mmmed.models.inference import predict_proba
from mmmed.pretraining import fit as fitting
from mmmed.training import chance, loop, mask_loop, member_epochs, members, report_loop, token_cache
from mmmed.training.finetune import finetune
from mmmed.training.members import finetune_members
from mmmed.training.optimisation import Optimisation
from mmmed.training.report_finetune import finetune_reports
from mmmed.training.report_stages import Stage
from mmmed.types import Tokens

ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: set MMMED_TEST_GPU=1")


def test_dropout_is_seeded_on_the_card_that_draws_it(monkeypatch):
    seeds, places = [], []
    monkeypatch.setattr(torch.cuda, "manual_seed", seeds.append)
    monkeypatch.setattr(torch.cuda, "device", lambda device: places.append(str(device)) or nullcontext())
    with chance.streams_kept("cpu"):
        chance.seed_layers(7, "cpu")
        assert (seeds, places) == ([], [])
        chance.seed_layers(8, "cuda:1")
        assert (seeds, places) == ([8], ["cuda:1"])
        assert torch.default_generator.initial_seed() == 8


@pytest.mark.parametrize("kind", ["predict", "members", "reports", "masks", "encoder"])
def test_every_training_seeds_its_layers_for_its_device(kind, monkeypatch):
    modules = {"predict": loop, "members": member_epochs, "reports": report_loop, "masks": mask_loop}
    seen = []
    monkeypatch.setattr(modules.get(kind, fitting), "seed_layers", lambda seed, at: seen.append((seed, at)))
    TRAININGS[kind]()
    assert len(seen) > 1
    assert len(set(seen)) == len(seen)  # another seed for every update
    assert {torch.device(at).type for _, at in seen} == {"cuda" if torch.cuda.is_available() else "cpu"}


def train_members():
    cohorts = make_tables(60).folds(3)
    models = [create_model(c.schema, dim=8, state_dim=8, seed=k) for k, c in enumerate(cohorts)]
    finetune_members(models, cohorts, [0, 1, 2], epochs=2, progress=False)


def train_reports():
    cohort = by_pattern(make_reports(patients=24), (("image", "table", "text"),), every=1)
    stage = Stage("one", 2, ("adapters",), "words", batch_size=8)
    finetune_reports(make_reporter(cohort), cohort, stages=[stage], progress=False)


def train_masks():
    cohort, phrases = make_task(30)
    finetune(make_segmenter(cohort, phrases), cohort, phrases=phrases, epochs=2, progress=False)


def train_encoder():
    part = nn.Linear(3, 1)
    part.to("cuda" if torch.cuda.is_available() else "cpu")
    items = [torch.ones(2, 3, device=part.weight.device)] * 2
    options = {"updates": 2, "epochs": 1, "optimisation": Optimisation(), "seed": 0}
    fitting.fit(part, lambda epoch: items, lambda item, step: part(item).mean(), **options)


TRAININGS = {
    "predict": lambda: finetune(make_model(), make_cohort(60), epochs=1, progress=False),
    "members": train_members,
    "reports": train_reports,
    "masks": train_masks,
    "encoder": train_encoder,
}


def test_members_are_brought_to_the_device_before_their_frozen_encoders_are_asked(monkeypatch):
    order, enter, read = [], members.in_training, members.make_supplies

    @contextmanager
    def entering(model, *rest):
        order.append(("there", id(model)))
        with enter(model, *rest):
            yield

    monkeypatch.setattr(members, "in_training", entering)
    monkeypatch.setattr(
        members,
        "make_supplies",
        lambda model, *rest: order.append(("asked", id(model))) or read(model, *rest),
    )
    cohorts = make_tables(60).folds(3)
    models = [create_model(c.schema, dim=8, state_dim=8, seed=k) for k, c in enumerate(cohorts)]
    frozen = next(iter(cohorts[0].schema.modalities))
    finetune_members(models, cohorts, [0, 1, 2], epochs=1, frozen=(frozen,), progress=False)
    for model in models:
        assert order.index(("there", id(model))) < order.index(("asked", id(model)))


def test_tokens_are_made_where_the_encoder_is(tmp_path, monkeypatch):
    class Elsewhere(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1, device="meta"))
            self.met = set()

        def forward(self, pixels, views):
            self.met.add(pixels.device.type)
            return Tokens(torch.zeros(len(pixels), 1, 2), torch.ones(len(pixels), 1, dtype=torch.bool))

    monkeypatch.setattr(token_cache, "cache_key", lambda *_: "key")
    encoder, records = Elsewhere(), [r for r in make_records(20) if "image" in r.inputs]
    assert len(token_cache.cache_tokens(encoder, "image", records, Collator(SCHEMA), tmp_path))
    assert encoder.met == {"meta"}


def test_the_first_bad_update_is_named_where_several_are_looked_at_at_once():
    """On a GPU losses are read some updates later, when the first bad one has spoilt those that follow."""
    watch, fine, bad = loop.Watch(), torch.zeros(2), torch.full((2,), torch.nan)
    for step, (losses, norm) in enumerate([(fine, fine[0]), (fine, bad[0]), (bad, bad[0])]):
        watch.keep((0, step), (f"a{step}", f"b{step}"), {"sick": losses})
        watch.note((0, step), norm)
    with pytest.raises(ValueError, match=r"Epoch 1, step 2: the losses are finite .* were a1, b1\."):
        watch.look()


# ------------------------------------------------------------------------------------------ only with a GPU


@ON_GPU
def test_a_gpu_answers_as_the_cpu_does():
    cohort, model = make_cohort(60), make_model().eval()
    expected = predict_proba(model, cohort)["sick"]
    model.to("cuda")
    np.testing.assert_allclose(predict_proba(model, cohort)["sick"], expected, atol=1e-3)  # TF32


@ON_GPU
@pytest.mark.parametrize("kind", ["predict", "members"])
def test_a_gpu_learns_about_the_same_again(kind):
    """Additions in another order differ in the last bits; other dropout would differ in the second digit."""

    def learned():
        if kind == "predict":
            run = finetune(make_model(), make_cohort(90), epochs=3, progress=False)
            return [line["train_loss"] for line in run.history]
        cohorts = make_tables(60).folds(3)
        models = [create_model(c.schema, dim=8, state_dim=8, seed=k) for k, c in enumerate(cohorts)]
        runs = finetune_members(models, cohorts, [0, 1, 2], epochs=3, progress=False)
        return [line["train_loss"] for run in runs for line in run.history]

    torch.manual_seed(0)
    first = learned()
    torch.cuda.manual_seed(1)
    assert learned() == pytest.approx(first, abs=1e-3)
