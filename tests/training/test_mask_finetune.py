"""Teaching a segmenter: it learns the words, the same each time, killed or not, alone or in company."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from masks_several import teach
from safetensors.torch import load_file
from squares import SIDE, make_segmenter, make_task, make_volumes, square
from two_processes import in_two_processes

import mmmed
from mmmed.training.mask_finetune import MaskSession, finetune_masks
from mmmed.training.mask_loop import MaskLoop
from mmmed.training.mask_recipe import MaskRecipe
from mmmed.types import Phrase

LEFT, RIGHT = "the square on the left", "the square on the right"
QUICK = MaskRecipe(batch_size=4, first=0.25, shift=0.05, zoom=0.1)
EPOCHS = 4


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def small():
    return make_task(count=15)


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory):
    """A run that nothing interrupts."""
    return taught(*small, output=tmp_path_factory.mktemp("whole"))


def taught(cohort, phrases, made=None, **options):
    """With dropout in the text encoder, so that the layers' own chance matters too."""
    words = {"query": ("words", {"layers": 1, "heads": 2, "dropout": 0.2})}
    segmenter = make_segmenter(cohort, phrases, **{**words, **(made or {})})
    options = {"recipe": QUICK, "epochs": EPOCHS, "progress": False, **options}
    return segmenter, finetune_masks(segmenter, cohort, phrases, **options)


def weights(segmenter):
    return segmenter.network.state_dict()


def same(one, other):
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def without_time(run):
    return [{name: value for name, value in line.items() if name != "seconds"} for line in run.history]


# ------------------------------------------------------------------------------------------------- learning


def learned(epochs, fusion="film", blind=False):
    """-> run; of new pictures with a square on each side, Dice, and how alike its masks are."""
    cohort, phrases = make_task(count=60)
    told = [replace(phrase, text="the square") for phrase in phrases] if blind else phrases
    segmenter = make_segmenter(cohort, told, fusion=fusion)
    recipe = MaskRecipe(batch_size=8)
    run = finetune_masks(segmenter, cohort, told, recipe=recipe, epochs=epochs, progress=False)
    fresh, asked = make_task(count=12, seed=9, alone=0.0)
    dice, overlap = [], []
    for record, *masks in zip(fresh, asked[::2], asked[1::2], strict=False):
        texts = ["the square"] * 2 if blind else [LEFT, RIGHT]
        left, right = (mask.pixels for mask in segmenter.segment(record, texts, threshold=0.0))
        dice += [similar(left, masks[0].mask), similar(right, masks[1].mask)]
        overlap.append(similar(left, right))
    return run, np.mean(dice), np.mean(overlap)


def similar(one, other):
    return 2 * (one & other).sum() / max(one.sum() + other.sum(), 1)


def test_it_learns_which_square_is_meant_and_which_is_not_there():
    run, dice, overlap = learned(18)
    assert dice > 0.8
    assert overlap < 0.1, "the other side is another mask"
    assert run.best["val_dice"] > 0.8
    assert run.best["val_empty"] > 0.8


def test_what_cannot_read_the_words_does_not():
    run, dice, overlap = learned(12, "plain", blind=True)
    assert dice < 0.75
    assert overlap == 1.0
    assert (run.best["val_dice"] + run.best["val_empty"]) / 2 < 0.8


# -------------------------------------------------------------------------------------- the same each time


def test_the_same_seed_gives_the_same_weights_and_another_does_not(small, whole):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    again, run = taught(*small)
    assert torch.equal(torch.get_rng_state(), before)
    assert same(weights(again), weights(whole[0]))
    assert without_time(run) == without_time(whole[1])
    assert not same(weights(taught(*small, seed=1)[0]), weights(whole[0]))


@pytest.mark.parametrize("owner", [MaskSession, MaskLoop], ids=["between epochs", "inside an epoch"])
@pytest.mark.parametrize("moment", [0, 1, 3])
def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(
    small, whole, tmp_path, monkeypatch, moment, owner
):
    calls, name = [], "_epoch" if owner is MaskSession else "_update"
    method = getattr(owner, name)

    def stops(self, *given):
        calls.append(1)
        if len(calls) == (moment + 1 if owner is MaskSession else 3 * moment + 2):
            raise Killed
        return method(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, stops)
        with pytest.raises(Killed):
            taught(*small, output=tmp_path)
    segmenter, run = taught(*small, output=tmp_path)
    assert same(weights(segmenter), weights(whole[0]))
    assert without_time(run) == without_time(whole[1])
    assert run.best_epoch == whole[1].best_epoch


