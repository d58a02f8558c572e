"""The loop: accumulation, precision, clipping, and what happens when a number is none."""

import dataclasses

import pytest
import torch
from tiny import ALL_TASKS, SCHEMA, PixelEncoder, TinyCohort, make_cohort, make_model

from mmmed.fusion.multimodn import MultiModN
from mmmed.losses.stepwise import stepwise_loss
from mmmed.training.finetune import finetune
from mmmed.training.optimisation import Optimisation
from mmmed.training.policy import Policy
from mmmed.types import Schema

EVERY_TASK = Schema(SCHEMA.modalities, ALL_TASKS)


def train(model, cohort, epochs=2, **options):
    options = {"batch_size": 16, "lr": 2e-3, "weight_decay": 0.01, **options}
    return finetune(
        model,
        cohort,
        epochs=epochs,
        optimisation=Optimisation(**options),
        policy=Policy(dropout=0.3),
        progress=False,
    )


def distance(first, second):
    a, b = first.state_dict(), second.state_dict()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@pytest.fixture(scope="module")
def cohort():
    return make_cohort(90, EVERY_TASK)


def test_accumulated_gradients_learn_what_the_large_batch_learns(cohort):
    whole, parts, other = (make_model(EVERY_TASK, dropout=0.0) for _ in range(3))
    train(whole, cohort, epochs=1, batch_size=24)
    train(parts, cohort, epochs=1, batch_size=6, accumulate=4)
    train(other, cohort, epochs=1, batch_size=6)
    assert distance(whole, parts) < 1e-6
    assert distance(whole, other) > 1e-4  # the test can tell the difference


