"""One stage: what it does not train rests bit for bit; a batch teaches what its records teach together."""

import pytest
import torch
from small_reporter import TINY, by_pattern, make_cohort, make_reporter, shaken, weights

from mmmed.data.collate import Collator
from mmmed.language.lora import add_lora
from mmmed.training.finetune import make_accelerator
from mmmed.training.report_loop import StageLoop, finding_losses, word_losses
from mmmed.training.report_part import part_of
from mmmed.training.report_stages import Stage
from mmmed.training.supply import LazyCohort
from mmmed.types import Tokens

EVERY = (("image", "table", "text"), ("image", "table"), ("text",), ("table", "text"))


@pytest.fixture(scope="module")
def cohort():
    return by_pattern(make_cohort(patients=24), EVERY, every=1)


def loop_of(reporter, cohort, *trains, learns="words", **options):
    stage = Stage("one", 2, trains, learns, **{"batch_size": 8, **options})
    return StageLoop(reporter, stage, make_accelerator(), part_of(reporter, cohort), 0)


def nothing():
    return None


def test_frozen_modules_stay_bit_for_bit(cohort):
    for trains, learns in (
        (("encoders", "finding head"), "findings"),
        (("adapters", "language model"), "words"),
        (("adapters",), "words"),
        (("encoder:text", "adapters"), "words"),
    ):
        reporter = make_reporter(cohort)
        before = weights(reporter)
        moving = {id(p) for name in trains for p in reporter.network.part(name)}
        names = {n for n, p in reporter.network.named_parameters(remove_duplicate=False) if id(p) in moving}
        loop_of(reporter, cohort, *trains, learns=learns).epoch(0, nothing)
        changed = {
            name for name, tensor in weights(reporter).items() if not torch.equal(tensor, before[name])
        }
        assert changed <= names
        for part in trains:
            own = {id(p) for p in reporter.network.part(part)}
            assert any(id(p) in own for n, p in reporter.network.named_parameters() if n in changed), part


def test_lora_learns_and_the_language_model_under_it_rests(cohort):
    reporter = make_reporter(cohort)
    add_lora(reporter.network.language_model)
    before = weights(reporter)
    loop_of(reporter, cohort, "adapters", "lora").epoch(0, nothing)
    changed = {name for name, tensor in weights(reporter).items() if not torch.equal(tensor, before[name])}
    assert any("lora_B" in name for name in changed)
    network = reporter.network
    moving = {id(p) for name in ("adapters", "lora") for p in network.part(name)}
    assert all(id(p) in moving for name, p in network.named_parameters() if name in changed)
    assert not any(name.startswith("language_model.") and "lora_" not in name for name in changed)


def test_resting_parts_drop_nothing_and_learning_ones_do(cohort):
    reporter = make_reporter(cohort)
    loop = loop_of(reporter, cohort, "encoder:text", "adapters")
    loop._to_training()
    network = reporter.network
    assert network.encoders["text"].training
    assert network.adapters["image"].training
    assert not network.encoders["table"].training
    assert not network.language_model.training
    assert not network.finding_head.training


def test_cached_tokens_give_the_losses_of_the_records(cohort):
    reporter = shaken(make_reporter(cohort))
    part = part_of(reporter, cohort)
    loop = loop_of(reporter, cohort, "adapters", "language model")
    reporter.network.eval()
    assert isinstance(loop.train.supply.whole.values["image"], Tokens)
    rows = torch.tensor([0, 5, 2, 9, 14])
    mask = part.supply.present[rows].clone()
    mask[0, 1] = False
    names = [
        [n for n, is_there in zip(reporter.modalities, row, strict=True) if is_there] for row in mask.tolist()
    ]
    lessons = [part.lessons.report(row, here) for row, here in zip(rows.tolist(), names, strict=True)]
    for some in (None, mask):
        fresh = word_losses(reporter, part.take(rows, some), lessons)
        torch.testing.assert_close(word_losses(reporter, loop.train.take(rows, some), lessons), fresh)


def test_encoders_that_learn_are_not_cached(cohort):
    reporter = make_reporter(cohort)
    values = loop_of(reporter, cohort, "adapters", "encoder:text").train.supply.whole.values
    assert {name: isinstance(value, Tokens) for name, value in values.items()} == {
        "image": True,
        "table": True,
        "text": False,
    }


def test_records_that_are_read_one_by_one_teach_the_same(cohort):
    reporter = shaken(make_reporter(cohort))
    packed = part_of(reporter, cohort)
    lazy = part_of(reporter, cohort)
    lazy.supply = LazyCohort(list(cohort), packed.supply.present, Collator(reporter.schema))
    rows = torch.tensor([3, 1, 7])
    lessons = [packed.lessons.report(row, cohort[row].present) for row in rows.tolist()]
    losses = [word_losses(reporter, part.take(rows), lessons) for part in (packed, lazy)]
    torch.testing.assert_close(*losses)
    assert len(lazy.take(torch.zeros(0, dtype=torch.long))) == 0