def test_a_finished_run_is_not_repeated(small, whole, monkeypatch):
    monkeypatch.setattr(MaskLoop, "_update", None)
    again, run = taught(*small, output=whole[1].folder)
    assert same(weights(again), weights(whole[0]))
    assert list(run.history) == list(whole[1].history)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"recipe": replace(QUICK, lr=1e-4)}, "recipe"),
        ({"recipe": replace(QUICK, flips=())}, "recipe"),
        ({"epochs": 9}, "epochs was 4 and is 9"),
        ({"made": {"width": 8}}, "network"),
        ({"phrases": "mask"}, "phrases"),
        ({"phrases": "validation"}, "val phrases"),
        ({"phrases": "words"}, "reader"),
    ],
)
def test_a_run_is_not_resumed_with_other_settings(small, whole, change, message):
    cohort, phrases = small
    change = dict(change)
    kind = change.pop("phrases", None)
    if kind == "mask":
        phrases = [replace(phrases[0], mask=square((16, 9), 2)), *phrases[1:]]
    elif kind == "validation":
        phrases = phrases[:-1]
    elif kind == "words":  # of a vocabulary of the same size, so that the network is the same
        phrases = [replace(phrase, text=phrase.text.replace("square", "box")) for phrase in phrases]
    with pytest.raises(ValueError, match=message):
        taught(cohort, phrases, output=whole[1].folder, **change)


def test_resume_false_starts_over(small, whole, tmp_path):
    taught(*small, output=tmp_path, epochs=1)
    segmenter, _ = taught(*small, output=tmp_path, resume=False)
    assert same(weights(segmenter), weights(whole[0]))


# --------------------------------------------------------------------------------------------- what is left


def test_what_happened_is_written_down_and_the_model_with_it(small, whole):
    segmenter, run = whole
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert "mask" not in lines[0]
    for line in lines[1:]:
        parts = sum(line[name] for name in ("contrast", "presence", "mask", "coarse"))
        assert line["loss"] == pytest.approx(parts, rel=1e-5)
    assert run.counts == {"train records": 12, "train phrases": 24, "val records": 3, "val phrases": 6}
    assert segmenter.card["training"]["train phrases"] == 24
    opened = mmmed.load_model(run.folder / "model")
    assert same(weights(opened), weights(segmenter))
    record = next(iter(small[0]["val"]))
    np.testing.assert_array_equal(
        opened.segment(record, LEFT).probability, segmenter.segment(record, LEFT).probability
    )


def test_scores_of_earlier_weights_are_forgotten(small):
    cohort, phrases = small
    segmenter = make_segmenter(cohort, phrases)
    segmenter.card = {"data": "squares", "tables": {"Masks of the test part": "| Dice |"}}
    finetune_masks(segmenter, cohort, phrases, recipe=QUICK, epochs=1, progress=False)
    assert (segmenter.card["data"], segmenter.card["tables"]) == ("squares", {})


def test_afterwards_everything_is_as_a_segmenter_should_be(whole):
    network = whole[0].network
    assert not any(module.training for module in network.modules())
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


def test_the_best_epoch_is_kept(small, monkeypatch):
    import mmmed.training.mask_finetune as module

    scores, states = iter([0.5, 0.6, 0.55]), []

    def told(segmenter, val):
        states.append({name: tensor.clone() for name, tensor in weights(segmenter).items()})
        return {"val_dice": next(scores), "val_empty": 0.5}

    monkeypatch.setattr(module, "validate", told)
    segmenter, run = taught(*small)
    assert [line["val_dice"] for line in run.history] == [None, 0.5, 0.6, 0.55]
    assert run.best_epoch == 3
    assert same(weights(segmenter), states[1])
    assert not same(weights(segmenter), states[2])


@pytest.mark.parametrize("how", ["no records", "no phrases"])
def test_without_validation_the_last_epoch_is_kept(small, how):
    cohort, phrases = small
    if how == "no records":
        cohort = cohort.where(cohort.splits == "train")
    else:
        val = set(cohort["val"].ids.tolist())
        phrases = [phrase for phrase in phrases if phrase.record not in val]
    _, run = taught(cohort, phrases, epochs=2)
    assert all(line["val_dice"] is None and line["val_empty"] is None for line in run.history)
    assert run.best_epoch == 2
    assert "val records" not in run.counts
    assert "no validation phrases" in str(run)


def test_one_record_can_be_taught(small):
    cohort, phrases = small
    for kept in (phrases[:2], phrases[:1]):
        segmenter, run = taught(cohort, [p for p in kept if p.record == "r0"], epochs=2)
        assert run.counts["train records"] == 1
        assert all(tensor.isfinite().all() for tensor in weights(segmenter).values())


def test_phrases_that_nobody_drew_teach_as_well(small):
    cohort, phrases = small
    weak = [replace(phrase, mask=True) if phrase.drawn else phrase for phrase in phrases]
    _, run = taught(cohort, weak, made={"weak": True}, epochs=2)
    assert run.history[0].keys() >= {"presence", "val_empty"}
    assert run.history[0]["val_empty"] is not None, "a weak one draws from its first epoch on"
    for told in (weak, [phrase for phrase in weak if not phrase.empty]):
        _, run = taught(cohort, told, epochs=2)
        assert np.isfinite([line["loss"] for line in run.history]).all()


