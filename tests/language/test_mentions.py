"""Mentions: side, zone and size belong to their own term, in pairs, and go on over "and" and "none"."""

import time

import pytest

from mmmed.language.labeller import STATUSES, Labeller
from mmmed.language.mentions import ClauseReader

P, U, A = STATUSES
CHEST, SYNTHETIC = Labeller("chest"), Labeller("synthetic")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Small right pleural effusion.", [("Pleural Effusion", "right", "", "small", 0)]),
        ("Trace bilateral effusions.", [("Pleural Effusion", "bilateral", "", "tiny", 0)]),
        ("Effusions on the right and left.", [("Pleural Effusion", "bilateral", "", "", 0)]),
        ("A 1.5 cm nodule in the left upper lobe.", [("Lung Lesion", "left", "upper", "", 15)]),
        ("A nodule, 12 x 8 mm, at the right apex.", [("Lung Lesion", "right", "apical", "", 12)]),
        ("Severe bibasilar atelectasis.", [("Atelectasis", "bilateral", "basal", "severe", 0)]),
        ("Minimal scarring near a large effusion.", [("Pleural Effusion", "", "", "large", 0)]),
        ("RLL consolidation.", [("Consolidation", "right", "lower", "", 0)]),
        (
            "Large left effusion and mild right basilar atelectasis.",
            [("Pleural Effusion", "left", "", "large", 0), ("Atelectasis", "right", "basal", "mild", 0)],
        ),
        (
            "Effusion on the right, small pneumothorax on the left.",
            [("Pleural Effusion", "right", "", "", 0), ("Pneumothorax", "left", "", "small", 0)],
        ),
        ("The heart is mildly enlarged.", [("Cardiomegaly", "", "", "mild", 0)]),
    ],
)
def test_side_zone_and_severity_belong_to_their_own_term(text, wanted):
    found = [(m.finding, m.side, m.zone, m.severity, m.millimetres) for m in CHEST.mentions(text)]
    assert found == wanted


def test_a_mention_knows_its_sentence_and_its_words():
    first, second = CHEST.mentions("CARDIOMEGALY. Unclear shadow. LEFT Pleural Effusions.")
    assert (first.sentence, second.sentence, second.text) == (0, 2, "effusions")
    assert first.finding == "Cardiomegaly"
    assert dict(second.attributes) == {"side": "left"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Nodule in the right upper and left lower zone.", ["right upper", "left lower"]),
        ("Nodules in the right upper zone and the left upper zone.", ["right upper", "left upper"]),
        ("Nodules in the right upper zone, and the left lower zone.", ["right upper", "left lower"]),
        ("Nodules in the right and left upper zones.", ["right upper", "left upper"]),
        ("Nodules in the right upper and lower zones.", ["right upper", "right lower"]),
        ("Nodules in the left upper, middle and lower zones.", ["left upper", "left middle", "left lower"]),
        ("Nodules RUZ and LLZ.", ["right upper", "left lower"]),
        ("Bilateral upper zone nodules.", ["right upper", "left upper"]),
        ("Nodule in the upper left zone.", ["left upper"]),
    ],
)
@pytest.mark.parametrize(("start", "status"), [("{}", P), ("No {}", A), ("Possible {}", U)])
def test_side_and_zone_go_in_pairs(text, wanted, start, status):
    text = start.format(text if start == "{}" else text[0].lower() + text[1:])
    assert SYNTHETIC.labels(text) == {f"nodule, {place}": status for place in wanted}


@pytest.mark.parametrize("end", ["none on the left", "but none on the left", "none seen on the left"])
def test_none_at_a_place_denies_the_finding_before_it(end):
    assert SYNTHETIC.labels(f"Effusion on the right, {end}.") == {"effusion, right": P, "effusion, left": A}
    first, second = SYNTHETIC.mentions(f"A large effusion on the right, {end}.")
    assert (first.side, first.status, first.severity) == ("right", P, "large")
    assert (second.side, second.status, second.severity) == ("left", A, "")


def test_bilateral_counts_as_right_and_as_left():
    assert SYNTHETIC.labels("Bilateral effusions.") == {"effusion, right": P, "effusion, left": P}
    assert SYNTHETIC.labels("No effusion.") == {"effusion, right": A, "effusion, left": A}
    assert SYNTHETIC.labels("No effusion on the left.") == {"effusion, left": A}


def test_a_finding_without_its_side_is_uncertain_on_each_unless_it_was_named():
    assert SYNTHETIC.labels("An effusion.") == {"effusion, right": U, "effusion, left": U}
    assert SYNTHETIC.labels("Effusion on the left. The effusion.") == {"effusion, left": P}
    vague = SYNTHETIC.labels("A nodule on the right.")
    assert vague == {f"nodule, right {zone}": U for zone in ("upper", "middle", "lower")}


@pytest.mark.parametrize(
    ("millimetres", "wanted"),
    [
        (12, set()),
        (13, set()),
        (20, set()),
        (21, {"size medium"}),
        (29, {"size medium"}),
        (30, {"size large"}),
    ],
)
def test_a_measurement_stands_for_its_word(millimetres, wanted):
    labels = SYNTHETIC.labels(f"A spiculated nodule in the left upper zone, {millimetres} mm.")
    margin = {"margin spiculated"} if millimetres > 12 else set()  # a tiny nodule has no labels of its looks
    assert set(labels) == {"nodule, left upper", *wanted, *margin}


def places(text):
    return [(one.side, one.zone) for one in CHEST.mentions(text)]


def test_two_sides_of_one_zone_are_one_mention():
    assert places("Opacities in the right and left lower lobes.") == [("bilateral", "lower")]
    assert places("Opacity in the right middle and left lower lobe.") == [
        ("right", "middle"),
        ("left", "lower"),
    ]
    assert places("Right lower lobe opacity, retrocardiac.") == [("right", "lower")]
    assert places("Opacity.") == [("", "")]


def test_a_clause_goes_on_only_if_it_names_nothing_but_a_place():
    reader = ClauseReader(CHEST.table)
    (last,) = reader.read("a large effusion on the right")
    assert [one.side for one in reader.continued("the left.", last)] == ["left"]
    assert [one.severity for one in reader.continued("the left.", last)] == ["large"]
    for clause in ("the left lung is clear", "none of them", "the", "", "none", "the heart", "."):
        assert list(reader.continued(clause, last)) == []


def test_a_denied_normal_state_is_open_and_a_denied_abnormal_one_is_absent():
    reader = ClauseReader(CHEST.table)
    for clause, status in (
        ("heart size is normal", A),
        ("heart size is not normal", U),
        ("not enlarged heart", A),
    ):
        assert {one.status for one in reader.read(clause) if one.finding == "Cardiomegaly"} == {status}


def test_an_own_table_may_have_no_places():
    table = {"name": "own", "findings": [{"name": "a", "patterns": ["mass"]}], "attributes": {}}
    (only,) = Labeller(table).mentions("A mass on the right and the left.")
    assert (only.side, only.zone, only.attributes) == ("", "", ())


def test_no_sentence_of_places_takes_long():
    for unit in ("right upper ", "left, ", "the and ", "lower and left ", "mid-lung/"):
        for start in ("effusion on the right and the ", "effusion, none on the ", "effusion on the "):
            begun = time.process_time()
            CHEST.mentions(start + unit * 120 + "x")
            assert time.process_time() - begun < 0.5, (start, unit)
