"""Panels of words: what rests on what, what is lost, where it is, how it fails, and what is taken home."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from mmmed_demo.panels.masks import best_slice, masks
from mmmed_demo.panels.report import answer, sentences
from mmmed_demo.panels.stress import stress
from mmmed_demo.panels.summary import page_html, record_json
from PIL import Image as Picture

from mmmed.evaluation.benchmark_tables import Benchmark
from mmmed.evaluation.bootstrap import Estimate
from mmmed.evaluation.scores import Table
from mmmed.types import (
    Answer,
    Image,
    Mask,
    Number,
    Partial,
    Prediction,
    Record,
    Reply,
    Report,
    Schema,
    Sentence,
    Tabular,
    Text,
    Volume,
)

NOTICE = "Research use only. Not a medical device."
EVIL = "<script>x</script> \"onload='y' & {{value}}"
NAMES = ("image", "table", "text")


class Tags(HTMLParser):
    """The elements of a text, as a browser would see them."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def named(self, tag):
        return [attrs for name, attrs in self.found if name == tag]


def words(text):
    """What is read: without tags, one space between words."""
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())


def assert_harmless(text):
    for tag, attrs in Tags(text).found:
        assert tag not in ("script", "img", "iframe", "link") or attrs.get("src", "").startswith(
            "data:image/png"
        )
        assert not [name for name in attrs if name.startswith("on")]


SEEN = Sentence("A nodule is seen.", -0.1, {"image": 1.2, "text": 0.3, "table": 0.01}, 1.4)
HABIT = Sentence("The heart is normal.", -0.1, {"image": 0.02}, 0.03)
BLOOD = Sentence("Inflammation is present.", -0.1, {"table": 0.8}, 0.8)
WHOLE = Report("a1", (SEEN, HABIT, BLOOD), NAMES)


def without_image(*more, **given):
    return Report("a1", (HABIT, BLOOD, *more), ("table", "text"), ("image",), **given)


# ----------------------------------------------------------------------------------------------------- report


def test_each_sentence_is_a_button_that_says_whether_it_is_chosen():
    buttons = Tags(sentences(WHOLE, modalities=NAMES, chosen=1)).named("button")
    assert [one["data-sentence"] for one in buttons] == ["0", "1", "2"]
    assert [one["aria-pressed"] for one in buttons] == ["false", "true", "false"]
    assert {one["type"] for one in buttons} == {"button"}


def test_evidence_is_named_strongest_first_and_what_counts_as_nothing_is_left_out():
    (line,) = re.findall(r"<li>.*?</li>", sentences(Report("a1", (SEEN,), NAMES), modalities=NAMES))
    assert words(line) == "A nodule is seen. image +1.20 text +0.30"
    assert [place for place in re.findall(r"mm-evidence mm-m(\d)", line)] == ["0", "2"]


def test_a_habit_of_the_language_is_called_one_and_what_was_not_measured_is_not():
    text = words(sentences(Report("a1", (HABIT,), ("image",))))
    assert text.startswith(
        "1 sentence : 1 is a habit of the language. The heart is normal. habit of the language"
    )
    unmeasured = words(sentences(Report("a1", (Sentence("Normal."),), ("image",))))
    assert unmeasured == f"1 sentence . Normal. {NOTICE}"


def test_sentences_lost_without_an_input_are_struck_through_and_say_what_they_need():
    text = sentences(without_image(), WHOLE, NAMES)
    assert re.findall(r"<del>(.*?)</del>", text) == ["A nodule is seen."]
    assert "A nodule is seen. needs the image" in words(text)
    assert "<del>" not in sentences(WHOLE, WHOLE, NAMES)


def test_a_sentence_that_did_not_rest_on_what_is_off_is_not_said_to_need_it():
    now = Report("a1", (SEEN,), ("image", "text"), ("table",))
    assert "The heart is normal. no longer said without table" in words(sentences(now, WHOLE, NAMES))


def test_a_sentence_that_appears_only_without_an_input_is_marked():
    new = Sentence("No effusion.", -0.1, {"text": 0.2}, 0.2)
    text = words(sentences(without_image(new), WHOLE, NAMES))
    assert "No effusion. text +0.20 only without image" in text
    assert "Inflammation is present. table +0.80 only" not in text


