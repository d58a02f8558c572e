"""An update: its losses are weighed, two shares of it add up, what nobody drew teaches presence alone."""

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from squares import make_segmenter, make_task, make_volumes

from mmmed.training.chance import stream
from mmmed.training.mask_batches import make_batch
from mmmed.training.mask_finetune import lessons_of
from mmmed.training.mask_loop import MaskLoop, mask_losses, words_of
from mmmed.training.mask_recipe import MaskRecipe

RECIPE = MaskRecipe(batch_size=4, coarse=0.5, flips=())


def small_task(undrawn=(), **options):
    """undrawn: places of phrases of which it is only known that they are true."""
    cohort, phrases = make_task(count=8, alone=0.5, val=0)
    phrases = [replace(p, mask=True) if k in undrawn and p.drawn else p for k, p in enumerate(phrases)]
    segmenter = make_segmenter(cohort, phrases, **options)
    return segmenter, lessons_of(segmenter, cohort["train"], phrases, "training")


def batch_of(segmenter, lessons, recipe=RECIPE):
    rows = lessons.rows
    batch = next(iter(lessons.supply.batches([(rows, lessons.supply.present[rows])])))
    return make_batch(segmenter.network, lessons, batch, rows, recipe, stream(0, "test"))


def gradients(segmenter, losses):
    segmenter.network.zero_grad()
    sum(losses.values()).backward()
    return {n: p.grad.clone() for n, p in segmenter.network.named_parameters() if p.grad is not None}


def loop_of(segmenter, lessons, recipe=RECIPE, epochs=4, seed=0):
    return MaskLoop(segmenter, lessons, recipe, epochs, seed, Accelerator(cpu=True))


@pytest.fixture(scope="module")
def task():
    segmenter, lessons = small_task()
    segmenter.network.train()
    return segmenter, lessons, batch_of(segmenter, lessons)


@pytest.mark.parametrize("name", ["presence", "coarse", "contrast"])
def test_each_loss_has_its_weight(task, name):
    segmenter, lessons, batch = task
    once, more = (mask_losses(segmenter, lessons, batch, replace(RECIPE, **{name: w})) for w in (1.0, 3.0))
    assert once.keys() == {"contrast", "presence", "mask", "coarse"}
    for part in once:
        factor = 3 if part == name else 1
        assert more[part].item() == pytest.approx(factor * once[part].item(), rel=1e-5)


def test_before_it_draws_only_the_contrast_teaches(task):
    segmenter, lessons, batch = task
    assert mask_losses(segmenter, lessons, batch, RECIPE, draws=False).keys() == {"contrast"}
    assert "contrast" not in mask_losses(segmenter, lessons, batch, replace(RECIPE, contrast=0.0))


@pytest.mark.parametrize("world", [2, 3, 20])
@pytest.mark.parametrize("by_slice", [False, True])
def test_the_shares_of_an_update_add_up_to_its_gradient(world, by_slice):
    if by_slice:
        cohort, phrases = make_volumes(count=5, names=("flair", "pre"))
        segmenter = make_segmenter(cohort, phrases, by_slice=True)
        lessons = lessons_of(segmenter, cohort["train"], phrases, "training")
    else:
        segmenter, lessons = small_task(undrawn=(0, 1, 2, 3))
    segmenter.network.train()
    loop = loop_of(segmenter, lessons)
    batch, sizes = loop._own(lessons.rows, 0, 0)
    whole = mask_losses(segmenter, lessons, batch, RECIPE)
    expected, total, added = gradients(segmenter, whole), {}, {}
    for rank in range(world):
        losses = mask_losses(segmenter, lessons, batch.share(rank, world), RECIPE, sizes=sizes)
        if not losses:
            assert not batch.share(rank, world).count
            continue
        for name, value in losses.items():
            added[name] = added.get(name, 0) + value.item()
        for name, gradient in gradients(segmenter, losses).items():
            total[name] = total.get(name, 0) + gradient
    assert added == pytest.approx({name: value.item() for name, value in whole.items()}, rel=1e-4, abs=1e-6)
    assert total.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(total[name], gradient, atol=2e-5, rtol=1e-3, msg=name)


def test_what_nobody_drew_teaches_presence_alone():
    segmenter, lessons = small_task(undrawn=range(8))
    batch = batch_of(segmenter, lessons)
    assert (batch.there & ~batch.drawn).any()
    other = replace(batch, target=torch.where(batch.drawn.view(-1, 1, 1), batch.target, 1.0))
    losses, changed = (mask_losses(segmenter, lessons, one, RECIPE) for one in (batch, other))
    assert losses == changed, "its empty target is never looked at"
    seen = batch.there & ~batch.drawn
    flipped = mask_losses(segmenter, lessons, replace(batch, there=batch.there & ~seen), RECIPE)
    assert flipped["presence"] != losses["presence"]


def test_a_weak_segmenter_learns_from_presence_and_its_mask_moves():
    segmenter, lessons = small_task(range(16), weak=True)
    losses = mask_losses(segmenter, lessons, batch_of(segmenter, lessons), RECIPE)
    assert losses.keys() == {"presence"}
    found = gradients(segmenter, losses)
    assert found["decoder.enter.weight"].abs().max() > 0