@pytest.mark.parametrize("learns", ["words", "findings"])
def test_the_gradient_of_a_batch_is_that_of_its_halves_together(cohort, learns):
    """Every token counts the same, however long the reports beside it are."""
    reporter = shaken(make_reporter(cohort))
    part, network = part_of(reporter, cohort), reporter.network.eval()
    rows = torch.arange(10)
    lessons = [part.lessons.report(row, cohort[row].present) for row in rows.tolist()]

    def summed(some):
        batch = part.take(some)
        if learns == "findings":
            return finding_losses(reporter, batch, part.targets[some], part.known[some]).sum()
        return word_losses(reporter, batch, [lessons[row] for row in some.tolist()]).sum()

    def gradient(*parts):
        network.zero_grad()
        for some in parts:
            summed(some).backward()
        return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}

    whole, halves = gradient(rows), gradient(rows[:3], rows[3:])
    assert whole.keys() == halves.keys()
    for name, expected in whole.items():
        torch.testing.assert_close(halves[name], expected, atol=2e-4, rtol=1e-3, msg=name)


def test_the_loss_of_an_epoch_is_per_token(cohort):
    reporter = make_reporter(cohort)
    loop = loop_of(reporter, cohort, "adapters", dropout=0.0, asides=0.0, lr=0.0)
    loss, rate = loop.epoch(0, nothing)
    part = part_of(reporter, cohort)
    reporter.network.eval()
    total = tokens = 0.0
    for row in part.rows.tolist():
        lesson = part.lessons.report(row, cohort[row].present)
        total += float(word_losses(reporter, part.take(torch.tensor([row])), [lesson]).detach().sum())
        tokens += len(lesson.ids)
    assert loss == pytest.approx(total / tokens, abs=1e-4)
    assert rate == 0


def test_only_what_a_report_states_and_the_inputs_show_is_learned(cohort):
    reporter = make_reporter(cohort)
    part = part_of(reporter, cohort)
    losses = finding_losses(reporter, part.take(part.rows), part.targets, part.known)
    labels = reporter.labeller.table.labels
    for row in range(len(cohort)):
        stated = reporter.labeller.labels(cohort.column("report")[row])
        for column, label in enumerate(labels):
            shown = set(reporter.labeller.needs(label)) & set(cohort[row].present)
            if not (bool(part.known[row, column]) and shown):
                assert losses[row, column] == 0
            else:
                assert losses[row, column] > 0
                assert (part.targets[row, column] == 1) == (stated.get(label) == "present")


def test_autocast_learns_about_the_same(cohort):
    losses = {}
    for precision in ("fp32", "bf16"):
        loop = loop_of(make_reporter(cohort), cohort, "adapters", "language model", precision=precision)
        losses[precision] = loop.epoch(0, nothing)[0]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)
    assert losses["bf16"] != losses["fp32"]


def test_a_loss_that_is_not_finite_says_where_it_happened(cohort):
    reporter = make_reporter(cohort)
    loop = loop_of(reporter, cohort, "adapters", "language model")
    with torch.no_grad():
        reporter.network.missing.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"Stage 'one', epoch 2, step \d+: the loss is not finite"):
        loop.epoch(1, nothing)


def test_every_record_is_taught_once_and_hidden_inputs_take_their_sentences_along(cohort):
    reporter = make_reporter(cohort)
    loop = loop_of(reporter, cohort, "adapters", dropout=0.5, asides=0.0)
    seen = []
    for batch, _, size in loop._words(0):
        records = batch()
        seen += records.ids
        assert size > 0
        assert records.present.any(1).all()
    assert sorted(seen) == sorted(cohort.ids.tolist())
    with_asides = loop_of(reporter, cohort, "adapters", asides=1.0)._words(0)
    assert sum(len(batch()) for batch, _, _ in with_asides) > 1.5 * len(cohort)


def test_of_whom_nothing_is_known_nobody_learns_except_the_blind(cohort):
    nobody = cohort.without("image", "table", "text")
    reporter = make_reporter(cohort, language_model=TINY)
    assert loop_of(reporter, nobody, "adapters")._words(0) == []
    assert loop_of(reporter, nobody, "adapters").epoch(0, nothing)[0] == 0
    reporter.blind = True
    assert len(loop_of(reporter, nobody, "adapters", asides=0.0)._words(0)) == 3


def test_what_a_blind_generator_learns_does_not_depend_on_any_input(cohort):
    told = {}
    for name, some in {"all": cohort, "none": cohort.without("image", "table")}.items():
        reporter = make_reporter(cohort)
        reporter.blind = True
        loop = loop_of(reporter, some, "adapters", "language model", asides=0.0)
        loop.epoch(0, nothing)
        told[name] = weights(reporter)
    assert all(torch.equal(told["all"][name], tensor) for name, tensor in told["none"].items())
