"""Questions: English for every finding of every table, and no answer that the report does not give."""

from itertools import product

import pytest

from mmmed.data.synthetic import generate
from mmmed.language.finding_tables import NAMES, Finding, FindingTable
from mmmed.language.labeller import STATUSES, Labeller
from mmmed.language.questions import (
    ANSWERS,
    answer_of,
    ask_of_question,
    ask_of_topic,
    closed_questions,
    words_of_prompts,
)

SYNTHETIC = Labeller("synthetic")
ASKED = {question.text: question for question in closed_questions(SYNTHETIC)}


def asked_of(*findings):
    """The questions of a table of these findings."""
    own = tuple(one if isinstance(one, Finding) else Finding(one, ("a",)) for one in findings)
    return [question.text for question in closed_questions(Labeller(FindingTable("own", own)))]


def answer(question, report):
    return answer_of(ASKED[question], SYNTHETIC.labels(report))


@pytest.mark.parametrize(
    ("report", "whole", "right", "left"),
    [
        ("Effusion on the right.", "Yes.", "Yes.", "No."),
        ("Effusion on the right, none on the left.", "Yes.", "Yes.", "No."),
        ("Bilateral effusions.", "Yes.", "Yes.", "Yes."),
        ("No effusion.", "No.", "No.", "No."),
        ("No effusion on the right.", None, "No.", None),
        ("Possible effusion on the right.", "Uncertain.", "Uncertain.", None),
        ("An effusion.", "Uncertain.", "Uncertain.", "Uncertain."),
        ("No nodule.", None, None, None),
        ("", None, None, None),
    ],
)
def test_answers_by_hand(report, whole, right, left):
    stem = "Is there an effusion"
    told = [answer(f"{stem}{place}?", report) for place in ("", " on the right", " on the left")]
    assert told == [whole, right, left]


def test_a_finding_at_one_place_is_not_at_the_others():
    report = "A nodule in the right upper zone."
    places = {text: answer(text, report) for text in ASKED if text.startswith("Is there a nodule in")}
    assert places.pop("Is there a nodule in the right upper zone?") == "Yes."
    assert list(places.values()) == ["No."] * 5
    assert answer("Is there a pneumothorax?", report) is None


@pytest.mark.parametrize("statuses", product((None, *STATUSES), repeat=2))
def test_a_no_is_stated_or_follows_from_a_yes_elsewhere(statuses):
    labels = ("effusion, right", "effusion, left")
    stated = {label: status for label, status in zip(labels, statuses, strict=True) if status}
    for label, other in (labels, labels[::-1]):
        said = answer_of(ASKED[f"Is there an effusion on the {label.split()[-1]}?"], stated)
        follows = label not in stated and stated.get(other) == "present"
        assert said == (ANSWERS["absent"] if follows else ANSWERS.get(stated.get(label)))
    whole = answer_of(ASKED["Is there an effusion?"], stated)
    assert (whole == "Yes.") == ("present" in statuses)
    assert (whole == "No.") == (statuses == ("absent", "absent"))


def test_every_answer_agrees_with_the_truth_of_the_cohort():
    cohort = generate(100, seed=8)
    seen = set()
    for text, truth in zip(cohort.table["report"], cohort.labels["report"], strict=True):
        stated = SYNTHETIC.labels(text)
        for side in ("right", "left"):
            said = answer_of(ASKED[f"Is there an effusion on the {side}?"], stated)
            own = [one for one in truth if one.finding == "effusion"]
            if said == "Yes.":
                assert any(one.status == "present" and one.side == side for one in own)
            elif said == "No.":
                assert own
                assert not any(one.status == "present" and one.side in (side, "") for one in own)
            seen.add(said)
    assert {"Yes.", "No."} <= seen


@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("edema", "Is there edema?"),
        ("cough", "Is there cough?"),
        ("haemoptysis", "Is there haemoptysis?"),
        ("Cardiomegaly", "Is there cardiomegaly?"),
        ("Atelectasis", "Is there atelectasis?"),
        ("Consolidation", "Is there consolidation?"),
        ("Pneumonia", "Is there pneumonia?"),
        ("pleural fluid", "Is there pleural fluid?"),
        ("skin thickening", "Is there skin thickening?"),
        ("Support Devices", "Are there support devices?"),
        ("rib fractures", "Are there rib fractures?"),
        ("bullae", "Are there bullae?"),
        ("mass", "Is there a mass?"),
        ("thrombus", "Is there a thrombus?"),
        ("lens", "Is there a lens?"),
        ("ulcer", "Is there an ulcer?"),
        ("PTX", "Is there a PTX?"),
        ("LDH rise", "Is there an LDH rise?"),
    ],
)
def test_questions_are_english(name, question):
    assert asked_of(name) == [question]


def test_names_that_are_no_nouns_bring_their_own_question():
    assert {"Is the LDH raised?", "Is the albumin low?"} <= set(ASKED)
    chest = [question.text for question in closed_questions(Labeller("chest"))]
    assert "Is the mediastinum wide?" in chest
    assert not any("pleural other" in text or "no finding" in text for text in chest)
    breast = [question.text for question in closed_questions(Labeller("breast-us"))]
    assert {"Is the shape oval?", "Is the category BI-RADS 4a?", "Is there a halo?"} <= set(breast)
    own = Finding("warm", ("warm",), by=("side",), question="Is the knee warm?")
    assert asked_of(own) == [f"Is the knee warm{place}?" for place in ("", " on the right", " on the left")]


@pytest.mark.parametrize("name", NAMES)
def test_every_topic_is_asked_for_once_and_its_places_too(name):
    labeller = Labeller(name)
    questions = closed_questions(labeller)
    assert len({question.text for question in questions}) == len(questions)
    assert {question.finding for question in questions} == set(labeller.topics)
    for question in questions:
        assert set(question.labels) <= set(labeller.table.labels)
        assert not set(question.labels) & set(question.beside)
        assert question.text == " ".join(question.text.split())
        assert question.text.endswith("?")


def test_prompts_are_one_line_and_the_tokenizer_learns_them():
    assert ask_of_topic(" pleural\n effusion ") == "pleural effusion:"
    assert ask_of_question("Is there\ncough?") == "Is there cough? answer:"
    words = words_of_prompts(SYNTHETIC)
    assert {" effusion:", " Is there cough? answer:", "Uncertain."} <= set(words)
    assert " suspicion:" not in words  # no label, so no topic
    assert " No Finding:" not in words_of_prompts(Labeller("chest"))