@pytest.mark.parametrize("by_slice", [False, True])
def test_volumes_of_several_sequences_are_taught_whole_or_by_slice(by_slice):
    cohort, phrases = make_volumes(count=6, names=("flair", "pre"))
    made = {"by_slice": by_slice}
    recipe = replace(QUICK, dropout=0.5)
    segmenter, run = taught(cohort, phrases, made, recipe=recipe, epochs=2)
    again, _ = taught(cohort, phrases, made, recipe=recipe, epochs=2)
    assert run.best["val_dice"] is not None
    assert same(weights(again), weights(segmenter))


def test_it_learns_in_half_precision(small):
    segmenter, run = taught(*small, recipe=replace(QUICK, precision="bf16"))
    assert {p.dtype for p in segmenter.network.parameters()} == {torch.float32}
    assert run.history[-1]["loss"] < 2 * taught(*small)[1].history[-1]["loss"]


def test_finetune_takes_a_segmenter(small, tmp_path):
    cohort, phrases = small
    segmenter = make_segmenter(cohort, phrases)
    run = mmmed.finetune(segmenter, cohort, phrases=phrases, epochs=1, output=tmp_path, progress=False)
    assert run.best_epoch == 1
    assert (tmp_path / "model").is_dir()
    with pytest.raises(ValueError, match="learns by a recipe"):
        mmmed.finetune(segmenter, cohort, phrases=phrases, patience=3, progress=False)


# --------------------------------------------------------------------------------- what cannot be taught


def test_a_cohort_without_phrases_cannot_teach(small):
    cohort, phrases = small
    segmenter = make_segmenter(cohort, phrases)
    for told, message in (
        (None, "No phrases"),
        ([Phrase("nobody", LEFT)], "about the record 'nobody', which the cohort does not have"),
        ([], "expressions is an empty list"),
    ):
        with pytest.raises(ValueError, match=message):
            finetune_masks(segmenter, cohort, told, epochs=1, progress=False)
    with pytest.raises(ValueError, match="no training records"):
        finetune_masks(segmenter, cohort["val"], phrases, epochs=1, progress=False)
    with pytest.raises(ValueError, match="epochs"):
        finetune_masks(segmenter, cohort, phrases, epochs=0, progress=False)
    with pytest.raises(ValueError, match="kind of progress"):
        finetune_masks(segmenter, cohort, phrases, epochs=1, progress="loud")


def test_slices_have_no_upper_end_to_turn():
    cohort, phrases = make_volumes(count=3)
    segmenter = make_segmenter(cohort, phrases, by_slice=True)
    with pytest.raises(ValueError, match='flips="heights" turns slices'):
        finetune_masks(segmenter, cohort, phrases, recipe=replace(QUICK, flips="heights"), progress=False)


@pytest.mark.parametrize("part", ["train", "val"])
def test_masks_that_do_not_fit_are_told_before_anything_is_learned(small, tmp_path, part):
    cohort, phrases = small
    record = cohort[part].ids.tolist()[0]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for mask, message in (
        (np.eye(9, dtype=bool), rf'record "{record}", mask of "a box".*height 9 width 9.*height {SIDE}'),
        (np.arange(SIDE**2).reshape(SIDE, SIDE) % 3, "two values"),
        (str(tmp_path / "broken.png"), "broken.png|a box"),
    ):
        wrong = [*phrases, Phrase(record, "a box", mask)]
        with pytest.raises(ValueError, match=message):
            finetune_masks(make_segmenter(cohort, phrases), cohort, wrong, epochs=1, progress=False)


# ------------------------------------------------------------------------------------------------ in company


def test_two_processes_equal_one(tmp_path):
    in_two_processes("masks_several.py", tmp_path)
    for volumes in (False, True):
        alone, run = teach(volumes=volumes)
        told = (tmp_path / f"run-{volumes}" / "metrics.jsonl").read_text().splitlines()
        for line, own in zip(map(json.loads, told), run.history, strict=True):
            for name in own.keys() - {"seconds"}:
                if own[name] is None:
                    assert line[name] is None
                    continue
                assert line[name] == pytest.approx(own[name], rel=1e-4, abs=1e-5), name
        for rank in (0, 1):
            found = load_file(tmp_path / f"weights-{volumes}-{rank}.safetensors")
            for name, tensor in weights(alone).items():
                # The gradient of the bias of the keys is rounding alone (a softmax does not see it), which
                # Adam makes large: in double precision the processes differ by 1e-14 here as well.
                slack = 1e-4 if name.endswith("attention.project.bias") else 1e-5
                torch.testing.assert_close(found[name], tensor, atol=slack, rtol=0, msg=name)
