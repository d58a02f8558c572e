"""Templates: they state what the classifier finds, in training sentences, and nothing unknowable."""

import numpy as np
import pandas as pd
import pytest
from reporting import found, labeller, reports

from mmmed.data.cohort import Cohort
from mmmed.language.sentences import sentences
from mmmed.language.target_filter import TargetFilter
from mmmed.models.template_reporter import (
    Phrase,
    TemplateReporter,
    best_thresholds,
    cover,
    learn_phrases,
    truth_of,
    usually_denied,
)
from mmmed.types import Record


def phrase(text, present=(), absent=(), place=0.5, count=1):
    return Phrase(text, frozenset(present), frozenset(absent), place, count)


def exact(cohort):
    """A classifier that knows every label: probability 1 where the report states it."""
    values, _ = labeller().targets(cohort.column("report"))
    known = dict(zip(cohort.ids.tolist(), values, strict=True))
    return lambda records: np.stack([known[record.id] for record in records])


def fitted(cohort=None, **options):
    cohort = cohort or reports()
    return TemplateReporter.fit(
        cohort["train"], "report", labeller(), exact(reports()), validation=cohort["val"], **options
    )


# ---------------------------------------------------------------------------------------------- whole reports


def test_with_a_perfect_classifier_the_report_states_every_finding():
    test = reports()["test"]
    assert found(fitted().generate(list(test)), test) >= 0.98


def test_a_report_is_made_of_training_sentences_in_their_usual_order():
    known = {line for text in reports()["train"].column("report") for line in sentences(text)}
    order = ("needs text", "needs table", "needs image")
    for report in fitted().generate(list(reports()["test"][:30])):
        lines = [sentence.text for sentence in report.sentences]
        assert set(lines) <= known
        kinds = [f"needs {labeller().needs(next(iter(s.findings)))[0]}" for s in report.sentences]
        assert kinds == sorted(kinds, key=order.index)


def test_what_training_reports_usually_deny_is_denied_here():
    said = fitted().generate(list(reports()["test"]))
    assert all(report.findings["pneumothorax"] == "absent" for report in said)
    assert all({"effusion, right", "effusion, left"} & set(report.findings) for report in said)
    assert not any(report.findings.get("nodule, left upper") == "absent" for report in said)


@pytest.mark.parametrize("gone", ["image", "table", "text"])
def test_what_needs_a_missing_modality_is_neither_stated_nor_denied(gone):
    for report in fitted().generate([record.without(gone) for record in reports()["test"][:30]]):
        assert report.missing == (gone,)
        assert gone not in report.used
        assert report.findings
        unknowable = [label for label in labeller().table.labels if gone in labeller().needs(label)]
        assert not any(label in note for label in unknowable for note in report.notes)
        assert all(gone not in labeller().needs(label) for label in report.findings)


def test_of_an_empty_record_nothing_is_said():
    reporter = fitted()
    reporter.probabilities = lambda records: np.ones((len(records), len(labeller().table.labels)))
    (report,) = reporter.generate([Record("nobody", {})])
    assert report.abstained
    assert (report.text, report.missing) == ("", ("image", "table", "text"))
    assert reporter.generate([]) == []


def test_sentences_that_compare_with_a_prior_are_never_taken():
    told = ["Unchanged effusion on the left. No pneumothorax."] * 9 + ["Effusion on the left. No ptx."]
    frame = pd.DataFrame({"note": ["x"] * 10, "words": told, "image": [np.zeros((8, 8), np.uint8)] * 10})
    cohort = Cohort.from_frame(frame, image="image", text="note")
    row = [float(label == "effusion, left") for label in labeller().table.labels]

    def sure(records):
        return np.tile(row, (len(records), 1))

    reporters = [
        TemplateReporter.fit(cohort, "words", labeller(), sure, target_filter=choice)
        for choice in (None, TargetFilter(labeller(), ("image", "text")))
    ]
    said = [reporter.generate([cohort[0]])[0].text for reporter in reporters]
    assert said == [
        "Unchanged effusion on the left. No pneumothorax.",
        "Effusion on the left. No pneumothorax.",
    ]


def test_a_finding_without_a_sentence_is_named_in_a_note():
    reporter = TemplateReporter(
        [phrase("A.", ["a"])], ("a", "b"), lambda records: np.ones((len(records), 2)), ("image",)
    )
    (report,) = reporter.generate([Record("x", {"image": "x.png"})])
    assert report.text == "A."
    assert "no training sentence fits: b" in report.notes[0]


# ------------------------------------------------------------------------------------------ sentences by hand


