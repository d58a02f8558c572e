"""The charts of the page: they say what the numbers say, to eyes and ears, and hold whatever data bring."""

import html
import math
import re
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest
from mmmed_demo.panels import compare as compare_panel
from mmmed_demo.panels import svg
from mmmed_demo.panels.compare import compare
from mmmed_demo.panels.next_test import next_test
from mmmed_demo.panels.path import path
from mmmed_demo.panels.risk import risk
from mmmed_demo.panels.scale import number_scale, scale_of
from mmmed_demo.panels.shares import shares
from mmmed_demo.panels.subsets import subsets
from mmmed_demo.panels.trust import trust

from mmmed.explain.information import Expectation, ValueOfInformation
from mmmed.types import Answer, Prediction
from mmmed.types.prediction import NOTICE, Partial

EVIL = "<img src=x onerror=alert(1)>&\"'"
NAMES = ("image", "table", "text")
CSS = Path(compare_panel.__file__).parents[1] / "panels.css"


def odds(z):
    return 1 / (1 + math.exp(-z))


def answer(effects, start=-0.3, kind="binary", level="1", others=(), unit=None, width=0.5, chosen=None):
    """An answer that adds up: every modality moves the log-odds (or the number) by its effect."""
    names, parts = tuple(effects), {}
    for seen in (seen for size in range(len(names) + 1) for seen in combinations(names, size)):
        z = start + sum(effects[name] for name in seen)
        value = z if kind == "regression" else odds(z)
        ends = (z - width, z + width) if kind == "regression" else (odds(z - width), odds(z + width))
        values = {level: value, **{name: (1 - value) / len(others) for name in others}}
        parts[seen] = Partial(values, {level: ends} if width else {})
    way = tuple((name, parts[names[: k + 1]].values) for k, name in enumerate(names))
    end = parts[names]
    return Answer(kind, end.values, parts[()].values, way, effects, end.interval, unit, chosen, parts)


SICK = answer({"image": 1.1, "table": -1.7, "text": 0.05}, chosen=("0", "1"))
STAY = answer({"image": 2.3, "table": -1.4}, start=4.2, kind="regression", level="days", unit="d")
STAGE = answer({"image": 2.0}, kind="multiclass", level="II", others=("I", "III"), chosen=("II",))
SIGNS = answer({"image": 2.0}, kind="multilabel", level="cough", others=("fever",), chosen=())
EMPTY = Answer("binary", {"1": 0.31}, {"1": 0.31}, subsets={(): Partial({"1": 0.31})})
SURE = Answer("binary", {"1": 1.0}, {"1": 0.0}, (("image", {"1": 1.0}),), {"image": 20.0})
WORTH = ValueOfInformation(
    "r",
    "sepsis",
    "1",
    0.12,
    (
        Expectation("image", 0.14, 0.05, 0.52, 0.13, 0.31, 200),
        Expectation("ecg", 0.02, 0.10, 0.17, 0.12, 0.03, 180),
    ),
    ("genome",),
)


def prediction(one, used=NAMES, missing=(), **more):
    return Prediction("r7", {"sepsis": one}, used, missing, **more)


def text(fragment):
    """What eyes read, one space between words."""
    words = re.sub(r"<[^>]*>", " ", re.sub(r"<svg.*?</svg>", " ", fragment))
    return " ".join(html.unescape(words).split())


def heard(fragment):
    """What a screen reader says of the drawings, row by row."""
    return [html.unescape(label) for label in re.findall(r'role="img" aria-label="(.*?)"', fragment)]


def every_panel(task="sepsis", one=SICK, names=NAMES, on=NAMES[1:]):
    off = [name for name in names if name not in on]
    yield risk(prediction(one, tuple(on), tuple(off)), prediction(one), {task: 0.35}, names)
    yield path(one, task, names, off)
    yield shares(one, names, task)
    yield subsets(one, on, names, task)
    yield compare(one, one, task)
    yield trust({"kind": "subset", "n": 90, "auroc": 0.8}, tuple(on), 50, 20, task)


