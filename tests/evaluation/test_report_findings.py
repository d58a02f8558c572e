"""Finding F1: equal to counting one by one, uncertain as one chooses, macro over the labels that occur."""

import math

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score
from small_reports import WordLabeller, reports

from mmmed.evaluation.report_findings import (
    finding_counts,
    finding_f1,
    findings_table,
    label_matrix,
    macro_f1,
    micro_f1,
    precision,
    recall,
)

LABELLER = WordLabeller()


def sides(count=60):
    told, said = reports(count)
    return label_matrix(told, LABELLER), label_matrix(said, LABELLER), told, said


def test_scores_are_those_of_scikit_learn():
    told, said, references, hypotheses = sides()
    counts = finding_counts(references, hypotheses, LABELLER).sum(axis=0)[None]
    assert micro_f1(counts)[0] == pytest.approx(f1_score(told, said, average="micro"))
    assert macro_f1(counts)[0] == pytest.approx(f1_score(told, said, average="macro"))  # all labels occur
    assert precision(counts)[0] == pytest.approx(precision_score(told, said, average="micro"))
    assert recall(counts)[0] == pytest.approx(recall_score(told, said, average="micro"))
    assert finding_f1(references, hypotheses, LABELLER, "macro") == pytest.approx(macro_f1(counts)[0])


def test_micro_by_hand():
    # stated by both: nodule; only by the hypothesis: cardiomegaly; only by the reference: pneumothorax
    value = finding_f1(["Nodule. Pneumothorax."], ["Nodule. Cardiomegaly."], LABELLER)
    assert value == pytest.approx(2 / (2 + 1 + 1))


def test_macro_leaves_out_labels_that_no_reference_states():
    told, said = ["Nodule.", "Nodule."], ["Nodule.", "Nodule. Cardiomegaly."]
    assert finding_f1(told, said, LABELLER, "macro") == 1
    assert finding_f1(told, said, LABELLER, "micro") == pytest.approx(4 / 5)


def test_an_uncertain_finding_counts_as_one_chooses():
    told, said = ["Nodule. Possible cardiomegaly."], ["Nodule."]
    assert finding_f1(told, said, LABELLER) == 1
    assert finding_f1(told, said, LABELLER, uncertain="positive") == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match='Did you mean "positive"'):
        finding_f1(told, said, LABELLER, uncertain="positiv")


def test_a_denied_finding_is_not_stated():
    assert not label_matrix(["No nodule. No pneumothorax.", ""], LABELLER).any()
    assert math.isnan(finding_f1(["No nodule."], ["No nodule."], LABELLER))


def test_the_table_has_a_line_per_label_that_somebody_states():
    told, said, references, hypotheses = sides()
    table = findings_table(references, hypotheses, LABELLER, draws=50)
    assert table.column("label") == list(LABELLER.table.labels)
    assert table.column("in_references") == told.sum(axis=0).tolist()
    assert table.column("in_hypotheses") == said.sum(axis=0).tolist()
    expected = f1_score(told, said, average=None)
    np.testing.assert_allclose([row["f1"].value for row in table], expected)
    assert all(row["f1"].low <= row["f1"].value <= row["f1"].high for row in table)
    assert len(findings_table(["Nodule."] * 3, [""] * 3, LABELLER, draws=5)) == 1