def test_one_sentence_that_says_all_is_preferred_and_a_wrong_one_avoided():
    all_of_it, a, b = phrase("ab", "ab"), phrase("a", "a", count=9), phrase("b", "b", count=9)
    wrong = phrase("abc", "abc", count=99)
    assert cover("ab", [a, b, wrong, all_of_it]) == [all_of_it]
    assert cover("ab", [wrong, b, a]) == [b, a]
    assert cover("ab", [wrong]) == [wrong]  # two right and one wrong
    assert cover("a", [wrong]) == []  # more wrong than right
    assert cover("", [a]) == []
    assert cover("a", [phrase("a, no b", "a", "b")]) != []
    assert cover("ab", [phrase("a, no b", "a", "b"), a]) == [a]  # denies what is wanted


def test_equal_sentences_are_told_apart_by_how_common_they_are():
    rare, common = phrase("rare", "a"), phrase("common", "a", count=2)
    assert cover("a", [rare, common]) == [common]


def test_the_most_common_wording_of_exactly_that_statement_is_learned():
    told = [
        [("No x.", {"x": "absent"}), ("A b.", {"b": "present"})],
        [("X absent.", {"x": "absent"}), ("B.", {"b": "present"})],
        [("X absent.", {"x": "absent"}), ("Perhaps b.", {"b": "uncertain"}), ("B.", {"b": "present"})],
        [("Nothing said.", {})],
    ]
    learned = {p.text: p for p in learn_phrases(told, ("x", "b"))}
    assert set(learned) == {"X absent.", "B."}
    assert learned["X absent."].place < learned["B."].place
    assert learned["X absent."].absent == {"x"}
    assert learned["X absent."].count == 3
    assert usually_denied(told, ("x", "b")) == {"x"}


# ------------------------------------------------------------------------------------------------- thresholds


def test_the_threshold_maximises_f1_as_a_slow_search_does():
    rng = np.random.default_rng(0)
    truth = (rng.random((60, 4)) < 0.3).astype(float)
    chance = np.clip(truth * 0.2 + rng.random((60, 4)) * 0.5, 0, 1).round(2)
    truth[rng.random((60, 4)) < 0.1] = np.nan

    def f1(column, cut):
        known = ~np.isnan(truth[:, column])
        t, s = truth[known, column] == 1, chance[known, column] >= cut
        return 2 * (t & s).sum() / (t.sum() + s.sum())

    for column, cut in enumerate(best_thresholds(chance, truth)):
        assert f1(column, cut) == pytest.approx(max(f1(column, c) for c in np.linspace(0, 1, 1001)))


def test_a_label_never_seen_keeps_one_half():
    assert best_thresholds(np.array([[0.2, 0.9]] * 3), np.array([[0.0, np.nan]] * 3)).tolist() == [0.5, 0.5]


def test_a_shy_classifier_is_heard_through_its_thresholds():
    cohort = reports()
    sure = exact(cohort)
    shy = TemplateReporter.fit(
        cohort["train"], "report", labeller(), lambda r: 0.3 * sure(r), validation=cohort["val"]
    )
    deaf = TemplateReporter.fit(cohort["train"], "report", labeller(), lambda r: 0.3 * sure(r))
    test = cohort["test"]
    assert found(shy.generate(list(test)), test) > 0.9
    assert found(deaf.generate(list(test)), test) == 0


def test_the_truth_of_a_hidden_modality_is_unknown():
    cohort = reports()["val"].without("table")
    truth = truth_of(cohort, "report", labeller())
    labels = labeller().table.labels
    for column, label in enumerate(labels):
        assert np.isnan(truth[:, column]).all() == (labeller().needs(label) == ("table",))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.ones((1, 3)), "one column per label"),
        (np.full((1, 2), 2.0), "Apply the sigmoid"),
        (np.full((1, 2), -0.1), "Apply the sigmoid"),
    ],
)
def test_probabilities_that_are_none_are_refused(values, words):
    reporter = TemplateReporter([phrase("A.", ["a"])], ("a", "b"), lambda records: values, ("image",))
    with pytest.raises(ValueError, match=words):
        reporter.generate([Record("x", {"image": "x.png"})])


def test_reports_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="Choose the table"):
        TemplateReporter.fit(reports()["train"], "site", labeller(), exact(reports()))


def test_what_could_not_be_judged_is_neither_stated_nor_denied():
    """A picture that is there and cannot be read: the head gives NaN, and the template says nothing of it."""
    columns = labeller().table.labels
    image = [k for k, label in enumerate(columns) if labeller().needs(label) == ("image",)]

    def unreadable(records):
        chance = np.full((len(records), len(columns)), 0.9)
        chance[:, image] = np.nan
        return chance

    told = TemplateReporter.fit(reports()["train"], "report", labeller(), unreadable)
    (report,) = told.generate([reports()["test"][0]])
    assert report.findings
    assert all(labeller().needs(label) != ("image",) for label in report.findings)
