"""Reports are scored beside baselines on the same records, and under every pattern of missing modalities."""

import numpy as np
import pandas
import pytest
from small_reporter import make_cohort, make_reporter, shaken, taught

from mmmed.evaluation.reports import (
    compare_reporters,
    evaluate_reports,
    is_unfounded,
    stress_reports,
)
from mmmed.models.plain_reporters import ConstantReporter
from mmmed.types import Report, Sentence

FAST = {"draws": 20}


@pytest.fixture(scope="module")
def cohort():
    return make_cohort()


@pytest.fixture(scope="module")
def reporter(cohort):
    return taught(cohort)


def test_the_truth_scores_best_and_every_reporter_has_its_line(cohort, reporter):
    test = cohort["test"]
    systems = {
        "ours": reporter,
        "truth": test.column("report"),
        "constant": ConstantReporter.fit(cohort["train"], "report"),
    }
    rows = {row["system"]: row for row in evaluate_reports(systems, test, **FAST)}
    assert list(rows) == list(systems)
    assert rows["truth"]["finding_f1_micro"].value == pytest.approx(1.0)
    assert rows["constant"]["finding_f1_micro"].value < 1
    assert rows["ours"]["gap"].n == len(test)
    assert rows["truth"]["gap"] is None
    assert rows["constant"]["gap"] is None


def test_without_a_generator_there_is_no_gap(cohort, reporter):
    test = cohort["test"]
    table = evaluate_reports({"truth": test.column("report")}, test, "report", reporter.labeller, **FAST)
    assert "gap" not in table.columns
    with pytest.raises(ValueError, match="labeller"):
        evaluate_reports({"truth": test.column("report")}, test, "report", **FAST)


def test_differences_are_taken_on_the_same_records(cohort, reporter):
    test = cohort["test"]
    truth = test.column("report")
    systems = {"ours": reporter, "truth": truth, "again": list(truth)}
    rows = {row["system"]: row for row in compare_reporters(systems, test, "truth", **FAST)}
    assert list(rows) == ["ours", "again"]
    assert rows["again"]["finding_f1_micro"].value == 0
    assert rows["ours"]["finding_f1_micro"].value <= 0


def test_ready_reports_of_another_length_are_refused(cohort, reporter):
    test = cohort["test"]
    with pytest.raises(ValueError, match=f"There are {len(test)} records with a report, but 2 ready reports"):
        evaluate_reports({"ours": reporter, "two": ["a", "b"]}, test, **FAST)


def test_records_without_a_report_are_left_out_and_none_at_all_is_an_error(reporter, cohort):
    frame = cohort.to_frame()
    some = frame["report"].where(np.arange(len(frame)) % 2 == 0)
    for texts, count in ((some, (len(frame) + 1) // 2), (pandas.Series([None] * len(frame)), 0)):
        part = type(cohort).from_frame(frame.assign(report=texts), schema=cohort.schema, split="split")
        if not count:
            with pytest.raises(ValueError, match="nothing to compare with"):
                evaluate_reports({"ours": reporter}, part, **FAST)
        else:
            ready = [f"No effusion. {k}" for k in range(count)]
            table = evaluate_reports({"ready": ready}, part, "report", reporter.labeller, **FAST)
            assert table[0]["finding_f1_micro"].n == count


def test_every_pattern_has_a_row_and_with_nothing_there_it_abstains(cohort, reporter):
    rows = {row["there"]: row for row in stress_reports(reporter, cohort["test"], **FAST)}
    assert list(rows) == ["image + table + text", "table + text", "image + text", "image + table", "nothing"]
    for row in rows.values():
        assert 0 <= row["abstained"].value <= 1
        assert row["unfounded"].groups == len(set(cohort["test"].groups))
    assert rows["nothing"]["abstained"].value == 1
    assert rows["nothing"]["finding_f1_micro"] is None
    assert rows["nothing"]["unfounded"].value == 0


def test_what_was_withheld_is_unfounded_all_the_same(reporter):
    cough = Sentence("Dry cough.", findings={"cough": "present"})
    facts = {"used": ("image", "table"), "missing": ("text",)}
    assert is_unfounded(Report("1", (cough,), **facts), reporter.labeller)
    assert is_unfounded(Report("1", (), withheld=(cough,), **facts), reporter.labeller)
    denied = Sentence("No symptoms.", findings={"cough": "absent"})
    seen = Sentence("Pneumothorax.", findings={"pneumothorax": "present"})
    assert not is_unfounded(Report("1", (denied, seen), **facts), reporter.labeller)


def test_unfounded_reports_are_counted_before_anything_is_withheld(cohort):
    """A generator that has never learned to keep silent, and is held back by the filter alone."""
    import mmmed.models.report_writing as writing

    free = shaken(make_reporter(cohort), 0.0)
    ids = free.tokenizer.encode("Dry cough.")
    told = writing.Written(ids, np.full(len(ids), -0.1), ["Dry cough."], [0], True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "write", lambda reporter, batch, *rest: [told] * len(batch))
        rows = stress_reports(free, cohort["test"], patterns=[("image",), ("text",)], **FAST)
    assert [row["unfounded"].value for row in rows] == [1.0, 0.0]
