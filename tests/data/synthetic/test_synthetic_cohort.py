"""The cohort as a whole: roles, schema, splits, visits that share luck, sites, and what is refused."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mmmed.data.synthetic import FACTORS, MODALITIES, Truth, generate
from mmmed.data.synthetic.events import CENSORING
from mmmed.data.synthetic.patients import follow, split_patients
from mmmed.data.synthetic.table import COLUMNS as CELLS
from mmmed.data.synthetic.table import DECOYS, NUMBERS, RANGES, read_level
from mmmed.types import Schema


@pytest.fixture(scope="module")
def cohort():
    return generate(1500, seed=21)


def test_every_column_has_a_role_and_every_column_the_same_number_of_rows(cohort):
    assert set(cohort.roles) == set(cohort.table) | {"picture"}
    assert {len(values) for values in cohort.table.values()} == {1500}
    assert len(set(cohort.table["id"])) == 1500
    known = {"id", "group", "split", "input", "target", "truth", "confounder", "text target"}
    assert set(cohort.roles.values()) == known


def test_truth_confounders_and_targets_can_never_be_selected_as_inputs(cohort):
    inputs = {name for name, role in cohort.roles.items() if role == "input"}
    for schema in (cohort.schema(), cohort.schema(concepts=True), cohort.schema(columns=["ldh", "sex"])):
        assert set(schema.columns) <= inputs
    for name in [*(f"factor_{factor}" for factor in FACTORS), "site", "visit", "diagnosis", "event", "split"]:
        with pytest.raises(ValueError, match=rf"Column '{name}' cannot be a table input: its role is"):
            cohort.schema(columns=["age", name])
    with pytest.raises(ValueError, match='Did you mean "albumin"'):
        cohort.schema(columns=["albumine"])


def test_the_schema_is_complete_and_survives_its_json_form(cohort):
    schema = cohort.schema(concepts=True)
    assert tuple(schema.modalities) == MODALITIES
    assert (schema.group, schema.id) == ("patient", "id")
    assert set(schema.tasks) == {"diagnosis", *(f"factor_{name}" for name in FACTORS)}
    assert Schema.from_dict(schema.to_dict()) == schema
    assert set(cohort.schema().tasks) == {"diagnosis"}


def test_both_laboratory_factors_are_read_without_error_and_all_values_are_possible(cohort):
    for name, factor in (("ldh", "b"), ("albumin", "e")):
        assert (read_level(name, cohort.table[name]) == cohort.table[f"factor_{factor}"]).all()
        assert all(low[1] < high[0] for low, high in zip(RANGES[name], RANGES[name][1:], strict=False))
    for number in NUMBERS:
        values = cohort.table[number.name]
        assert number.low < values.min() < values.max() < number.high
        assert number.unit


def test_decoys_follow_nothing_and_the_others_follow_age_or_sex_but_not_the_label(cohort):
    label, age = cohort.rows.label, cohort.table["age"]
    male = np.array(cohort.table["sex"]) == "male"
    for name in set(CELLS) - {"ldh", "albumin", "sex"}:
        assert abs(roc_auc_score(label, cohort.table[name]) - 0.5) < 3 * 0.016, name
    for name in DECOYS:
        assert abs(np.corrcoef(cohort.table[name], age)[0, 1]) < 0.1
    assert np.corrcoef(cohort.table["creatinine"], age)[0, 1] > 0.3
    assert roc_auc_score(male, cohort.table["haemoglobin"]) > 0.8


def test_no_score_of_the_exact_posterior_lies_above_its_ceiling_by_more_than_chance(cohort):
    for subset in (("image",), ("table",), ("text",), ("image", "table"), MODALITIES):
        score = roc_auc_score(cohort.rows.label, cohort.posterior(None, subset))
        assert score == pytest.approx(cohort.truth.ceiling(*subset).auroc, abs=3 * 0.013), subset


def test_posteriors_can_be_asked_for_some_rows_and_row_by_row(cohort):
    some = np.array([3, 8, 500])
    stays = np.array([[True, False, False], [False, False, False], [True, True, True]])
    found = cohort.posterior(some, stays=stays)
    assert found[0] == cohort.posterior([3], ("image",))[0]
    assert found[1] == pytest.approx(cohort.truth.prevalence)
    assert found[2] == pytest.approx(cohort.truth.risk(cohort.rows.levels[500]))
    with pytest.raises(ValueError, match=r"stays should have shape \[rows=3 modalities=3\]"):
        cohort.posterior(some, stays=stays[:2])
    with pytest.raises(ValueError, match="Pass one of modalities, stays and pattern"):
        cohort.posterior(modalities=("image",), stays=stays)
    with pytest.raises(ValueError, match="Nothing was hidden"):
        cohort.posterior(pattern=True)


def test_the_split_goes_by_patient_keeps_its_shares_and_stays_when_patients_are_added():
    cohort = generate(60, visits=(1, 3))
    parts = {}
    for patient, part in zip(cohort.table["patient"], cohort.table["split"], strict=True):
        assert parts.setdefault(patient, part) == part
    assert 60 < len(cohort) < 180
    assert set(np.bincount(cohort.rows.patient)) == {1, 2, 3}
    for patients in (40, 600):
        split = split_patients(patients, 0, (0.7, 0.15, 0.15))
        assert (split[:40] == split_patients(40, 0, (0.7, 0.15, 0.15))).all()
        shares = [(split == part).mean() for part in ("train", "val", "test")]
        assert shares == pytest.approx([0.7, 0.15, 0.15], abs=0.05)


def _pairs(keep, patients=200_000):
    """Two visits of many patients, factors only: levels and labels as the generator draws them."""
    generator, truth = np.random.default_rng(0), Truth(2.0)
    levels = follow(generator.random((patients, 2, 12)), keep)
    levels = np.concatenate([levels, np.zeros((patients, 2, 1), dtype=int)], axis=-1)
    return truth, levels, (generator.random(patients)[:, None] < truth.risk(levels)).astype(int)


@pytest.mark.parametrize(
    ("keep", "correlation", "leak"),
    [(0.0, 0.11, 0.797), (0.5, 0.38, 0.831), (0.8, 0.68, 0.909), (1.0, 1.0, 1.0)],
)
def test_visits_share_luck_so_that_the_other_visits_label_leaks_while_each_row_keeps_its_ceiling(
    keep, correlation, leak
):
    truth, levels, label = _pairs(keep)
    assert np.corrcoef(label.T)[0, 1] == pytest.approx(correlation, abs=0.01)
    second = truth.posterior(levels[:, 1], "image")
    assert roc_auc_score(label[:, 1], second) == pytest.approx(0.786, abs=0.005)
    key = np.unique(np.round(second, 12), return_inverse=True)[1].ravel() * 2 + label[:, 0]
    half = len(key) // 2
    ill = np.bincount(key[:half], label[:half, 1]) / np.maximum(np.bincount(key[:half]), 1)
    assert roc_auc_score(label[half:, 1], ill[key[half:]]) == pytest.approx(leak, abs=0.006)


def test_rows_of_one_patient_share_site_sex_and_anatomy_but_not_the_noise():
    cohort = generate(30, visits=2)
    table = cohort.table
    for row in range(0, 60, 2):
        assert table["patient"][row] == table["patient"][row + 1]
        assert table["site"][row] == table["site"][row + 1]
        assert table["sex"][row] == table["sex"][row + 1]
        assert 0 <= table["age"][row + 1] - table["age"][row] <= 1
        assert (cohort.scenes[row].texture == cohort.scenes[row + 1].texture).all()
        assert (cohort.pictures[row] != cohort.pictures[row + 1]).mean() > 0.5
    frozen = generate(30, visits=2, keep=1.0)
    assert (frozen.rows.levels[::2] == frozen.rows.levels[1::2]).all()
    assert (frozen.rows.label[::2] == frozen.rows.label[1::2]).all()


def test_a_site_only_classifier_is_turned_around_by_the_shift():
    cohort = generate(1600, shortcut=1.0, shift=True, split=(0.5, 0.0, 0.5))
    test, label = cohort.rows.test, cohort.rows.label
    site = np.array(cohort.table["site"])
    share = {name: label[(site == name) & ~test].mean() for name in "ABC"}
    assert [share[name] for name in "ABC"] == pytest.approx([0.226, 0.389, 0.574], abs=0.09)
    guess = np.array([share[name] for name in site])
    assert roc_auc_score(label[~test], guess[~test]) == pytest.approx(0.662, abs=0.057)
    assert roc_auc_score(label[test], guess[test]) == pytest.approx(0.338, abs=0.057)
    blind = cohort.posterior(test, MODALITIES)
    assert roc_auc_score(label[test], blind) == pytest.approx(0.909, abs=0.033)
    seen = cohort.posterior(test, (*MODALITIES, "site"))
    assert roc_auc_score(label[test], seen) == pytest.approx(0.793, abs=0.047)


def test_event_times_follow_the_risk_and_censoring_does_not(cohort):
    months, seen = cohort.table["months"], cohort.table["event"] == 1
    risk = cohort.truth.bracket(cohort.rows.levels)
    assert 1 - seen.mean() == pytest.approx(0.451, abs=0.04)
    early = months < np.median(months)
    assert roc_auc_score(early[seen], risk[seen]) > 0.7
    # exponential censoring: its rate is the number of censored rows over the time that was watched
    assert months.sum() / (~seen).sum() == pytest.approx(CENSORING, rel=0.15)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"patients": 0}, "patients should be a whole number of at least 1"),
        ({"seed": -1}, "seed should be a whole number of at least 0"),
        ({"size": 16}, "size should be a whole number of at least 32"),
        ({"visits": (3, 1)}, "visits should be a whole number from 1 to 9"),
        ({"lesions": 4}, "lesions should be a whole number from 1 to 3"),
        ({"lesions": (0, 0)}, "lesions should be"),
        ({"keep": 1.2}, "keep should be a number between 0 and 1"),
        ({"split": (0.5, 0.5, 0.5)}, "split should be three shares"),
        ({"views": 3}, "views should be 1 or 2"),
        ({"strength": -2}, "strength should be a positive number"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(setting, message):
    with pytest.raises(ValueError, match=message):
        generate(**{"patients": 2, **setting})
