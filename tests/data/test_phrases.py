"""Phrases of a cohort: the user's own, columns of the table, prepared folders; nothing is silently empty."""

import re
import warnings

import numpy as np
import pytest
from PIL import Image as Picture

from mmmed.checks import MissingFile, UnsafePath
from mmmed.data.cohort import Cohort
from mmmed.data.folders import load_cohort
from mmmed.data.phrases import (
    NoPhrases,
    lesions_of,
    mask_of,
    other_places,
    other_sides,
    phrases_of,
    pictured,
    spared_sides,
)
from mmmed.types import Phrase, Volume

ROWS = [
    {"record": "a1", "expression": "the spot on the left", "mask": "masks/a1.png"},
    {"record": "a1", "expression": "the spot on the right", "mask": "absent"},
    {"record": "b1", "expression": "the spot", "mask": ""},
]


def drawn(*box, shape=(12, 12)):
    """A mask with one rectangle: top, bottom, left, right."""
    mask = np.zeros(shape, bool)
    mask[box[0] : box[1], box[2] : box[3]] = True
    return mask


@pytest.fixture
def folder(tmp_path):
    """Four records of three patients; the picture of c1 is missing."""
    home = tmp_path / "home"
    for name in ("images", "masks"):
        (home / name).mkdir(parents=True)
    for name in ("a1", "a2", "b1"):
        Picture.fromarray(np.full((12, 12), 90, np.uint8)).save(home / "images" / f"{name}.png")
        Picture.fromarray(drawn(2, 5, 1, 4)).save(home / "masks" / f"{name}.png")
    (home / "table.csv").write_text(
        "id,patient,picture,words,drawn\n"
        "a1,a,images/a1.png,the spot,masks/a1.png\n"
        "a2,a,images/a2.png,the spot,\n"
        "b1,b,images/b1.png,,masks/b1.png\n"
        "c1,c,,the spot,masks/b1.png\n"
    )
    return home


