"""Mechanisms of missingness: exact consequences, drawn shares, and what a flip does."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mmmed.data.synthetic import MECHANISMS, Mechanism, Truth, best_with_gaps, facts, generate, mechanism
from mmmed.data.synthetic.missingness import TESTS, posterior_with_pattern
from mmmed.data.synthetic.table import COLUMNS as CELLS

# name, strength: share missing, presence-only AUROC, prevalence of complete rows, mean of b where observed
FACTS = {
    ("mcar", 1.0): (0.400, 0.500, 0.408, 0.0),
    ("mcar", 2.0): (0.400, 0.500, 0.389, 0.0),
    ("mar", 1.0): (0.385, 0.553, 0.366, 0.0),
    ("mar", 2.0): (0.385, 0.567, 0.338, 0.0),
    ("mnar", 1.0): (0.400, 0.548, 0.446, 0.250),
    ("mnar", 2.0): (0.400, 0.559, 0.436, 0.250),  # .4355
    ("label", 1.0): (0.407, 0.675, 0.551, 0.055),
    ("label", 2.0): (0.414, 0.675, 0.531, 0.066),
}
# name: best AUROC with all that is observed at strength 2, pattern ignored, pattern used
BEST = {
    "mcar": (0.9093, 0.9093),
    "mar": (0.9098, 0.9098),
    "mnar": (0.9121, 0.9139),
    "label": (0.9132, 0.9298),
}
PATIENTS = 3000


@pytest.fixture(scope="module")
def cohorts():
    complete = generate(PATIENTS, seed=5)
    return {name: complete.with_missingness(name) for name in ("mcar", "mar", "mnar", "label")}


@pytest.mark.parametrize(("name", "strength"), list(FACTS))
def test_what_an_audit_should_find_is_known_exactly(name, strength):
    found = facts(Truth(strength), MECHANISMS[name])
    known = FACTS[name, strength]
    assert (found.share, found.presence_auroc, found.complete_prevalence, found.observed_b) == pytest.approx(
        known, abs=7e-4
    )


@pytest.mark.parametrize("name", list(BEST))
def test_the_best_score_under_gaps_is_known_with_and_without_reading_the_pattern(name):
    truth = Truth(2.0)
    found = [best_with_gaps(truth, MECHANISMS[name], use=use).auroc for use in (False, True)]
    assert found == pytest.approx(BEST[name], abs=1e-4)


@pytest.mark.parametrize(
    ("hidden", "ill", "well", "used", "ignored", "presence"),
    [
        ("table", 0.20, 0.55, (0.930, 0.946, 0.856), (0.913, 0.946, 0.913), 0.675),
        ("image", 0.80, 0.00, (0.989, 0.946, 0.189), (0.912, 0.946, 0.914), 0.900),
        ("image", 0.80, 0.05, (0.975, 0.946, 0.516), (0.908, 0.946, 0.910), 0.875),
        ("image", 0.70, 0.10, (0.956, 0.946, 0.698), (0.909, 0.946, 0.911), 0.800),
        ("table", 0.80, 0.00, (0.989, 0.946, 0.189), (0.915, 0.946, 0.916), 0.900),
        ("text", 0.80, 0.00, (0.989, 0.946, 0.189), (0.934, 0.946, 0.933), 0.900),
    ],
)
def test_a_flipped_pattern_ruins_the_model_that_reads_it_and_no_other(
    hidden, ill, well, used, ignored, presence
):
    truth = Truth(2.0)
    how = Mechanism(hidden, driver="y", rates=(well, ill))
    for use, known in ((True, used), (False, ignored)):
        found = [best_with_gaps(truth, how, use=use, tested=tested).auroc for tested in TESTS]
        assert found == pytest.approx(known, abs=6e-4)
    assert facts(truth, how).presence_auroc == pytest.approx(presence, abs=1e-6)


def test_a_weaker_label_leaves_the_flip_less_room():
    truth = Truth(1.0)
    for hidden, ignored in (("image", 0.824), ("table", 0.827), ("text", 0.846)):
        how = Mechanism(hidden, driver="y", rates=(0.0, 0.8))
        assert best_with_gaps(truth, how, use=True, tested="flipped").auroc == pytest.approx(0.171, abs=6e-4)
        assert best_with_gaps(truth, how, tested="flipped").auroc == pytest.approx(ignored, abs=6e-4)


@pytest.mark.parametrize("name", ["mcar", "mar", "mnar", "label"])
def test_drawn_cohorts_show_the_known_shares_within_three_standard_deviations(cohorts, name):
    cohort = cohorts[name]
    label, there = cohort.rows.label, cohort.stays[:, 1]
    share, presence, prevalence, observed = FACTS[name, 2.0]
    auc = roc_auc_score(label, there)
    scale = np.sqrt(2000 / PATIENTS)  # the scatter is known at 2,000 rows
    assert cohort.stays[:, [0, 2]].all()
    assert 1 - there.mean() == pytest.approx(share, abs=3 * 0.011 * scale)
    assert max(auc, 1 - auc) == pytest.approx(presence, abs=3 * 0.012 * scale)
    assert label[there].mean() == pytest.approx(prevalence, abs=3 * 0.015 * scale)
    assert cohort.rows.levels[there, 1].mean() == pytest.approx(observed, abs=3 * 0.015 * scale * 1.5)


@pytest.mark.parametrize("name", ["mcar", "mar", "mnar", "label"])
def test_mechanisms_hide_but_change_nothing_else(cohorts, name):
    complete, cohort = generate(60, seed=5), generate(60, seed=5, missingness=name)
    assert complete.stays.all()
    assert not cohort.stays.all()
    assert (cohort.stays == cohorts[name].stays[:60]).all()  # fewer patients are the first of more
    for column, values in complete.table.items():
        assert list(cohort.table[column]) == list(values), column
    assert cohort.with_missingness(None).stays.all()


def test_flipped_gaps_turn_presence_around_in_the_test_part():
    cohort = generate(1600, seed=2, missingness="label_flipped", split=(0.5, 0.0, 0.5))
    test = cohort.rows.test
    aucs = [roc_auc_score(cohort.rows.label[part], cohort.stays[part, 1]) for part in (~test, test)]
    assert aucs[0] == pytest.approx(0.675, abs=0.057)
    assert aucs[1] == pytest.approx(1 - 0.675, abs=0.057)


def test_one_site_never_has_the_table_and_text_needs_a_picture(cohorts):
    site = cohorts["mcar"].with_missingness("site")
    assert (site.stays[:, 1] == (np.array(site.table["site"]) != "C")).all()
    sequential = cohorts["mcar"].with_missingness("sequential")
    image, _, text = sequential.stays.T
    assert not (text & ~image).any()
    assert image.mean() == pytest.approx(0.6, abs=3 * 0.011)


def test_the_share_of_mcar_can_be_chosen_and_modalities_can_have_coins_of_their_own(cohorts):
    how = Mechanism(hidden=("image", "table", "text"), rates=(0.3,), together=False)
    stays = cohorts["mcar"].with_missingness(how).stays
    assert stays.mean(0) == pytest.approx([0.7] * 3, abs=0.035)
    assert np.abs(np.corrcoef(stays.T) - np.eye(3)).max() < 0.08
    half = cohorts["mcar"].with_missingness(mechanism("mcar", share=0.5)).stays[:, 1]
    assert half.mean() == pytest.approx(0.5, abs=0.035)


def test_a_single_cell_can_be_hidden_and_its_factor_leaves_the_posterior():
    how = Mechanism(hidden="ldh", driver="b", rates=(0.65, 0.40, 0.15))
    cohort = generate(400, missingness=how)
    column = CELLS.index("ldh")
    hidden = ~cohort.measured[:, column]
    assert 0.2 < hidden.mean() < 0.6
    assert cohort.measured[:, :column].all()
    assert cohort.stays.all()
    assert [value is None for value in cohort.observed["ldh"]] == hidden.tolist()
    expected = np.where(
        hidden,
        cohort.posterior(None, ("image", "e", "text")),
        cohort.posterior(None, ("image", "table", "text")),
    )
    np.testing.assert_allclose(cohort.posterior(), expected)


def test_the_posterior_that_reads_the_pattern_is_calibrated_and_better_where_gaps_depend_on_the_label():
    truth, how = Truth(2.0), MECHANISMS["label"]
    generator = np.random.default_rng(0)
    levels, label = truth.draw(60_000, generator)
    missing = generator.random(60_000) < how.probability(levels, label)
    used = posterior_with_pattern(truth, how, levels, missing)
    for part in (missing, ~missing):
        assert used[part].mean() == pytest.approx(label[part].mean(), abs=0.006)
    ignored = np.where(
        missing, truth.posterior(levels, "image", "text"), truth.posterior(levels, "image", "table", "text")
    )
    assert roc_auc_score(label, used) == pytest.approx(0.9298, abs=0.004)
    assert roc_auc_score(label, ignored) == pytest.approx(0.9132, abs=0.004)


def test_a_cohort_answers_row_by_row_from_what_is_observed(cohorts):
    cohort = cohorts["mnar"]
    there = cohort.stays[:, 1]
    every = cohort.posterior(None, ("image", "table", "text"))
    without = cohort.posterior(None, ("image", "text"))
    np.testing.assert_allclose(cohort.posterior(), np.where(there, every, without))
    np.testing.assert_allclose(
        cohort.posterior(pattern=True),
        posterior_with_pattern(cohort.truth, MECHANISMS["mnar"], cohort.rows.levels, ~there),
    )
    label = cohort.rows.label
    assert roc_auc_score(label, cohort.posterior()) == pytest.approx(0.9121, abs=3 * 0.006)


def test_impossible_mechanisms_are_refused_with_a_way_out():
    with pytest.raises(ValueError, match="Unknown mechanism of missingness 'mra'"):
        generate(2, missingness="mra")
    with pytest.raises(ValueError, match=r"needs 3 rate\(s\)"):
        Mechanism(driver="r", rates=(0.5,))
    with pytest.raises(ValueError, match="between 0 and 1"):
        Mechanism(rates=(1.5,))
    with pytest.raises(ValueError, match="Unknown modality or table column to hide"):
        Mechanism(hidden="note")
    with pytest.raises(ValueError, match="rates per level"):
        mechanism("mar", share=0.1)
    several = Mechanism(hidden=("image", "text"), together=False)
    with pytest.raises(ValueError, match="one coin"):
        best_with_gaps(Truth(), several)
