"""A segmenter is scored by patient, for what is there, for what is not, and for listening to the words."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import weakref

import numpy as np
import pytest
from small_masks import GRID, Rule, deaf, nothing, obeys, phrases_of, records_of, square

from mmmed.data.cohort import Cohort
from mmmed.evaluation import mask_surfaces, masks
from mmmed.evaluation.mask_surfaces import has_monai
from mmmed.evaluation.masks import compare_masks, evaluate_masks
from mmmed.types import Image, Schema
from mmmed.types.mask import Mask
from mmmed.types.phrase import Phrase

RECORDS = records_of()
PHRASES = phrases_of(RECORDS)
FAST = {"draws": 30}
needs_monai = pytest.mark.skipif(not has_monai(), reason="needs monai")


@pytest.fixture(scope="module", autouse=True)
def loaded():
    """MONAI takes seconds to import; no single test should pay for it."""
    if has_monai():
        mask_surfaces._monai()


def value(scores, name):
    return scores.overall[name].value


def noisy(seed=0):
    """Right words, and a share of wrong pixels that differs between patients."""

    def rule(record, text):
        rng = np.random.default_rng([seed, int(record.group[1:])])
        return obeys(record, text) & (rng.random(GRID) < rng.uniform(0.2, 1)) | np.eye(*GRID, dtype=bool)

    return Rule(rule)


def test_a_perfect_segmenter_gets_everything_right():
    scores = evaluate_masks(Rule(obeys), RECORDS, PHRASES, **FAST)
    names = ["dice", "miou", "oiou", "giou", "precision_90", "kept", "empty_accuracy", "auroc"]
    assert [value(scores, name) for name in names] == [1] * 8
    (side,) = scores.relations()
    assert (side["swapped"], side["phrases"], side["patients"]) == ("side", 12, 6)
    assert (side["relation_accuracy"].value, side["moved"].value, side["dice_after_swap"].value) == (1, 1, 0)
    assert side["new_mask_empty"].value == 0
    counts = [scores.overall[name] for name in ("phrases", "present", "empty", "patients")]
    assert counts == [18, 12, 6, 6]


def test_who_always_says_not_there_gets_the_empty_targets_and_nothing_else():
    scores = evaluate_masks(Rule(nothing), RECORDS, PHRASES, **FAST)
    assert [value(scores, name) for name in ("dice", "oiou", "kept", "empty_accuracy")] == [0, 0, 0, 1]
    assert value(scores, "giou") == pytest.approx(6 / 18)
    (side,) = scores.relations()
    assert (side["moved"].value, side["new_mask_empty"].value, side["relation_accuracy"].value) == (1, 1, 0)


def test_who_never_reads_the_words_gets_no_relation_right():
    scores = evaluate_masks(Rule(deaf), RECORDS, PHRASES, **FAST)
    (side,) = scores.relations()
    assert side["relation_accuracy"].value == 0
    assert side["moved"].value == 0.5  # the right squares were never met, so nothing had to move
    assert side["dice_as_asked"].value == side["dice_after_swap"].value == 0.5
    assert value(scores, "empty_accuracy") == 0
    assert value(scores, "auroc") == 0.5


@pytest.mark.parametrize("kind", ["side", "zone", "size"])
def test_each_kind_of_word_is_swapped_and_listed(kind):
    texts = {"side": "the left square", "zone": "the upper square", "size": "the small square"}
    phrases = [Phrase(r.id, texts[kind], mask=square("left")) for r in RECORDS]
    exact = Rule(lambda r, text: square("left" if text in texts.values() else "right"))
    (row,) = evaluate_masks(exact, RECORDS, phrases, **FAST).relations()
    assert (row["swapped"], row["relation_accuracy"].value) == (kind, 1)
    every = [Phrase(r.id, text, mask=square("left")) for r in RECORDS for text in texts.values()]
    rows = evaluate_masks(exact, RECORDS, every, **FAST).relations()
    assert [row["swapped"] for row in rows] == ["side", "zone", "size", "all"]


def test_swaps_can_be_left_out_and_empty_targets_have_none():
    asked = []

    class Listening(Rule):
        def iterate(self, records, phrases):
            asked.extend(phrases)
            yield from super().iterate(records, phrases)

    scores = evaluate_masks(Listening(obeys), RECORDS, PHRASES, swaps=False, **FAST)
    assert scores.swaps == ()
    assert asked == [["the left square", "the right square", "the ring"]] * 6
    asked.clear()
    empty = [Phrase("r0", "the left ring")]
    assert evaluate_masks(Listening(obeys), RECORDS, empty, **FAST).swaps == ()
    assert asked == [["the left ring"]]


def test_every_interval_holds_its_value_and_one_patient_has_none():
    scores = evaluate_masks(noisy(), RECORDS, PHRASES, draws=200)
    for name in ("dice", "miou", "oiou", "giou", "precision_50"):
        found = scores.overall[name]
        assert found.low <= found.value <= found.high
    alone = evaluate_masks(noisy(), RECORDS[:1], PHRASES, **FAST)
    assert math.isnan(alone.overall["dice"].low)
    assert "15 phrases are about other records" in str(alone)


def test_phrases_of_one_patient_do_not_count_as_independent():
    records = records_of(24, patients=6)
    phrases = phrases_of(records, empty=False)
    by_patient = evaluate_masks(noisy(), records, phrases, draws=300).overall["dice"]
    free = [dataclasses.replace(phrase, group=str(k)) for k, phrase in enumerate(phrases)]
    by_phrase = evaluate_masks(noisy(), records, free, draws=300).overall["dice"]
    assert by_patient.value == by_phrase.value
    assert (by_patient.groups, by_phrase.groups) == (6, 48)  # the group of a phrase outranks its record's
    assert by_patient.high - by_patient.low > 1.5 * (by_phrase.high - by_phrase.low)


def test_present_or_empty_targets_alone_are_enough():
    only = evaluate_masks(Rule(obeys), RECORDS, phrases_of(RECORDS, empty=False), **FAST)
    assert not {"empty_accuracy", "auroc"} & set(only.table().columns)
    absent = evaluate_masks(Rule(obeys), RECORDS, [p for p in PHRASES if p.empty], **FAST)
    assert not {"dice", "hd95", "auroc"} & set(absent.table().columns)
    assert value(absent, "empty_accuracy") == 1
    assert str(absent)
    assert absent._repr_html_()
    assert absent.unit == ""


def test_without_a_phrase_there_is_nothing_to_score():
    with pytest.raises(ValueError, match="no phrase about any of these 6 records"):
        evaluate_masks(Rule(obeys), RECORDS, [])
    with pytest.raises(ValueError, match="got 1 phrases, about elsewhere"):
        evaluate_masks(Rule(obeys), RECORDS, [Phrase("elsewhere", "the lesion")])
    with pytest.raises(ValueError, match="Two records have the id 'r0'"):
        evaluate_masks(Rule(obeys), [*RECORDS, RECORDS[0]], PHRASES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lists: ([m[:-1] for m in lists]), "2 masks for the 3 phrases about record 'r0'"),
        (lambda lists: lists[:-1], "answered 5 records of 6"),
        (lambda lists: [*lists, []], "more than the 6 records"),
    ],
)
def test_unanswered_phrases_are_an_error(change, message):
    class Sloppy(Rule):
        def iterate(self, records, phrases):
            yield from change(list(super().iterate(records, phrases)))

    with pytest.raises(ValueError, match=message):
        evaluate_masks(Sloppy(obeys), RECORDS, PHRASES, swaps=False, **FAST)


def test_a_mask_on_another_grid_is_refused_with_both_shapes():
    turned = Rule(lambda record, text: obeys(record, text).T)
    with pytest.raises(ValueError, match=r'Record "r0", "the left square".*\[16, 12\].*\[12, 16\]'):
        evaluate_masks(turned, RECORDS, PHRASES, **FAST)


class Blind(Rule):
    """Has no picture of some records."""

    def __init__(self, rule, *lost, used=()):
        super().__init__(rule)
        self.lost, self.used = lost, used

    def answer(self, record, text):
        if record.id not in self.lost:
            return super().answer(record, text)
        return Mask(record.id, text, np.zeros((4, 4), bool), 0.0, False, missing=("image",), used=self.used)


def test_a_record_without_its_picture_earns_nothing_for_what_is_not_there():
    wrong = Blind(lambda record, text: ~obeys(record, text), "r0")  # never says that something is not there
    scores = evaluate_masks(wrong, RECORDS, PHRASES, **FAST)
    assert (value(scores, "empty_accuracy"), value(scores, "dice")) == (0, 0)
    assert (scores.overall["phrases"], scores.overall["patients"]) == (15, 5)
    assert {swap.record for swap in scores.swaps} == {f"r{k}" for k in range(1, 6)}
    said = "3 phrases had no picture that can be read; they are not scored."
    assert said in str(scores)
    assert said in scores.to_dict()["notes"]
    assert value(evaluate_masks(Blind(obeys, "r0"), RECORDS, PHRASES, **FAST), "dice") == 1


def test_words_are_no_picture_but_one_of_several_pictures_is():
    reads = Blind(obeys, "r0", used=("history",))
    reads.modalities = ("image",)
    assert evaluate_masks(reads, RECORDS, PHRASES, **FAST).unseen == ("r0",) * 3
    reads.modalities = ("image", "other")
    with pytest.raises(ValueError, match="should lie on the grid"):
        evaluate_masks(reads, RECORDS, PHRASES, **FAST)


def test_without_any_picture_there_is_no_score():
    blind = Blind(obeys, *(record.id for record in RECORDS))
    with pytest.raises(ValueError, match="None of 18 phrases can be scored: no picture"):
        evaluate_masks(blind, RECORDS, PHRASES, **FAST)


def test_systems_are_compared_on_the_records_that_all_of_them_saw():
    pair = {"ours": Blind(obeys, "r0"), "floor": Blind(obeys, "r1", "r2")}
    table = compare_masks(pair, RECORDS, PHRASES, "floor", **FAST)
    assert [row["phrases"] for row in table][:2] == [9, 9]
    assert "9 phrases had no picture" in str(table)


def test_a_threshold_is_handed_to_the_segmenter():
    class Asked(Rule):
        def iterate(self, records, phrases, threshold=0.5):
            self.threshold = threshold
            return super().iterate(records, phrases)

    for given, arrived in ((None, 0.5), (0.8, 0.8)):
        asked = Asked(obeys)
        evaluate_masks(asked, RECORDS, PHRASES, threshold=given, **FAST)
        assert asked.threshold == arrived


def test_a_cohort_gives_its_records_lazily_and_no_mask_is_kept():
    cohort = Cohort.from_records(records_of(), schema=Schema({"image": Image(size=(12, 16), column="image")}))
    alive, most = weakref.WeakSet(), []

    class Watched(Rule):
        def answer(self, record, text):
            mask = super().answer(record, text)
            alive.add(mask)
            most.append(len(alive))
            return mask

    phrases = phrases_of(records_of(4))
    scores = evaluate_masks(Watched(obeys), cohort, phrases, **FAST)
    assert len(scores.rows) == len(phrases)
    assert max(most) <= 6  # two records of three masks


@needs_monai
def test_surfaces_are_told_in_mm_where_the_spacing_is_known_and_else_in_pixels():
    shifted = Rule(lambda record, text: np.roll(obeys(record, text), 1, axis=1))
    known = evaluate_masks(shifted, RECORDS, phrases_of(RECORDS, spacing=(1.0, 3.0)), **FAST)
    assert known.unit == "mm"
    assert value(known, "hd95") == pytest.approx(3.0)
    assert "HD95 mm" in str(known)
    plain = evaluate_masks(shifted, RECORDS, PHRASES, tolerance=0.5, **FAST)
    assert plain.unit == "pixels"
    assert value(plain, "hd95") == pytest.approx(1.0)
    assert "these two are in pixels" in str(plain)
    # of the 16 surface pixels of either square, 4 of the upper and 4 of the lower edge coincide
    assert value(plain, "surface_dice") == pytest.approx(0.5)
    both = phrases_of(RECORDS[:3], spacing=(1.0, 3.0)) + phrases_of(RECORDS[3:])
    mixed = evaluate_masks(shifted, RECORDS, both, **FAST)
    assert (mixed.unit, mixed.overall["hd95"].n, mixed.overall["no_surface"]) == ("mm", 6, 6)
    assert value(mixed, "hd95") == pytest.approx(3.0)
    assert "spacing is not known" in str(mixed)


@needs_monai
def test_missed_targets_have_no_surface_and_are_counted():
    half = Rule(lambda r, text: nothing(r, text) if r.id in ("r0", "r1") else obeys(r, text))
    overall = evaluate_masks(half, RECORDS, PHRASES, **FAST).overall
    assert (overall["hd95"].value, overall["hd95"].n, overall["no_surface"]) == (0, 8, 4)
    assert overall["kept"].value == pytest.approx(8 / 12)
    assert evaluate_masks(Rule(nothing), RECORDS, PHRASES, **FAST).overall["hd95"] is None


def test_without_monai_all_but_the_surfaces_is_scored(monkeypatch):
    monkeypatch.setattr(masks, "has_monai", lambda: False)
    scores = evaluate_masks(Rule(obeys), RECORDS, PHRASES, **FAST)
    assert value(scores, "dice") == 1
    assert not {"hd95", "surface_dice"} & set(scores.table().columns)
    assert 'pip install "mmmed[segmentation]"' in str(scores)


def test_rows_and_tables_can_be_read_elsewhere(tmp_path):
    phrases = [dataclasses.replace(p, category=f"<b>{p.text}", acquisition="CT") for p in PHRASES]
    scores = evaluate_masks(Rule(obeys), RECORDS, phrases, **FAST)
    with open(scores.rows.to_csv(tmp_path / "rows.csv"), newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 18
    assert (lines[0]["record"], lines[0]["dice"], lines[2]["dice"]) == ("r0", "1.0", "")
    assert lines[2]["present"] == "False"
    content = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert content["scores"]["dice"]["value"] == 1
    assert content["relations"][0]["swapped"] == "side"
    table = scores.table("category")
    assert len(table) == 3
    assert table[2]["dice"] is None
    assert table[2]["empty_accuracy"].value == 1
    assert "<b>" not in table._repr_html_().replace("<b>Masks", "")
    assert len(scores.table("acquisition")) == 1
    with pytest.raises(ValueError, match="column to group by"):
        scores.table("colour")


def test_systems_are_compared_on_the_same_draws():
    phrases = [p for p in PHRASES if "left" in p.text or p.empty]
    ready = evaluate_masks(noisy(), RECORDS, phrases, **FAST)
    table = compare_masks({"exact": Rule(obeys), "noisy": ready}, RECORDS, phrases, "noisy", **FAST)
    rows = {row["system"]: row for row in table}
    assert list(rows) == ["exact", "noisy", "exact minus noisy"]
    gap = rows["exact minus noisy"]
    assert gap["dice"].value == pytest.approx(rows["exact"]["dice"].value - rows["noisy"]["dice"].value)
    assert gap["dice"].low > 0
    assert gap["empty_accuracy"].value == 1
    assert gap["relation_side"].value == 1 - rows["noisy"]["relation_side"].value
    again = compare_masks({"one": ready, "two": ready}, RECORDS, phrases, "two")
    assert (again[2]["giou"].low, again[2]["giou"].high) == (0, 0)


@needs_monai
def test_surface_scores_in_two_units_are_never_subtracted_or_listed_together():
    class Measuring(Rule):
        def answer(self, record, text):
            return dataclasses.replace(super().answer(record, text), spacing=(2.0, 2.0))

    systems = {"in mm": Measuring(obeys), "in pixels": Rule(obeys)}
    rows = compare_masks(systems, RECORDS, PHRASES, "in mm", **FAST)
    assert [row["hd95"] is None for row in rows] == [False, True, True]
    mixed = phrases_of(RECORDS[:3], spacing=(1.0, 1.0), category="a") + phrases_of(RECORDS[3:], category="b")
    table = evaluate_masks(Rule(obeys), RECORDS, mixed, **FAST).table("category")
    assert [row["hd95"] is None for row in table] == [False, True]


def test_systems_on_other_phrases_cannot_be_compared():
    some = evaluate_masks(noisy(), RECORDS[:3], PHRASES, **FAST)
    with pytest.raises(ValueError, match="'noisy' and 'exact' were not scored on the same phrases"):
        compare_masks({"exact": Rule(obeys), "noisy": some}, RECORDS, PHRASES, "exact", **FAST)
    with pytest.raises(ValueError, match="Unknown segmenter"):
        compare_masks({"exact": Rule(obeys)}, RECORDS, PHRASES, "other")


def test_progress_changes_no_number():
    shown = evaluate_masks(Rule(obeys), RECORDS, PHRASES, progress=True, **FAST)
    assert shown.to_dict() == evaluate_masks(Rule(obeys), RECORDS, PHRASES, **FAST).to_dict()


def test_volumes_are_scored_like_pictures():
    volume = np.zeros((4, 8, 8), bool)
    volume[1:3, 2:5, 2:5] = True
    phrases = [Phrase(r.id, "the lump", mask=volume, spacing=(3.0, 1.0, 1.0)) for r in RECORDS]
    scores = evaluate_masks(Rule(lambda r, t: np.roll(volume, 1, axis=0)), RECORDS, phrases, **FAST)
    assert value(scores, "dice") == pytest.approx(0.5)
    if has_monai():
        assert value(scores, "hd95") == pytest.approx(3.0)