def well_formed(fragment):
    return ElementTree.fromstring(f"<div>{fragment}</div>")


# --------------------------------------------------------------------------------------------- all panels


@pytest.mark.parametrize("one", [SICK, STAY, STAGE, SIGNS, EMPTY, SURE])
def test_every_panel_of_every_kind_of_answer_is_well_formed_and_every_drawing_is_said(one):
    names = tuple(name for name, _ in one.trajectory)
    for fragment in every_panel("sepsis", one, names, names):
        rows = [part for part in well_formed(fragment).iter("div") if part.get("role") == "listitem"]
        for row in rows:
            *cells, drawing = row
            assert drawing.get("role") == "img"
            assert drawing.get("aria-label").endswith(".")
            assert all(cell.get("aria-hidden") == "true" for cell in cells), "nothing is said twice"
        assert "nan" not in fragment


def test_nothing_from_data_becomes_markup():
    one = answer({EVIL: 1.0, "text": -0.5}, level=EVIL, chosen=(EVIL,))
    stay = answer({EVIL: 1.0}, kind="regression", level=EVIL, unit=EVIL)
    worth = ValueOfInformation(
        EVIL, EVIL, EVIL, 0.2, (Expectation(EVIL, 0.1, 0.1, 0.3, 0.2, 0.1, 50),), (EVIL,)
    )
    whole = prediction(one, (EVIL,), ("text",), missing_cells={EVIL: (EVIL,)}, notes=(EVIL,))
    fragments = [risk(whole, None, None, (EVIL, "text")), next_test(worth, {EVIL: 1.0})]
    fragments += [
        *every_panel(EVIL, one, (EVIL, "text"), ("text",)),
        *every_panel(EVIL, stay, (EVIL,), (EVIL,)),
    ]
    fragments += [trust(None, (EVIL,), 0, 20, EVIL)]
    for fragment in fragments:
        assert not any(part.tag in ("img", "script") for part in well_formed(fragment).iter())
        assert not any(name.startswith("on") for part in well_formed(fragment).iter() for name in part.attrib)


def test_every_class_a_panel_uses_for_looks_stands_in_the_style_sheet():
    sheet = CSS.read_text(encoding="utf-8")
    fragments = [*every_panel(), next_test(WORTH), path(SICK, "sepsis", NAMES, ["image"])]
    fragments += [subsets(SICK, NAMES, NAMES, "sepsis", {(): 0.4})]
    used = {
        name for one in fragments for names in re.findall(r'class="(.*?)"', one) for name in names.split()
    }
    plain = {"mm-cell", "mm-risk", "mm-level", "mm-gauge", "mm-levels", "mm-trust", "mm-subsets"}
    assert {name for name in used - plain if not re.search(rf"\.{name}\b(?!-)", sheet)} == set()
    for name in ("blue", "orange", "green", "pink", "amber", "sky", "grey", "pale", "ink"):
        assert sheet.count(f"--mm-{name}:") == 2, "every colour is declared for light and for dark"


def luminance(colour):
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("block", [":root", ".dark"])
def test_text_and_marks_stand_out_from_the_page_in_light_and_in_dark(block):
    """WCAG 2.2: 4.5 to 1 for text, 3 to 1 for what carries meaning (success criteria 1.4.3 and 1.4.11)."""
    rules = CSS.read_text(encoding="utf-8").split(block + " {")[1].split("}")[0]
    colours = {name: luminance(value) for name, value in re.findall(r"--mm-(\w+): (#\w{6})", rules)}

    def contrast(one, other):
        low, high = sorted((colours[one], colours[other]))
        return (high + 0.05) / (low + 0.05)

    for name in ("ink", "quiet"):
        assert contrast(name, "paper") >= 4.5
        assert contrast(name, "hair") >= 4.5, "the row of the present subset"
    for name in ("blue", "orange", "grey", "fill"):
        assert contrast(name, "paper") >= 3
    assert contrast("ink", "pale") >= 3
    assert contrast("orange", "pale") >= 1.8


def test_no_looks_are_written_into_the_panels():
    assert not any("style=" in fragment for fragment in [*every_panel(), next_test(WORTH)])


