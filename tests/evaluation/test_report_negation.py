"""A flipped negation must cost something; what does not notice it is called blind."""

import pytest
from small_reports import WordLabeller, reports

from mmmed.evaluation.report_errors import error_counts
from mmmed.evaluation.report_findings import finding_f1
from mmmed.evaluation.report_negation import flip_negation, negation_flip, negation_table
from mmmed.evaluation.report_overlap import bleu, rouge_l
from mmmed.language.labeller import Labeller

pytest.importorskip("sacrebleu")
pytest.importorskip("rouge_score")

WORDS, CHEST, SYNTHETIC = WordLabeller(), Labeller("chest"), Labeller("synthetic")


@pytest.mark.parametrize(
    ("labeller", "text", "flipped"),
    [
        (CHEST, "No pleural effusion.", "Pleural effusion."),
        (CHEST, "Pleural effusion.", "No pleural effusion."),
        (CHEST, "There is a small left effusion.", "There is no small left effusion."),
        (CHEST, "There is no pneumothorax.", "There is pneumothorax."),
        (CHEST, "No evidence of pneumonia.", "Pneumonia."),
        (CHEST, "The heart is enlarged.", "The heart is not enlarged."),
        (CHEST, "Heart size is normal.", "Heart size is enlarged."),
        (CHEST, "No effusion or pneumothorax.", "Effusion but no pneumothorax."),
        (
            CHEST,
            "Clear without edema, effusion or pneumonia.",
            "Clear with edema but no effusion or pneumonia.",
        ),
        (CHEST, "Cardiac contours are within normal limits.", "Cardiac contours are enlarged."),
        (SYNTHETIC, "Raised LDH.", "Normal LDH."),
        (SYNTHETIC, "LDH is raised.", "LDH is not raised."),
        (SYNTHETIC, "History of dry cough.", "No history of dry cough."),
    ],
)
def test_the_flip_says_the_opposite_in_the_same_words(labeller, text, flipped):
    assert flip_negation(text, labeller) == flipped


def test_no_other_finding_of_the_sentence_is_touched_and_one_that_cannot_be_turned_alone_is_skipped():
    text = "No consolidation, effusion, or pneumothorax."
    first, middle, last = (flip_negation(text, CHEST, which) for which in range(3))
    assert first == "Consolidation but no effusion, or pneumothorax."
    assert middle == last == "No consolidation, effusion but pneumothorax."


def test_a_finding_that_is_said_twice_is_flipped_twice():
    new = flip_negation("Small left nodule. No effusion. Impression: there is a nodule.", WORDS)
    assert new == "No small left nodule. No effusion. Impression: there is no nodule."


def test_each_report_has_exactly_one_finding_flipped_and_not_always_the_first():
    told, _ = reports(20)
    changed = set()
    for which, text in enumerate(told):
        before = {m.finding: m.status for m in WORDS.mentions(text)}
        after = {m.finding: m.status for m in WORDS.mentions(flip_negation(text, WORDS, which))}
        different = [name for name in before if before[name] != after[name]]
        assert len(different) == 1
        changed |= set(different)
    assert len(changed) == 4


@pytest.mark.parametrize("text", ["", "Possible nodule.", "The patient was seated."])
def test_what_states_no_finding_cannot_be_flipped(text):
    assert flip_negation(text, WORDS) is None


def test_every_headline_metric_falls_and_facts_by_more_than_wording():
    told, _ = reports(40)
    falls = {
        "f1": negation_flip(told, lambda a, b: finding_f1(a, b, WORDS), WORDS).fall,
        "errors": negation_flip(told, lambda a, b: -error_counts(a, b, WORDS).sum() / len(a), WORDS).fall,
        "bleu": negation_flip(told, bleu, WORDS).fall,
        "rouge": negation_flip(told, rouge_l, WORDS).fall,
    }
    assert all(fall > 0 for fall in falls.values())
    assert falls["errors"] == pytest.approx(1)
    assert falls["f1"] > 3 * max(falls["bleu"], falls["rouge"])


def test_a_metric_of_words_without_negation_is_called_blind():
    def same_words(told, said):
        small = {"no", "there", "is", "a", "in", "this", "examination", "seen"}
        pairs = [
            (set(a.lower().split()) - small, set(b.lower().split()) - small)
            for a, b in zip(told, said, strict=True)
        ]
        return sum(a == b for a, b in pairs) / len(pairs)

    flip = negation_flip(reports(20)[0], same_words, WORDS)
    assert (flip.own, flip.reports) == (1, 20)
    assert not flip.notices
    table = negation_table(reports(20)[0], WORDS, {"same words": same_words, "bleu": bleu})
    assert table.column("notices") == [False, True]
    assert "Blind to negation, an error of the metric: same words." in table.notes


def test_the_built_in_metrics_all_notice_also_with_the_real_tables():
    told = [
        "No effusion or pneumothorax. Heart size is normal.",
        "Small left effusion.",
        "The patient was seated.",
    ]
    table = negation_table(told, CHEST)
    assert all(table.column("notices"))
    assert "One finding flipped in 2 of 3 reports." in table.notes


def test_reports_without_any_finding_are_refused():
    with pytest.raises(ValueError, match="Check that the labeller's table fits them"):
        negation_flip(["The patient was seated."], bleu, WORDS)
