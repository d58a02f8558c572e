"""The target filter: a report says what the present modalities can show, all of it, and nothing else."""

import time
from itertools import chain, combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmmed.data.synthetic import generate, parse
from mmmed.language.labeller import Finding, FindingTable, Labeller
from mmmed.language.target_filter import TargetFilter, has_comparison

MODALITIES = ("image", "table", "text")
PATTERNS = tuple(chain.from_iterable(combinations(MODALITIES, count) for count in range(4)))
TELLS = {  # which modality tells a finding of the synthetic cohort
    **dict.fromkeys(("nodule", "effusion", "pneumothorax", "suspicion"), "image"),
    **dict.fromkeys(("raised ldh", "low albumin"), "table"),
    **dict.fromkeys(("cough", "haemoptysis", "symptoms"), "text"),
}


@pytest.fixture(scope="module")
def synthetic():
    return TargetFilter(Labeller("synthetic"), MODALITIES)


@pytest.fixture(scope="module")
def chest():
    return TargetFilter(Labeller("chest"), ("image", "labs", "prior"))


@pytest.fixture(scope="module")
def cohort():
    return generate(200, seed=5)


@pytest.mark.parametrize("present", PATTERNS, ids=lambda present: "+".join(present) or "nothing")
@pytest.mark.parametrize("column", ["report", "impression"])
def test_a_filtered_report_states_exactly_the_facts_of_what_is_present(synthetic, cohort, present, column):
    for text, statements in zip(cohort.table[column], cohort.labels[column], strict=True):
        wanted = tuple(one for one in statements if TELLS[one.finding] in present)
        assert parse(synthetic(text, present)) == wanted


def test_with_everything_there_a_report_comes_back_as_it_is(synthetic, cohort):
    for text in cohort.table["report"]:
        assert synthetic(text, MODALITIES) == text


@given(st.text(max_size=200), st.sampled_from(PATTERNS))
def test_filtering_twice_is_filtering_once_and_no_text_raises(text, present):
    own = TargetFilter(Labeller("synthetic"), MODALITIES)
    once = own(text, present)
    assert own(once, present) == once


SENTENCES = [
    "Stable mild cardiomegaly.",
    "The heart is stable.",
    "No pneumothorax, but the effusion has increased.",
    "Small effusion, unchanged from the prior study.",
    "New opacity; no edema.",
    "No acute disease.",
    "Nodule and raised LDH.",
    "Compared with the previous film, the effusion is smaller.",
    "1. Unchanged atelectasis.",
]


@given(st.lists(st.sampled_from(SENTENCES), max_size=5).map(" ".join), st.booleans())
def test_nothing_that_compares_or_needs_a_missing_picture_is_left(text, image):
    own = TargetFilter(Labeller("chest"), ("image", "prior"))
    left = own(text, ["image"] if image else [])
    assert not has_comparison(left)
    assert own(left, ["image"] if image else []) == left
    if not image:
        assert own.labeller.mentions(left) == ()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Stable mild cardiomegaly. No effusion.", "Mild cardiomegaly. No effusion."),
        ("2. Stable, mild volume loss.", "2. Mild volume loss."),
        ("The heart is stable.", ""),
        ("Stable chest.", ""),
        ("Small effusion, unchanged from the prior study. No edema.", "Small effusion. No edema."),
        ("Small effusion compared with the previous study.", "Small effusion."),
        ("The opacities appear increased as compared to the prior examination.", ""),
        ("No pneumothorax, but the effusion has increased.", "No pneumothorax."),
        ("The effusion has increased, but no pneumothorax.", ""),
        ("No pneumothorax; no change in the opacity.", "No pneumothorax."),
        ("Although no effusion is seen, there is a new opacity.", ""),
        ("The effusion has resolved.", ""),
        ("A nodule is again seen.", ""),
        ("New opacity.", ""),
        ("Heart size is normal.\nNo edema.", "Heart size is normal.\nNo edema."),
    ],
)
def test_comparisons_go_by_hand(chest, text, wanted):
    assert chest(text, ["image"]) == wanted
    assert chest(text, ["image", "prior"]) == text


@pytest.mark.parametrize(
    "text",
    [
        "Compared with the previous study.",
        "The heart is unchanged.",
        "Interval development of an effusion.",
        "Nodule again seen.",
        "Stable cardiomegaly.",
        "New since the last examination.",
        "No new opacity.",
        "As on the prior radiograph.",
        "The effusion has increased.",
        "Increased from 2 cm.",
        "The edema has resolved.",
        "The tube is no longer seen.",
        "No significant change.",
        "Improved aeration.",
        "COMPARISON: none.",
    ],
)
def test_comparisons_are_heard(text):
    assert has_comparison(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No effusion.",
        "Degenerative changes of the spine.",
        "No degenerative changes.",
        "History of cough since last month.",
        "Persistent dry cough.",
        "Prior granulomatous disease.",
        "Increased interstitial markings.",
        "Against the chest wall.",
        "Renewed examination is advised.",
    ],
)
def test_what_does_not_compare_is_left_alone(text):
    assert not has_comparison(text)


