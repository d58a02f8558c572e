"""A mask for each phrase on the picture's own grid, or "not there"; what is missing is said, and nobody's
answer depends on anybody else."""

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from small_segmenter import (
    PICTURE,
    SEQUENCES,
    TEXTS,
    VOLUMES,
    assert_same,
    make_segmenter,
    picture,
    record_of,
    volume_record,
)

import mmmed
from mmmed.checks import MissingFile, UnreadableFile
from mmmed.data.masks import unfit
from mmmed.data.phrases import phrases_of
from mmmed.models import segment_records
from mmmed.models.referring_segmenter import ReferringSegmenter
from mmmed.types import Image, Mask, Number, Record, Report, Schema, Sentence, Tabular, Text, Volume

LEFT, RIGHT, RING, ZONE = TEXTS


@pytest.fixture(scope="module")
def segmenter():
    return make_segmenter()


@pytest.fixture(scope="module")
def volumes():
    return make_segmenter(VOLUMES)


@pytest.fixture(scope="module")
def slices():
    return make_segmenter(VOLUMES, by_slice=True)


def calls(monkeypatch, module):
    """How many pictures each call of a module saw."""
    seen, forward = [], module.forward
    monkeypatch.setattr(module, "forward", lambda *given: seen.append(given[-1]) or forward(*given))
    return seen


# ---------------------------------------------------------------------------------------------------- phrases


def test_phrases_share_one_look_at_the_picture(segmenter, monkeypatch):
    seen = calls(monkeypatch, segmenter.network.pyramid)
    segmenter.segment(record_of(), [*TEXTS, "the spot", "a ring"])
    assert seen == [1]
    list(segmenter.iterate([record_of(k) for k in range(5)], [TEXTS] * 5, batch=4))
    assert seen == [1, 4, 1]


def test_a_text_gives_a_mask_and_several_a_list_in_their_order(segmenter):
    masks = segmenter.segment(record_of(), list(TEXTS))
    assert [mask.phrase for mask in masks] == list(TEXTS)
    for text, mask in zip(TEXTS, masks, strict=True):
        alone = segmenter.segment(record_of(), text)
        assert isinstance(alone, Mask)
        assert_same(alone, mask)
    assert not np.allclose(masks[0].probability, masks[2].probability, atol=1e-3), "the words are read"
    assert segmenter.segment(record_of(), []) == []


def test_many_phrases_are_drawn_some_at_a_time(segmenter, monkeypatch):
    together = segmenter.segment(record_of(), list(TEXTS))
    monkeypatch.setattr(segment_records, "PIXELS", 16 * 24)  # room for one
    for one, other in zip(segmenter.segment(record_of(), list(TEXTS)), together, strict=True):
        assert_same(one, other)


def test_a_word_that_was_never_seen_is_noted(segmenter):
    known, strange = segmenter.segment(record_of(), [LEFT, "the zebra on the left"], threshold=1.0)
    assert known.notes == ()
    assert strange.notes == ('the word "zebra" was never seen in training',)


@pytest.mark.parametrize("phrase", ["", "  ", "?!", 3, None])
def test_a_phrase_without_words_is_refused(segmenter, phrase):
    for asked in ([phrase], [LEFT, phrase]):
        with pytest.raises(ValueError, match="should say what to look for"):
            segmenter.segment(record_of(), asked)


# ----------------------------------------------------------------------------------------------- independence


def test_a_record_is_judged_alone(segmenter):
    records = [record_of(k, (10 + k, 12)) for k in range(5)]
    records[3] = records[3].without("image")
    asked = [TEXTS[:2], TEXTS, [], [LEFT], [ZONE, "a much longer phrase about the small ring"]]
    for batch in (1, 2, 16):
        found = list(segmenter.iterate(records, asked, batch))
        assert [[mask.phrase for mask in masks] for masks in found] == [list(texts) for texts in asked]
        for record, texts, masks in zip(records, asked, found, strict=True):
            for mask, alone in zip(masks, segmenter.segment(record, list(texts)), strict=True):
                assert mask.id == record.id
                if record.inputs:
                    assert_same(mask, alone)


