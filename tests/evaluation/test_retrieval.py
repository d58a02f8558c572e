"""Retrieval: ranks by hand, ties against the model, chance that is reached, intervals by patient."""

import itertools
import math

import numpy as np
import pytest

from mmmed.evaluation.retrieval import chance_of_recall, ranks, recall_at_k


def test_ranks_by_hand():
    similarity = [
        [0.9, 0.1, 0.2],  # own first
        [0.9, 0.5, 0.1],  # own second
        [0.3, 0.2, 0.1],  # own last
    ]
    assert ranks(similarity).tolist() == [1, 2, 3]
    assert ranks(similarity, [0, 0, 2]).tolist() == [1, 1, 3]


def test_ties_count_against_the_model():
    table = recall_at_k(np.zeros((4, 4)), ks=(1, 4), draws=10)
    assert [row["recall at 1"].value for row in table] == [0, 0]
    assert [row["recall at 4"].value for row in table] == [1, 1]
    assert [row["median rank"].value for row in table] == [4, 4]


def test_the_fast_ranks_equal_a_slow_loop():
    rng = np.random.default_rng(0)
    similarity = rng.integers(0, 5, (12, 9)).astype(float)  # many ties
    right = rng.random((12, 9)) < 0.3
    for query, rank in enumerate(ranks(similarity, right)):
        mine = [similarity[query, c] for c in range(9) if right[query, c]]
        others = [similarity[query, c] for c in range(9) if not right[query, c]]
        if mine:
            assert rank == 1 + sum(value >= max(mine) for value in others)
        else:
            assert math.isnan(rank)


def test_the_chance_level_is_the_share_of_orders_that_hit():
    right = np.array([[True, False, False, False], [True, True, False, False]])
    orders = list(itertools.permutations(range(4)))
    for k in (1, 2, 3, 4, 9):
        counted = [np.mean([row[list(order[:k])].any() for order in orders]) for row in right]
        assert chance_of_recall(right, k) == pytest.approx(counted)


def test_a_random_similarity_reaches_the_chance_that_stands_beside_it():
    rng = np.random.default_rng(1)
    row = recall_at_k(rng.random((400, 400)), ks=(10,), draws=50)[0]
    assert row["chance at 10"] == pytest.approx(10 / 400)
    assert row["recall at 10"].low <= row["chance at 10"] <= row["recall at 10"].high


def test_the_second_direction_is_the_first_of_the_transposed():
    rng = np.random.default_rng(2)
    similarity = rng.random((30, 30)) + np.eye(30) * 0.5
    there, back = recall_at_k(similarity, draws=20)
    again, _ = recall_at_k(similarity.T, draws=20)
    assert {k: v for k, v in back.items() if k != "way"} == {k: v for k, v in again.items() if k != "way"}
    assert there["way"] == "input to report"


def test_several_right_answers_per_query_and_none():
    similarity = np.array([[0.1, 0.9, 0.5], [0.9, 0.2, 0.1]])
    right = np.array([[False, True, True], [False, False, False]])
    there, back = recall_at_k(similarity, right, ks=(1,), draws=10)
    assert (there["n"], there["recall at 1"].value, there["candidates"]) == (1, 1.0, 3)
    assert there["chance at 1"] == pytest.approx(2 / 3)
    assert (back["n"], back["recall at 1"].value) == (2, 1.0)  # candidate 0 belongs to nobody


def test_rows_of_one_patient_widen_the_interval():
    rng = np.random.default_rng(3)
    hit = np.repeat(rng.random(20) < 0.5, 10)  # ten records of a patient hit or miss together
    similarity = np.where(np.eye(200, dtype=bool), 1.0, np.where(hit[:, None], 0.0, 2.0))
    by_row = recall_at_k(similarity, ks=(1,), draws=200)[0]["recall at 1"]
    by_patient = recall_at_k(similarity, ks=(1,), groups=np.repeat(np.arange(20), 10), draws=200)[0][
        "recall at 1"
    ]
    assert by_row.value == by_patient.value == hit.mean()
    assert by_patient.high - by_patient.low > 2 * (by_row.high - by_row.low)
    assert (by_row.groups, by_patient.groups) == (200, 20)


@pytest.mark.parametrize(
    ("similarity", "options", "words"),
    [
        (np.full((2, 2), np.nan), {}, "NaN"),
        (np.zeros((2, 3)), {}, "should be square"),
        (np.zeros(3), {}, "queries candidates"),
        (np.zeros((2, 2)), {"matches": [0, 2]}, "from 0 to 1"),
        (np.zeros((2, 2)), {"matches": [0.0, 1.0]}, "whole numbers"),
        (np.zeros((2, 2)), {"matches": [0]}, "matches"),
        (np.zeros((2, 2)), {"ks": (0,)}, "k should be"),
        (np.zeros((2, 2)), {"groups": [0]}, "groups"),
    ],
)
def test_what_cannot_be_ranked_is_said(similarity, options, words):
    with pytest.raises(ValueError, match=words):
        recall_at_k(similarity, **options)
