"""Members that are trained together learn what each would learn alone."""

import numpy as np
import pytest
import torch
from frames import make_tables
from torch import nn

from mmmed.models.create import create_model
from mmmed.models.inference import predict_proba
from mmmed.training import token_cache
from mmmed.training.finetune import finetune
from mmmed.training.members import can_train_together, finetune_members
from mmmed.training.optimisation import Optimisation
from mmmed.training.policy import Policy
from mmmed.training.settings import Settings
from mmmed.training.stacked import MemberAdamW

FAST = Optimisation(lr=5e-3, batch_size=16)


def without_dropout(schema, seed, fusion="multimodn"):
    model = create_model(schema, fusion=fusion, dim=16, state_dim=16, seed=seed)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    return model


def alone_and_together(cohorts, fusion="multimodn", **options):
    seeds = [7 + index for index in range(len(cohorts))]
    alone = [without_dropout(cohort.schema, s, fusion) for cohort, s in zip(cohorts, seeds, strict=True)]
    together = [without_dropout(cohort.schema, s, fusion) for cohort, s in zip(cohorts, seeds, strict=True)]
    assert can_train_together(together) is None
    runs = [
        finetune(model, cohort, seed=seed, progress=False, **options)
        for model, cohort, seed in zip(alone, cohorts, seeds, strict=True)
    ]
    return alone, runs, together, finetune_members(together, cohorts, seeds, **options)


def check_same(cohorts, alone, runs, together, same_runs):
    for cohort, one, run, other, same in zip(cohorts, alone, runs, together, same_runs, strict=True):
        assert run.best_epoch == same.best_epoch
        assert len(run.history) == len(same.history)
        assert run.records == same.records
        for name in ("train_loss", "val_loss", "val_loss_hidden", "val_auroc", "lr", "ess"):
            expected = [line[name] for line in run.history]
            assert [line[name] for line in same.history] == pytest.approx(expected, abs=1e-4), name
        for task, values in predict_proba(one, cohort).items():
            np.testing.assert_allclose(predict_proba(other, cohort)[task], values, atol=1e-4)
            assert one.thresholds.get(task) == pytest.approx(other.thresholds.get(task), abs=1e-4)


@pytest.mark.parametrize("fusion", ["multimodn", "concat"])
def test_each_member_learns_what_it_would_learn_alone(fusion):
    cohorts = make_tables(101).folds(3)
    check_same(cohorts, *alone_and_together(cohorts, fusion, epochs=6, optimisation=FAST))


FAMILIES = ["cascade", "perceiver", "lstm", "late", "gated_attention", "token_transformer"]


@pytest.mark.parametrize("fusion", FAMILIES)
def test_every_family_that_heeds_who_is_present_can_be_trained_together(fusion):
    cohorts = make_tables(60).folds(3)[:2]
    check_same(cohorts, *alone_and_together(cohorts, fusion, epochs=2, optimisation=FAST))


def test_experts_are_sent_their_records_and_so_are_trained_alone():
    assert "trial" in can_train_together([create_model(make_tables(60).schema, fusion="moe")])


def test_members_of_unequal_size_stop_each_at_its_own_time():
    cohorts = make_tables(100).folds(3)
    # 48 and 17 training records: three updates against two in an epoch
    sizes = [48, 17, 33]
    for index, size in enumerate(sizes):
        here = np.flatnonzero(cohorts[index].splits == "train")[size:]
        cohorts[index] = cohorts[index].where(np.setdiff1d(np.arange(100), here))
    fast = Optimisation(lr=2e-2, batch_size=16)
    result = alone_and_together(cohorts, epochs=9, optimisation=fast, patience=2)
    check_same(cohorts, *result)
    assert len({len(run.history) for run in result[3]}) > 1, "the test needs members that stop early"


def test_all_kinds_of_task_are_learned_together():
    from mmmed.types import Binary, Multiclass, Multilabel, Regression

    cohort = make_tables(90)
    tasks = {
        "sick": Binary("sick"),
        "kind": Multiclass("sex", levels=("f", "m")),
        "signs": Multilabel(("sick", "flag")),
        "weight": Regression("weight", unit="kg"),
    }
    frame = cohort.to_frame().drop(columns="split")
    frame["flag"] = [None if i % 5 == 0 else i % 3 == 0 for i in range(len(frame))]
    frame["flag"] = frame["flag"].astype("boolean").astype("Int64")
    from mmmed.data.cohort import Cohort

    tables = {"vitals": ["pulse"], "serum": ["crp", "lactate"]}
    cohort = Cohort.from_frame(frame, tabular=tables, target=tasks, id="id")
    cohorts = cohort.folds(3)[:2]
    check_same(cohorts, *alone_and_together(cohorts, epochs=3, optimisation=FAST))


def test_without_weights_dropout_clipping_and_validation_it_is_the_same_too():
    cohorts = [fold.where(fold.splits != "val") for fold in make_tables(80).folds(3)]
    options = {"policy": Policy(dropout=0.0, missingness="use"), "optimisation": Optimisation(clip=0.0)}
    check_same(cohorts, *alone_and_together(cohorts, epochs=3, **options))