def test_what_was_missing_stands_before_the_sentences_and_what_is_withheld_has_its_reason():
    held = Sentence("The lung is small.", reason="too uncertain")
    text = words(sentences(without_image(withheld=(held,), notes=("crp ignored",)), modalities=NAMES))
    order = [
        "Not available: image.",
        "crp ignored",
        "The heart is normal.",
        "The lung is small. too uncertain",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert NOTICE in text


def test_no_report_is_said_to_be_none():
    text = words(sentences(Report("a1", (), (), NAMES, abstained=True), WHOLE, NAMES))
    assert text.startswith("No report:")
    assert "needs the image and text" in text


def test_an_answer_has_its_grounds_and_no_answer_has_its_reason():
    given = Reply("a1", "A nodule?", "Yes.", -0.1, {"image": 0.9}, 0.9, ("image",))
    assert "Yes. image +0.90" in words(answer(given, NAMES))
    none = Reply(
        "a1", "A nodule?", "not assessable", missing=("image",), abstained=True, notes=("It needs image.",)
    )
    assert "No answer: not assessable Not available: image. Note: It needs image." in words(
        answer(none, NAMES)
    )


# ------------------------------------------------------------------------------------------------------ masks


def found(pixels, presence=0.93, picture=True, **given):
    pixels = np.asarray(pixels, dtype=bool)
    ground = (np.arange(pixels.size) % 256).astype(np.uint8).reshape(pixels.shape) if picture else None
    return Mask("a1", "the nodule", pixels, presence, bool(pixels.any()), picture=ground, **given)


def square(height=6, width=8):
    pixels = np.zeros((height, width), bool)
    pixels[2:4, 3:5] = True
    return pixels


def test_an_area_is_drawn_on_exactly_its_pixels():
    text = masks([found(square())])
    assert 'viewBox="0 0 8 6"' in text
    assert 'd="M3 2h2v1h-2zM3 3h2v1h-2z"' in text  # the runs of two rows
    assert 'd="M3 2h2M3 4h2M3 2v2M5 2v2"' in text  # its four sides, none of the lines inside
    assert "mm-edge" not in masks([found(square())], outline=False)
    assert 'fill-opacity="0.25"' in masks([found(square())], opacity=0.25)


def test_the_picture_is_sent_as_it_is_and_shown_with_its_pixels():
    (image,) = Tags(masks([found(square())])).named("image")
    sent = Picture.open(io.BytesIO(base64.b64decode(image["href"].removeprefix("data:image/png;base64,"))))
    np.testing.assert_array_equal(np.asarray(sent), np.arange(48, dtype=np.uint8).reshape(6, 8))
    assert image["class"] == "mm-masks-pixels"


def test_a_large_picture_is_thinned_and_one_marked_pixel_survives():
    pixels = np.zeros((1000, 700), bool)
    pixels[501, 301] = True
    text = masks([found(pixels)])
    (_, _, width, height) = map(float, re.search(r'viewBox="([\d. ]+)"', text)[1].split())
    assert max(width, height) <= 480
    assert 'class="mm-tint' in text


def test_words_say_how_sure_and_how_large_on_the_page_and_to_who_does_not_see_it():
    text = masks([found(square(), spacing=(0.5, 2.0))])
    said = "There, with a probability of 93 %; 8 % of the picture; 4 mm²."
    assert said in words(text).replace("\u00a0", " ")
    assert said in Tags(text).named("svg")[0]["aria-label"]
    assert "size in mm not known" in masks([found(square())])


def test_pixels_that_are_not_square_are_drawn_so():
    assert 'viewBox="0 0 8 1.5"' in masks([found(square(), spacing=(0.5, 2.0))])


def test_what_is_not_there_is_said_in_words_and_nothing_is_drawn():
    text = masks([found(np.zeros((6, 8)), 0.02)])
    assert words(text).count("Nothing to mark in this picture") == 2  # title and answer
    assert "Probability that there is something: 2\u00a0%." in text
    assert "<path" not in text
    assert "There is no picture to look at." in words(masks([found(np.zeros((6, 8)), 0.0, picture=False)]))
    assert "Nothing was asked" in masks([])


def test_a_volume_opens_at_the_largest_cross_section_and_shows_any_slice():
    pixels = np.zeros((5, 6, 8), bool)
    pixels[1, 2, 3] = True
    pixels[3] = square()
    volume = found(pixels, spacing=(2, 1, 1))
    assert best_slice([volume]) == 3
    assert "Slice 3 (of 0 to 4): the largest cross-section." in words(masks([volume]))
    assert 'd="M3 2h1v1h-1z"' in masks([volume], slice=1)
    assert "nothing is marked here" in masks([volume], slice=0)
    with pytest.raises(ValueError, match="from 0 to 4, got 5"):
        masks([volume], slice=5)


def test_masks_of_two_pictures_are_not_drawn_on_one():
    with pytest.raises(ValueError, match="one record and grid"):
        masks([found(square()), found(square(7, 8))])


# ----------------------------------------------------------------------------------------------------- stress


def benchmark(**given):
    def line(kind, seen, value, n=40, **more):
        score = Estimate(value, value - 0.1, value + 0.05, n, n)
        return {"task": "sepsis", "kind": kind, "seen": seen, "n": n, "patients": n, "auroc": score, **more}

    rows = [
        line("subset", "image", 0.7, ceiling=0.8),
        line("subset", "image + table", 0.85, ceiling=0.9),
        line("subset", EVIL, 0.4, n=4, ceiling=None),
        line("mechanism", "mcar 30 %", 0.66, ceiling=0.82),
        line("mechanism", "by label sepsis: image, flipped", float("nan"), note="one class only"),
    ]
    return Benchmark("ward <b>", "auroc", Table(tuple(rows)), Table(()), **given)


def test_the_table_can_be_read_cell_by_cell():
    tags = Tags(stress(benchmark(), "sepsis"))
    assert len(tags.named("caption")) == 1
    scopes = [one["scope"] for one in tags.named("th")]
    assert scopes.count("col") == 5
    assert scopes.count("rowgroup") == 2
    assert scopes.count("row") == 5


def test_subsets_come_before_mechanisms_and_mechanisms_are_said_plainly():
    text = words(stress(benchmark(), "sepsis"))
    assert text.index("Only these inputs are shown") < text.rindex("30 % of the inputs hidden at random")
    assert "mcar" not in text
    assert "image hidden depending on sepsis itself, the other way round one class only not defined" in text


def test_each_line_has_its_score_interval_size_and_best_possible():
    text = words(stress(benchmark(), "sepsis"))
    assert "image + table 0.85 [0.75 to 0.90] 40 0.90" in text


def test_the_title_names_best_and_worst_of_what_enough_patients_have():
    text = words(stress(benchmark(), "sepsis"))
    assert text.startswith(
        "Best: image + table (AUROC 0.85). Worst: 30 % of the inputs hidden at random (0.66)."
    )


def test_of_an_error_the_smallest_is_best():
    rows = [
        {
            "task": "age",
            "kind": "subset",
            "seen": seen,
            "n": 50,
            "patients": 50,
            "mae": Estimate(v, v, v, 50, 50),
        }
        for seen, v in (("image", 4.0), ("table", 9.0))
    ]
    text = words(stress(Benchmark("ward", "auroc", Table(tuple(rows)), Table(())), "age"))
    assert text.startswith("Best: image (MAE 4.00). Worst: table (9.00).")
    assert "Bars run from 0.00 to 9.00" in text


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match="Unknown task"):
        stress(benchmark(), "sepsi")


