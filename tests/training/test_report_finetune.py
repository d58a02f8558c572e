"""The stages of a run: same seed, same weights; killed and resumed is as never killed; the best is kept."""

import json

import numpy as np
import pytest
import torch
from report_several import teach
from safetensors.torch import load_file
from small_reporter import (
    assert_same_weights,
    make_cohort,
    make_reporter,
    quick_stages,
    weights,
)
from two_processes import in_two_processes

import mmmed
from mmmed.evaluation.grounding import grounding
from mmmed.training.chance import stream
from mmmed.training.progress import Reporter
from mmmed.training.report_finetune import finetune_reports
from mmmed.training.report_loop import StageLoop
from mmmed.training.report_stages import Stage

STAGES = (
    Stage("findings", 1, ("encoders", "finding head"), "findings", lr=3e-3),
    Stage("align", 2, ("adapters", "language model"), lr=5e-3, batch_size=16),
    Stage("lora", 2, ("adapters", "lora"), lr=1e-3, batch_size=16),
)


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def cohort():
    return make_cohort(patients=24)


@pytest.fixture(scope="module")
def whole(cohort, tmp_path_factory):
    """A run that nothing interrupts."""
    reporter, folder = make_reporter(cohort), tmp_path_factory.mktemp("whole")
    run = finetune_reports(reporter, cohort, stages=STAGES, output=folder, progress=False)
    return reporter, run


def taught(cohort, reporter=None, **options):
    reporter = reporter or make_reporter(cohort)
    return reporter, finetune_reports(reporter, cohort, **{"stages": STAGES, "progress": False, **options})


def without_time(history):
    return [{name: value for name, value in line.items() if name != "seconds"} for line in history]


def test_the_same_seed_gives_the_same_weights_and_another_does_not(cohort, whole):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    again, run = taught(cohort)
    assert torch.equal(torch.get_rng_state(), before)
    assert_same_weights(weights(again), weights(whole[0]))
    assert without_time(run.history) == without_time(whole[1].history)
    other = weights(taught(cohort, seed=1)[0])
    assert any(not torch.equal(other[name], tensor) for name, tensor in weights(again).items())


@pytest.mark.parametrize("owner", [Reporter, StageLoop], ids=["after an epoch", "inside an epoch"])
@pytest.mark.parametrize("moment", [0, 1, 2, 3, 4])
def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(
    cohort, whole, tmp_path, monkeypatch, moment, owner
):
    """In every stage, its first epoch included, and where LoRA has just been or is just to be added."""
    calls, epoch = [], owner.epoch

    def stops(self, *arguments):
        calls.append(1)
        if len(calls) == moment + 1:
            if owner is StageLoop:  # some updates of the epoch are lost
                monkeypatch.setattr(self, "_update", dies)
            else:
                raise Killed
        return epoch(self, *arguments)

    def dies(*arguments):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(owner, "epoch", stops)
        with pytest.raises(Killed):
            taught(cohort, output=tmp_path)
    reporter, run = taught(cohort, output=tmp_path)
    assert_same_weights(weights(reporter), weights(whole[0]))
    assert without_time(run.history) == without_time(whole[1].history)
    assert run.gaps == whole[1].gaps
    assert reporter.threshold == whole[0].threshold


def test_a_finished_run_is_not_repeated(cohort, whole):
    folder = whole[1].folder
    again, run = taught(cohort, output=folder)
    assert_same_weights(weights(again), weights(whole[0]))
    assert list(run.history) == list(whole[1].history)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"stages": quick_stages()}, "stages was"),
        ({"questions": "own"}, "questions"),
        ({"blind": True}, "blind was False and is True"),
        ({"dim": 8}, "architecture"),
    ],
)
def test_a_run_is_not_resumed_with_other_settings(cohort, whole, change, message):
    change = dict(change)
    made = {name: change.pop(name) for name in ("dim",) if name in change}
    reporter = make_reporter(cohort, **made)
    reporter.blind = change.pop("blind", False)
    if "questions" in change:
        change["questions"] = [(cohort["train"].ids.tolist()[0], "Sure?", "Yes.")]
    with pytest.raises(ValueError, match=message):
        taught(cohort, reporter, output=whole[1].folder, **change)


def test_a_generator_that_has_changed_since_is_not_mixed_with_a_checkpoint(cohort, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(StageLoop, "epoch", _killed_in("lora"))
        reporter = make_reporter(cohort)
        with pytest.raises(Killed):
            taught(cohort, reporter, output=tmp_path)
    with pytest.raises(ValueError, match="Make it anew"):  # it has LoRA, the checkpoint does not
        taught(cohort, reporter, output=tmp_path)


def _killed_in(name, epoch=StageLoop.epoch):
    def stops(self, *arguments):
        if self.stage.name == name:
            raise Killed
        return epoch(self, *arguments)

    return stops


def test_resume_false_starts_over(cohort, whole, tmp_path):
    taught(cohort, output=tmp_path, stages=quick_stages(1, 1))
    reporter, _ = taught(cohort, output=tmp_path, resume=False)
    assert_same_weights(weights(reporter), weights(whole[0]))


def test_what_happened_is_written_down(cohort, whole):
    reporter, run = whole
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["stage"]) for line in lines] == [
        (1, "findings"), (2, "align"), (3, "align"), (4, "lora"), (5, "lora"),
    ]  # fmt: skip
    assert [line["gap"] is not None for line in lines] == [False, False, True, False, True]
    assert lines[0]["val_f1"] is not None or lines[0]["val_loss"] > 0
    assert run.records == {"train": len(cohort["train"]), "val": len(cohort["val"])}
    assert set(run.gaps) == {"align", "lora"}
    facts = reporter.card["training"]
    assert facts["seed"] == 0
    assert "grounding gap after lora" in facts
    generator = stream(0, "gap", "lora")
    gap = grounding(reporter, cohort["val"], modalities=(), generator=generator).gap(draws=500)
    assert run.gaps["lora"] == pytest.approx((gap.value, gap.low, gap.high), abs=1e-6)


