"""The exact numbers of the generator: ceilings, what adding up reaches, the site, event times."""

import itertools
import math

import numpy as np
import pytest

from mmmed.data.synthetic import FACTORS, MODALITIES, MODALITY_FACTORS, Truth
from mmmed.data.synthetic.events import concordance, event_times
from mmmed.data.synthetic.truth import COLUMNS, auroc, keys, visible_factors

# subset: AUROC, Brier score, log loss, accuracy at strength 2
CEILINGS = {
    (): (0.5000, 0.2377, 0.6684, 0.6109),
    ("image",): (0.7861, 0.1797, 0.5337, 0.7340),
    ("table",): (0.6691, 0.2167, 0.6229, 0.6589),
    ("text",): (0.7612, 0.1898, 0.5598, 0.7134),
    ("image", "table"): (0.9092, 0.1180, 0.3662, 0.8317),
    ("image", "text"): (0.8327, 0.1608, 0.4834, 0.7627),
    ("table", "text"): (0.8209, 0.1663, 0.4980, 0.7529),
    ("image", "table", "text"): (0.9458, 0.0900, 0.2876, 0.8754),
}
SUBSETS = list(CEILINGS)


@pytest.fixture(scope="module")
def truth():
    return Truth(2.0)


@pytest.mark.parametrize("subset", SUBSETS)
def test_the_ceilings_are_the_known_ones_to_four_digits(truth, subset):
    found = truth.ceiling(*subset)
    assert (found.auroc, found.brier, found.log_loss, found.accuracy) == pytest.approx(
        CEILINGS[subset], abs=1e-4
    )


@pytest.mark.parametrize(
    ("strength", "prevalence", "aurocs"),
    [
        (1.0, 0.4080, (0.7298, 0.6366, 0.7119, 0.8285, 0.7668, 0.7579, 0.8563)),
        (1.5, 0.3953, (0.7671, 0.6582, 0.7448, 0.8821, 0.8104, 0.7996, 0.9155)),
        (2.5, 0.3858, (0.7967, 0.6752, 0.7704, 0.9243, 0.8454, 0.8329, 0.9629)),
    ],
)
def test_the_ceilings_at_other_strengths_are_the_known_ones(strength, prevalence, aurocs):
    truth = Truth(strength)
    assert truth.prevalence == pytest.approx(prevalence, abs=1e-4)
    assert [truth.ceiling(*subset).auroc for subset in SUBSETS[1:]] == pytest.approx(aurocs, abs=1e-4)


def test_single_factors_and_part_subsets_have_their_known_ceilings(truth):
    known = {
        ("a",): 0.6815,
        ("b",): 0.6639,
        ("t",): 0.6467,
        ("r",): 0.6997,
        ("d",): 0.5104,
        ("e",): 0.5104,
        ("d", "e"): 0.6793,
        ("b", "d", "e"): 0.7694,
        ("image", "b"): 0.8422,
        ("image", "e"): 0.8609,
    }
    assert {subset: truth.ceiling(*subset).auroc for subset in known} == pytest.approx(known, abs=1e-4)


def test_the_posterior_equals_a_sum_over_hidden_factors_written_as_loops(truth):
    shares = {-1: 0.3, 0: 0.4, 1: 0.3}
    for b, e in itertools.product((-1, 0, 1), repeat=2):
        total = 0.0
        for a, t, r, d in itertools.product((-1, 0, 1), repeat=4):
            logit = 2 * (-0.6 + 1.1 * a + 1.0 * b + 0.9 * t + 1.2 * r + 1.6 * d * e)
            total += math.prod(shares[level] for level in (a, t, r, d)) / (1 + math.exp(-logit))
        row = np.array([[9, b, 9, 9, 9, e, 9]])  # what is not visible may hold anything
        assert truth.posterior(row, "table")[0] == pytest.approx(total, abs=1e-12)


def test_the_auroc_of_a_discrete_score_counts_pairs():
    scores = np.array([0.1, 0.4, 0.4 + 1e-14, 0.9])
    negative, positive = np.array([4.0, 2.0, 1.0, 1.0]), np.array([1.0, 2.0, 2.0, 5.0])
    pairs = 0.0
    for i, j in itertools.product(range(4), repeat=2):
        gap = round(scores[j], 12) - round(scores[i], 12)
        pairs += negative[i] * positive[j] * (1.0 if gap > 0 else 0.5 if gap == 0 else 0.0)
    assert auroc(scores, negative, positive) == pytest.approx(pairs / 8 / 10, abs=1e-12)


@pytest.mark.parametrize("strength", [1.0, 2.0])
def test_posteriors_average_to_the_prevalence_and_more_modalities_never_hurt(strength):
    truth = Truth(strength)
    for subset in SUBSETS:
        mean = (truth.mass * truth.posterior(truth.states, *subset)).sum()
        assert mean == pytest.approx(truth.prevalence, abs=1e-12)
        for more in SUBSETS:
            if set(subset) < set(more):
                small, large = truth.ceiling(*subset), truth.ceiling(*more)
                assert large.auroc > small.auroc
                assert large.brier < small.brier
                assert large.log_loss < small.log_loss


def test_the_size_is_the_one_factor_that_two_modalities_share():
    shared = [name for name in FACTORS if sum(name in seen for seen in MODALITY_FACTORS.values()) > 1]
    assert shared == ["r"]
    assert visible_factors(["text", "image"]) == "atrd"