# ------------------------------------------------------------------------------------------------ numbers


def test_no_probability_is_called_certain_and_changes_carry_a_true_sign():
    assert [svg.percent(p) for p in (0.0, 0.006, 0.01, 0.344, 0.99, 0.993)] == [
        "< 1 %", "< 1 %", "1 %", "34 %", "99 %", "> 99 %",
    ]  # fmt: skip
    assert [svg.points(c) for c in (0.26, -0.14, 0.01, 0.004, -0.004)] == [
        "+26 points", "\u221214 points", "+1 point", "no change", "no change",
    ]  # fmt: skip
    assert svg.interval_text(0.231, 0.43) == "[23 to 43 %]"


def test_who_subtracts_the_numbers_on_the_page_gets_the_change_on_the_page():
    scale = scale_of(SICK, "1")
    for before, after in ((0.424, 0.686), (0.115, 0.126), (0.996, 0.2), (0.003, 0.009)):
        shown = svg.whole(after) - svg.whole(before)
        assert scale.change(before, after) == (svg.points(shown / 100) if shown else "no change")


def test_an_axis_of_numbers_holds_all_of_them_and_counts_in_round_steps():
    for values in ([4.2, 6.5, 1.9], [-0.03, 0.01], [1200.0, 3400.0], [5.0], [0.0, 0.0]):
        scale = number_scale(values, "d")
        assert scale.low <= min(values)
        assert scale.high >= max(values)
        assert 2 <= len(scale.ticks) <= 8
        assert all(0 <= scale.place(value) <= 100 for value in values)


# --------------------------------------------------------------------------------------------------- path


def test_the_path_says_every_step_with_its_change_and_names_the_one_that_mattered_most():
    shown = path(SICK, "sepsis", NAMES)
    assert heard(shown) == [
        "Nothing known: 43 %, 95 % interval 31 to 55 %.",
        "image added: +26 points, to 69 %, 95 % interval 57 to 79 %.",
        "table added: \u221240 points, to 29 %, 95 % interval 20 to 40 %.",
        "text added: +1 point, to 30 %, 95 % interval 21 to 41 %.",
    ]
    assert text(shown).startswith("sepsis: 30 % , from 43 % with nothing known. Adding table lowered it most")


def test_the_order_of_the_path_is_the_one_asked_for_and_all_orders_end_alike():
    one, other = path(SICK, "sepsis", NAMES), path(SICK, "sepsis", NAMES[::-1])
    assert [line.split()[0] for line in heard(other)[1:]] == ["text", "table", "image"]
    assert heard(one)[-1].split(", to ")[1] == heard(other)[-1].split(", to ")[1]


def test_an_absent_modality_keeps_its_place_and_changes_nothing():
    shown = path(SICK, "sepsis", ["table", "image", "text"], absent=["image"])
    assert heard(shown)[2] == "image is absent: nothing changes."
    table, text_ = SICK.given("table"), SICK.given("table", "text")
    assert f"to {svg.percent(table.values['1'])}," in heard(shown)[1]
    assert f"to {svg.percent(text_.values['1'])}," in heard(shown)[3]
    assert text(shown).count("absent") == 1


def test_bars_start_where_the_step_before_ended():
    shown = path(SICK, "sepsis", NAMES)
    bars = re.findall(r'<rect class="mm-(up|down)" x="([\d.]+)%" y="[\d.]+" width="([\d.]+)%"', shown)
    prior, *values = (100 * v["1"] for v in (SICK.prior, *(values for _, values in SICK.trajectory)))
    for (way, left, wide), value in zip(bars, values, strict=True):
        assert way == ("up" if value > prior else "down")
        assert float(left) == pytest.approx(min(prior, value), abs=0.01)
        assert float(wide) == pytest.approx(abs(value - prior), abs=0.02)
        prior = value