def test_frozen_encoders_stay_and_their_tokens_are_shared_out():
    cohorts = make_tables(80).folds(3)[:2]
    before = create_model(cohorts[0].schema, dim=16, state_dim=16, seed=7).encoders["serum"].state_dict()
    result = alone_and_together(cohorts, epochs=3, optimisation=FAST, frozen=["serum"])
    check_same(cohorts, *result)
    for name, tensor in result[2][0].encoders["serum"].state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_tokens_of_frozen_encoders_are_found_again_by_a_run_with_another_fusion(tmp_path, monkeypatch):
    cohorts, written, write = make_tables(60).folds(3)[:2], [], token_cache._write
    monkeypatch.setattr(token_cache, "_write", lambda *given: written.append(given[1]) or write(*given))
    kept, anew = [], []
    for fusion in ("multimodn", "late"):
        for caches, answers in ((tmp_path, kept), (None, anew)):
            models = [create_model(cohort.schema, fusion=fusion, seed=3) for cohort in cohorts]
            finetune_members(models, cohorts, epochs=1, frozen=["serum"], caches=caches)
            answers += [predict_proba(models[0], cohorts[0])["sick"]]
    assert len(written) == 2 + 4  # of two members: once for both fusions, anew for each
    for found, computed in zip(kept, anew, strict=True):
        np.testing.assert_array_equal(found, computed)


def test_dropout_differs_between_members_and_repeats_with_the_seed():
    cohort = make_tables(60).folds(3)[0]

    def weights(seeds):
        models = [create_model(cohort.schema, dim=8, state_dim=8) for _ in seeds]
        finetune_members(models, [cohort] * len(seeds), seeds, epochs=1, policy=Policy(dropout=0.0))
        return [model.heads["sick"][-1].weight.detach() for model in models]

    first, second = weights([3, 3])
    assert not torch.equal(first, second)  # same records in the same order: only dropout layers differ
    again = weights([3, 3])
    assert torch.equal(first, again[0])
    assert torch.equal(second, again[1])


def test_the_global_stream_of_random_numbers_is_left_alone():
    cohorts = make_tables(60).folds(3)[:2]
    models = [create_model(cohort.schema, dim=8, state_dim=8) for cohort in cohorts]
    before = torch.random.get_rng_state()
    finetune_members(models, cohorts, epochs=1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_optimiser_is_adamw_with_a_clipped_gradient_for_each_member():
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(3, 5, generator=generator).requires_grad_(True)
    rows = [nn.Parameter(row.clone()) for row in weights.detach()]
    decay = torch.tensor([0.5, 0.5, 0.5, 0.0, 0.0])
    alone = [torch.optim.AdamW([row], lr=0.1, weight_decay=0.0) for row in rows]
    together = MemberAdamW(weights, 3, 0.5, clip=1.0)
    for step in range(6):
        gradient = torch.randn(3, 5, generator=generator) * torch.tensor([[0.1], [1.0], [10.0]])
        active = torch.tensor([True, step != 2, True])
        rates = torch.tensor([0.1, 0.05, 0.01 * (step + 1)])
        weights.grad = gradient.clone()
        norms = together.step(rates, active)
        for index, (row, optimiser) in enumerate(zip(rows, alone, strict=True)):
            row.grad = gradient[index].clone()
            norm = nn.utils.clip_grad_norm_([row], 1.0)
            assert norms[index] == pytest.approx(float(norm), rel=1e-5)
            optimiser.param_groups[0]["lr"] = float(rates[index])
            if active[index]:
                row.data *= 1 - rates[index] * decay
                optimiser.step()
    torch.testing.assert_close(weights.detach(), torch.stack([row.detach() for row in rows]))


def test_what_speaks_against_it_is_said():
    schema = make_tables(60).schema
    model, other = create_model(schema), create_model(schema, dim=32)
    assert "differ" in can_train_together([model, other])
    settings = Settings(1, None, Policy(order="random"), Optimisation(), None, (), 0)
    assert "order" in can_train_together([model], settings)

    class Neighbours(type(model.fusion)):
        def forward(self, tokens, rows, present, order=None, state=None):
            return super().forward(tokens, rows, torch.ones_like(present), order, state)

    blind = create_model(schema)
    blind.fusion.__class__ = Neighbours
    assert "stand in" in can_train_together([blind])

    class Choosing(nn.Module):
        dim = 64

        def forward(self, cells, known):
            return cells[:, :1].expand(-1, 64) if cells.sum() > 0 else cells.new_zeros(len(cells), 64)

    choosing = create_model(schema, encoders={"vitals": Choosing()})
    assert "trial" in can_train_together([choosing])


def test_members_that_cannot_be_together_are_trained_one_after_another():
    cohorts = make_tables(60).folds(3)[:2]
    models = [create_model(cohort.schema, dim=8, state_dim=8, seed=i) for i, cohort in enumerate(cohorts)]
    expected = [create_model(cohort.schema, dim=8, state_dim=8, seed=i) for i, cohort in enumerate(cohorts)]
    policy = Policy(order="per record")
    runs = finetune_members(models, cohorts, [4, 5], epochs=1, policy=policy)
    for seed, model, cohort, run in zip((4, 5), expected, cohorts, runs, strict=True):
        assert finetune(model, cohort, epochs=1, policy=policy, seed=seed, progress=False).history[0][
            "val_loss"
        ] == pytest.approx(run.history[0]["val_loss"])


def test_a_loss_that_is_not_finite_names_the_member():
    cohorts = make_tables(60).folds(3)[:2]
    models = [create_model(cohort.schema, dim=8, state_dim=8) for cohort in cohorts]
    with torch.no_grad():
        models[1].heads["sick"][-1].bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="member 2 of 2"):
        finetune_members(models, cohorts, epochs=1)


def test_every_member_needs_a_model_a_cohort_and_a_seed():
    with pytest.raises(ValueError, match="2 models, 1 cohorts"):
        finetune_members([None, None], [None])