# ---------------------------------------------------------------------------------------------------- summary

SCHEMA = Schema(
    {"image": Image("scan"), "table": Tabular((Number("crp"), Number("age"))), "text": Text("note")}
)


def taken_home(**given):
    pixels = np.full((200, 300), 200, np.uint8)
    inputs = {"image": pixels, "table": {"crp": np.float32(4.5)}, "text": EVIL}
    subsets = {
        (): Partial({"1": 0.3}, {"1": (0.2, 0.4)}),
        ("text",): Partial({"1": 0.5}),
        ("image",): Partial({"1": 0.2}),
    }
    subsets[("image", "text")] = Partial({"1": 0.6})
    told = Answer("binary", {"1": 0.6}, {"1": 0.3}, subsets=subsets)
    prediction = Prediction("a<1>", {"sepsis": told}, ("image", "text"), ("table",))
    options = {"order": ("text", "table", "image"), "about": {"Model": EVIL}, "when": "today", **given}
    return record_json(Record("a<1>", inputs), prediction, SCHEMA, ("image", "text"), **options)


def test_the_json_holds_what_was_typed_switched_and_answered_and_nothing_json_does_not_know():
    kept = json.loads(json.dumps(taken_home(report=WHOLE, masks=[found(square())]), allow_nan=False))
    assert kept["inputs"]["table"] == {"crp": 4.5}
    assert kept["switches"] == {"image": True, "table": False, "text": True}
    assert [step["given"] for step in kept["path"]["sepsis"]] == ["text", "image"]
    assert [step["values"]["1"] for step in kept["path"]["sepsis"]] == [0.5, 0.6]
    assert len(kept["subsets"]["sepsis"]) == 4
    assert kept["notice"] == NOTICE
    assert kept["report"]["text"] == WHOLE.text
    assert kept["masks"][0]["phrase"] == "the nodule"


