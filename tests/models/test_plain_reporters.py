"""Reporters that read nothing: what they say, and that they never say what a missing modality would show."""

import pandas as pd
import pytest
import torch
from reporting import found, labeller, reports, target_filter

from mmmed.data.cohort import Cohort
from mmmed.models.plain_reporters import ConstantReporter, RandomReporter, most_common
from mmmed.types import Record


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def both():
    train = reports()["train"]
    return (
        ConstantReporter.fit(train, "report", labeller(), target_filter()),
        RandomReporter.fit(train, "report", labeller(), target_filter(), generator=seeded()),
    )


def test_the_most_common_report_wins_and_the_medoid_among_equals():
    assert most_common(["no nodule", "a nodule", "no nodule"]) == "no nodule"
    middle = "no nodule no effusion"
    assert most_common(["no nodule at all", middle, "no effusion", "something else"]) == middle
    assert most_common(["same words here", "here words same"]) == "same words here"  # then the first
    assert most_common(["...", "!"]) in ("...", "!")


def test_the_constant_reporter_says_the_same_of_everybody():
    constant, _ = both()
    said = constant.generate(list(reports()["test"]))
    assert len({report.text for report in said}) == 1
    assert said[0].text in " ".join(reports()["train"].column("report"))
    assert said[0].used == ()
    assert said[0].findings == labeller().labels(said[0].text)


def test_the_random_reporter_draws_training_reports_by_its_generator():
    train = reports()["train"]
    records = list(reports()["test"])
    first, again, other = (
        RandomReporter.fit(train, "report", generator=seeded(seed)).generate(records) for seed in (0, 0, 1)
    )
    assert [report.text for report in first] == [report.text for report in again]
    assert [report.text for report in first] != [report.text for report in other]
    assert {report.text for report in first} <= set(train.column("report"))
    assert len({report.text for report in first}) > len(records) / 2


def test_neither_knows_anything_of_the_patient():
    test = reports()["test"]
    for reporter in both():
        assert found(reporter.generate(list(test)), test) < 0.45


@pytest.mark.parametrize("kind", [0, 1])
def test_what_is_missing_is_named_and_not_spoken_of(kind):
    reporter = both()[kind]
    for record in reports()["test"][:20]:
        (report,) = reporter.generate([record.without("image")])
        assert report.missing == ("image",)
        assert report.statement == "Not available: image."
        for label in report.findings:
            assert "image" not in labeller().needs(label)


@pytest.mark.parametrize("kind", [0, 1])
def test_of_an_empty_record_nothing_is_said(kind):
    reporter = both()[kind]
    reporter.target_filter = None  # it would have dropped every sentence anyway
    (report,) = reporter.generate([Record("nobody", {})])
    assert report.abstained
    assert report.text == ""
    assert report.missing == ("image", "table", "text")


def test_a_cohort_without_reports_and_no_records_at_all():
    frame = pd.DataFrame({"age": [1.0, 2, 3, 4], "words": ["", None, " ", ""], "y": [0, 1, 0, 1]})
    cohort = Cohort.from_frame(frame, tabular=["age"], target="y")
    with pytest.raises(ValueError, match="holds no report"):
        ConstantReporter.fit(cohort, "words")
    with pytest.raises(ValueError, match="Unknown column"):
        ConstantReporter.fit(cohort, "report")
    with pytest.raises(ValueError, match="at least one report"):
        RandomReporter((), ("image",), generator=seeded())
    for reporter in both():
        assert reporter.generate([]) == []
