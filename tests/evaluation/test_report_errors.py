"""The six errors: each by hand, matched as well as it can be, and blind to the order of sentences."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_reports import WordLabeller, compares, mention, reports

from mmmed.evaluation.report_errors import KINDS, Errors, count_errors, error_counts
from mmmed.language.labeller import Labeller
from mmmed.language.sentences import sentences

LABELLER = WordLabeller()
NONE = dict.fromkeys(KINDS, 0)


def errors(told, said, **options):
    return count_errors(told, said, LABELLER, compares=compares, **options)


@pytest.mark.parametrize(
    ("told", "said", "kinds"),
    [
        ("No effusion.", "Small right effusion.", {"false_findings": 1}),
        ("Nodule on the left.", "No nodule.", {"omissions": 1}),
        ("Nodule on the left.", "", {"omissions": 1}),
        ("Nodule in the left upper zone.", "Nodule in the right upper zone.", {"wrong_places": 1}),
        ("Nodule in the left upper zone.", "Nodule in the left lower zone.", {"wrong_places": 1}),
        ("Small left effusion.", "Large left effusion.", {"wrong_severities": 1}),
        ("Small left effusion.", "Large right effusion.", {"wrong_severities": 1, "wrong_places": 1}),
        ("Small effusion.", "Small effusion, unchanged.", {"new_comparisons": 1}),
        ("Small effusion, larger than before.", "Small effusion.", {"omitted_comparisons": 1}),
        (
            "Effusion unchanged. Nodule.",
            "Effusion. Nodule unchanged.",
            {"new_comparisons": 1, "omitted_comparisons": 1},
        ),
        ("Effusion unchanged.", "Effusion. All unchanged.", {}),
        ("No nodule.", "", {}),
        ("", "", {}),
        ("Small left effusion.", "Left effusion.", {}),
        ("Bilateral effusion.", "Right effusion. Left effusion.", {}),
        ("Bilateral effusion.", "Right effusion.", {"omissions": 1}),
        ("Bilateral effusion.", "Effusion.", {}),
        ("Bilateral effusion.", "", {"omissions": 1}),
        ("Small bilateral effusion.", "Large bilateral effusion.", {"wrong_severities": 1}),
        ("Effusion unchanged. Unchanged effusion.", "Effusion.", {"omitted_comparisons": 1}),
        (
            "Effusion unchanged. Unchanged effusion and nodule.",
            "Effusion. Nodule.",
            {"omitted_comparisons": 1},
        ),
        ("Effusion unchanged. Nodule unchanged.", "Effusion. Nodule.", {"omitted_comparisons": 2}),
        ("Effusion.", "Bilateral effusion.", {}),
        ("Nodule on the left. The nodule is small.", "Small nodule on the left.", {}),
        ("Nodule on the left. The nodule is small.", "Large nodule on the left.", {"wrong_severities": 1}),
        ("Small nodule on the left. Nodule on the left.", "Small left nodule.", {}),
        ("Small left nodule. Large left nodule.", "Small left nodule.", {"omissions": 1}),
    ],
)
def test_by_hand(told, said, kinds):
    assert errors(told, said).counts == {**NONE, **kinds}


def test_errors_show_what_makes_them():
    found = errors("Small left nodule. No effusion.", "Large right nodule. Effusion unchanged.")
    assert [item.finding for item in found.false_findings] == ["effusion"]
    told, said = found.wrong_places[0]
    assert (told.side, said.side) == ("left", "right")
    assert found.new_comparisons == ("Effusion unchanged.",)
    assert found.total == 4
    assert "wrong severity: large right nodule (reference: small left nodule)" in found.lines()
    assert str(Errors()) == "no error"


def test_several_nodules_are_matched_so_that_the_errors_are_fewest():
    told = "Small right upper nodule. Large left lower nodule. Left upper nodule."
    said = "Large left lower nodule. Small right middle nodule. Left upper nodule."
    assert errors(told, said).counts == {**NONE, "wrong_places": 1}


def test_the_matching_is_as_good_as_trying_every_one():
    """Three nodules each, one to one: the fewest errors over all 6 ways to match them."""
    rng = np.random.default_rng(0)
    words = (("right", "left"), ("upper", "middle", "lower"), ("small", "large"))
    for _ in range(40):
        told, said = ([tuple(str(rng.choice(w)) for w in words) for _ in range(3)] for _ in range(2))
        if len(set(told)) < 3 or len(set(said)) < 3:
            continue  # the same words twice are one nodule
        slow = min(
            sum((a[:2] != b[:2]) + (a[2] != b[2]) for a, b in zip(told, way, strict=True))
            for way in permutations(said)
        )
        texts = [
            " ".join(f"{size} nodule in the {side} {zone} zone." for side, zone, size in side_)
            for side_ in (told, said)
        ]
        assert errors(*texts).total == slow


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_order_of_sentences_changes_nothing(data):
    parts = st.lists(
        st.tuples(
            st.sampled_from(["", "No ", "Possible "]),
            st.sampled_from(["", "small ", "large "]),
            st.sampled_from(["", "left ", "right ", "bilateral "]),
            st.sampled_from(["", "upper ", "lower "]),
            st.sampled_from(["nodule", "effusion"]),
            st.sampled_from([".", " unchanged."]),
        ).map("".join),
        max_size=6,
    )
    told, said = data.draw(parts), data.draw(parts)
    order, other = data.draw(st.permutations(told)), data.draw(st.permutations(said))
    assert errors(" ".join(told), " ".join(order)).total == 0
    first = errors(" ".join(told), " ".join(said)).counts
    assert errors(" ".join(order), " ".join(other)).counts == first
    back = errors(" ".join(said), " ".join(told)).counts
    assert (back["omissions"], back["false_findings"]) == (first["false_findings"], first["omissions"])
    assert (back["wrong_places"], back["wrong_severities"]) == (
        first["wrong_places"],
        first["wrong_severities"],
    )


@pytest.mark.parametrize(
    ("parts", "said", "total"),
    [
        (("Bilateral effusion.", "Right effusion."), "", 1),
        (("Left nodule.", "The nodule is small.", "The nodule is large."), "Small right nodule.", 1),
    ],
)
def test_what_repeats_or_contradicts_itself_is_read_alike_in_any_order(parts, said, total):
    for order in permutations(parts):
        assert errors(" ".join(order), said).total == total


def test_an_uncertain_finding_counts_as_one_chooses():
    assert errors("Nodule.", "Possible nodule.").counts["omissions"] == 1
    assert errors("Nodule.", "Possible nodule.", uncertain="positive").total == 0


def test_two_words_for_one_place_or_degree_are_no_error():
    class Told:
        table = LABELLER.table

        def mentions(self, text):
            place, degree, size = text.split()
            return (mention("nodule", zone=place, severity=degree.strip("-"), millimetres=float(size)),)

    def total(told, said):
        return count_errors(told, said, Told(), compares=compares).counts

    assert total("upper small 0", "apical mild 0") == NONE
    assert total("upper - 10", "upper - 11") == NONE
    assert total("upper - 10", "upper - 13") == {**NONE, "wrong_severities": 1}
    assert total("upper small 10", "upper small 13") == NONE  # the words say the same
    assert total("lower - 0", "upper - 0") == {**NONE, "wrong_places": 1}


def test_counting_many_is_counting_each():
    told, said = reports(40)
    many = error_counts(told, said, LABELLER, compares=compares)
    each = [list(errors(a, b).counts.values()) for a, b in zip(told, said, strict=True)]
    np.testing.assert_array_equal(many, each)
    assert many.sum() > 20


# ------------------------------------------------------------------------------------------ the real labeller

CHEST = "Small right pleural effusion. Mild bibasilar atelectasis. Heart size is normal. No pneumothorax."


@pytest.mark.parametrize(
    ("said", "kinds"),
    [
        (CHEST, {}),
        ("No acute cardiopulmonary abnormality.", {"omissions": 2}),
        (CHEST.replace("right", "left"), {"wrong_places": 1}),
        (CHEST.replace("Small right", "Large right"), {"wrong_severities": 1}),
        (CHEST.replace("Small right pleural", "Right pleural"), {}),
        (CHEST.replace("No pneumothorax", "Left apical pneumothorax"), {"false_findings": 1}),
        (CHEST.replace("effusion.", "effusion, unchanged from the prior study."), {"new_comparisons": 1}),
    ],
)
def test_by_hand_with_the_chest_table(said, kinds):
    assert count_errors(CHEST, said, Labeller("chest")).counts == {**NONE, **kinds}


def test_sentences_of_a_chest_report_may_come_in_any_order():
    labeller = Labeller("chest")
    for order in permutations(sentences(CHEST)):
        assert count_errors(CHEST, " ".join(order), labeller).total == 0