def test_a_picture_goes_along_as_a_thumbnail():
    (uri,) = taken_home()["inputs"]["image"]["thumbnails"]
    sent = Picture.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    assert max(sent.size) <= 128


def test_of_a_volume_the_middle_slice_goes_along_and_of_a_file_only_its_name(tmp_path):
    volume = np.zeros((5, 8, 9), np.float32)
    volume[2] = 1.0
    np.save(tmp_path / "ct.npy", volume)
    nothing = Prediction("a1", {}, ("ct",), ())
    record = Record("a1", {"ct": "ct.npy"}, folder=str(tmp_path))
    kept = record_json(record, nothing, Schema({"ct": Volume("ct")}), ("ct",))
    assert kept["inputs"]["ct"]["files"] == ["ct.npy"]
    assert str(tmp_path) not in json.dumps(kept)
    (uri,) = kept["inputs"]["ct"]["thumbnails"]
    sent = np.asarray(Picture.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))
    assert sent.shape == (8, 9)
    assert sent.min() == 255


def test_the_page_needs_nothing_else_and_says_the_caution_first_and_last():
    page = page_html(taken_home(), {"In words": sentences(WHOLE)}, "p { color: red }")
    assert not re.search(r"(?:src|href|url)\s*[=(]\s*[\"']?(?!data:)[a-z/]", page)
    assert "http:" not in page
    assert "https:" not in page
    assert "default-src 'none'" in page
    assert "@page { size: A4" in page
    assert page.count(NOTICE) >= 2
    assert "used" in page
    assert "switched off" in page


def test_a_style_sheet_cannot_end_its_element():
    with pytest.raises(ValueError, match="</style"):
        page_html(taken_home(), {}, "p {} </STYLE><script>")


# ----------------------------------------------------------------------------------------------- hostile text


HOSTILE = {
    "report": lambda: sentences(
        Report(
            EVIL, (Sentence(EVIL, 0.0, {EVIL: 1.0}, 1.0),), (EVIL,), (EVIL,), {EVIL: EVIL},
            (Sentence(EVIL, reason=EVIL),), notes=(EVIL,),
        ),
        Report(EVIL, (Sentence(EVIL + "2", 0.0, {"other" + EVIL: 1.0}, 1.0),), (EVIL, "other" + EVIL)),
    ),
    "answer": lambda: answer(Reply(EVIL, EVIL, EVIL, 0.0, {EVIL: 1.0}, 1.0, (EVIL,), (EVIL,), notes=(EVIL,))),
    "masks": lambda: masks([Mask(EVIL, EVIL, square(), 0.9, True, notes=(EVIL,), missing=(EVIL,))]),
    "stress": lambda: stress(benchmark(), "sepsis"),
    "summary": lambda: page_html(taken_home(), {EVIL: ""}, ""),
}  # fmt: skip


@pytest.mark.parametrize("panel", HOSTILE)
def test_text_from_data_stays_text(panel):
    text = HOSTILE[panel]()
    assert_harmless(text)
    assert "&lt;script&gt;" in text