@pytest.mark.parametrize(
    ("first", "contrast", "epochs", "expected"),
    [
        (0.5, 1.0, 4, [False, False, True, True]),
        (0.0, 1.0, 2, [True, True]),
        (1.0, 1.0, 3, [False, False, True]),
        (0.6, 1.0, 1, [True]),
        (0.5, 0.0, 2, [True, True]),
    ],
)
def test_it_draws_after_its_first_epochs_and_always_in_the_last(task, first, contrast, epochs, expected):
    segmenter, lessons, _ = task
    recipe = replace(RECIPE, first=first, contrast=contrast)
    loop = loop_of(segmenter, lessons, recipe, epochs)
    assert [loop.draws(number) for number in range(epochs)] == expected


def test_without_contrast_an_epoch_is_taught():
    segmenter, lessons = small_task()
    history = loop_of(segmenter, lessons, replace(RECIPE, contrast=0.0)).epoch(0, lambda: None)
    assert history.keys() == {"loss", "presence", "mask", "coarse", "lr"}
    assert history["loss"] == pytest.approx(sum(history[k] for k in ("presence", "mask", "coarse")), rel=1e-5)


def test_every_record_is_taught_once_in_an_epoch(task, monkeypatch):
    segmenter, lessons, _ = task
    loop, seen, calls = loop_of(segmenter, lessons, replace(RECIPE, batch_size=3)), [], []
    make = loop._make
    monkeypatch.setattr(loop, "_make", lambda rows, *rest: (seen.extend(rows.tolist()), make(rows, *rest))[1])
    loop.epoch(0, lambda: calls.append(1))
    assert sorted(seen) == lessons.rows.tolist()
    assert len(calls) == loop.updates == 3
    first = list(seen)
    seen.clear()
    loop.epoch(1, lambda: None)
    assert seen != first


def test_acquisitions_take_turns_and_each_update_has_one_of_them():
    cohort, phrases = make_task(count=9, alone=0.5, val=0)
    kinds = {f"r{k}": "ultrasound" if k % 3 else "radiograph" for k in range(9)}  # six and three
    phrases = [replace(phrase, acquisition=kinds[phrase.record]) for phrase in phrases]
    segmenter = make_segmenter(cohort, phrases)
    lessons = lessons_of(segmenter, cohort["train"], phrases, "training")
    loop = loop_of(segmenter, lessons, replace(RECIPE, batch_size=2))
    for number in range(3):
        batches = [[kinds[f"r{row}"] for row in part.tolist()] for part in loop.batches(number)]
        assert all(len(set(batch)) == 1 for batch in batches)
        assert [batch[0] for batch in batches] == ["radiograph", "ultrasound"] * 3
        seen = torch.cat(loop.batches(number))
        assert sorted(set(seen.tolist())) == list(range(9))
    assert loop.updates == 6
    assert [part.tolist() for part in loop.batches(0)] == [part.tolist() for part in loop.batches(0)]
    assert [part.tolist() for part in loop.batches(0)] != [part.tolist() for part in loop.batches(1)]
    assert loop.epoch(0, lambda: None)["loss"] > 0


def test_every_update_draws_anew_and_the_same_again(task):
    segmenter, lessons, _ = task
    recipe = replace(RECIPE, flips=("sides", "heights"), shift=0.1)

    def made(number, index, seed=0):
        return loop_of(segmenter, lessons, recipe, seed=seed)._make(lessons.rows, number, index)

    first = made(0, 0)
    assert made(0, 0).phrases == first.phrases
    assert torch.equal(made(0, 0).values["image"], first.values["image"])
    for other in (made(0, 1), made(1, 0), made(0, 0, seed=1)):
        assert not torch.equal(other.values["image"], first.values["image"])


def test_a_loss_that_is_not_finite_is_told():
    segmenter, lessons = small_task()
    with torch.no_grad():
        next(segmenter.network.decoder.parameters())[0] = torch.nan
    with pytest.raises(ValueError, match=r"Epoch 1, step 1: the loss is not finite"):
        loop_of(segmenter, lessons, replace(RECIPE, first=0.0)).epoch(0, lambda: None)


@pytest.mark.parametrize("options", [{}, {"fusion": "svla"}, {"fusion": "pwam"}, {"by_slice": True}])
def test_half_precision_learns_about_the_same(options):
    losses = {}
    for precision in ("fp32", "bf16"):
        if "by_slice" in options:
            cohort, phrases = make_volumes(count=4)
            segmenter = make_segmenter(cohort, phrases, **options)
            lessons = lessons_of(segmenter, cohort["train"], phrases, "training")
        else:
            segmenter, lessons = small_task(**options)
        recipe = replace(RECIPE, first=0.0, precision=precision, lr=1e-4)
        losses[precision] = loop_of(segmenter, lessons, recipe).epoch(0, lambda: None)
    for name, value in losses["fp32"].items():
        assert losses["bf16"][name] == pytest.approx(value, rel=0.1, abs=0.02), name


def test_phrases_that_say_the_same_are_read_once(task, monkeypatch):
    segmenter, lessons, _ = task
    segmenter.network.eval()
    read, given = segmenter.reader.read, []
    monkeypatch.setattr(
        segmenter.reader, "read", lambda phrases, *rest: (given.append(len(phrases)), read(phrases, *rest))[1]
    )
    asked = [(0, "the square on the left"), (3, "the square on the right"), (4, "the square on the left")]
    words = words_of(segmenter, lessons, asked, torch.device("cpu"))
    assert given == [2]
    for place, one in enumerate(asked):
        alone = words_of(segmenter, lessons, [one], torch.device("cpu"))
        torch.testing.assert_close(words.mean()[place], alone.mean()[0])
    segmenter.network.train()
