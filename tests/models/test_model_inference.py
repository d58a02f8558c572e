"""Asking a model about a cohort: rows in order, and encoders that run once for any number of patterns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_model import SCHEMA, SmallCohort, calibrated, make_model, make_records

from mmmed.data.collate import Collator
from mmmed.models.calibration import probabilities
from mmmed.models.inference import (
    _best_threshold,
    asking,
    calibrate,
    check_cohort,
    encode_cohort,
    logits_encoded,
    predict_encoded,
    predict_proba,
)
from mmmed.types import Image, Record


@pytest.fixture
def model(fusion):
    return make_model(fusion)


@pytest.fixture
def cohort():
    return SmallCohort(make_records(17))


def test_probabilities_are_those_of_the_batch_read_by_the_task(model, cohort):
    outputs = model(Collator(SCHEMA)(list(cohort)))
    answers = predict_proba(model, cohort, batch_size=5)
    for name, task in SCHEMA.tasks.items():
        plain = probabilities(task, outputs[name].detach().double().numpy())
        np.testing.assert_allclose(answers[name], plain, atol=1e-6)
    assert answers["sick"].shape == (17, 1)
    np.testing.assert_allclose(answers["days"], 5 + 2 * outputs["days"].detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4, 17, 64])
def test_the_size_of_the_batches_does_not_matter(model, cohort, batch_size):
    for name, answer in predict_proba(model, cohort, batch_size).items():
        np.testing.assert_allclose(answer, predict_proba(model, cohort, 6)[name], atol=1e-6)


def test_hiding_after_encoding_equals_hiding_before(model, cohort):
    encoded = encode_cohort(model, cohort, batch_size=5)
    stays = np.random.default_rng(0).random((17, 3)) < 0.5
    hidden = SmallCohort(
        r.without(*(n for n, s in zip(SCHEMA.modalities, row, strict=True) if not s))
        for r, row in zip(cohort, stays, strict=True)
    )
    quick, slow = predict_encoded(model, encoded, stays, batch_size=4), predict_proba(model, hidden)
    for name in SCHEMA.tasks:
        np.testing.assert_allclose(quick[name], slow[name], atol=1e-6)


def test_what_a_record_lacks_stays_absent_whatever_is_asked(model, cohort, monkeypatch):
    encoded, seen, fuse = encode_cohort(model, cohort), [], model.fuse

    def watched(tokens, rows, present):
        seen.append(present)
        return fuse(tokens, rows, present)

    monkeypatch.setattr(model, "fuse", watched)
    everything = predict_encoded(model, encoded, np.ones((17, 3), dtype=bool))
    assert torch.cat(seen).tolist() == encoded.present.tolist()
    for name, answer in predict_encoded(model, encoded).items():
        np.testing.assert_array_equal(everything[name], answer)


def test_the_encoders_run_once_for_any_number_of_patterns(model, cohort):
    calls = []
    model.encoders["table"].register_forward_hook(lambda *_: calls.append(1))
    encoded = encode_cohort(model, cohort, batch_size=64)
    for seed in range(5):
        predict_encoded(model, encoded, np.random.default_rng(seed).random((17, 3)) < 0.5)
    assert len(calls) == 1


def test_an_encoded_cohort_knows_who_has_what(model, cohort):
    encoded = encode_cohort(model, cohort, batch_size=5)
    assert len(encoded) == 17
    assert encoded.ids.tolist() == [record.id for record in cohort]
    assert encoded.groups.tolist() == [record.group for record in cohort]
    wanted = [[name in record.inputs for name in SCHEMA.modalities] for record in cohort]
    assert encoded.present.tolist() == wanted


def test_token_counts_that_differ_between_batches_are_joined(model):
    records = [Record("a", {"note": "cough"}), Record("b", {"note": "cough a fever none cough"})]
    together = predict_proba(model, SmallCohort(records), batch_size=1)
    for row, record in enumerate(records):
        alone = predict_proba(model, SmallCohort([record]))
        np.testing.assert_allclose(together["sick"][row], alone["sick"][0], atol=1e-6)


def test_a_cohort_of_none_gets_no_rows(model):
    answers = predict_proba(model, SmallCohort([]))
    assert {name: a.shape for name, a in answers.items()} == {
        "sick": (0, 1),
        "stage": (0, 3),
        "signs": (0, 2),
        "days": (0, 1),
    }


def test_the_policies_of_the_cohort_are_followed(model, tmp_path):
    records = [Record("a", {"image": "gone.png", "note": "fever"}, folder=str(tmp_path)), *make_records(3)]
    with pytest.raises(ValueError, match=r"gone\.png"):
        predict_proba(model, SmallCohort(records))
    with pytest.warns(UserWarning, match="not recorded"):
        answers = predict_proba(model, SmallCohort(records, missing_files="absent"))
    plain = predict_proba(model, SmallCohort([records[0].without("image"), *records[1:]]))
    for name in SCHEMA.tasks:
        np.testing.assert_array_equal(answers[name], plain[name])


def test_calibrated_or_not_is_a_choice(model, cohort):
    calibrated(model)
    encoded = encode_cohort(model, cohort)
    raw, read = predict_encoded(model, encoded, calibrated=False), predict_encoded(model, encoded)
    assert not np.allclose(raw["sick"], read["sick"])
    logits = logits_encoded(model, encoded)["sick"]
    np.testing.assert_allclose(raw["sick"], 1 / (1 + np.exp(-logits)), atol=1e-9)


def test_calibration_lowers_the_loss_on_the_records_it_was_fitted_on():
    model, cohort = make_model(), SmallCohort(make_records(120, seed=4))
    with torch.no_grad():
        model.heads["sick"][-1].bias += 3.0  # a model that cries wolf
    labels = np.array([record.targets["sick"] == "yes" for record in cohort])

    def loss():
        p = predict_proba(model, cohort)["sick"][:, 0]
        return -np.log(np.where(labels, p, 1 - p)).mean()

    before = loss()
    assert calibrate(model, cohort) is model
    assert loss() < before - 0.5
    assert abs(predict_proba(model, cohort)["sick"].mean() - labels.mean()) < 0.05


def test_calibrating_with_one_class_or_no_label_leaves_the_task_as_it_is():
    model = make_model()
    same = [replace(r, targets={**r.targets, "sick": "yes"}) for r in make_records(20)]
    unlabelled = [replace(r, targets={"sick": "yes"}) for r in same]
    calibrate(model, SmallCohort(unlabelled))
    assert model.calibration == {}
    calibrate(model, SmallCohort(same))
    assert set(model.calibration) == {"stage", "signs", "days"}
    assert model.thresholds == {}


def test_every_record_is_read_by_the_calibration_of_what_is_left_of_it():
    model, cohort = calibrated(make_model()), SmallCohort(make_records(30, seed=2))
    encoded = encode_cohort(model, cohort)
    stays = np.random.default_rng(0).random((30, 3)) < 0.7
    logits, said = logits_encoded(model, encoded, stays), predict_encoded(model, encoded, stays)
    for name, task in SCHEMA.tasks.items():
        for row, left in enumerate(stays & encoded.present):
            fit = model.calibration[name].of(left)
            np.testing.assert_array_equal(said[name][row], probabilities(task, logits[name][row], fit))


def test_a_pattern_is_fitted_on_the_records_that_can_be_reduced_to_it():
    cohort = SmallCohort(make_records(40, seed=2))
    model = calibrated(make_model(), records=40)
    present = encode_cohort(model, SmallCohort(make_records(40, seed=5))).present
    for pattern, fit in model.calibration["sick"].patterns.items():
        assert fit.records == (present >= np.array(pattern)).all(axis=1).sum()
    calibrate(model, cohort, patterns=False)
    assert model.calibration["sick"].patterns == {}
    assert model.conformal["sick"].records((True, True, True)) == 0


def test_the_threshold_lies_where_sensitivity_plus_specificity_is_largest():
    # 0.9 1 | 0.8 1 | 0.4 0 | 0.3 1 | 0.2 0: above 0.6 both sick are found (2/3) and no healthy one is (0).
    labels, chances = np.array([1, 1, 0, 1, 0.0]), np.array([0.9, 0.8, 0.4, 0.3, 0.2])
    assert _best_threshold(labels, chances) == pytest.approx(0.6)


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_equals_a_search_over_all_of_them(seed):
    draw = np.random.default_rng(seed)
    labels = (draw.random(30) < 0.4).astype(float)
    chances = np.round(np.clip(0.3 * labels + 0.7 * draw.random(30), 0, 1), 1)  # with ties

    def youden(threshold):
        positive = chances > threshold
        return positive[labels == 1].mean() - positive[labels == 0].mean()

    best = max(youden(t) for t in np.linspace(-0.01, 1, 203))
    assert youden(_best_threshold(labels, chances)) == pytest.approx(best)


def test_asking_restores_the_mode_of_every_part_even_after_an_error():
    model = make_model().train()
    model.encoders["note"].eval()
    before = [part.training for part in model.modules()]

    def fails_midway():
        with asking(model):
            assert not any(part.training for part in model.modules())
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        fails_midway()
    assert [part.training for part in model.modules()] == before


def test_a_cohort_that_does_not_offer_what_the_model_reads_is_refused():
    model = make_model()
    check_cohort(model, SmallCohort([]))
    with pytest.raises(ValueError, match="'note' from history; the cohort has only image, table"):
        check_cohort(model, SmallCohort([], SCHEMA.without("note")))
    other = replace(SCHEMA, modalities={**SCHEMA.modalities, "image": Image("scan")})
    with pytest.raises(ValueError, match=r"'image' from path; the cohort has scan.*with_schema"):
        check_cohort(model, SmallCohort([], other))