def test_the_loss_of_an_epoch_is_that_of_the_obvious_loop(cohort):
    """One update per epoch, without dropout of any kind: a plain optimiser on the whole collated cohort."""
    from mmmed.data.collate import Collator

    model, plain = (make_model(EVERY_TASK, dropout=0.0) for _ in range(2))
    optimisation = Optimisation(
        batch_size=1000, schedule="constant", warmup=0.0, weight_decay=0.0, lr=0.01, clip=0.0
    )
    run = finetune(
        model, cohort, epochs=3, patience=None, optimisation=optimisation, augmentation=None,
        policy=Policy(dropout=0.0, reweight=False), progress=False,
    )  # fmt: skip
    train_part = cohort["train"]
    batch = Collator(EVERY_TASK)([r for r in train_part if r.targets])
    optimiser = torch.optim.AdamW(plain.parameters(), lr=0.01, weight_decay=0.0)
    for line in run.history:
        losses = stepwise_loss(plain(batch), batch, ALL_TASKS)
        loss = sum(losses.values()) / len(losses)
        assert line["train_loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def test_the_gradient_is_clipped(cohort):
    still, free = (make_model(EVERY_TASK, dropout=0.0) for _ in range(2))
    seen = []
    for model, clip in ((still, 1e-3), (free, 0.0)):
        original = torch.optim.AdamW.step

        def step(self, *arguments, original=original):
            seen.append(
                torch.stack([p.grad.norm() for group in self.param_groups for p in group["params"]]).norm()
            )
            return original(self, *arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.optim.AdamW, "step", step)
            train(model, cohort, epochs=1, clip=clip)
    half = len(seen) // 2
    assert max(seen[:half]) <= 1.001e-3
    assert min(seen[half:]) > 1e-3


def test_bf16_learns_nearly_the_same_and_weights_stay_in_full_precision(cohort):
    full, half = (make_model(EVERY_TASK, dropout=0.0) for _ in range(2))
    runs = [train(full, cohort, precision="fp32"), train(half, cohort, precision="bf16")]
    assert {p.dtype for p in half.parameters()} == {torch.float32}
    assert runs[0].history[-1]["train_loss"] == pytest.approx(runs[1].history[-1]["train_loss"], abs=0.03)
    assert distance(full, half) > 0


def test_the_same_seed_gives_the_same_weights_and_the_global_stream_is_left_alone(cohort):
    before = torch.get_rng_state()
    first, second, other = (make_model(EVERY_TASK) for _ in range(3))
    for model, seed in ((first, 0), (second, 0), (other, 1)):
        torch.manual_seed(seed + 7)  # must not matter
        state = torch.get_rng_state()
        finetune(model, cohort, epochs=1, seed=seed, progress=False)
        assert torch.equal(state, torch.get_rng_state())
    assert distance(first, second) == 0.0
    assert distance(first, other) > 0.0
    torch.set_rng_state(before)


class Burning(PixelEncoder):
    """Gives NaN for a bright picture."""

    def forward(self, pixels, views):
        tokens = super().forward(pixels, views)
        bad = (pixels.flatten(1).amax(1) > 1.99)[:, None, None]
        return dataclasses.replace(tokens, values=torch.where(bad, tokens.values * torch.nan, tokens.values))


def test_a_loss_that_is_no_number_names_epoch_step_task_and_records():
    cohort = make_cohort(60, missing=0.0, unknown=0.0)
    bright = cohort.records[8].inputs["image"].copy()
    bright[0, 0] = 1.0
    cohort.records[8] = cohort.records[8].with_input("image", bright)
    model = make_model()
    model.encoders["image"] = Burning()
    with pytest.raises(
        ValueError, match=r"Epoch 1, step \d+: the loss of task 'sick' is not finite for r8\."
    ):
        finetune(model, cohort, epochs=1, policy=Policy(dropout=0.0), progress=False)


def test_a_gradient_that_is_no_number_names_the_step():
    class Sharp(PixelEncoder):
        def forward(self, pixels, views):
            tokens = super().forward(pixels, views)
            # the square root has an infinite slope at 0, and its value there is fine
            return dataclasses.replace(tokens, values=tokens.values + (tokens.values * 0.0).sqrt())

    model = make_model()
    model.encoders["image"] = Sharp()
    with pytest.raises(ValueError, match=r"Epoch 1, step 1: .*gradient"):
        finetune(model, make_cohort(60), epochs=1, progress=False)


def test_a_cohort_without_a_known_label_is_refused():
    cohort = make_cohort(30, unknown=1.0)
    with pytest.raises(ValueError, match="known label"):
        finetune(make_model(), cohort, epochs=1, progress=False)


def test_records_without_any_label_teach_nothing():
    cohort = make_cohort(60, unknown=0.5)
    labelled = [i for i, r in enumerate(cohort.records) if "sick" in r.targets or cohort.splits[i] != "train"]
    few = TinyCohort([cohort.records[i] for i in labelled], SCHEMA, cohort.splits[labelled])
    # Without dropout nothing is drawn per record, and with one update per epoch the order does not matter.
    models = [make_model(dropout=0.0) for _ in range(2)]
    for model, data in zip(models, (cohort, few), strict=True):
        finetune(
            model,
            data,
            epochs=2,
            policy=Policy(dropout=0.0),
            optimisation=Optimisation(batch_size=100),
            progress=False,
        )
    assert distance(*models) < 1e-6


class Pulled(MultiModN):
    """A fusion that asks for something besides the labels, as a mixture of experts does."""

    def forward(self, *inputs, **options):
        fused = super().forward(*inputs, **options)
        pull = 0.1 * self.init.value.square().sum()
        return dataclasses.replace(fused, extra={"pull": pull})


def test_what_a_fusion_adds_to_the_loss_is_learned_once_per_update_however_it_is_cut(cohort):
    def trained(fusion, **options):
        fusion = fusion(tuple(SCHEMA.modalities), dim=8, state_dim=8, hidden=8, dropout=0.0)
        model = make_model(EVERY_TASK, dropout=0.0, fusion=fusion)
        with torch.no_grad():
            for parameter in model.fusion.parameters():
                parameter.copy_(torch.linspace(-0.5, 0.5, parameter.numel()).view_as(parameter))
        train(model, cohort, epochs=1, lr=0.02, **options)
        return model

    plain = trained(MultiModN, batch_size=24)
    whole, parts = trained(Pulled, batch_size=24), trained(Pulled, batch_size=6, accumulate=4)
    assert distance(whole, parts) < 1e-5
    assert whole.fusion.init.value.norm() < plain.fusion.init.value.norm()
