"""All scores at once: the perfect report is best, patients are the units, every draw is a recomputation."""

import math
import time

import numpy as np
import pytest
from small_reports import WordLabeller, reports

from mmmed.data.synthetic.generate import generate
from mmmed.data.synthetic.text import write_report
from mmmed.evaluation.report_errors import KINDS, error_counts
from mmmed.evaluation.report_findings import finding_f1
from mmmed.evaluation.report_metrics import (
    HEADLINE,
    LOWER_IS_BETTER,
    compare_reports,
    difference_table,
    report_table,
    score_reports,
    texts_of,
)
from mmmed.evaluation.report_overlap import bleu, rouge_l
from mmmed.language.labeller import Labeller
from mmmed.types.report import Report, Sentence

pytest.importorskip("sacrebleu")
pytest.importorskip("rouge_score")

LABELLER = WordLabeller()
NO_SCALE = ("words", "reference_words", "distinct_share")


def values(found):
    return {name: estimate.value for name, estimate in found.items()}


def test_each_score_is_what_its_own_function_says():
    told, said = reports(40)
    found = values(score_reports(told, said, LABELLER, draws=5))
    errors = error_counts(told, said, LABELLER)
    assert found["finding_f1_micro"] == pytest.approx(finding_f1(told, said, LABELLER))
    assert found["finding_f1_macro"] == pytest.approx(finding_f1(told, said, LABELLER, "macro"))
    assert found["bleu4"] == pytest.approx(bleu(told, said))
    assert found["rouge_l"] == pytest.approx(rouge_l(told, said))
    assert found["errors"] == pytest.approx(errors.sum(axis=1).mean())
    np.testing.assert_allclose([found[kind] for kind in KINDS], errors.mean(axis=0))
    assert found["words"] == pytest.approx(np.mean([len(text.split()) for text in said]))


def test_a_perfect_report_has_the_best_value_everywhere():
    told, said = reports(30)
    best, worse = (values(score_reports(told, texts, LABELLER, draws=5)) for texts in (told, said))
    for name, value in best.items():
        if name in LOWER_IS_BETTER:
            assert value == 0 <= worse[name]
        elif name not in NO_SCALE:
            assert value == pytest.approx(1)
            assert worse[name] < 1


def test_every_draw_is_the_score_of_the_reports_drawn():
    """Intervals equal to a slow loop that draws patients, repeats their reports and scores the list anew."""
    told, said = reports(24)
    patients, draws = np.arange(24) // 3, 40
    fast = score_reports(told, said, LABELLER, patients, draws=draws, seed=3)
    rng, slow = np.random.default_rng(3), {name: [] for name in ("bleu4", "finding_f1_macro", "errors")}
    for chosen in rng.integers(0, 8, size=(draws, 8)):
        rows = [row for patient in chosen for row in np.flatnonzero(patients == patient)]
        a, b = [told[row] for row in rows], [said[row] for row in rows]
        slow["bleu4"].append(bleu(a, b))
        slow["finding_f1_macro"].append(finding_f1(a, b, LABELLER, "macro"))
        slow["errors"].append(error_counts(a, b, LABELLER).sum(axis=1).mean())
    for name, redrawn in slow.items():
        expected = np.quantile(redrawn, [0.025, 0.975])
        np.testing.assert_allclose([fast[name].low, fast[name].high], expected, atol=1e-12)


def test_patients_are_the_units():
    told, said = reports(30)
    once = score_reports(told, said, LABELLER, draws=100)
    many = {"references": told * 4, "hypotheses": said * 4, "labeller": LABELLER, "draws": 100}
    by_patient = score_reports(**many, groups=list(range(30)) * 4)
    by_report = score_reports(**many)
    for name in ("finding_f1_micro", "bleu4", "rouge_l", "errors"):
        width = once[name].high - once[name].low
        assert by_patient[name].high - by_patient[name].low == pytest.approx(width)
        assert by_report[name].high - by_report[name].low < 0.8 * width
    assert (by_patient["bleu4"].n, by_patient["bleu4"].groups) == (120, 30)


def test_a_difference_is_paired():
    told, said = reports(60)
    other = [*said[:5], *told[5:8], *said[8:]]  # the same but for three reports
    alone = score_reports(told, said, LABELLER, draws=200)["finding_f1_micro"]
    found = compare_reports(told, said, other, LABELLER, draws=200)
    assert found["finding_f1_micro"].high - found["finding_f1_micro"].low < (alone.high - alone.low) / 2
    assert found["errors"].value > 0 > found["bleu4"].value
    same = compare_reports(told, said, said, LABELLER, draws=20)
    assert all(
        estimate.value == estimate.low == estimate.high == 0
        for name, estimate in same.items()
        if name != "distinct_share"
    )