def test_only_one_batch_of_records_is_held(segmenter):
    taken = []

    def records():
        for k in range(100):
            taken.append(k)
            yield record_of(k)

    answers = segmenter.iterate(records(), ([LEFT] for _ in range(100)), batch=3)
    next(answers)
    assert len(taken) <= 4


def test_there_is_one_list_of_phrases_for_each_record(segmenter):
    records = [record_of(0), record_of(1)]
    with pytest.raises(ValueError, match="got fewer"):
        list(segmenter.iterate(records, [[LEFT]]))
    with pytest.raises(ValueError, match="more lists than records"):
        list(segmenter.iterate(records, [[LEFT]] * 3))
    with pytest.raises(ValueError, match="one list per record"):
        list(segmenter.iterate(records, [LEFT, RIGHT]))
    with pytest.raises(ValueError, match="Use segment for one"):
        segmenter.iterate(records[0], [[LEFT]])
    with pytest.raises(ValueError, match="batch should be"):
        segmenter.iterate(records, [[LEFT]] * 2, batch=0)


def test_asking_leaves_modes_gradients_and_chance_alone(segmenter):
    network, state = segmenter.network, torch.get_rng_state()
    network.query.train()
    once = segmenter.segment(record_of(), LEFT)
    assert network.query.training
    assert not network.decoder.training
    network.eval()
    assert_same(once, segmenter.segment(record_of(), LEFT), exact=True)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(torch.get_rng_state(), state)


# ------------------------------------------------------------------------------------------------- own grid


@pytest.mark.parametrize("shape", [(16, 24), (50, 31), (7, 90), (1, 5), (33, 33, 3)])
def test_a_mask_lies_on_the_grid_of_its_picture(segmenter, shape):
    mask = segmenter.segment(record_of(1, shape), RING)
    assert mask.pixels.shape == mask.probability.shape == shape[:2]
    assert mask.picture.shape[:2] == shape[:2]
    assert mask.overlay().size == shape[1::-1]


def test_the_mask_is_what_is_likelier_than_not_brought_back_to_the_picture(segmenter):
    network, record = segmenter.network, record_of(2, (40, 30))
    mask = segmenter.segment(record, RING)
    batch = segment_records.Collator(PICTURE)([record])
    with torch.inference_mode():
        seen = network.see(*network.inputs_of(batch))
        words = network.ask(**segmenter.reader.read([segment_records.Phrase("r2", RING)]))
        drawing = network.draw(seen, words, torch.tensor([0]), (16, 24))
    expected = unfit(drawing.logits[0, 0].sigmoid().numpy(), (40, 30))
    np.testing.assert_allclose(mask.probability, expected, atol=1e-5)
    np.testing.assert_array_equal(mask.pixels, mask.probability > 0.5)
    assert mask.presence == pytest.approx(float(drawing.presence[0].sigmoid()), abs=1e-6)


def test_the_picture_under_the_mask_is_the_picture(segmenter):
    assert np.array_equal(segmenter.segment(record_of(), LEFT).picture, record_of().inputs["image"])
    colour = make_segmenter(Schema({"image": Image("picture", size=(16, 16), channels=3)}))
    record = record_of(0, (9, 8, 3))
    assert np.array_equal(colour.segment(record, LEFT).picture, record.inputs["image"])


def test_below_the_threshold_there_is_no_such_thing(segmenter):
    mask = segmenter.segment(record_of(), RING)
    assert mask.present
    assert 0 < mask.presence < 1
    for threshold, there in ((mask.presence - 1e-4, True), (mask.presence + 1e-4, False)):
        again = segmenter.segment(record_of(), RING, threshold=threshold)
        assert again.present is there
        assert again.pixels.any() == there
        np.testing.assert_array_equal(again.probability, mask.probability)
    assert make_segmenter(threshold=1.0).segment(record_of(), RING).present is False
    (found,) = segmenter.iterate([record_of()], [[RING]], threshold=1.0)
    assert not found[0].present


def test_something_that_is_found_but_not_drawn_is_noted(segmenter, monkeypatch):
    draw = segmenter.network.draw

    def faint(*given):
        drawing = draw(*given)
        return type(drawing)(drawing.logits * 0 - 1, (), drawing.presence, drawing.match)

    monkeypatch.setattr(segmenter.network, "draw", faint)
    mask = segmenter.segment(record_of(), RING)
    assert not mask.present
    assert "nothing is drawn" in mask.notes[0]
    assert segmenter.segment(record_of(), RING, threshold=1.0).notes == ()