def test_the_axis_stays_where_it_is_when_a_modality_is_switched_off():
    ticks = [
        re.findall(r"<text.*?>(.*?)</text>", path(STAY, "stay", STAY.contributions, off))
        for off in ([], ["image"])
    ]
    assert ticks[0] == ticks[1]
    scale, parts = scale_of(STAY, "days"), STAY.subsets.values()
    assert scale.low <= min(part.interval["days"][0] for part in parts) < min(STAY.interval["days"])
    assert scale.high >= max(part.interval["days"][1] for part in parts) > max(STAY.interval["days"])


def test_a_path_without_anything_known_says_so_in_words():
    shown = path(EMPTY, "sepsis", NAMES, NAMES)
    assert text(shown).startswith("Nothing is known of this patient")
    assert heard(shown)[1:] == [f"{name} is absent: nothing changes." for name in NAMES]


def test_a_regression_is_told_in_its_unit_and_several_levels_by_the_leading_one():
    assert "image added: +2.3 d, to 6.5 d, 95 % interval 6.0 to 7.0 d." in heard(
        path(STAY, "stay", ("image", "table"))
    )
    assert "stage: II: 85 %" in text(path(STAGE, "stage", ("image",))).replace(" ,", ",")
    assert "the other levels: I 8 %, III 8 %" in text(path(STAGE, "stage", ("image",)))


def test_an_order_that_the_model_was_not_asked_about_is_not_invented():
    bare = Answer("binary", {"1": 0.7}, {"1": 0.4}, (("image", {"1": 0.5}), ("text", {"1": 0.7})))
    assert len(heard(path(bare, "sepsis", ("image", "text")))) == 3
    assert "not asked about this order" in path(bare, "sepsis", ("text", "image"))


# ------------------------------------------------------------------------------------------------- others


def test_the_headline_tells_the_change_the_threshold_what_was_used_and_that_it_is_research():
    before, cells = prediction(SICK), {"table": ("crp", "age")}
    now = prediction(
        answer({"table": -1.7, "text": 0.05}, chosen=("0",)), NAMES[1:], NAMES[:1], missing_cells=cells
    )
    said = text(risk(now, before, {"sepsis": 0.35}, NAMES))
    assert "12 % [8 to 19 %]" in said
    assert "\u221218 points by the last switch (was 30 %)" in said
    assert "Below the threshold of 35 %" in said
    assert "only no sepsis remains possible" in said
    assert "image absent table used text used" in said
    assert "Not recorded in table: crp and age." in said
    assert said.endswith(NOTICE)


def test_a_prediction_set_of_all_levels_of_one_and_of_none_reads_differently():
    def said(*chosen):
        return text(risk(prediction(answer({"image": 0.1}, chosen=chosen))))

    assert "Not decided at 90 % confidence: no sepsis and sepsis both remain possible" in said("0", "1")
    assert "only sepsis remains possible" in said("1")
    assert "None of the levels fits at 90 % confidence" in said()
    assert "90 %" not in text(risk(prediction(answer({"image": 0.1}))))
    assert "every label can be excluded" in text(risk(prediction(SIGNS)))


def test_shares_are_told_with_their_sum_and_their_factor_of_the_odds():
    said = text(shares(SICK, (*NAMES, "ecg"), "sepsis"))
    assert said.startswith("table lowered the probability of sepsis most.")
    assert "\u25b2 +1.10 odds × 3" in said
    assert "ecg absent" in said
    assert "Together \u22120.55 log-odds: from 43 % with nothing known to 30 %." in said
    assert "+2.3 d" in text(shares(STAY, ("image", "table"), "stay"))


def test_every_subset_has_a_row_the_smaller_first_and_the_present_one_is_marked():
    shown = subsets(SICK, ("text", "table"), NAMES, "sepsis", {("table", "text"): 0.15})
    lines = heard(shown)
    assert len(lines) == 8
    assert lines[0].startswith("nothing known: 43 %")
    assert lines[-1].startswith("image, table and text: 30 %")
    assert [line for line in lines if line.startswith("Now: ")] == [
        "Now: table and text: 12 %, 95 % interval 8 to 19 %, exact answer 15 %."
    ]
    assert shown.count('<span class="mm-now">now</span>') == shown.count('"mm-row mm-is-now"') == 1


