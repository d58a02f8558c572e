"""Phrases by record: as many that are false as are true, of one form; masks read once and checked aloud."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from squares import SIDE, cohort_of, make_segmenter, make_volumes, paint, square

from mmmed.checks import UnreadableFile
from mmmed.data.cohort import Cohort
from mmmed.data.masks import fit_mask
from mmmed.data.phrases import NoPhrases
from mmmed.training.mask_finetune import lessons_of
from mmmed.types import Phrase, Schema, Volume

LEFT, RIGHT = square((16, 8)), square((16, 24))


def lessons(phrases, count=2, cohort=None):
    generator = np.random.default_rng(0)
    if cohort is None:
        cohort = cohort_of([paint([LEFT, RIGHT], generator) for _ in range(count)], ["train"] * count)
    segmenter = make_segmenter(cohort, [Phrase(name, "a square") for name in ("r0", "r1")][: len(cohort)])
    return lessons_of(segmenter, cohort["train"], phrases, "training")


def texts(taught, indices):
    return [taught.phrases[index].text for index in indices]


TOLD = [
    Phrase("r0", "the square on the left", LEFT),
    Phrase("r0", "the small ring on the right", None),
    Phrase("r0", "the square on the top", None),
    Phrase("r0", "the square above", None),
    Phrase("r0", "the small ring on the left", RIGHT),
    Phrase("r1", "the square on the left", LEFT),
    Phrase("r1", "the square on the right", RIGHT),
]


def test_every_true_phrase_comes_with_a_false_one_of_its_form():
    taught = lessons(TOLD)
    for _ in range(30):
        drawn = taught.draw(0, 3, torch.rand(6).tolist())
        assert [taught.there[index].item() for index in drawn] == [True, False] * (len(drawn) // 2)
        for true, false in zip(drawn[::2], drawn[1::2], strict=True):
            alike = {"square": {"the square on the top"}, "ring": {"the small ring on the right"}}
            kind = "ring" if "ring" in taught.phrases[true].text else "square"
            assert set(texts(taught, [false])) <= alike[kind]


def test_pictures_of_more_regions_are_asked_more_often_up_to_what_the_recipe_says():
    one, two = lessons([TOLD[0], *TOLD[2:4]]), lessons(TOLD)
    counts = [[len(taught.draw(0, pairs, [0.5] * 20)) // 2 for pairs in range(1, 8)] for taught in (one, two)]
    assert counts[0] == [1] * 7
    assert counts[1][0] == 1
    assert sorted(counts[1]) == counts[1]
    assert 1 < counts[1][-1] < 7


def test_phrases_with_equally_many_shared_words_are_all_drawn():
    told = [*TOLD[:1], *(Phrase("r0", f"the square on the {side}", None) for side in ("right", "top"))]
    taught = lessons([*told, Phrase("r0", "a ring", None)])
    drawn = {taught.draw(0, 1, [0.0, number])[1] for number in (0.0, 0.2, 0.49, 0.51, 0.999, 1.0)}
    assert texts(taught, sorted(drawn)) == ["the square on the right", "the square on the top"]


@pytest.mark.parametrize(("kept", "expected"), [((5, 6), [0, 1]), ((1, 2), [0])])
def test_of_one_kind_alone_one_is_drawn_for_each_pair(kept, expected):
    taught = lessons([replace(TOLD[k], record="r0") for k in kept])
    assert taught.draw(0, 2, [0.1, 0.1, 0.9, 0.9]) == expected
    assert taught.draw(1, 2, [0.5] * 4) == []
    assert taught.rows.tolist() == [0], "a record without a phrase is not taught"


def test_targets_are_where_phrases_point_and_equal_masks_are_kept_once():
    taught = lessons([*TOLD, Phrase("r0", "the box on the left", LEFT), Phrase("r0", "a box", True)])
    assert taught.region.tolist() == [0, -1, -1, -1, 1, 2, 3, 0, -1]
    found = taught.target(torch.arange(9))
    for phrase, target in zip(taught.phrases, found, strict=True):
        expected = phrase.mask if phrase.drawn else np.zeros((SIDE, SIDE))
        np.testing.assert_array_equal(target.numpy(), expected)
    assert taught.known.tolist() == [True] * 8 + [False]
    assert taught.there[8]
    nothing = lessons(TOLD[1:3])
    assert nothing.target(torch.tensor([0, 1])).shape == (2, SIDE, SIDE)
    assert not nothing.target(torch.tensor([0, 1])).any()


def test_volumes_have_targets_of_volumes():
    cohort, phrases = make_volumes(count=3)
    segmenter = make_segmenter(cohort, phrases, by_slice=True)
    taught = lessons_of(segmenter, cohort["train"], phrases, "training")
    for phrase, target in zip(taught.phrases, taught.target(torch.arange(len(taught.phrases))), strict=True):
        assert target.shape == (6, 16, 16)
        assert target.flatten(1).any(1).nonzero().flatten().tolist() == ([] if phrase.empty else [2, 3])


# ---------------------------------------------------------------------------------------- what does not fit


def test_a_mask_of_another_size_names_its_record_and_both_sizes():
    with pytest.raises(
        ValueError, match=r'record "r1", mask of "a box".*height 16 width 9.*height 32 width 32'
    ):
        lessons([TOLD[0], Phrase("r1", "a box", np.eye(16, 9, dtype=bool))])


def test_a_mask_of_several_structures_is_refused():
    with pytest.raises(ValueError, match=r'mask of "a box".*two values'):
        lessons([Phrase("r0", "a box", LEFT * 1 + RIGHT * 2)])


def test_files_of_masks_that_are_broken_or_gone_are_refused(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no picture")
    Picture.fromarray(LEFT).save(tmp_path / "whole.png")
    folder = {"folder": str(tmp_path)}
    assert (
        lessons([Phrase("r0", "a box", "whole.png", **folder)]).target(torch.tensor([0])).sum() == LEFT.sum()
    )
    with pytest.raises(UnreadableFile, match=r'record "r0", mask of "a box"'):
        lessons([Phrase("r0", "a box", "broken.png", **folder)])
    with pytest.raises(ValueError, match=r"gone\.png"):
        lessons([Phrase("r0", "a box", "gone.png", **folder)])


def test_phrases_about_nobody_are_refused():
    with pytest.raises(ValueError, match="x7"):
        lessons([Phrase("x7", "a box", None)])


def test_a_black_mask_says_that_there_is_nothing():
    taught = lessons([Phrase("r0", "a box", np.zeros((SIDE, SIDE), bool)), Phrase("r0", "a disc", LEFT)])
    assert taught.there.tolist() == [False, True]
    assert taught.false_of == {0: (0,)}
    assert taught.region.tolist() == [-1, 0]


def test_what_is_smaller_than_a_cell_still_fills_the_cell_it_lies_in():
    dot = np.zeros((8 * SIDE, 8 * SIDE), bool)
    dot[100:102, 40:42] = True
    assert fit_mask(dot, (SIDE, SIDE)).max() < 0.5
    picture = np.zeros((8 * SIDE, 8 * SIDE), np.uint8)
    cohort = cohort_of([picture], ["train"])
    taught = lessons([Phrase("r0", "a dot", dot)], cohort=cohort)
    assert float(taught.target(torch.tensor([0])).amax()) == 1


def test_without_its_picture_a_record_teaches_nothing(tmp_path):
    """Its file is gone, and the cohort says that such records count as missing."""
    import pandas

    cohort = cohort_of([paint([LEFT], np.random.default_rng(0))], ["train"])
    Picture.fromarray(LEFT).save(tmp_path / "here.png")
    frame = pandas.DataFrame({"id": ["r0", "r1"], "part": "train", "picture": ["gone.png", "here.png"]})
    options = {"schema": cohort.schema, "split": "part", "root": tmp_path, "missing_files": "absent"}
    opened = Cohort.from_frame(frame, **options)
    box = [Phrase("r0", "a box", LEFT), Phrase("r1", "a box", LEFT)]
    taught = lessons(box, cohort=opened)
    assert [phrase.record for phrase in taught.phrases] == ["r1"]
    with pytest.raises(NoPhrases, match=r"none about a record of this part whose picture is there"):
        lessons(box[:1], cohort=opened)
    part = opened["train"]
    segmenter = make_segmenter(cohort, box[:1])
    assert lessons_of(segmenter, part, box[:1], "validation") is None


def test_a_mask_lies_on_the_grid_of_the_first_sequence_that_is_there(tmp_path):
    import pandas

    cohort, phrases = make_volumes(count=2, names=("flair", "pre"))
    np.save(tmp_path / "pre.npy", next(iter(cohort)).inputs["pre"])
    frame = pandas.DataFrame({"id": ["r0"], "part": "train", "flair": ["gone.npy"], "pre": ["pre.npy"]})
    options = {"schema": cohort.schema, "split": "part", "root": tmp_path, "missing_files": "absent"}
    opened = Cohort.from_frame(frame, **options)
    taught = lessons_of(make_segmenter(cohort, phrases), opened["train"], phrases[:2], "training")
    assert len(taught.phrases) == 2


def test_a_planted_copy_of_a_sequence_counts_as_not_recorded():
    """As when the segmenter is asked; the copy has another brightness, and another record has both."""
    generator = np.random.default_rng(3)
    schema = Schema({n: Volume(n, size=(6, 16, 16)) for n in ("flair", "pre")}, id="id", group="id")
    mask = np.zeros((6, 16, 16), bool)
    mask[2:4, 4:9, 4:9] = True
    first, second, third = (paint([mask], generator, mask.shape) for _ in range(3))
    cohort = cohort_of([(first, first // 2 + 20), (second, third)], ["train", "train"], schema)
    phrases = [Phrase(name, "a square", mask) for name in ("r0", "r1")]
    for by_slice in (False, True):
        segmenter = make_segmenter(cohort, phrases, by_slice=by_slice)
        supply = lessons_of(segmenter, cohort["train"], phrases, "training").supply
        assert supply.present.tolist() == [[True, False], [True, True]]
    assert cohort.present.all(), "the cohort itself stays as it is"


def test_a_volume_by_slice_needs_to_know_the_slice():
    cohort, phrases = make_volumes(count=3)
    weak = [replace(phrase, mask=None if phrase.empty else True) for phrase in phrases]
    with pytest.raises(ValueError, match=r"in which slice a thing is.*by_slice=False"):
        lessons_of(make_segmenter(cohort, weak, by_slice=True), cohort["train"], weak, "training")
    assert lessons_of(make_segmenter(cohort, weak), cohort["train"], weak, "training").there.any()