def test_sizes_are_told_where_the_spacing_is_known(segmenter):
    mask = segmenter.segment(record_of(), RING)
    assert mask.size is None
    known = segmenter.segment(record_of(), RING, spacing=(0.5, 0.25))
    assert known.size == pytest.approx(known.pixels.sum() * 0.125)
    for wrong, message in (((0.5,), "spacing"), ((1, 1, 1), "2 lengths"), ((0, 1), "spacing")):
        with pytest.raises(ValueError, match=message):
            segmenter.segment(record_of(), RING, spacing=wrong)


def test_the_spacing_of_a_file_is_read_and_an_argument_goes_before_it(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(picture((8, 9, 5)).astype(np.int16), np.diag([0.5, 0.5, 3.0, 1.0]))
    nibabel.save(image, tmp_path / "flair.nii.gz")
    alone = make_segmenter(Schema({"flair": Volume("flair", size=(4, 16, 16))}))
    mask = alone.segment(tmp_path / "flair.nii.gz", RING)
    assert (mask.id, mask.pixels.shape, mask.spacing) == ("flair", (5, 9, 8), (3.0, 0.5, 0.5))
    assert alone.segment(tmp_path / "flair.nii.gz", RING, spacing=(1, 1, 1)).spacing == (1.0, 1.0, 1.0)


# ------------------------------------------------------------------------------------------ what is missing


def test_without_its_picture_a_record_has_nothing_to_segment(segmenter):
    mask = segmenter.segment(record_of().without("image"), LEFT, threshold=0.0)
    assert (mask.present, mask.presence, mask.pixels.shape) == (False, 0.0, (16, 24))
    assert (mask.used, mask.missing) == ((), ("image",))
    assert mask.notes == ("no image: nothing to segment",)
    assert mask.picture is None
    assert [m.phrase for m in segmenter.segment({}, [LEFT, RIGHT])] == [LEFT, RIGHT]


def test_a_file_that_cannot_be_read_counts_as_missing_unless_it_was_named_itself(segmenter, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for name, error in (("broken.png", UnreadableFile), ("gone.png", MissingFile)):
        with pytest.warns(UserWarning, match="counts as not recorded"):
            mask = segmenter.segment(Record("a", {"image": name}, folder=str(tmp_path)), LEFT)
        assert mask.missing == ("image",)
        assert "counts as not recorded" in mask.notes[0]
        with pytest.raises(error):
            segmenter.segment(tmp_path / name, LEFT)


def test_any_of_several_sequences_is_enough_and_each_says_what_it_used(volumes):
    record = volume_record()
    whole = volumes.segment(record, LEFT)
    assert (whole.used, whole.missing) == (SEQUENCES, ())
    part = volumes.segment(record.only("pre"), LEFT)
    assert (part.used, part.missing) == (("pre",), ("flair", "post"))
    assert np.array_equal(part.picture, record.inputs["pre"])
    assert not np.allclose(whole.probability, part.probability, atol=1e-4)
    assert volumes.segment(record.only(), LEFT).notes == (
        "no flair and no pre and no post: nothing to segment",
    )


def test_a_hidden_copy_counts_as_absent(volumes):
    record = volume_record()
    copied = record.with_input("post", record.inputs["flair"])
    mask = volumes.segment(copied, LEFT)
    assert (mask.used, mask.missing) == (("flair", "pre"), ("post",))
    assert mask.notes == ("post is a copy of flair: it counts as not recorded",)
    bare = volumes.segment(record.without("post"), LEFT)
    np.testing.assert_array_equal(mask.probability, bare.probability)
    ((first,), (second,)) = volumes.iterate([copied, record], [[LEFT]] * 2)
    assert (first.missing, second.missing) == (("post",), ())


def test_what_has_one_value_everywhere_counts_as_absent_and_keeps_its_grid(segmenter, volumes):
    record = volume_record().with_input("pre", np.zeros((4, 16, 16), np.uint8))
    assert volumes.segment(record, LEFT).missing == ("pre",)
    flat = segmenter.segment(np.full((9, 30), 200, np.uint8), LEFT, threshold=0.0)
    assert (flat.present, flat.presence, flat.pixels.shape) == (False, 0.0, (9, 30))
    assert (flat.used, flat.missing) == ((), ("image",))
    assert flat.notes == (
        "image has one value everywhere: it counts as not recorded",
        "no image: nothing to segment",
    )
    assert (flat.picture == 200).all()
    dark = volumes.segment(
        volume_record(shape=(5, 9, 8)).only("pre").with_input("pre", np.zeros((5, 9, 8))), LEFT
    )
    assert (dark.present, dark.pixels.shape) == (False, (5, 9, 8))
    mixed = segmenter.iterate([np.zeros((9, 30), np.uint8), record_of()], [[LEFT]] * 2)
    assert [mask.used for (mask,) in mixed] == [(), ("image",)]


@pytest.mark.parametrize("phrases", [None, 5, {LEFT: 1}, b"the spot"])
def test_what_is_no_phrase_is_refused_in_a_sentence(segmenter, phrases):
    with pytest.raises(ValueError, match="phrases should be a text"):
        segmenter.segment(record_of(), phrases)
    with pytest.raises(ValueError, match="phrases should be a text"):
        list(segmenter.iterate([record_of()], [phrases]))
    with pytest.raises(ValueError, match="report should be a Report, its text, or a list of sentences"):
        segmenter.point(record_of(), phrases)


def test_sequences_with_different_grids_are_answered_on_that_of_the_first(volumes):
    record = volume_record().with_input("pre", picture((6, 10, 10), 9))
    mask = volumes.segment(record, LEFT)
    assert mask.pixels.shape == (4, 16, 16)
    assert mask.notes == ("pre has another grid; the mask is on that of flair",)


def test_of_several_views_the_first_is_drawn_on(segmenter):
    views = Record("a", {"image": [picture((20, 10)), picture((5, 5), 3)]})
    mask = segmenter.segment(views, RING)
    assert mask.notes == ("image: the first of 2 views is drawn on",)
    assert np.array_equal(mask.picture, picture((20, 10)))
    np.testing.assert_array_equal(
        mask.probability, segmenter.segment(views.inputs["image"][0], RING).probability
    )


def test_other_modalities_of_a_record_are_no_trouble(segmenter):
    record = record_of().with_input("labs", {"crp": 3}).with_input("note", "cough")
    assert_same(segmenter.segment(record, LEFT), segmenter.segment(record_of(), LEFT), exact=True)


# --------------------------------------------------------------------------------------------------- volumes


@pytest.mark.parametrize("shape", [(4, 16, 16), (1, 20, 9), (7, 5, 30)])
def test_volumes_of_any_size_are_drawn_on(volumes, slices, shape):
    for one in (volumes, slices):
        mask = one.segment(volume_record(1, shape), RING)
        assert mask.pixels.shape == mask.picture.shape == shape
        mask.overlay()


def test_slice_by_slice_each_slice_is_a_picture_of_its_own(slices):
    record = volume_record(3, names=("flair",))
    whole = slices.segment(record, RING)
    drawn = [
        slices.segment(Record("s", {"flair": np.stack([one] * 4)}), RING) for one in record.inputs["flair"]
    ]
    # Grey values are standardised over the volume, so a slice alone is judged by its own scale.
    assert {mask.pixels.shape for mask in drawn} == {(4, 16, 16)}
    for mask in drawn:
        assert np.allclose(mask.probability, mask.probability[:1], atol=1e-5), "equal slices, equal answers"
    assert whole.probability.std(axis=0).max() > 1e-4


def test_slices_below_the_threshold_are_empty_and_the_likeliest_slice_speaks_for_the_volume(slices):
    record = volume_record(4)
    batch = segment_records.Collator(VOLUMES)([record])
    network = slices.network
    with torch.inference_mode():
        seen = network.see(*network.inputs_of(batch))
        words = network.ask(**slices.reader.read([segment_records.Phrase("r4", RING)]))
        drawing = network.draw(seen, words[torch.zeros(4, dtype=torch.long)], torch.arange(4), (16, 16))
    presence = drawing.presence.sigmoid().numpy()
    mask = slices.segment(record, RING)
    assert mask.presence == pytest.approx(presence.max(), abs=1e-5)
    np.testing.assert_allclose(mask.probability, drawing.logits[:, 0].sigmoid().numpy(), atol=1e-5)
    between = float(np.sort(presence)[1:3].mean())
    halved = slices.segment(record, RING, threshold=between)
    for number, share in enumerate(presence):
        expected = mask.pixels[number] if share >= between else np.zeros((16, 16), bool)
        np.testing.assert_array_equal(halved.pixels[number], expected)
    np.testing.assert_array_equal(halved.probability, mask.probability)


def test_slices_of_several_phrases_are_not_mixed_up(slices):
    masks = slices.segment(volume_record(5), list(TEXTS))
    for text, mask in zip(TEXTS, masks, strict=True):
        assert_same(mask, slices.segment(volume_record(5), text))


def test_slices_of_a_record_do_not_depend_on_the_batch(slices):
    records = [volume_record(k) for k in range(3)]
    for record, (mask,) in zip(records, slices.iterate(records, [[LEFT]] * 3), strict=True):
        assert_same(mask, slices.segment(record, LEFT))


# ------------------------------------------------------------------------------------------ kinds of records


def test_a_picture_may_come_in_any_form(segmenter, tmp_path):
    values = picture((20, 14))
    Picture.fromarray(values).save(tmp_path / "case.7.png")
    content = (tmp_path / "case.7.png").read_bytes()
    file = segmenter.segment(tmp_path / "case.7.png", RING)
    assert file.id == "case"
    for form in (
        str(tmp_path / "case.7.png"),
        content,
        {"bytes": content, "path": None},
        Picture.open(tmp_path / "case.7.png"),
    ):
        assert_same(segmenter.segment(form, RING), file, exact=True)
    row = Record.from_row({"picture": "case.7.png", "age": 3}, PICTURE, folder=str(tmp_path))
    assert_same(segmenter.segment(row, RING), file, exact=True)
    ((mask,),) = segmenter.iterate([tmp_path / "case.7.png"], [[RING]])
    assert_same(mask, file, exact=True)
    # An array is resized in floats, a file in its 8 bits.
    array = segmenter.segment(values, RING)
    np.testing.assert_allclose(array.probability, file.probability, atol=0.05)
    assert array.id == "picture"
    for form, name in ((Record("a", {"image": values}), "a"), ({"picture": values, "age": 3}, "record")):
        mask = segmenter.segment(form, RING)
        assert mask.id == name
        assert_same(mask, array, exact=True)


@pytest.mark.parametrize("record", [None, 3, [picture()], object()])
def test_what_is_no_record_is_refused(segmenter, record):
    with pytest.raises(ValueError, match="A record should be a Record"):
        segmenter.segment(record, LEFT)


def test_a_picture_alone_does_not_say_which_of_several_sequences_it_is(volumes):
    with pytest.raises(ValueError, match="say which one it is"):
        volumes.segment(picture((4, 16, 16)), LEFT)


# ------------------------------------------------------------------------------------------ show me where


def test_every_sentence_of_a_report_is_shown(segmenter):
    told = ["A large ring.", "No effusion.", "The spot is on the left."]
    report = Report("r0", tuple(Sentence(text) for text in told))
    masks = segmenter.point(record_of(), report)
    assert [mask.phrase for mask in masks] == told
    for other in (" ".join(told), told):
        for one, mask in zip(segmenter.point(record_of(), other), masks, strict=True):
            assert_same(one, mask, exact=True)
    assert segmenter.point(record_of(), "A large ring.", spacing=(1, 1))[0].size is not None


def test_a_report_without_a_word_shows_nothing(segmenter):
    for empty in (Report("r0", (), abstained=True), "", " - ", []):
        assert segmenter.point(record_of(), empty) == []


# -------------------------------------------------------------------------------------------------- making


@pytest.fixture(scope="module")
def cohort():
    return mmmed.load_cohort("synthetic", patients=30, seed=0, size=32)


def test_a_cohort_tells_picture_and_words(cohort):
    made = mmmed.ReferringSegmenter.from_cohort(cohort)
    assert made.modalities == tuple(made.schema.modalities) == ("image",)
    assert made.schema.modalities["image"] == cohort.schema.modalities["image"]
    assert not made.schema.tasks
    assert "draws on image; reads words" in repr(made)
    for phrase in phrases_of(cohort["train"]):
        assert made.reader.unknown(phrase.text) == ()
    records = [record for record in cohort if "image" in record.inputs][:2]
    assert [len(masks) for masks in made.iterate(records, [[LEFT], [LEFT, RIGHT]])] == [1, 2]


def test_words_of_test_patients_are_not_learned(cohort):
    own = phrases_of(cohort)
    test = set(cohort["test"].ids.tolist())
    other = [type(p)(p.record, "a xylophone xylophone" if p.record in test else p.text, p.mask) for p in own]
    made = ReferringSegmenter.from_cohort(cohort, other)
    assert made.reader.unknown("xylophone") == ("xylophone",)


def test_the_same_seed_gives_the_same_segmenter(cohort):
    one, two, three = (ReferringSegmenter.from_cohort(cohort, seed=seed) for seed in (1, 1, 2))
    record = next(record for record in cohort if "image" in record.inputs)
    first, second, third = (s.segment(record, LEFT) for s in (one, two, three))
    assert_same(first, second, exact=True)
    assert not np.array_equal(first.probability, third.probability)


def test_what_is_drawn_on_has_to_be_named_where_the_schema_does_not_tell(cohort):
    from mmmed.models.referring_segmenter import _pictures

    image, flair = Image("a", size=(8, 8)), Volume("f", size=(4, 8, 8))
    assert _pictures(Schema({"t": Text("x"), "image": image, "flair": flair}), None) == ("image",)
    assert _pictures(Schema({"flair": flair, "t": Text("x"), "pre": flair}), None) == ("flair", "pre")
    assert _pictures(Schema({"a": image, "b": image}), "b") == ("b",)
    with pytest.raises(ValueError, match="Which picture"):
        _pictures(Schema({"a": image, "b": image}), None)
    with pytest.raises(ValueError, match="neither"):
        _pictures(Schema({"t": Tabular((Number("x"),))}), None)
    with pytest.raises(ValueError, match='Did you mean "image"'):
        ReferringSegmenter.from_cohort(cohort, modalities="imag")
    with pytest.raises(ValueError, match="one Image, or Volumes"):
        ReferringSegmenter.from_cohort(cohort, modalities="table")
    with pytest.raises(ValueError, match="has no slices"):
        ReferringSegmenter.from_cohort(cohort, by_slice=True)


def test_a_segmenter_that_contradicts_itself_is_refused(segmenter):
    parts = segmenter.network, PICTURE, segmenter.reader
    with pytest.raises(ValueError, match="threshold should be"):
        ReferringSegmenter(*parts, threshold=1.5)
    with pytest.raises(ValueError, match="modalities cannot be"):
        ReferringSegmenter(*parts, ("scan",))
    with pytest.raises(ValueError, match="threshold should be"):
        segmenter.segment(record_of(), LEFT, threshold=2)


def test_a_weak_segmenter_draws_what_speaks_for_the_thing():
    weak = make_segmenter(weak=True)
    mask = weak.segment(record_of(), RING)
    assert weak.weak
    assert "weak" in repr(weak)
    # Presence is the highest pixel, so that the mask has a pixel exactly where there is something.
    assert mask.present == (mask.presence > 0.5)


def test_a_language_model_may_read_the_phrases():
    from small_reporter import make_cohort, make_reporter
    from small_reporter import shaken as disturbed

    cohort = make_cohort()
    reporter = disturbed(make_reporter(cohort))
    made = ReferringSegmenter.from_cohort(cohort, query=reporter, dim=16, width=8)
    record = next(r for r in cohort if {"image", "table", "text"} <= set(r.inputs))
    masks = made.segment(record, [LEFT, RIGHT])
    assert masks[0].used == ("image", "table", "text")
    assert not np.array_equal(masks[0].probability, masks[1].probability)
    less = made.segment(record.without("text"), LEFT)
    assert less.missing == ("text",)
    assert not np.array_equal(less.probability, masks[0].probability), "the note speaks too"
    ((one,), (two, three)) = made.iterate([record.without("text"), record], [[LEFT], [LEFT, RIGHT]])
    for mask, alone in ((one, less), (two, masks[0]), (three, masks[1])):
        assert_same(mask, alone)
