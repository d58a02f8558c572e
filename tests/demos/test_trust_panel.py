"""How far to trust it: a tick is earned, and the score is told in the words of its task."""

import html
import math
import re

import pytest
from mmmed_demo.panels.trust import trust

from mmmed.evaluation.bootstrap import Estimate

TICK = "\u2713"
CAUTION = "Patients who truly lack the rest may differ."


def text(fragment):
    """What eyes read, one space between words."""
    words = re.sub(r"<[^>]*>", " ", re.sub(r"<svg.*?</svg>", " ", fragment))
    return re.sub(r" ([.,])", r"\1", " ".join(html.unescape(words).split()))


def axis(fragment):
    return re.findall(r"<text[^>]*>(.*?)</text>", fragment)


def row(value=0.785, low=0.718, high=0.850, n=180, score="auroc", **more):
    return {"kind": "subset", "n": n, score: Estimate(value, low, high, n, n), **more}


def told(line, records=60, **more):
    return text(trust(line, ("table",), records, 20, "sepsis", **more))


def test_trust_is_only_given_where_test_and_training_had_such_patients():
    row = {"kind": "subset", "n": 180, "auroc": Estimate(0.785, 0.718, 0.850, 180, 180)}
    plain = {"kind": "subset", "n": 180, "auroc": 0.785, "auroc_low": 0.718, "auroc_high": 0.850}
    told = trust(row, ("table",), 60, 20, "sepsis")
    assert told == trust(plain, ("table",), 60, 20, "sepsis")
    assert "Tested on 180 records" in text(told)
    assert "[0.72 to 0.85]" in text(told)
    for doubtful in (
        trust(row, ("table",), 19, 20, "sepsis"),
        trust({**plain, "n": 5}, ("table",), 60, 20, "sepsis"),
        trust(None, ("table",), 60, 20, "sepsis"),
        trust(
            {"n": 180, "auroc": Estimate(math.nan, math.nan, math.nan, 180, 9)}, ("table",), 60, 20, "sepsis"
        ),
    ):
        assert "not been tested" in text(doubtful)
    assert "Nothing is known of this patient" in text(trust(row, (), 60, 20, "sepsis"))


def test_records_from_which_the_rest_was_hidden_count_as_seen_in_training():
    row = {"kind": "subset", "n": 180, "auroc": 0.79}
    told = text(trust(row, ("table",), 0, 20, "sepsis", could=840))
    assert "Tested on 180 records" in told
    assert "0 training records had exactly table; from 840 others the rest was hidden" in told
    assert "not been tested" in text(trust(row, ("table",), 0, 20, "sepsis", could=19))


def test_no_better_than_guessing_earns_no_tick():
    assert told(row()).startswith(TICK)
    lots = told(row(0.51, 0.33, 0.68))
    assert TICK not in lots
    assert "Not shown to be better than guessing on 180 records that were shown with only table" in lots
    assert TICK not in told(row(0.62, 0.5, 0.74))
    assert "Worse than guessing on 180 records" in told(row(0.31, 0.2, 0.42))


def test_a_test_by_hiding_says_that_who_truly_lacks_the_rest_may_differ():
    assert CAUTION in told(row())
    assert CAUTION in told(row(), records=5)
    assert CAUTION not in told({**row(), "kind": "pattern"})
    assert CAUTION not in told(row(changed=0.0)), "nothing was hidden"
    assert "Tested on 180 records with table: AUROC" in told(row(changed=0.0))


def test_what_the_training_never_met_as_it_came_earns_no_tick():
    assert told(row(), records=0, could=840).startswith("~")
    assert told(row(), records=20, could=840).startswith(TICK)


def test_a_table_with_empty_cells_is_not_the_one_that_was_tested():
    lacking = told(row(), cells={"table": ("crp", "<b>age"), "labs": ("ph",)})
    assert lacking.startswith("~ Tested on 180 records")
    assert "but this patient lacks crp and <b>age in table." in lacking
    assert "ph" not in lacking.split(), "what is off is no cell of the pattern"
    assert "lacks 4 columns in table" in told(row(), cells={"table": ("a", "b", "c", "d")})
    assert told(row(), cells={"table": ()}).startswith(TICK)


def test_how_many_of_the_tested_records_had_it_all_is_said():
    both = told(row(), had=24), told(row(had=24))
    assert both[0] == both[1]
    assert "Tested on 180 records that were shown with only table, of which 24 had all of it" in both[0]
    assert "The others of these were scored on what they had of it." in both[0]
    assert "of which" not in told(row(), had=180)
    assert "12 test records are too few to tell" in told(row(), had=12)


def test_of_the_records_of_a_strange_cohort_no_training_is_claimed():
    strange = told(row(), records=60, could=200, own=False)
    assert "training record" not in strange
    assert "this cohort may not be the one of its training" in strange
    assert strange == told(row(), records=0, could=0, own=False), "its counts say nothing of the model"
    assert "training record" not in told(None, own=False)


def test_the_score_is_told_in_the_words_of_its_task():
    assert "two patients who differ in sepsis" in told(row())
    stage, signs = told(row(), kind="multiclass"), told(row(), kind="multilabel")
    assert "a level of sepsis and one without it" in stage
    assert "a label of sepsis and one without it" in signs
    assert all("78 of 100 pairs" in said or "79 of 100 pairs" in said for said in (stage, signs))
    assert "two patients who differ" not in stage + signs


def test_an_error_has_its_unit_and_starts_at_nothing():
    shown = trust(row(3.2, 2.1, 4.4, score="mae"), ("table",), 60, 20, "stay", kind="regression", unit="<d>")
    assert "On average, stay was missed by 3.2 <d>." in text(shown)
    assert "mean error 3.2 <d>" in text(shown)
    assert "[2.1 to 4.4 <d>]" in text(shown)
    assert "mean absolute error [<d>]" in text(shown)
    assert axis(shown)[0] == "0"
    assert axis(trust(row(0.02, 0.01, 0.03, score="mae"), ("table",), 60, 20, "stay"))[0].strip("0.") == ""


@pytest.mark.parametrize(
    ("value", "low", "first"), [(0.8, 0.7, "0.5"), (0.41, 0.31, "0.3"), (0.31, 0.12, "0.00")]
)
def test_the_axis_reaches_down_to_where_the_score_is(value, low, first):
    shown = trust(row(value, low, 0.9), ("table",), 60, 20, "sepsis")
    assert axis(shown)[0] == first
    left, right = float(first), 1.0
    (place,) = re.findall(r'<circle[^>]*cx="([\d.]+)%"', shown)
    assert float(place) == pytest.approx(100 * (value - left) / (right - left), abs=0.01)
    assert ("below: worse" in shown) == (low < 0.5)
