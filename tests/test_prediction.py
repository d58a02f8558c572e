"""The prediction card: JSON, text and HTML say the same, escape what data bring, never claim certainty."""

import json
import re
from dataclasses import replace

import pytest

from mmmed.types import Answer, Partial, Prediction
from mmmed.types.prediction import NOTICE

EVIL = "<script>alert('x')</script>&\""


def binary(**changes):
    answer = {
        "kind": "binary",
        "values": {"yes": 0.81},
        "prior": {"yes": 0.3},
        "trajectory": (("image", {"yes": 0.55}), ("labs", {"yes": 0.81})),
        "contributions": {"image": 1.1, "labs": 1.2},
        "interval": {"yes": (0.7, 0.9)},
    }
    return Answer(**{**answer, **changes})


def prediction(**answers):
    return Prediction(
        "r7",
        answers or {"sepsis": binary()},
        used=("image", "labs"),
        missing=("note",),
        missing_cells={"labs": ("crp",)},
        notes=("a remark",),
    )


STAGE = Answer(
    "multiclass",
    values={"I": 0.2, "II": 0.7, "III": 0.1},
    prior={"I": 0.5, "II": 0.3, "III": 0.2},
    trajectory=(("image", {"I": 0.2, "II": 0.7, "III": 0.1}),),
    contributions={"image": 1.7},
)
DAYS = Answer(
    "regression", {"days": 6.5}, {"days": 4.0}, (("image", {"days": 6.5}),), {"image": 2.5}, unit="d"
)
SIGNS = Answer("multilabel", {"cough": 0.4, "fever": 0.6}, {"cough": 0.5, "fever": 0.5})


def test_the_leading_level_is_the_likeliest_or_the_only_one():
    assert (binary().leading, binary().value) == ("yes", 0.81)
    assert (STAGE.leading, STAGE.value) == ("II", 0.7)
    assert (DAYS.leading, DAYS.value) == ("days", 6.5)
    assert prediction()["sepsis"].leading == "yes"


def test_the_json_form_holds_everything_and_only_plain_things():
    image = {("image",): Partial({"yes": 0.55}, {"yes": (0.4, 0.6)})}
    data = json.loads(
        json.dumps(
            prediction(sepsis=binary(subsets=image), stage=STAGE, days=DAYS).to_dict(), allow_nan=False
        )
    )
    assert data["id"] == "r7"
    assert data["answers"]["sepsis"] == {
        "kind": "binary",
        "values": {"yes": 0.81},
        "interval": {"yes": [0.7, 0.9]},
        "prior": {"yes": 0.3},
        "trajectory": [
            {"after": "image", "values": {"yes": 0.55}},
            {"after": "labs", "values": {"yes": 0.81}},
        ],
        "contributions": {"image": 1.1, "labs": 1.2},
        "unit": None,
        "set": None,
        "subsets": [{"seen": ["image"], "values": {"yes": 0.55}, "interval": {"yes": [0.4, 0.6]}}],
    }
    assert data["answers"]["days"]["unit"] == "d"
    assert (data["used"], data["missing"], data["missing_cells"]) == (
        ["image", "labs"],
        ["note"],
        {"labs": ["crp"]},
    )
    assert (data["notes"], data["notice"]) == (["a remark"], NOTICE)


def test_the_text_tells_answer_way_and_gaps():
    text = str(prediction())
    assert repr(prediction()) == text
    for part in (
        "record r7",
        "sepsis: 81 % [70 % to 90 %]",
        "nothing known 30 %  ->  + image 55 %  ->  + labs 81 %",
        "used: image, labs; missing: note",
        "not recorded in labs: crp",
        "note: a remark",
        NOTICE,
    ):
        assert part in text


def test_the_text_of_the_other_kinds():
    text = str(prediction(stage=STAGE, days=DAYS, signs=SIGNS))
    assert "stage: II 70 %" in text
    assert "nothing known I 50 %" in text
    assert "days: 6.5 d" in text
    assert "signs: cough 40 %, fever 60 %" in text


def test_with_nothing_used_or_missing_it_says_so():
    empty = Prediction("x", {"sepsis": binary(trajectory=(), contributions={})}, (), ("image",))
    assert "used: nothing; missing: image" in str(empty)
    assert "<b>Used</b> nothing" in empty._repr_html_()
    assert "missing: nothing" in str(Prediction("x", {}, ("image",), ()))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "< 0.1 %"),
        (0.0004, "< 0.1 %"),
        (0.004, "0.4 %"),
        (0.256, "26 %"),
        (0.996, "99.6 %"),
        (1.0, "> 99.9 %"),
    ],
)
def test_no_probability_is_shown_as_certain(value, text):
    card = prediction(sepsis=binary(values={"yes": value}, trajectory=(), interval={}))
    assert f"sepsis: {text}" in str(card)
    assert text.replace("<", "&lt;").replace(">", "&gt;") in card._repr_html_()