@pytest.fixture
def cohort(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Cohort.from_csv(folder / "table.csv", image="picture", id="id", group="patient")


def write(path, rows):
    names = list(rows[0])
    lines = [",".join(names), *(",".join(row[name] for name in names) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


# -------------------------------------------------------------------- the user's own table


def test_a_table_tells_what_is_there_what_is_not_and_what_nobody_knows(cohort, folder):
    with pytest.warns(UserWarning, match="1 of 3 expressions have no mask"):
        there, absent = phrases_of(cohort, write(folder / "mine.csv", ROWS))
    assert (there.record, there.text, there.group, there.empty) == ("a1", "the spot on the left", "a", False)
    assert absent.empty
    assert absent.text == "the spot on the right"
    assert np.array_equal(mask_of(there), drawn(2, 5, 1, 4))
    assert mask_of(absent) is None


def test_other_names_of_the_columns_are_understood(cohort, folder):
    for names in (("id", "phrase", "mask"), ("image_id", "text", "mask")):
        rows = [dict(zip(names, row.values(), strict=True)) for row in ROWS[:2]]
        assert len(phrases_of(cohort, write(folder / "mine.csv", rows))) == 2


def test_a_table_outside_of_the_folder_has_its_masks_beside_it_or_in_the_cohort(cohort, tmp_path):
    outside = tmp_path / "outside"
    (outside / "drawn").mkdir(parents=True)
    Picture.fromarray(drawn(0, 2, 0, 2)).save(outside / "drawn" / "mine.png")
    rows = [{**ROWS[0], "mask": "drawn/mine.png"}, ROWS[0]]
    mine, theirs = phrases_of(cohort, write(outside / "mine.csv", rows))
    assert mask_of(mine).sum() == 4
    assert mask_of(theirs).sum() == 9
    (outside / "masks").mkdir()  # the same name in both places: what lies beside the table is meant
    Picture.fromarray(drawn(0, 1, 0, 1)).save(outside / "masks" / "a1.png")
    assert mask_of(phrases_of(cohort, outside / "mine.csv")[1]).sum() == 1


def test_rows_in_memory_may_hold_arrays_and_phrases(cohort):
    own = Phrase("b1", "the spot", drawn(1, 3, 1, 3))
    rows = [{"record": "a1", "text": "the spot", "mask": drawn(0, 1, 0, 1), "category": "spot"}, own]
    first, second = phrases_of(cohort, rows, category="thing", acquisition="test")
    assert (first.category, first.acquisition, mask_of(first).sum()) == ("spot", "test", 1)
    assert second.group == "b"
    assert second.text == own.text
    assert mask_of(second).sum() == 4


def test_records_of_other_parts_and_without_a_picture_are_passed_over(cohort):
    rows = [{**ROWS[0], "record": name} for name in ("a1", "b1", "c1")]
    assert [phrase.record for phrase in phrases_of(cohort, rows)] == ["a1", "b1"]
    rows.append(Phrase("c1", "the spot", drawn(1, 3, 1, 3)))
    assert [phrase.record for phrase in phrases_of(cohort, rows)] == ["a1", "b1"]
    assert [phrase.record for phrase in phrases_of(cohort.where([2, 3]), rows)] == ["b1"]


def test_nothing_found_is_told_apart_from_something_wrong(cohort, folder):
    with pytest.raises(NoPhrases, match="No phrases"):
        phrases_of(cohort)
    with pytest.raises(NoPhrases, match="No phrases"):
        phrases_of(cohort.where([2]), ROWS[:1])
    for wrong in ([{**ROWS[0], "record": "zz"}], [{"record": "a1"}], [], folder / "gone.csv"):
        with pytest.raises(ValueError, match=r".") as raised:
            phrases_of(cohort, wrong)
        assert not isinstance(raised.value, NoPhrases)


def test_an_unknown_record_is_named_with_what_was_probably_meant(cohort):
    rows = [{**ROWS[0], "record": "images_a1"}, ROWS[0]]
    with pytest.raises(ValueError, match="Expression 1 is about the record 'images_a1'"):
        phrases_of(cohort, rows)
    with pytest.raises(ValueError, match='Did you mean "a1"'):
        phrases_of(cohort, [Phrase("a11", "the spot")])


@pytest.mark.parametrize("lost", ["record", "expression", "mask"])
def test_a_column_that_is_not_there_is_named_with_those_that_are(cohort, lost):
    rows = [{name: cell for name, cell in ROWS[0].items() if name != lost}]
    there = ", ".join(rows[0])
    with pytest.raises(ValueError, match=rf"none for .*{lost}.*Its columns: {there}"):
        phrases_of(cohort, rows)


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([], "empty list"),
        ({"record": "a1"}, "path of a CSV, or a list"),
        ([{**ROWS[0], "expression": " "}], "Expression 1 has no phrase"),
        ([{**ROWS[0], "mask": 3}], "should be a path, an array"),
    ],
)
def test_rows_that_cannot_be_read_say_so(cohort, rows, match):
    with pytest.raises(ValueError, match=match):
        phrases_of(cohort, rows)


def test_a_mask_file_must_be_there_and_inside(cohort):
    with pytest.raises(MissingFile, match=r"masks/no.png"):
        phrases_of(cohort, [{**ROWS[0], "mask": "masks/no.png"}])
    with pytest.raises(UnsafePath):
        phrases_of(cohort, [{**ROWS[0], "mask": "../../no.png"}])
    lenient = cohort._with(missing_files="absent")
    with pytest.warns(UserWarning, match="1 of 2 expressions have no mask"):
        assert len(phrases_of(lenient, [{**ROWS[0], "mask": "masks/no.png"}, ROWS[0]])) == 1


# ---------------------------------------------------------------------- columns of the table


def test_columns_of_the_table_give_a_phrase_where_words_picture_and_mask_are_there(cohort):
    (phrase,) = phrases_of(cohort, column="words", mask="drawn", category="spot")
    assert (phrase.record, phrase.group, phrase.category) == ("a1", "a", "spot")
    with pytest.raises(ValueError, match='Did you mean "drawn"'):
        phrases_of(cohort, column="words", mask="drawm")
    with pytest.raises(ValueError, match="together with mask="):
        phrases_of(cohort, column="words")


def test_phrases_never_come_out_empty_without_a_word(cohort):
    with pytest.raises(ValueError, match=r"there is no expressions.csv in .*Pass expressions="):
        phrases_of(cohort)
    with pytest.raises(ValueError, match="none about a record of this part"):
        phrases_of(cohort, [ROWS[1]], absent=False)
    with pytest.raises(ValueError, match="no record with a picture has both"):
        phrases_of(cohort.where([1]), column="words", mask="drawn")
    with pytest.raises(ValueError, match="no record of this synthetic cohort shows"):
        phrases_of(load_cohort("synthetic", patients=20).without("image"))


def test_a_cohort_without_pictures_has_no_phrases(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = Cohort.from_csv(folder / "table.csv", text="words", id="id", group="patient")
    with pytest.raises(ValueError, match="points into a picture"):
        pictured(plain)


# -------------------------------------------------------------------- phrases that are false


def test_another_patients_place_is_named_where_the_lesion_does_not_lie():
    upper, centre = "the lesion in the upper left part of the image", "the lesion in the centre of the image"
    phrases = [
        Phrase("a", upper, drawn(0, 3, 0, 3), group="a"),
        Phrase("b", centre, drawn(5, 7, 5, 7), group="b"),
        Phrase("c", centre, drawn(1, 7, 1, 4), group="c"),  # 9 of 18 pixels lie in the upper left ninth
        Phrase("d", centre, drawn(0, 5, 0, 5), group="d"),  # 16 of 25
        Phrase("e", "the lesion", drawn(0, 3, 0, 3), group="e"),
    ]
    found = other_places(phrases, np.random.default_rng(0))
    assert [(phrase.record, phrase.text) for phrase in found] == [("a", centre), ("b", upper), ("c", upper)]
    assert all(phrase.empty for phrase in found)


def test_the_other_side_is_named_only_if_no_lesion_lies_there():
    shape = (2, 4, 10)

    def lesion(first, last):
        mask = np.zeros(shape, bool)
        mask[1, 2, first:last] = True
        return mask

    text = "the lesion of the left frontal lobe"  # the patient's left: columns 5 to 9
    phrases = [
        Phrase("one side", text, lesion(6, 8)),
        Phrase("over the middle", text, lesion(4, 8)),
        Phrase("words and mask disagree", text, lesion(1, 3)),
        Phrase("no side", "the lesion", lesion(6, 8)),
        Phrase("both", "from left to right", lesion(6, 8)),
    ]
    (found,) = other_sides(phrases)
    assert (found.record, found.text, found.empty) == (
        "one side",
        "the lesion of the right frontal lobe",
        True,
    )


def test_a_finding_is_absent_from_the_lung_it_does_not_touch():
    right, left = drawn(0, 12, 0, 5), drawn(0, 12, 7, 12)

    def told(record, finding, *said):
        things = {"the right lung": right, "the left lung": left, "the opacity": finding}
        return [Phrase(record, text, mask) for text, mask in things.items()] + [
            Phrase(record, f"the opacity in the {side} lung", finding) for side in said
        ]

    both = told("both", drawn(3, 5, 2, 9), "right", "left")
    one = told("one", drawn(3, 5, 2, 4), "right")
    touching = told("touching", drawn(3, 5, 2, 8), "right")  # two pixels in the left lung: not surely absent
    (found,) = spared_sides([*both, *one, *touching])
    assert (found.record, found.text, found.category) == (
        "one",
        "the opacity in the left lung",
        "opacity in the left lung",
    )


# -------------------------------------------------------------------------------- real data


@pytest.mark.real_data
@pytest.mark.filterwarnings("ignore:Columns of the table")
def test_breast_ultrasound_has_a_false_place_for_every_single_lesion(real_cohorts):
    cohort = load_cohort("breast-us", root=real_cohorts)
    phrases = phrases_of(cohort)
    there = {phrase.record: phrase for phrase in phrases if not phrase.empty}
    absent = {phrase.record: phrase for phrase in phrases if phrase.empty}
    kinds = lesions_of(cohort)
    assert (len(there), len(absent)) == (197, 192)
    assert set(there) - set(absent) == {record for record, kind in kinds.items() if kind == "several"}
    assert sorted(kinds.values()) == ["none"] * 3 + ["several"] * 5
    assert there["case001"].spacing == pytest.approx((0.13111, 0.13111))
    assert there["case001"].category == "lesion"
    for record, phrase in absent.items():
        cut = re.compile(r" in the [\w ]+ of the image")
        assert cut.sub("", phrase.text) == cut.sub("", there[record].text)
        assert phrase.text != there[record].text
    assert phrases == phrases_of(cohort)
    assert phrases != phrases_of(cohort, seed=1)
    assert all(not phrase.empty for phrase in phrases_of(cohort, absent=False))


@pytest.mark.real_data
def test_radiographs_have_the_published_phrases_and_spared_lungs(real_cohorts):
    cohort = load_cohort("covid-cxr", root=real_cohorts)
    phrases = phrases_of(cohort)
    assert (sum(not p.empty for p in phrases), sum(p.empty for p in phrases)) == (362, 17)
    assert {p.acquisition for p in phrases} == {"radiograph"}
    groups = dict(zip(cohort.ids.tolist(), cohort.groups.tolist(), strict=True))
    assert all(phrase.group == groups[phrase.record] for phrase in phrases)
    parts = [phrases_of(cohort[part]) for part in ("train", "val", "test")]
    assert sum(map(len, parts)) == len(phrases)
    assert mask_of(phrases[0]).any()


@pytest.mark.real_data
def test_brain_lesions_wholly_on_one_side_have_a_false_side(real_cohorts):
    cohort = load_cohort("lgg-mri", root=real_cohorts)
    phrases = phrases_of(cohort)
    there = [phrase for phrase in phrases if not phrase.empty]
    assert (len(there), len(phrases) - len(there)) == (76, 37)
    assert all(isinstance(m, Volume) for name, m in cohort.schema.modalities.items() if name != "table")
    assert mask_of(there[0]).ndim == 3
    assert there[0].key == "mask"
    with pytest.raises(ValueError, match=r"no expressions.csv|hannover"):
        phrases_of(load_cohort("hannover-cxr", root=real_cohorts))
