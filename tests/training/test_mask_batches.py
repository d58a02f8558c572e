"""One update as data: whatever is mirrored, moved or enlarged, picture, mask and phrase stay true to each
other."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from squares import SIDE, cohort_of, make_segmenter, make_task, make_volumes, paint, square

from mmmed.training.chance import stream
from mmmed.training.mask_batches import make_batch
from mmmed.training.mask_finetune import lessons_of
from mmmed.training.mask_lessons import TOLD
from mmmed.training.mask_recipe import MaskRecipe
from mmmed.types import Phrase, Schema, Volume

MOVED = MaskRecipe(flips=("sides", "heights"), shift=0.06, zoom=0.15, pairs=3)
STILL = MaskRecipe(flips=(), pairs=2)
HIGH, LOW = "upper", "lower"
WORDS = {"left": (1, -1), "right": (1, 1), "upper": (0, -1), "lower": (0, 1)}


def make_quarters(count=8, seed=0, size="", bare=False):
    """A square in each of two opposite quarters, named by side and by height -> cohort, phrases. bare: with
    phrases that say no place."""
    generator = np.random.default_rng(seed)
    pictures, phrases = [], []
    for number in range(count):
        falls = number % 2  # from the upper left to the lower right
        middles = [generator.integers(6, 10, 2), generator.integers(22, 26, 2)]
        if not falls:
            middles = [(row, SIDE - 1 - column) for row, column in middles]
        upper, lower = (square(middle, half) for middle, half in zip(middles, (3, 4), strict=True))
        pictures.append(paint([upper, lower], generator))
        left, right = (upper, lower) if falls else (lower, upper)
        named = {"on the left": left, "on the right": right, "in the upper half": upper}
        named["in the lower half"] = lower
        phrases += [Phrase(f"r{number}", f"the {size}square {where}", mask) for where, mask in named.items()]
        sides = (("left", "right"), ("right", "left"))[falls]
        for height, side in zip(("upper", "lower"), sides, strict=True):
            phrases.append(Phrase(f"r{number}", f"the {size}square in the {height} {side} part", None))
    if bare:
        phrases = [replace(phrase, text=f"square {k % 6}") for k, phrase in enumerate(phrases)]
    return cohort_of(pictures, ["train"] * count), phrases


def taught(cohort, phrases, **options):
    segmenter = make_segmenter(cohort, phrases, **options)
    return segmenter.network, lessons_of(segmenter, cohort["train"], phrases, "training")


def batch_of(network, lessons, recipe, seed=0, rows=None):
    rows = lessons.rows if rows is None else rows
    batch = next(iter(lessons.supply.batches([(rows, lessons.supply.present[rows])])))
    return make_batch(network, lessons, batch, rows, recipe, stream(seed, "test"))


@pytest.fixture(scope="module")
def quarters():
    return taught(*make_quarters())


def agrees(text, mask):
    """Whether the words of a phrase say where the middle of a mask [height width] lies."""
    middle = [float((mask.sum(1 - axis) * torch.arange(SIDE)).sum() / mask.sum()) for axis in (0, 1)]
    named = [WORDS[word] for word in text.split() if word in WORDS]
    assert named
    return all((middle[axis] - (SIDE - 1) / 2) * sign > 0 for axis, sign in named)


@pytest.mark.parametrize("seed", range(4))
def test_words_stay_true_of_the_changed_picture(quarters, seed):
    network, lessons = quarters
    batch = batch_of(network, lessons, MOVED, seed)
    assert batch.there.sum() == len(batch.there) // 2
    for (index, text), target, there in zip(batch.phrases, batch.target, batch.there, strict=True):
        assert lessons.there[index] == there
        if there:
            assert agrees(text, target)
        else:
            assert not target.any()
    for (index, text), place, right in zip(batch.told, batch.told_which.tolist(), batch.right, strict=True):
        assert right.any() == lessons.there[index]
        for region, points in zip(batch.regions[place], right.tolist(), strict=True):
            assert agrees(text, region) == points, "true of the region it points at, false of the other"


@pytest.mark.parametrize("seed", range(3))
def test_picture_and_mask_move_alike(seed):
    network, lessons = taught(*make_quarters(bare=True))
    batch, still = (batch_of(network, lessons, recipe, seed) for recipe in (MOVED, STILL))
    union = batch.regions.amax(1)
    pairs = torch.stack([union.flatten(1), batch.values["image"].flatten(1)], dim=1)
    assert min(torch.corrcoef(pair)[0, 1] for pair in pairs) > 0.9
    assert (union - still.regions.amax(1)).abs().flatten(1).amax(1).gt(0.5).all(), "each was changed"
    for target, there, place in zip(batch.target, batch.there, batch.which, strict=True):
        found = (batch.regions[place] - target).abs().flatten(1).amax(1)
        assert not there or found.min() < 1e-6


@pytest.mark.parametrize(("flips", "axes"), [(("sides",), (-1,)), (("heights",), (-2,)), ((), ())])
def test_only_what_may_be_mirrored_is(quarters, flips, axes):
    network, lessons = quarters
    still = batch_of(network, lessons, STILL).regions
    mirrored = {(), *((axis,) for axis in axes)}
    found = set()
    for seed in range(4):
        batch = batch_of(network, lessons, replace(STILL, flips=flips), seed)
        for place, region in enumerate(batch.regions.amax(1)):
            own = still[place].amax(0)
            found |= {axis for axis in mirrored if torch.equal(region, own.flip(axis) if axis else own)}
        for (index, text), place in zip(batch.phrases, batch.which.tolist(), strict=True):
            turned = not torch.equal(batch.regions[place].amax(0), still[place].amax(0))
            own = lessons.phrases[index].text
            named = {"sides": ("left", "right"), "heights": ("upper", "lower")}[flips[0]] if flips else ()
            assert (text != own) == (turned and any(word in own.split() for word in named))
    assert found == mirrored


def test_a_picture_with_a_phrase_of_size_is_never_enlarged():
    zooming = MaskRecipe(flips=(), zoom=0.4, pairs=1)
    for size, same in (("small ", True), ("", False)):
        network, lessons = taught(*make_quarters(size=size))
        before = batch_of(network, lessons, STILL).regions.sum((2, 3)).sort(1).values
        after = batch_of(network, lessons, zooming).regions.sum((2, 3)).sort(1).values
        equal = (before - after).abs().amax(1) < 1e-3
        assert equal.all() if same else not equal.any()


def test_not_even_if_the_contrast_does_not_look_at_that_phrase():
    cohort, phrases = make_quarters(count=1)
    many = [Phrase("r0", f"thing {number}", None) for number in range(10 * TOLD)]
    network, lessons = taught(cohort, [*many, replace(phrases[0], text="the large square")])
    zooming = MaskRecipe(flips=(), zoom=0.4, pairs=1)
    for seed in range(4):
        batch = batch_of(network, lessons, zooming, seed)
        assert batch.target.sum() == phrases[0].mask.sum()
        assert len(batch.told) == TOLD


def test_a_picture_with_a_phrase_of_place_is_never_shifted(quarters):
    shifting = MaskRecipe(flips=(), shift=0.3, pairs=1)
    for placed in (True, False):
        network, lessons = quarters if placed else taught(*make_quarters(bare=True))
        before = batch_of(network, lessons, STILL)
        after = batch_of(network, lessons, shifting)
        changes = (before.regions.amax(1) - after.regions.amax(1)).abs().flatten(1).amax(1)
        assert (changes < 1e-3).all() if placed else (changes > 0.5).all()
        changes = (before.values["image"] - after.values["image"]).abs().flatten(1).amax(1)
        assert (changes < 1e-3).all() if placed else (changes > 0.5).all()


def test_what_was_moved_out_of_the_picture_is_not_there():
    generator = np.random.default_rng(0)
    corners = [square((1, 1), 1) for _ in range(12)]
    cohort = cohort_of([paint([mask], generator) for mask in corners], ["train"] * 12)
    phrases = [Phrase(f"r{k}", "a square", mask) for k, mask in enumerate(corners)]
    phrases += [Phrase(f"r{k}", "a spot", True) for k in range(12)]
    network, lessons = taught(cohort, phrases)
    seen = set()
    for seed in range(4):
        batch = batch_of(network, lessons, MaskRecipe(flips=(), shift=0.4), seed)
        drawn = batch.target.flatten(1).amax(1) > 0.5
        assert torch.equal(batch.there, drawn | ~batch.drawn), "what nobody drew is taken to be still there"
        visible = batch.regions.flatten(2).amax(2) > 0.5
        assert torch.equal(batch.right, visible[batch.told_which])
        seen |= set(drawn[batch.drawn].tolist())
    assert seen == {True, False}


@pytest.mark.parametrize("text", ["the square in row 1, column 4", "the square at 2 o'clock"])
def test_a_picture_with_a_phrase_that_does_not_turn_is_never_mirrored(text):
    cohort, phrases = make_quarters()
    phrases = [replace(p, text=text) if p.record < "r4" and p.drawn else p for p in phrases]
    network, lessons = taught(cohort, phrases)
    still = batch_of(network, lessons, STILL)
    changed = torch.zeros(8, dtype=torch.bool)
    for seed in range(6):
        batch = batch_of(network, lessons, replace(STILL, flips=("sides", "heights")), seed)
        changed |= (batch.values["image"] != still.values["image"]).flatten(1).any(1)
    assert changed.tolist() == [False] * 4 + [True] * 4


def test_heights_turn_the_depth_axis_of_a_volume():
    generator = np.random.default_rng(0)
    schema = Schema({"flair": Volume("flair", size=(6, 16, 16))}, id="id", group="id")
    mask = np.zeros((6, 16, 16), bool)
    mask[:2, 2:6, 3:8] = True
    cohort = cohort_of([(paint([mask], generator, mask.shape),) for _ in range(6)], ["train"] * 6, schema)
    phrases = [
        Phrase(f"r{k}", f"the {word} square", m) for k in range(6) for word, m in ((HIGH, mask), (LOW, None))
    ]
    network, lessons = taught(cohort, phrases)
    still = batch_of(network, lessons, STILL)
    batch = batch_of(network, lessons, replace(STILL, flips="heights"))
    own, found = torch.from_numpy(mask).float(), set()
    for (index, text), place, target in zip(batch.phrases, batch.which.tolist(), batch.target, strict=True):
        before, after = still.values["flair"][place], batch.values["flair"][place]
        turned = not torch.equal(before, after)
        found.add(turned)
        assert torch.equal(after, before.flip(-3) if turned else before)
        high = lessons.there[index] != turned  # the true phrase says "upper" first
        assert text == f"the {HIGH if high else LOW} square"
        if lessons.there[index]:
            assert torch.equal(target, own.flip(0) if turned else own)
    assert found == {True, False}


def test_what_comes_from_outside_of_a_picture_is_as_dark_as_its_darkest_pixel():
    network, lessons = taught(*make_quarters(bare=True))
    still = batch_of(network, lessons, STILL).values["image"].flatten(1).amin(1)
    moved = batch_of(network, lessons, MaskRecipe(flips=(), shift=0.5)).values["image"]
    torch.testing.assert_close(moved.flatten(1).amin(1), still, atol=1e-4, rtol=0)


# ------------------------------------------------------------------------------------------ what is chosen


def test_regions_of_each_picture_are_listed_once_and_padded_with_nothing():
    cohort, phrases = make_task(count=6, alone=0.5, val=0)
    phrases += [replace(phrase, text="again " + phrase.text) for phrase in phrases]
    phrases = [phrase for phrase in phrases if phrase.record != "r5" or phrase.empty]
    network, lessons = taught(cohort, phrases)
    batch = batch_of(network, lessons, STILL)
    counts = []
    for place, row in enumerate(lessons.rows.tolist()):
        shown = {p.mask.tobytes() for p in phrases if p.record == f"r{row}" and p.drawn}
        drawn = batch.regions[place][batch.regions[place].flatten(1).any(1)]
        assert {region.bool().numpy().tobytes() for region in drawn} == shown
        counts.append(len(shown))
    assert batch.regions.shape[1] == max(counts) > min(counts)
    for (index, _), place, right in zip(batch.told, batch.told_which, batch.right, strict=True):
        mask = lessons.phrases[index].mask
        same = [mask is not None and np.array_equal(region, mask) for region in batch.regions[place].numpy()]
        assert right.tolist() == same


def test_a_thing_that_nobody_drew_is_there_but_no_region_is_said_to_be_another():
    cohort, phrases = make_task(count=2, alone=0, val=0)
    told = [replace(phrases[0], mask=True), phrases[1], replace(phrases[1], mask=None)]
    network, lessons = taught(cohort, told)
    seen = set()
    for seed in range(8):
        batch = batch_of(network, lessons, STILL, seed)
        asked = [index for index, _ in batch.phrases]
        for index, there, drawn in zip(asked, batch.there.tolist(), batch.drawn.tolist(), strict=True):
            assert (there, drawn) == {0: (True, False), 1: (True, True), 2: (False, True)}[index]
        seen |= set(asked)
        assert {index for index, _ in batch.told} == {1, 2}
    assert seen == {0, 1, 2}


def test_the_same_stream_gives_the_same_batch(quarters):
    network, lessons = quarters
    one, same, other = (batch_of(network, lessons, MOVED, seed) for seed in (1, 1, 2))
    assert torch.equal(one.values["image"], same.values["image"])
    assert one.phrases == same.phrases
    assert one.phrases != other.phrases


@pytest.mark.parametrize("world", [2, 3, 40])
def test_shares_are_the_whole(quarters, world):
    network, lessons = quarters
    whole = batch_of(network, lessons, MOVED)
    shares = [whole.share(rank, world) for rank in range(world)]
    assert sum(share.count for share in shares) == whole.count
    assert sorted(phrase for share in shares for phrase in share.phrases) == sorted(whole.phrases)
    for rank, share in enumerate(shares):
        assert len(share.values["image"]) == len(share.regions) == share.count
        for place, row in enumerate(share.rows["image"].tolist()):
            picture = rank + world * row
            assert torch.equal(share.values["image"][place], whole.values["image"][picture])
            own, all_ = share.which == row, whole.which == picture
            assert torch.equal(share.target[own], whole.target[all_])
            assert torch.equal(share.right[share.told_which == row], whole.right[whole.told_which == picture])
    assert whole.share(0, 1) is whole


# --------------------------------------------------------------------------------------------- slice by slice


@pytest.mark.parametrize("seed", range(3))
def test_half_of_the_slices_show_something_and_have_their_own_targets(seed):
    cohort, phrases = make_volumes(count=6, names=("flair", "pre"))
    network, lessons = taught(cohort, phrases, by_slice=True)
    recipe = MaskRecipe(flips=(), slices=4, pairs=1)
    batch = batch_of(network, lessons, recipe, seed)
    rows = lessons.rows
    own = next(iter(lessons.supply.batches([(rows, lessons.supply.present[rows])])))
    values, _, _ = network.inputs_of(own)
    assert batch.count == 4 * len(rows)
    showing = torch.zeros(batch.count, dtype=torch.bool)
    for picture in range(batch.count):
        record = picture // 4
        slices = values["flair"][record * 6 : record * 6 + 6]
        (number,) = [k for k in range(6) if torch.equal(slices[k], batch.values["flair"][picture])]
        assert torch.equal(batch.values["pre"][picture], values["pre"][record * 6 + number])
        showing[picture] = number in (2, 3)
        for place in (batch.which == picture).nonzero().flatten().tolist():
            phrase = lessons.phrases[batch.phrases[place][0]]
            expected = np.zeros((16, 16)) if phrase.empty else phrase.mask[number]
            np.testing.assert_array_equal(batch.target[place].numpy(), expected)
            assert batch.there[place] == expected.any()
        region = next(p.mask for p in lessons.phrases if p.record == f"r{record}" and p.drawn)[number]
        assert torch.equal(batch.regions[picture].amax(0), torch.from_numpy(region).float())
    assert showing.view(-1, 4).sum(1).tolist() == [2] * len(rows)
    assert batch.right.any(1).sum() == showing.sum()


def test_more_slices_than_there_are_are_all_taken_once():
    cohort, phrases = make_volumes(count=3)
    network, lessons = taught(cohort, phrases, by_slice=True)
    batch = batch_of(network, lessons, MaskRecipe(flips=(), slices=50))
    assert batch.count == 6 * len(lessons.rows)
    assert len(batch.values["flair"].flatten(1).unique(dim=0)) == batch.count


def test_a_sequence_that_is_missing_leaves_the_others_in_place():
    cohort, phrases = make_volumes(count=4, names=("flair", "pre"))
    network, lessons = taught(cohort, phrases, by_slice=True)
    rows = lessons.rows
    present = lessons.supply.present[rows].clone()
    present[0, 1] = False
    own = next(iter(lessons.supply.batches([(rows, present)])))
    batch = make_batch(network, lessons, own, rows, MaskRecipe(slices=2), stream(0, "test"))
    assert batch.rows["flair"].tolist() == list(range(2 * len(rows)))
    assert batch.rows["pre"].tolist() == list(range(2, 2 * len(rows)))
    share = batch.share(1, 2)
    assert share.rows["pre"].tolist() == list(range(1, len(rows)))
    assert len(share.values["pre"]) == len(rows) - 1