def test_of_many_modalities_only_the_subsets_one_switch_away_are_shown():
    many = answer({f"m{k}": 0.3 * k for k in range(6)})
    lines = heard(subsets(many, ("m0", "m1", "m2"), tuple(many.contributions), "sepsis"))
    assert len(lines) == 7
    assert "with m5" in text(subsets(many, ("m0",), tuple(many.contributions), "sepsis"))


def test_with_and_without_says_what_is_off_and_what_that_changed():
    now = answer({"table": -1.7, "text": 0.05})
    assert text(compare(SICK, now, "sepsis")).startswith(
        "Without image: sepsis 12 % instead of 30 % ( \u221218 points )."
    )
    assert "Everything that was recorded is on" in text(compare(SICK, SICK, "sepsis"))


def test_the_next_test_is_ranked_by_what_it_moves_or_by_what_it_moves_for_its_cost():
    assert text(next_test(WORTH)).startswith(
        "Next, record image : it would move the answer most, by 14 points"
    )
    cheap = next_test(WORTH, {"image": 100.0, "ecg": 1.0})
    assert text(cheap).startswith(
        "Next, record ecg : it would move the answer most for its cost, by 2 points"
    )
    assert "31 % chance to change the decision" in text(cheap)
    assert "Too few training records to tell: genome." in text(cheap)
    assert "Nothing is missing" in next_test(ValueOfInformation("r", "sepsis", "1", 0.1, ()))


def test_whose_modality_is_lent_is_said_as_it_was_chosen():
    def told(*choices, own=True):
        items = [
            Expectation(f"m{k}", 0.1, 0.1, 0.2, 0.1, 0.2, 40 + k, choice) for k, choice in enumerate(choices)
        ]
        return text(next_test(ValueOfInformation("r", "sepsis", "1", 0.12, tuple(items), ("ecg",)), own=own))

    assert "judged by the 40 most similar training records that have it." in told("similar")
    assert "judged by all 40 training records that have it and what is known here." in told("all")
    assert "judged by 40 training records that have it, from everywhere" in told("any")
    mixed = told("similar", "all", "similar")
    assert "the 40 to 42 most similar training records that have it (m0 and m2) and all 41 training" in mixed
    assert "the 40 most similar records of this cohort that have it" in told("similar", own=False)
    assert "Too few records of this cohort to tell: ecg." in told("similar", own=False)
    assert not any("patients" in told(choice) for choice in ("similar", "all", "any"))


def test_the_interval_is_explained_as_what_it_is():
    """Of a probability it is that of the scale, of a number that of this patient; on paper as on the page."""
    scale, patient = (
        "how well the scale is known",
        "the value of a patient with these inputs lies in 95 of 100",
    )
    assert scale in text(risk(prediction(SICK)))
    assert patient not in text(risk(prediction(SICK)))
    assert patient in text(risk(prediction(STAY)))
    assert scale not in text(risk(prediction(STAY)))
    both = text(risk(Prediction("r", {"sepsis": SICK, EVIL: STAY}, NAMES, ())))
    assert "In brackets, for sepsis: how well" in both
    assert f"In brackets, for {EVIL}: where the value" in both
    assert "In brackets" not in text(risk(prediction(EMPTY))), "where there is no interval, none is explained"


@pytest.mark.parametrize("level", ["1", "Yes", "positive", "present"])
def test_a_level_that_says_no_more_than_its_task_is_left_out_everywhere(level):
    worth = ValueOfInformation("r", "sepsis", level, 0.1, WORTH.expected)
    assert text(next_test(worth)).split(" Dashed")[0].endswith("probability of sepsis")
    assert (
        "probability of sepsis "
        in f"{text(path(answer({'image': 1.0}, level=level), 'sepsis', ('image',)))} "
    )
    stage = ValueOfInformation("r", "stage", "1", 0.1, (Expectation("image", 0.1, 0.1, 0.2, 0.1, None, 50),))
    assert "probability of stage: 1" in text(next_test(stage)), "of several levels, 1 is the name of one"