@pytest.mark.parametrize(
    "text",
    [
        "Effusion is larger.",
        "The nodule is slightly smaller.",
        "Effusion, larger.",
        "Aeration is better.",
        "Improving edema.",
        "Increasing left effusion.",
        "Decreasing atelectasis.",
        "Effusion, previously large, is now small.",
        "Nodule measures 12 mm, was 8 mm.",
        "A nodule of 12 mm, 8 mm before.",
        "Since yesterday the tube was removed.",
        "The effusion is now moderate.",
        "Scoliosis as before.",
    ],
)
def test_comparisons_without_the_word_prior_are_heard_and_go(chest, text):
    assert has_comparison(text)
    assert not has_comparison(chest(text, ["image"]))
    assert not chest.labeller.mentions(chest(text, ["image"]))
    assert chest(text, ["image", "prior"]) == text


@pytest.mark.parametrize(
    "text",
    [
        "The larger of the two nodules is in the left lung.",
        "The right effusion is larger than the left.",
        "Nodules, larger on the right.",
        "Smaller nodules in the left lung.",
        "Opacity is better seen on the lateral view.",
        "Edema is worse at the bases.",
        "A previously healthy man.",
        "The patient now presents with cough.",
        "Cough since yesterday.",
        "The nodule was 8 mm in diameter.",
    ],
)
def test_one_examination_compares_with_itself(chest, text):
    assert not has_comparison(text)
    assert chest(text, ["image"]) == text


@pytest.mark.parametrize(
    "text",
    ["The lungs are hyperexpanded.", "Scoliosis.", "Specifically.", "1. XXXX", "PA and lateral views."],
)
@pytest.mark.parametrize("name", ["chest", "breast-us", "synthetic"])
def test_a_sentence_that_the_table_does_not_know_needs_the_image(name, text):
    own = TargetFilter(Labeller(name), (*MODALITIES, "prior"))
    assert own(text, ["image"]) == text
    for present in ([], ["table", "text"], ["prior"]):
        assert own(text, present) == ""
        assert own(f"{text} No effusion.", present) == ""


def test_a_table_that_does_not_say_keeps_what_it_does_not_know():
    table = FindingTable("own", (Finding("mass", ("mass",), needs=("image",)), Finding("cyst", ("cyst",))))
    own = TargetFilter(Labeller(table), ("image", "text"))
    assert own("A mass. A cyst. Scoliosis.", ["text"]) == "A cyst. Scoliosis."
    assert own("A mass. A cyst. Scoliosis.", []) == "Scoliosis."


def test_any_of_the_needed_modalities_is_enough():
    table = FindingTable("own", (Finding("mass", ("mass",), needs=("ct", "mri")),), otherwise=("ct", "mri"))
    own = TargetFilter(Labeller(table), ("ct", "mri", "labs"))
    text = "A mass. Scoliosis."
    assert own(text, ["ct"]) == own(text, ["mri"]) == own(text, ["ct", "mri"]) == text
    assert own(text, ["labs"]) == own(text, []) == ""


def test_what_is_left_of_a_sentence_with_findings_has_findings(chest):
    table = FindingTable("own", (Finding("mass", ("mass",), needs=("ct",)),))
    own = TargetFilter(Labeller(table), ("ct", "labs"))
    assert own("As mentioned above, but a mass.", ["labs"]) == ""
    assert chest("Seen in the lateral view; the effusion has increased.", ["image"]) == ""
    assert chest("No pneumothorax; the effusion has increased.", ["image"]) == "No pneumothorax."


def test_no_synthetic_text_compares(cohort):
    assert not any(has_comparison(text) for text in cohort.table["report"])


def test_a_sentence_with_two_needs_keeps_the_clause_that_can_be_shown(synthetic):
    text = "Effusion on the right, but no symptoms."
    assert synthetic(text, ["image"]) == "Effusion on the right."
    assert synthetic(text, ["text"]) == ""
    assert synthetic("Cough and an effusion on the right.", ["text"]) == ""


def test_a_modality_that_the_schema_lacks_is_never_there():
    own = TargetFilter(Labeller("synthetic"), ("image",))
    assert own("Cough. No ptx.", ["image"]) == "No ptx."
    with pytest.raises(ValueError, match="Unknown modality 'text'"):
        own("Cough.", ["text"])
    with pytest.raises(ValueError, match=r"need image; the schema has xray.*names of the schema"):
        TargetFilter(Labeller("chest"), ("xray",))


@pytest.mark.parametrize(
    "unit", ["is now ", "previously ", ", was 8 x ", "8 mm", "is slowly ", "not ", ", ", "no longer "]
)
def test_a_long_text_is_read_for_comparisons_in_proportion(chest, unit):
    start = time.process_time()
    has_comparison(unit * 5_000)
    chest(unit * 2_000, ["image"])
    assert time.process_time() - start < 2
