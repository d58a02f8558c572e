"""Eleven modalities: not every subset is asked about, which is said, and never taken for nothing known."""

import html
import re

import pytest
from mmmed_demo.panels.compare import compare
from mmmed_demo.panels.path import path
from mmmed_demo.panels.shares import shares
from mmmed_demo.panels.subsets import subsets
from mmmed_demo.panels.summary import record_json

from mmmed.types import Answer, Prediction, Record, Schema, Text
from mmmed.types.prediction import Partial

NAMES = tuple(f"m{k}" for k in range(11))


def text(fragment):
    words = re.sub(r"<[^>]*>", " ", re.sub(r"<svg.*?</svg>", " ", fragment))
    return " ".join(html.unescape(words).split())


@pytest.fixture
def whole():
    """As `mmmed.predict` answers: of more than ten modalities only the prefixes, and no shares."""
    parts = {NAMES[:size]: Partial({"1": 0.3 + 0.05 * size}) for size in range(12)}
    way = tuple((name, parts[NAMES[: k + 1]].values) for k, name in enumerate(NAMES))
    return Answer("binary", parts[NAMES].values, parts[()].values, way, subsets=parts)


def test_too_many_for_shares_is_not_nothing_known(whole):
    said = text(shares(whole, NAMES, "sepsis"))
    assert "With 11 modalities there are too many orders for exact shares" in said
    assert "Nothing is known" not in said
    nobody = Answer("binary", {"1": 0.3}, {"1": 0.3}, subsets={(): Partial({"1": 0.3})})
    assert "Nothing is known" in shares(nobody, NAMES, "sepsis")


def test_what_is_on_may_be_none_of_the_subsets_that_were_asked_about(whole):
    said = text(subsets(whole, NAMES[3:], NAMES, "sepsis"))
    assert "11 modalities have too many subsets to ask about all" in said
    everything = text(subsets(whole, NAMES, NAMES, "sepsis"))
    assert "without m10" in everything
    assert "as far as they are among the 12 that were asked about" in everything
    alone = Answer("binary", {"1": 0.5}, {"1": 0.3}, whole.trajectory, subsets={NAMES: Partial({"1": 0.5})})
    assert "There is nothing to take away" not in text(subsets(alone, NAMES, NAMES, "sepsis"))


def test_subsets_of_many_modalities_are_not_counted_through():
    names = tuple(f"m{k}" for k in range(40))  # 2 ** 40 subsets would never end
    parts = {names[:size]: Partial({"1": 0.5}) for size in range(41)}
    one = Answer("binary", {"1": 0.5}, {"1": 0.5}, subsets=parts)
    assert "whatever is known" in text(subsets(one, names, names, "sepsis"))


def test_the_other_panels_hold_with_any_switch(whole):
    for on in (NAMES, NAMES[3:], ()):
        off = [name for name in NAMES if name not in on]
        assert path(whole, "sepsis", NAMES[::-1], off)
    assert compare(whole, whole, "sepsis")


def test_the_record_can_be_taken_home_after_another_order(whole):
    record = Record("a1", {name: "seen" for name in NAMES})
    seen = Prediction("a1", {"sepsis": whole}, NAMES, ())
    schema = Schema({name: Text(name) for name in NAMES})
    kept = record_json(record, seen, schema, NAMES, order=NAMES[::-1])
    assert [step["given"] for step in kept["path"]["sepsis"]] == list(NAMES), "in the order of fusion"
