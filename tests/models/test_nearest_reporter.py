"""The nearest training patient's report: found by pixels or given numbers, over what both records have."""

import numpy as np
import pytest
from reporting import found, labeller, reports, target_filter

from mmmed.models.nearest_reporter import NearestReporter, Pixels
from mmmed.models.plain_reporters import ConstantReporter, ToldReports
from mmmed.types import Record

NAN = float("nan")


def by_hand(train, features):
    told = ToldReports(tuple(f"Report {row}." for row in range(3)), np.arange(3))
    values = {name: np.array(rows, float) for name, rows in train.items()}
    return NearestReporter(told, values, features, tuple(train))


def numbers(records):
    """Features for tests: the record's own numbers."""
    names = sorted({name for record in records for name in record.inputs})
    return {name: np.array([[r.inputs.get(name, NAN)] for r in records], float) for name in names}


def text_of(reporter, **inputs):
    (report,) = reporter.generate([Record("x", inputs)])
    return report.text


def test_the_nearest_by_hand():
    reporter = by_hand({"a": [[0], [5], [10]]}, numbers)
    assert text_of(reporter, a=1) == "Report 0."
    assert text_of(reporter, a=6) == "Report 1."
    assert text_of(reporter, a=100) == "Report 2."
    assert text_of(reporter, a=2.5) == "Report 0."  # ties go to the first


def test_patients_are_compared_over_what_both_have():
    reporter = by_hand({"a": [[0], [5], [10]], "b": [[NAN], [0], [NAN]]}, numbers)
    assert text_of(reporter, a=1) == "Report 0."
    assert text_of(reporter, a=1, b=0) == "Report 1."  # the only one who shares both
    assert text_of(reporter, b=100) == "Report 1."  # the only one who has b


def test_a_loud_number_counts_no_more_than_a_quiet_one():
    quiet = by_hand({"a": [[0], [1], [2]], "b": [[0], [3], [0]]}, numbers)
    loud = by_hand({"a": [[0], [1], [2]], "b": [[0], [3000], [0]]}, numbers)
    assert text_of(quiet, a=1.8, b=1.6) == text_of(loud, a=1.8, b=1600) == "Report 2."
    assert text_of(quiet, a=1.8, b=3) == text_of(loud, a=1.8, b=3000) == "Report 1."


def test_training_records_find_their_own_report_by_pixels():
    train = reports()["train"][:60]
    reporter = NearestReporter.fit(train, "report", labeller=labeller())
    said = reporter.generate(list(train))
    assert [report.text for report in said] == train.column("report")
    assert all(report.used == ("image",) for report in said)
    assert train.ids[0] in said[0].notes[0]


def test_the_nearest_picture_tells_more_than_no_picture():
    train, test = reports()["train"], reports()["test"]
    nearest = NearestReporter.fit(train, "findings", labeller=labeller())
    constant = ConstantReporter.fit(train, "findings", labeller())
    records = list(test)
    assert found(nearest.generate(records), test, "findings") > 0.1 + found(
        constant.generate(records), test, "findings"
    )


def test_what_is_missing_is_filtered_from_the_neighbours_report():
    train = reports()["train"]
    reporter = NearestReporter.fit(train, "report", labeller=labeller(), target_filter=target_filter())
    (report,) = reporter.generate([reports()["test"][0].without("table", "text")])
    assert report.missing == ("table", "text")
    assert report.findings
    assert all(labeller().needs(label) == ("image",) for label in report.findings)


def test_nothing_in_common_gives_no_report():
    reporter = NearestReporter.fit(reports()["train"], "report")
    (report,) = reporter.generate([reports()["test"][0].without("image")])
    assert report.abstained
    assert report.sentences == ()
    assert "compared by image" in report.notes[0]


def test_a_patient_is_judged_alone():
    reporter = NearestReporter.fit(reports()["train"], "report")
    records = [reports()["test"][0], reports()["test"][1].without("image"), reports()["test"][2]]
    together = reporter.generate(records)
    assert together == [reporter.generate([record])[0] for record in records]
    assert reporter.generate([]) == []


def test_without_a_picture_it_says_what_to_pass():
    cohort = reports()
    schema = cohort.schema
    blind = cohort.with_schema(
        type(schema)({"text": schema.modalities["text"]}, schema.tasks, schema.group, schema.id)
    )
    with pytest.raises(ValueError, match="Pass features="):
        NearestReporter.fit(blind["train"], "report")
    with pytest.raises(ValueError, match="modality of features"):
        NearestReporter.fit(
            cohort["train"], "report", features=lambda records: {"x": np.zeros((len(records), 1))}
        )
    assert Pixels(cohort)([cohort[0]])["image"].shape == (1, 256)
