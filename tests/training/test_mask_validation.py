"""A look after each epoch: the same numbers as asking the segmenter phrase by phrase."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from squares import cohort_of, make_segmenter, make_task, make_volumes, paint

from mmmed.training import mask_finetune, mask_validation
from mmmed.training.mask_finetune import lessons_of
from mmmed.training.mask_recipe import MaskRecipe
from mmmed.training.mask_validation import best_threshold, quality, validate
from mmmed.types import Phrase, Schema, Volume


def shaken(segmenter, seed):
    """Noise on every weight, so that every input matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in segmenter.network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        for layer in (segmenter.network.decoder.match.word, segmenter.network.decoder.doubt[-1]):
            layer.weight *= 0.02  # so that presence stays away from 0 and 1
            layer.bias *= 0.02
    return segmenter


def slowly(segmenter, cohort, phrases):
    records = {record.id: record for record in cohort}
    dice, empty = [], []
    for phrase in phrases:
        if phrase.record in records:
            drawn = segmenter.segment(records[phrase.record], phrase.text).pixels
            if phrase.drawn:
                overlap = 2 * (drawn & phrase.mask).sum()
                dice.append(overlap / max(drawn.sum() + phrase.mask.sum(), 1))
            elif phrase.empty:
                empty.append(not drawn.any())
    return np.mean(dice), np.mean(empty)