def test_on_200_000_draws_the_posterior_is_the_share_of_ill_patients_in_every_group(truth):
    levels, label = truth.draw(200_000, np.random.default_rng(0))
    assert np.bincount(levels[:, COLUMNS.index("a")] + 1) / 200_000 == pytest.approx(
        [0.3, 0.4, 0.3], abs=0.005
    )
    for subset in [*SUBSETS, MODALITIES]:
        seen = visible_factors(subset)
        key = keys(levels, seen)
        count = np.bincount(key, minlength=3 ** len(seen))
        ill = np.bincount(key, label, 3 ** len(seen))
        expected = np.bincount(key, truth.posterior(levels, *subset), 3 ** len(seen))
        chance = expected / np.maximum(count, 1)
        spread = np.sqrt(np.maximum(count * chance * (1 - chance), 1))
        distance = (ill - expected) / spread
        assert np.abs(distance).max() < 4.8  # 729 groups: 4 is expected once in twenty
        if len(count) > 100:
            assert 0.8 < distance.std() < 1.1


def test_adding_up_modalities_stays_below_the_ceiling_so_the_synergy_is_there(truth):
    assert truth.late_average().auroc == pytest.approx(0.851, abs=5e-4)
    assert truth.late_average("image", "table").auroc == pytest.approx(0.841, abs=5e-4)
    assert truth.best_sum().auroc == pytest.approx(0.882, abs=5e-4)
    assert truth.best_sum().log_loss == pytest.approx(0.416, abs=5e-4)
    assert truth.best_sum("image", "table").auroc == pytest.approx(0.841, abs=5e-4)
    weak = Truth(1.0)
    assert weak.late_average().auroc == pytest.approx(0.782, abs=5e-4)
    assert weak.best_sum().auroc == pytest.approx(0.805, abs=5e-4)
    assert weak.best_sum().log_loss == pytest.approx(0.523, abs=5e-4)


def test_the_best_sum_equals_a_logistic_regression_on_the_levels_of_each_modality(truth):
    from sklearn.linear_model import LogisticRegression

    blocks = [np.eye(3 ** len(seen))[keys(truth.states, seen)] for seen in MODALITY_FACTORS.values()]
    design = np.tile(np.concatenate(blocks, axis=1), (2, 1))
    label = np.repeat([0, 1], len(truth.states))
    weight = np.concatenate([truth.joint[:, 0], truth.joint[:, 1]]) * len(label)
    model = LogisticRegression(C=1e4, max_iter=300).fit(design, label, weight)
    other = truth.score(model.predict_proba(design[: len(truth.states)])[:, 1])
    best = truth.best_sum()
    assert other.log_loss == pytest.approx(best.log_loss, abs=1e-4)
    assert best.log_loss <= other.log_loss + 1e-9
    assert other.auroc == pytest.approx(best.auroc, abs=1e-3)


@pytest.mark.parametrize(
    ("shortcut", "prevalence", "straight", "flipped"),
    [
        # site; image without, with site; all without, with site | flipped: site, image with, all with site
        (0.0, (0.389, 0.389, 0.389), (0.500, 0.786, 0.786, 0.946, 0.946), (0.500, 0.786, 0.946)),
        (0.5, (0.303, 0.389, 0.481), (0.583, 0.780, 0.798, 0.936, 0.948), (0.417, 0.747, 0.903)),
        (1.0, (0.226, 0.389, 0.574), (0.662, 0.763, 0.820, 0.909, 0.953), (0.338, 0.645, 0.793)),
    ],
)
def test_the_site_pays_until_its_effect_is_turned_around(shortcut, prevalence, straight, flipped):
    truth = Truth(2.0, shortcut)
    sites = np.array([[0, 0, 0, 0, 0, 0, g] for g in (-1, 0, 1)])
    assert truth.posterior(sites, "site") == pytest.approx(prevalence, abs=6e-4)
    found = [
        truth.ceiling(*subset).auroc
        for subset in (("site",), ("image",), ("image", "site"), MODALITIES, (*MODALITIES, "site"))
    ]
    assert found == pytest.approx(straight, abs=6e-4)
    turned = [
        truth.ceiling(*subset, flipped=True).auroc
        for subset in (("site",), ("image", "site"), (*MODALITIES, "site"))
    ]
    assert turned == pytest.approx(flipped, abs=6e-4)
    # a model that ignores the site loses nothing
    for subset in (("image",), MODALITIES):
        assert truth.ceiling(*subset, flipped=True).auroc == pytest.approx(
            truth.ceiling(*subset).auroc, abs=1e-9
        )


def test_the_best_concordance_is_exact_and_drawn_event_times_reach_it(truth):
    assert truth.concordance(1.0) == pytest.approx(0.822, abs=5e-4)
    assert truth.concordance(2.0) == pytest.approx(0.902, abs=5e-4)
    generator = np.random.default_rng(0)
    levels, _ = truth.draw(3000, generator)
    risk = truth.bracket(levels)
    times = event_times(risk, generator.random(3000))
    assert concordance(risk, times) == pytest.approx(0.822, abs=0.01)


def test_the_exact_posterior_scatters_around_its_ceiling_on_a_finite_test_set(truth):
    from sklearn.metrics import roc_auc_score

    generator = np.random.default_rng(1)
    found = []
    for _ in range(40):
        levels, label = truth.draw(400, generator)
        found.append(roc_auc_score(label, truth.posterior(levels, *MODALITIES)))
    assert np.mean(found) == pytest.approx(0.9458, abs=3 * 0.011 / math.sqrt(40))
    assert np.std(found) == pytest.approx(0.011, abs=0.004)


def test_unknown_names_and_impossible_strengths_are_refused_with_a_way_out(truth):
    with pytest.raises(ValueError, match=r'Unknown modality or factor .* Did you mean "image"'):
        truth.ceiling("imgae")
    with pytest.raises(ValueError, match="strength should be a positive number"):
        Truth(0.0)
    with pytest.raises(ValueError, match="shortcut should be a number of at least 0"):
        Truth(2.0, shortcut=-1.0)
