"""The promise of it all: a fact stands in the report when, and only when, the input that shows it is there.

Reports of a history, which only the note tells, and of two laboratory values, which only the table does.
"""

import numpy as np
import pytest
from small_reporter import make_cohort, make_reporter

from mmmed.data.cohort import Cohort
from mmmed.evaluation.grounding import grounding
from mmmed.evaluation.reports import evaluate_reports
from mmmed.language.labeller import Labeller
from mmmed.training.report_finetune import finetune_reports
from mmmed.training.report_stages import Stage

WAYS = {
    "cough": {"present": "Dry cough.", "absent": "No symptoms."},
    "haemoptysis": {"present": "Blood in the sputum."},
    "raised ldh": {"present": "LDH raised.", "uncertain": "LDH normal.", "absent": "LDH normal."},
    "low albumin": {"present": "Albumin low.", "uncertain": "Albumin normal.", "absent": "Albumin normal."},
}
MODEL = ("small", {"width": 48, "layers": 1, "heads": 2, "length": 128})
STAGES = (
    Stage("findings", 14, ("encoders", "finding head"), "findings", lr=5e-3),
    Stage("align", 16, ("adapters", "language model"), lr=3e-3, batch_size=8, asides=0.0, dropout=0.4),
)


def in_plain_words(labels):
    return " ".join(text for name, ways in WAYS.items() if (text := ways.get(labels.get(name, ""), "")))


@pytest.fixture(scope="module")
def cohort():
    pictured = make_cohort(patients=300)
    labeller, frame = Labeller("synthetic"), pictured.to_frame().drop(columns="picture")
    frame["report"] = [in_plain_words(labeller.labels(text)) for text in frame["report"]]
    schema = pictured.schema.without("image")
    return Cohort.from_frame(frame, schema=schema, split="split", roles={"report": "text target"})


def learned(cohort, blind, stages):
    reporter = make_reporter(
        cohort, findings="synthetic", language_model=MODEL, dim=32, vocabulary=300, adapters=None, seed=0
    )
    reporter.blind = blind
    finetune_reports(reporter, cohort, stages=stages, progress=False)
    reporter.threshold = None  # what it says by itself
    return reporter


@pytest.fixture(scope="module")
def seeing(cohort):
    return learned(cohort, False, STAGES)


@pytest.mark.parametrize("present", [("table", "text"), ("table",), ("text",), ()], ids="+".join)
def test_a_fact_is_told_when_and_only_when_its_modality_is_there(cohort, seeing, present):
    test, labeller = cohort["test"], seeing.labeller
    shown = test.only(*present) if present else test.without("table", "text")
    exact = []
    for report, text in zip(seeing.generate(shown, evidence=False), test.column("report"), strict=True):
        stated = labeller.labels(text)
        expected = {name: status for name, status in stated.items() if labeller.needs(name)[0] in present}
        # what was withheld counts as said: it must have learned to keep silent
        said = labeller.labels(" ".join(one.text for one in (*report.sentences, *report.withheld)))
        exact.append(said == expected)
        assert report.missing == tuple(name for name in ("table", "text") if name not in present)
        assert report.abstained == (not present)
    assert np.mean(exact) >= 0.95


def test_it_looks_at_the_patient_and_its_blind_twin_does_not(cohort, seeing):
    blind = learned(cohort, True, [Stage("align", 6, ("adapters", "language model"), lr=1e-2, asides=0.0)])
    test = cohort["test"]
    rows = {
        row["system"]: row for row in evaluate_reports({"seeing": seeing, "blind": blind}, test, draws=50)
    }
    assert rows["seeing"]["gap"].low > 0.1
    assert (rows["blind"]["gap"].value, rows["blind"]["gap"].high) == (0.0, 0.0)
    assert rows["seeing"]["finding_f1_micro"].value > rows["blind"]["finding_f1_micro"].value + 0.3
    for name in ("table", "text"):  # each of them alone matters too
        assert grounding(seeing, test).gap(name, draws=50).low > 0.05