def middle_threshold(segmenter, cohort, phrases):
    """Half of the phrases pass it."""
    records = {record.id: record for record in cohort}
    found = sorted(
        segmenter.segment(records[p.record], p.text).presence for p in phrases if p.record in records
    )
    assert found[-1] - found[0] > 1e-3
    segmenter.threshold = float(np.mean(found[len(found) // 2 - 1 : len(found) // 2 + 1]))


SEED = {"pictures": 0, "weak": 3, "volumes": 0, "slices": 0, "sequences": 1}  # with which something is drawn


@pytest.mark.parametrize("kind", SEED)
def test_it_counts_what_the_segmenter_draws(kind, monkeypatch):
    monkeypatch.setattr(mask_validation, "CHUNK", 3)
    if kind in ("pictures", "weak"):
        cohort, phrases = make_task(count=20, val=0.4, alone=0.5)
    else:
        cohort, phrases = make_volumes(
            count=10, names=("flair", "pre") if kind == "sequences" else ("flair",)
        )
    segmenter = shaken(
        make_segmenter(cohort, phrases, by_slice=kind == "slices", weak=kind == "weak"), SEED[kind]
    )
    part = cohort["val"]
    middle_threshold(segmenter, part, phrases)
    phrases = [replace(p, mask=True) if k % 8 == 0 and p.drawn else p for k, p in enumerate(phrases)]
    lessons = lessons_of(segmenter, part, phrases, "validation")
    scores = validate(segmenter, lessons)
    dice, empty = slowly(segmenter, part, phrases)
    assert scores["val_dice"] == pytest.approx(dice, abs=1e-3)
    assert scores["val_empty"] == pytest.approx(empty, abs=1e-6)
    assert dice > 0


def test_what_there_is_no_phrase_of_is_none_and_a_target_counts_whatever_the_mode():
    cohort, phrases = make_task(count=10, alone=1.0)
    segmenter = make_segmenter(cohort, phrases)
    for kept, missing in (("drawn", "val_empty"), ("empty", "val_dice")):
        some = [phrase for phrase in phrases if getattr(phrase, kept)]
        lessons = lessons_of(segmenter, cohort["val"], some, "validation")
        segmenter.network.train()
        scores = validate(segmenter, lessons)
        assert segmenter.network.training
        none = {name for name, value in scores.items() if value is None}
        assert none == ({"val_empty"} if missing == "val_empty" else {"val_dice", "val_found"})


def test_of_many_phrases_a_share_is_looked_at_from_all_over(monkeypatch):
    monkeypatch.setattr(mask_validation, "MOST", 10)
    cohort, phrases = make_task(count=12, val=1.0, alone=0.0)
    segmenter = make_segmenter(cohort_of([r.inputs["image"] for r in cohort], ["train"] * 12), phrases)
    lessons = lessons_of(segmenter, cohort["val"], phrases, "validation")
    seen = []
    masks = mask_validation._masks
    monkeypatch.setattr(
        mask_validation, "_masks", lambda *given: (seen.extend(given[3].tolist()), masks(*given))[1]
    )
    validate(segmenter, lessons)
    assert seen == [0, 5, 11, 17, 23]


@pytest.mark.parametrize("count", [500, 400, 40])
def test_of_phrases_in_turns_both_kinds_are_looked_at(count):
    """True, false, true, ...: every second one alone would be of one kind."""
    there = torch.arange(count) % 2 == 0
    for wanted in (there, ~there):
        places = mask_validation._spread(wanted)
        assert wanted[places].all()
        assert len(places.unique()) == len(places) == min(count // 2, mask_validation.MOST // 2)
        assert places.min() < 2
        assert places.max() >= count - 2
    assert len(mask_validation._spread(torch.zeros(count, dtype=torch.bool))) == 0


def answers(monkeypatch, presence, inside=True):
    """A segmenter with these presences (by text of the phrase), that draws all of the picture, or nothing."""

    def drawn(segmenter, lessons, part, places):
        told = torch.tensor([presence[lessons.phrases[k].text] for k in places.tolist()])
        size = lessons.target(places).shape
        return torch.full(size, inside), told.view(len(places), -1)

    monkeypatch.setattr(mask_validation, "_drawn", drawn)


def labelled(told, mask=True):
    """[(text, there)] about the one record -> segmenter, lessons; nothing is drawn unless there is a mask."""
    cohort = cohort_of([paint([], np.random.default_rng(0))], ["train"])
    phrases = [Phrase("r0", text, mask if there else None) for text, there in told]
    segmenter = make_segmenter(cohort, phrases)
    return segmenter, lessons_of(segmenter, cohort["train"], phrases, "training")


def test_labels_alone_are_judged_by_what_is_found_and_what_stays_empty(monkeypatch):
    segmenter, lessons = labelled([("a", True), ("b", True), ("c", False), ("d", False)])
    good = {}
    for name, values in {"nothing": (0, 0, 0, 0), "all": (1, 1, 1, 1), "most": (1, 1, 1, 0)}.items():
        answers(monkeypatch, dict(zip("abcd", map(float, values), strict=True)))
        scores = validate(segmenter, lessons)
        assert scores["val_dice"] is None
        assert scores["val_found"] == values[0]
        assert scores["val_empty"] == 1 - (values[2] + values[3]) / 2
        good[name] = quality(scores)
    assert good == {"nothing": 0.5, "all": 0.5, "most": 0.75}


def test_quality_is_the_mean_of_what_is_known():
    scores = {"val_dice": 0.4, "val_found": 1.0, "val_empty": 0.8}
    assert quality(scores) == pytest.approx(0.6)
    assert quality({**scores, "val_dice": None}) == pytest.approx(0.9)
    assert quality({**scores, "val_empty": None}) == 0.4
    assert quality({"val_dice": None, "val_empty": 0.8}) == 0.8
    assert quality({"val_dice": None, "val_found": None, "val_empty": None}) is None


def test_volumes_of_one_slice_count_once():
    cohort, phrases = make_volumes(count=6, depth=3)
    flat = Schema({"flair": Volume("flair", size=(1, 16, 16))}, id="id", group="id")
    cohort = cohort_of([(r.inputs["flair"][2:],) for r in cohort], ["train"] * 3 + ["val"] * 3, flat)
    phrases = [replace(p, mask=None if p.empty else p.mask[2:]) for p in phrases]
    segmenter = make_segmenter(cohort, phrases, by_slice=True)
    with torch.no_grad():  # draws everything, everywhere
        segmenter.threshold = 0.0
    lessons = lessons_of(segmenter, cohort["val"], phrases, "validation")
    scores = validate(segmenter, lessons)
    assert 0 <= scores["val_dice"] <= 1
    masks, present = mask_validation._masks(segmenter, lessons, lessons.rows, torch.arange(6))
    assert masks.shape == lessons.target(torch.arange(6)).shape == (6, 1, 16, 16)
    assert present.all()
    target = lessons.target(torch.arange(6)) > 0.5
    dice = [
        2 * (m & t).sum() / max(m.sum() + t.sum(), 1) for m, t in zip(masks, target, strict=True) if t.any()
    ]
    assert scores["val_dice"] == pytest.approx(float(torch.stack(dice).mean()), abs=1e-6)


@pytest.mark.parametrize(
    ("there", "absent", "low", "high"),
    [
        ((0.3, 0.4, 0.9), (0.1, 0.2), 0.2, 0.3),  # all is right between the two kinds
        ((0.6, 0.62, 0.7), (0.1, 0.65), 0.1, 0.6),  # one must be wrong: found 1 and empty 1/2 ...
        ((0.2, 0.8, 0.9, 0.95), (0.1, 0.3, 0.5), 0.5, 0.8),  # ... or found 3/4 and empty 1
    ],
)
def test_the_threshold_lies_where_most_is_right(monkeypatch, there, absent, low, high):
    told = {f"t{k}": value for k, value in enumerate(there)} | {f"f{k}": v for k, v in enumerate(absent)}
    segmenter, lessons = labelled([(text, text[0] == "t") for text in told])
    answers(monkeypatch, told)
    found = best_threshold(segmenter, lessons)
    assert low < found <= high
    assert found == pytest.approx((low + high) / 2, abs=0.011), "in the middle of all that are equally good"


def test_of_slices_the_one_with_the_highest_presence_counts(monkeypatch):
    segmenter, lessons = labelled([("a", True), ("b", False)])
    answers(monkeypatch, {"a": (0.1, 0.8, 0.1), "b": (0.3, 0.4, 0.2)})
    assert 0.4 < best_threshold(segmenter, lessons) <= 0.8


@pytest.mark.parametrize("there", [True, False])
def test_with_one_kind_alone_the_threshold_stays(there):
    segmenter, lessons = labelled([("a", there), ("b", there)])
    segmenter.threshold = 0.37
    assert best_threshold(segmenter, lessons) == 0.37


def test_the_threshold_is_set_after_training_on_the_validation_phrases(monkeypatch):
    cohort, phrases = make_task(count=10, val=0.4)
    segmenter, given = make_segmenter(cohort, phrases), []
    monkeypatch.setattr(
        mask_finetune, "best_threshold", lambda model, lessons: (given.append(lessons), 0.21)[1]
    )
    options = {"recipe": MaskRecipe(first=0.0), "epochs": 1, "progress": False}
    mask_finetune.finetune_masks(segmenter, cohort, phrases, **options)
    assert segmenter.threshold == 0.21
    assert {phrase.record for phrase in given[0].phrases} == set(cohort["val"].ids.tolist())