def bars(html):
    """(name, width of the bar in %, number beside it, contribution) of each line of the card."""
    pattern = r"<tr><td[^>]*>(.*?)</td>.*?width:([\d.]+)%.*?</td><td[^>]*>(.*?)</td><td[^>]*>(.*?)</td></tr>"
    return [(name, float(width), said, share) for name, width, said, share in re.findall(pattern, html)]


def test_every_step_has_a_bar_as_long_as_its_probability():
    assert bars(prediction()._repr_html_()) == [
        ("nothing known", 30.0, "30 %", ""),
        ("+ image", 55.0, "55 %", "+1.10 log-odds"),
        ("+ labs", 81.0, "81 %", "+1.20 log-odds"),
    ]


def test_the_number_beside_a_bar_is_the_number_of_the_bar():
    # Several classes: all lines are about the leading one of the end, not each about its own.
    html = prediction(stage=STAGE)._repr_html_()
    assert bars(html) == [("nothing known", 30.0, "30 %", ""), ("+ image", 70.0, "70 %", "+1.70 log-odds")]
    assert "<b>stage: II</b>" in html


def test_the_bars_of_a_regression_span_its_way_and_shares_carry_the_unit():
    assert bars(prediction(days=DAYS)._repr_html_()) == [
        ("nothing known", 0.0, "4 d", ""),
        ("+ image", 100.0, "6.5 d", "+2.50 d"),
    ]
    flat = Answer("regression", {"days": 4.0}, {"days": 4.0})
    assert bars(prediction(days=flat)._repr_html_()) == [("nothing known", 50.0, "4", "")]


def test_the_set_is_said_in_text_card_and_json():
    said = prediction(sepsis=binary(set=("no", "yes")))
    assert "90 % prediction set: no or yes" in str(said)
    assert "90 % prediction set: no or yes" in said._repr_html_()
    assert json.loads(json.dumps(said.to_dict()))["answers"]["sepsis"]["set"] == ["no", "yes"]


def test_an_empty_set_is_not_the_same_as_no_set():
    empty = prediction(sepsis=binary(set=()))
    assert "90 % prediction set: none of the levels" in str(empty)
    assert empty.to_dict()["answers"]["sepsis"]["set"] == []
    labels = prediction(signs=replace(SIGNS, set=()))
    assert "no label" in str(labels)
    never = prediction()
    assert "excluded" not in str(never) + never._repr_html_()
    assert never.to_dict()["answers"]["sepsis"]["set"] is None


def test_the_levels_of_a_set_are_escaped():
    card = prediction(sepsis=binary(set=(EVIL,)))._repr_html_()
    assert "<script>" not in card
    assert "&lt;script&gt;" in card


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "regression"])
def test_the_card_escapes_whatever_comes_from_data(kind):
    values = {EVIL: 0.4} if kind in ("binary", "regression") else {EVIL: 0.4, "b": 0.1}
    answer = Answer(kind, values, values, ((EVIL, values),), {EVIL: 0.1}, {EVIL: (0.1, 0.9)}, unit=EVIL)
    html = Prediction(EVIL, {EVIL: answer}, (EVIL,), (EVIL,), {EVIL: (EVIL,)}, (EVIL,))._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert set(re.findall(r"</?([a-z]+)", html)) <= {"div", "b", "span", "table", "tr", "td", "br"}
    assert EVIL not in html
    assert len(re.findall(r'style="[^"]*"', html)) == html.count("style=")  # no quote left an attribute


def test_a_modality_called_like_a_step_is_no_trouble():
    answer = binary(trajectory=(("nothing known", {"yes": 0.81}),), contributions={"nothing known": 2.3})
    assert [line[3] for line in bars(prediction(sepsis=answer)._repr_html_())] == ["", "+2.30 log-odds"]


def test_the_notice_is_on_every_form():
    assert NOTICE in str(prediction())
    assert NOTICE in prediction()._repr_html_()
    assert NOTICE in json.dumps(prediction().to_dict())


def test_a_subset_is_found_in_any_order_and_an_unused_modality_is_refused():
    parts = {(): 0.3, ("image",): 0.5, ("labs",): 0.6, ("image", "labs"): 0.8}
    answer = binary(subsets={seen: Partial({"yes": value}) for seen, value in parts.items()})
    assert answer.given("labs", "image").values == {"yes": 0.8}
    assert answer.given().values == {"yes": 0.3}
    assert [part.values["yes"] for _, part in answer.along(("labs", "image"))] == [0.6, 0.8]
    with pytest.raises(ValueError, match="note"):
        answer.given("note")


def test_subsets_that_were_too_many_to_compute_say_so():
    way = {(): Partial({"yes": 0.3}), ("a",): Partial({"yes": 0.4}), ("a", "b"): Partial({"yes": 0.5})}
    with pytest.raises(ValueError, match="too many"):
        binary(subsets=way).given("b")