def test_collapse_emptiness_and_abstention_are_seen():
    told, _ = reports(10)
    silent = Report("7", (), abstained=True)
    said = ["No nodule is seen."] * 8 + ["", silent]
    found = score_reports(told, said, LABELLER, draws=20)
    assert found["distinct_share"].value == pytest.approx(2 / 10)
    assert math.isnan(found["distinct_share"].low)
    assert found["empty_share"].value == pytest.approx(2 / 10)
    assert found["abstained_share"].value == pytest.approx(1 / 10)
    assert found["words"].value == pytest.approx(8 * 4 / 10)
    assert found["omissions"].value > 1


def test_a_report_counts_as_its_text_without_what_is_said_of_missing_inputs():
    report = Report("1", (Sentence("Nodule."), Sentence("No effusion.")), missing=("table",))
    assert texts_of([report, "Nodule."]) == ["Nodule. No effusion.", "Nodule."]


def test_nobody_has_a_finding_and_one_patient_are_no_crash():
    found = score_reports(["No nodule."] * 3, [""] * 3, LABELLER, groups=["a"] * 3, draws=10)
    assert math.isnan(found["finding_f1_micro"].value)
    assert (found["bleu4"].value, found["errors"].value) == (0, 0)
    assert math.isnan(found["errors"].low)


def test_the_note_says_over_how_many_labels_macro_goes():
    found = score_reports(["Nodule."] * 2, ["Nodule. Cardiomegaly."] * 2, LABELLER, draws=5)
    assert found["finding_f1_macro"].value == 1
    assert "1 of 5 labels" in found["finding_f1_macro"].note


def test_tables_have_a_line_per_system_and_say_their_scale():
    told, said = reports(20)
    systems = {"ours": said, "constant": [told[0]] * 20, "truth": told}
    table = report_table(systems, told, LABELLER, draws=20)
    assert table.columns == ("system", *HEADLINE)
    assert table.where(system="constant")[0]["distinct_share"].value == pytest.approx(1 / 20)
    assert "0 to 1" in str(table)
    gaps = difference_table(systems, told, LABELLER, "constant", draws=20)
    assert gaps.column("system") == ["ours", "truth"]
    assert gaps[1]["finding_f1_micro"].low > 0
    with pytest.raises(ValueError, match='Did you mean "truth"'):
        difference_table(systems, told, LABELLER, "truht")
    with pytest.raises(ValueError, match="Unknown score"):
        report_table(systems, told, LABELLER, draws=2, scores=["meteor"])


@pytest.mark.parametrize("table", ["chest", "synthetic"])
def test_the_real_labeller_fits(table):
    told = ["Small right pleural effusion. Nodule in the left upper zone.", "No effusion. No pneumothorax."]
    said = ["Small left pleural effusion. Nodule in the left upper zone.", "No effusion. Right pneumothorax."]
    found = values(score_reports(told, said, Labeller(table), draws=10))
    assert 0 < found["finding_f1_micro"] < 1
    assert (found["wrong_places"], found["false_findings"], found["omissions"]) == (0.5, 0.5, 0)
    assert values(score_reports(told, told, Labeller(table), draws=10))["finding_f1_micro"] == 1


def test_other_words_for_the_same_picture_are_no_error_though_bleu_falls_by_a_third():
    """Two reports that the grammar of the synthetic cohort writes about each of 40 scenes."""
    scenes, texts = generate(patients=40, seed=0, size=32).scenes, []
    for seed in (1, 2):
        written = [write_report(scene, np.random.default_rng((seed, k))) for k, scene in enumerate(scenes)]
        texts.append([f"{findings} {impression}" for findings, impression, *_ in written])
    same = values(score_reports(*texts, Labeller("synthetic"), draws=2))
    assert (same["finding_f1_micro"], same["errors"]) == (1, 0)
    assert same["bleu4"] < 0.7
    strangers = [*texts[1][1:], texts[1][0]]
    other = values(score_reports(texts[0], strangers, Labeller("synthetic"), draws=2))
    assert other["finding_f1_micro"] < 0.5
    assert other["errors"] > 1


def test_a_thousand_reports_with_a_thousand_draws_are_quick():
    told, said = reports(1000)
    started = time.process_time()
    score_reports(told, said, LABELLER, groups=np.arange(1000) // 2)
    assert time.process_time() - started < 8  # 2 s on an idle core