def test_the_model_in_the_folder_is_the_one_in_memory(cohort, whole):
    reporter, run = whole
    opened = mmmed.load_model(run.folder / "model")
    assert_same_weights(weights(opened), weights(reporter))
    assert opened.threshold == reporter.threshold
    records = list(cohort["test"])[:2]
    for one, other in zip(
        opened.generate(records, limit=8), reporter.generate(records, limit=8), strict=True
    ):
        assert one.text == other.text


def test_after_a_stage_its_best_epoch_is_kept(cohort, monkeypatch):
    """With a rate that grows absurd after the first epoch, the weights of the first remain."""
    import mmmed.training.report_loop as module

    rates = iter([1.0] * 2 + [2000.0] * 4)
    monkeypatch.setattr(module, "rate_factor", lambda *rest: next(rates))
    stage = Stage("align", 3, ("adapters", "language model"), lr=2e-3, batch_size=9, asides=0.0)
    reporter, run = taught(cohort, stages=[stage])
    losses = [line["val_loss"] for line in run.history]
    assert losses[0] < min(losses[1:])
    kept = grounding(reporter, cohort["val"], modalities=()).loss
    assert kept == pytest.approx(losses[0], abs=1e-5)


def test_afterwards_everything_is_as_a_generator_should_be(whole):
    reporter, _ = whole
    assert not any(module.training for module in reporter.network.modules())
    network = reporter.network
    base = {id(p) for p in network.part("language model")}  # below a LoRA, it goes on resting
    assert all(p.requires_grad == (id(p) not in base) for p in network.parameters())
    assert all(p.grad is None for p in network.parameters())


def test_without_validation_records_the_last_epoch_is_kept(cohort):
    some = cohort.where(cohort.splits != "val")
    reporter, run = taught(some, stages=quick_stages())
    assert all(line["val_loss"] is None and line["gap"] is None for line in run.history)
    assert run.records["val"] == 0
    assert run.grounding is None
    assert reporter.threshold is None
    assert "training of reports" in str(run)


def test_one_validation_patient_gives_a_loss_and_no_gap(cohort):
    val = np.flatnonzero(cohort.splits == "val")
    some = cohort.where(np.r_[np.flatnonzero(cohort.splits == "train"), val[:1]])
    _, run = taught(some, stages=quick_stages(1, 1))
    assert run.history[-1]["val_loss"] > 0
    assert run.gaps == {}


def test_a_cohort_without_reports_cannot_teach(cohort):
    reporter = make_reporter(cohort)
    empty = type(cohort).from_frame(
        cohort.to_frame().assign(report=""),
        schema=cohort.schema,
        split="split",
        roles={"report": "text target"},
    )
    with pytest.raises(ValueError, match="No training record has a report in the column 'report'"):
        taught(empty, reporter)
    with pytest.raises(ValueError, match="kind of progress"):
        taught(cohort, reporter, progress="loud")


def test_reports_that_are_too_long_are_cut_aloud(cohort):
    model = ("small", {"width": 32, "layers": 1, "heads": 2, "length": 100})
    reporter = make_reporter(cohort, language_model=model)
    with pytest.warns(
        UserWarning, match=r"reports or answers are longer than the \d+ pieces that are learned"
    ):
        taught(cohort, reporter, stages=quick_stages(1, 1))


def test_finetune_takes_a_generator_through_its_stages(cohort, tmp_path):
    blind = make_reporter(cohort)
    blind.blind = True
    run = mmmed.finetune(blind, cohort, epochs=1, output=tmp_path, progress=False)
    assert run.stages == ("align",)
    assert run.gaps["align"] == (0.0, 0.0, 0.0)
    assert mmmed.load_model(tmp_path / "model").blind


def test_two_processes_equal_one(tmp_path):
    in_two_processes("report_several.py", tmp_path)
    alone, run = teach()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["train_loss"] for line in lines] == pytest.approx(
        [ln["train_loss"] for ln in run.history], abs=1e-5
    )
    for rank in (0, 1):
        own = load_file(tmp_path / f"weights-{rank}.safetensors")
        for name, tensor in alone.network.own_state().items():
            torch.testing.assert_close(own[name], tensor, atol=1e-5, rtol=0, msg=name)
